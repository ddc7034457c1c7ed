//! Several leaders, one after the other or so they think, and one northbound database.

use std::sync::Arc;

use atoll_model::ChangeSet;
use atoll_ovn_sync::{Duty, Source, SourceGone};
use atoll_ovsdb::Endpoint;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::*;

/// A member of several: its state, and what it believes to be.
struct Member {
    state: Follower,
    duty: watch::Receiver<Duty>,
}

impl Source for Member {
    fn read(&mut self) -> Option<Desired> {
        self.state.read()
    }

    fn duty(&mut self) -> Duty {
        *self.duty.borrow_and_update()
    }

    fn changes(&mut self, since: Revision) -> Option<Vec<Arc<ChangeSet>>> {
        self.state.changes(since)
    }

    async fn changed(&mut self) -> Result<(), SourceGone> {
        tokio::select! {
            changed = self.state.changed() => changed,
            changed = self.duty.changed() => changed.map_err(|_closed| SourceGone),
        }
    }
}

fn member(store: &Store, duty: Duty, nb: Endpoint) -> (Projector, watch::Sender<Duty>) {
    let (sender, receiver) = watch::channel(duty);
    let source = Member { state: store.follow(), duty: receiver };
    (Projector::start(source, nb).unwrap(), sender)
}

/// Between a projector and its database: what the database says may be held back.
struct Wire {
    endpoint: Endpoint,
    /// Pieces that the projector has sent.
    sent: watch::Receiver<u64>,
    held_back: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

impl Wire {
    fn to(database: Endpoint) -> Self {
        let Endpoint::Unix(target) = database else { panic!("{database}") };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wire.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (held_back, hold) = watch::channel(false);
        let (count, sent) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Before it has started nobody is there.
                let Ok(server) = UnixStream::connect(&target).await else { continue };
                tokio::spawn(carry(client, server, hold.clone(), count.clone()));
            }
        });
        Self { endpoint: Endpoint::Unix(path), sent, held_back, _dir: dir }
    }
}

async fn carry(
    client: UnixStream,
    server: UnixStream,
    mut hold: watch::Receiver<bool>,
    count: watch::Sender<u64>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move {
        let mut piece = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from_client.read(&mut piece).await {
            to_server.write_all(&piece[..read]).await.unwrap();
            count.send_modify(|count| *count += 1);
        }
    });
    let mut piece = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from_server.read(&mut piece).await {
        if hold.wait_for(|held| !held).await.is_err() {
            return;
        }
        if to_client.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
}

fn term_in(nb: &Northbound) -> String {
    nb.nbctl(&["--bare", "get", "NB_Global", ".", "external_ids:\"atoll/term\""])
}

/// It was frozen or cut off while the next one was elected, and has not heard of that when it writes.
#[tokio::test]
async fn what_a_deposed_leader_sends_late_is_refused_as_a_whole() {
    let (nb, mut old) = (Northbound::start(), Store::with_pods());
    let mut new = Store::with_pods();
    let mut wire = Wire::to(nb.endpoint());
    let (deposed, _duty) = member(&old, Duty::Lead(5), wire.endpoint.clone());
    equal_at(&deposed, old.state.revision()).await;

    wire.held_back.send_replace(true);
    new.apply(vec![put_pod("default/of-the-new", "n2")]);
    let (leader, _duty) = member(&new, Duty::Lead(6), nb.endpoint());
    equal_at(&leader, new.state.revision()).await;
    assert!(term_in(&nb).ends_with("/6\""), "{}", term_in(&nb));
    let (passes, sent) = (deposed.status().borrow().passes, *wire.sent.borrow());
    old.apply(vec![delete_pod("default/a"), put_pod("default/of-the-old", "n1")]);
    wire.sent.wait_for(|now| *now > sent).await.unwrap();
    wire.held_back.send_replace(false);
    let late = status(&deposed, "refused", |it| it.passes > passes && it.error.is_some()).await;
    let why = late.error.unwrap();
    assert!(why.contains("another leader writes"), "{why}");
    nb.becomes(&new.rows()).await;
    // By now it has heard.
    let told = |it: &PassStatus| it.error.as_ref().is_some_and(|why| why.contains("of term 6"));
    status(&deposed, "told who writes", told).await;
    old.apply(vec![put_pod("default/again", "n1")]);
    status(&deposed, "still refused", |it| it.passes > late.passes + 1).await;
    assert_eq!(nb.rows().await, new.rows());
}

#[tokio::test]
async fn who_stands_by_writes_nothing_and_takes_over_with_its_term() {
    let (nb, mut store) = (Northbound::start(), Store::with_pods());
    let (first, first_duty) = member(&store, Duty::Lead(1), nb.endpoint());
    let (second, second_duty) = member(&store, Duty::StandBy, nb.endpoint());
    equal_at(&first, store.state.revision()).await;
    let waiting = status(&second, "standing by", |it| it.stands_by && it.connected).await;
    assert_eq!((waiting.passes, waiting.revision), (0, None));
    let refused = second.asker().sync(None).await;
    assert!(matches!(refused, Err(atoll_ovn_sync::AskError::StandsBy)), "{refused:?}");

    first_duty.send_replace(Duty::StandBy);
    status(&first, "standing by", |it| it.stands_by && it.revision.is_none()).await;
    second_duty.send_replace(Duty::Lead(2));
    store.apply(vec![put_pod("default/c", "n2")]);
    equal_at(&second, store.state.revision()).await;
    nb.becomes(&store.rows()).await;
    assert!(term_in(&nb).ends_with("/2\""), "{}", term_in(&nb));
    assert_eq!(first.status().borrow().transactions, 1);
}

/// A hand may clear what is shared; the leader goes on, and is fenced again.
#[tokio::test]
async fn a_mark_that_is_lost_is_set_again() {
    let (nb, mut store) = (Northbound::start(), Store::with_pods());
    let (leader, _duty) = member(&store, Duty::Lead(4), nb.endpoint());
    equal_at(&leader, store.state.revision()).await;
    nb.nbctl(&["clear", "NB_Global", ".", "external_ids"]);
    store.apply(vec![put_pod("default/c", "n2")]);
    nb.becomes(&store.rows()).await;
    eventually("the mark is there", async || {
        let ids = nb.nbctl(&["get", "NB_Global", ".", "external_ids"]);
        (ids.contains("/4\"") && ids.contains("atoll/cluster")).then_some(())
    })
    .await;
}
