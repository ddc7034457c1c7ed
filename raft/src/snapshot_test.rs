//! A member that the log alone cannot serve any more.

use std::sync::Arc;
use std::time::Duration;

use atoll_model::{ChangeSet, Revision};
use futures::StreamExt as _;

use crate::lab::{Lab, namespace, put_namespace, until};
use crate::{Phase, Store};

async fn purge(store: &Store) {
    let member = store.member();
    member.raft.trigger().snapshot().await.unwrap();
    let covered = until("a snapshot", || async {
        let newest = member.shown.snapshots.newest();
        newest.and_then(|(meta, _)| meta.last_log_id).filter(|id| id.index >= 10)
    })
    .await;
    until("the purge", || async {
        member.raft.trigger().purge_log(covered.index).await.unwrap();
        (member.wal.purged() == Some(covered)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_wiped_disk_is_filled_from_a_snapshot_and_keeps_it_over_a_restart() {
    let mut lab = Lab::formed(3).await;
    for number in 0..20 {
        lab.write(put_namespace(number)).await;
    }
    let leader = lab.leader().await;
    let lost = (leader + 1) % 3;
    lab.members[lost].kill();
    lab.members[lost].wipe().await;
    purge(lab.store(leader)).await;
    lab.members[lost].start().await;
    lab.members[lost].phase("a member", |phase| *phase == Phase::Member).await;
    for number in 20..25 {
        lab.write(put_namespace(number)).await;
    }
    for _ in 0..2 {
        let store = lab.store(lost).clone();
        let mut published = store.published();
        let all = |p: &crate::Published| {
            (0..25).all(|number| p.state.namespace(&namespace(number)).is_some())
        };
        let caught_up = published.wait_for(all);
        tokio::time::timeout(Duration::from_secs(20), caught_up).await.unwrap().unwrap();
        published.borrow().state.check().unwrap();
        // The snapshot holds the state; how it came about comes behind it.
        let told = |store: Store| async move {
            let mut stream = store.changes(Revision(0)).ok()?;
            let last = store.published().borrow().state.revision();
            let mut sets = Vec::new();
            while sets.last().is_none_or(|set: &Arc<ChangeSet>| set.revision < last) {
                sets.push(stream.next().await?.ok()?);
            }
            Some(sets)
        };
        let here = until("all of the history", || told(store.clone())).await;
        assert_eq!(here, told(lab.store(leader).clone()).await.unwrap());
        assert_eq!(store.history().floor(), Revision(0));
        drop(published);
        drop(store);
        lab.members[lost].kill();
        lab.members[lost].start().await;
    }
}
