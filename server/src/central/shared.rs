//! One northbound database for all members: the raft leader alone projects into it, fenced by its
//! term, and tells the nodes where the southbound is.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_model::{Central as Role, ChangeSet, MemberId, MemberName, Revision};
use atoll_ovn_sync::{
    CentralStatus, ClusterCentral, Desired, Duty, Projector, Remotes, Source, SourceGone, Tracer,
};
use atoll_raft::{Leadership, Published, Store};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::reign::propose;
use super::source::StoreSource;
use super::{HandOverError, LocalCentral, Mode, Running};

impl LocalCentral {
    /// A central whose northbound is all members'. No member serves more than another, so nobody hands
    /// over, and nobody's rows are carried.
    pub(super) fn shared(
        mode: Mode,
        projector: Projector,
        cluster: Option<ClusterCentral>,
        tracer: Option<Tracer>,
    ) -> Self {
        Self {
            mode,
            processes: watch::channel(CentralStatus::default()).1,
            foreign: watch::channel(Default::default()).1,
            projection: projector.status(),
            is_behind: Arc::default(),
            asker: projector.asker(),
            orders: None,
            tracer,
            hand_overs: mpsc::channel(1).0,
            running: Arc::new(Mutex::new(Some(Running {
                central: None,
                cluster,
                projector,
                carrier: None,
            }))),
        }
    }
}

/// How often a leader looks whether the store says what it has to.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// The store's state, and whether this member is the one that writes it.
pub(super) struct LeaderSource {
    state: StoreSource,
    leadership: watch::Receiver<Leadership>,
    /// What was told last.
    duty: Duty,
}

impl LeaderSource {
    pub(super) fn new(store: &Store) -> Self {
        let (state, leadership) = (StoreSource::new(store), store.leadership());
        Self { state, leadership, duty: Duty::StandBy }
    }
}

/// What a member has to do.
fn duty(leadership: &Leadership) -> Duty {
    match leadership.is_leader {
        true => Duty::Lead(leadership.term),
        false => Duty::StandBy,
    }
}

impl Source for LeaderSource {
    fn read(&mut self) -> Option<Desired> {
        self.state.read()
    }

    fn duty(&mut self) -> Duty {
        self.duty = duty(&self.leadership.borrow_and_update());
        self.duty
    }

    fn changes(&mut self, since: Revision) -> Option<Vec<Arc<ChangeSet>>> {
        self.state.changes(since)
    }

    async fn changed(&mut self) -> Result<(), SourceGone> {
        let was = self.duty;
        tokio::select! {
            changed = self.state.changed() => changed,
            led = self.leadership.wait_for(|now| duty(now) != was) => {
                led.map(drop).map_err(|_closed| SourceGone)
            }
        }
    }
}

/// Where everybody finds the databases, as the store has to say it; `None` if it does.
fn choice(
    (member, name): (MemberId, &MemberName),
    (nb, sb): (&Remotes, &Remotes),
    chosen: Option<&Role>,
) -> Option<Role> {
    let (nb, sb) = (nb.to_string(), sb.to_string());
    // Who chose it means nothing: nodes do not move when the leader does.
    if chosen.is_some_and(|chosen| chosen.nb == nb && chosen.sb == sb) {
        return None;
    }
    Some(Role { member, name: name.clone(), nb, sb, since: Revision(0) })
}

/// While this member leads, keeps the store's choice equal to `remotes`.
pub(super) async fn announce(store: Store, remotes: (Remotes, Remotes), cancel: CancellationToken) {
    let mut leadership = store.leadership();
    loop {
        let wanted = |now: &Published| {
            let status = store.status();
            let chosen = now.state.central().map(AsRef::as_ref);
            let remotes = (&remotes.0, &remotes.1);
            now.is_formed().then(|| choice((status.id, &status.name), remotes, chosen)).flatten()
        };
        let leads = leadership.borrow_and_update().is_leader;
        let due = leads && wanted(&store.published().borrow()).is_some();
        if due && let Err(error) = choose(&store, wanted).await {
            tracing::warn!(%error, "the nodes could not be told where the southbound is yet");
        }
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK), if leads => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// Of a fresh leader the last choice may not be applied yet, so it is looked at again.
pub(super) async fn choose(
    store: &Store,
    wanted: impl Fn(&Published) -> Option<Role>,
) -> Result<(), HandOverError> {
    let now = store.linearizable().await.map_err(|_error| HandOverError::NotLeader)?;
    let Some(role) = wanted(&now) else { return Ok(()) };
    drop(now);
    tracing::info!(nb = role.nb, sb = role.sb, "all nodes find the databases here");
    propose(store, role).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_told_what_is_configured_and_do_not_move_with_the_leader() {
        let remotes = |text: &str| text.parse::<Remotes>().unwrap();
        let (nb, sb) = (remotes("tcp:10.0.0.9:6641"), remotes("tcp:a:6642,tcp:b:6642"));
        let name: MemberName = MemberName::new("m1").unwrap();
        let choose =
            |member, chosen: Option<&Role>| choice((MemberId(member), &name), (&nb, &sb), chosen);
        let first = choose(1, None).unwrap();
        assert_eq!(first.sb, "tcp:a:6642,tcp:b:6642");
        assert_eq!(choose(1, Some(&first)), None);
        assert_eq!(choose(2, Some(&first)), None);
        let other = Role { sb: "tcp:a:6642".to_owned(), ..first };
        assert!(choose(1, Some(&other)).is_some());
    }

    #[test]
    fn who_leads_without_a_lease_stands_by() {
        let leads = |is_leader| Leadership { term: 3, leader: None, is_leader };
        assert_eq!(duty(&leads(true)), Duty::Lead(3));
        assert_eq!(duty(&leads(false)), Duty::StandBy);
    }
}
