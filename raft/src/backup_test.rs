use std::time::Duration;

use super::*;
use crate::lab::{Lab, namespace, put_namespace, txn, until};
use crate::{Phase, Store};

fn node(number: usize) -> Operation {
    Operation::PutNode(atoll_model::NodeSpec {
        name: format!("n{number}").parse().unwrap(),
        uid: format!("uid-{number}").parse().unwrap(),
        addresses: Vec::new(),
        labels: Default::default(),
    })
}

async fn used() -> Lab {
    let lab = Lab::formed(3).await;
    until("the settings", || async {
        let leader = lab.leader().await;
        let read = lab.store(leader).linearizable().await.ok()?;
        read.state.settings().map(|_| ())
    })
    .await;
    for number in 0..2 {
        lab.write(node(number)).await;
        lab.write(put_namespace(number)).await;
    }
    lab
}

fn target(lab: &Lab) -> RestoreTarget {
    let options = &lab.members[0].options;
    let (name, advertise) = (options.name.clone(), options.advertise.clone());
    RestoreTarget { data_dir: options.data_dir.clone(), name, advertise }
}

/// All members are gone; the first one's directory is made from the backup, the others are empty.
async fn reborn(lab: &mut Lab, backup: Vec<u8>) -> Restored {
    for member in &mut lab.members {
        member.kill();
        member.wipe().await;
    }
    let restored = restore(&target(lab), backup).await.unwrap();
    lab.start_all().await;
    lab.settled().await;
    restored
}

async fn state(store: &Store) -> State {
    until("an answer", || async { Some(store.linearizable().await.ok()?.state) }).await
}

#[tokio::test]
async fn a_restored_cluster_is_another_one_that_goes_on_where_the_backup_ended() {
    let mut lab = used().await;
    let leader = lab.leader().await;
    let old = lab.store(leader).published().borrow().lineage.clone();
    let backup = lab.store(leader).backup().await.unwrap();
    let info = inspect_backup(backup.clone()).unwrap();
    assert_eq!((info.cluster, info.counts), (old.cluster, [2, 0, 2]));
    lab.write(put_namespace(7)).await;
    let lost = lab.store(leader).published().borrow().lineage.clone();

    let restored = reborn(&mut lab, backup).await;
    assert_ne!(restored.cluster, old.cluster);
    assert_eq!(restored.unreported, 2);
    let leader = lab.leader().await;
    let now = lab.store(leader).published().borrow().clone();
    assert_eq!(
        (now.lineage.cluster, now.lineage.ancestors.as_slice()),
        (restored.cluster, &[old.cluster][..])
    );
    assert!(lost.accepts(&now.lineage).is_ok(), "who kept the old state takes the new one");
    assert!(now.lineage.accepts(&lost).is_err(), "and never goes back");
    let has = |state: &State, number| state.namespace(&namespace(number)).is_some();
    assert!(has(&now.state, 1) && !has(&now.state, 7));
    assert!(now.state.reconciling().is_some(), "nobody gets an address yet");
    let refused = lab.store(leader).propose(txn(node(9))).await.unwrap();
    assert!(format!("{refused:?}").contains("Reconciling"), "{refused:?}");

    // It is a cluster like any other: three members, writes, a restart, another backup.
    assert!(lab.write(put_namespace(8)).await > restored.revision);
    for member in &mut lab.members {
        member.kill();
        member.start().await;
    }
    let leader = lab.leader().await;
    let again = state(lab.store(leader)).await;
    assert!(has(&again, 8));
    again.check().unwrap();
    let backup = lab.store(leader).backup().await.unwrap();
    let info = inspect_backup(backup).unwrap();
    assert_eq!((info.cluster, info.ancestors), (restored.cluster, vec![old.cluster]));
}

/// Two of three disks are lost for good, and there is no backup.
#[tokio::test]
async fn what_is_left_of_one_member_becomes_a_cluster() {
    let mut lab = used().await;
    let revision = lab.write(put_namespace(5)).await;
    let leader = lab.leader().await;
    let old = lab.store(leader).published().borrow().lineage.cluster;
    lab.members.iter_mut().for_each(crate::lab::Member::kill);
    let (directory, name) =
        (lab.members[leader].options.data_dir.clone(), lab.members[leader].options.name.clone());
    let backup = until("the log to be free", || async { remains(&directory, &name).ok() }).await;
    let info = inspect_backup(backup.clone()).unwrap();
    assert!(info.cluster == old && info.applied >= revision, "{info:?}");
    let restored = reborn(&mut lab, backup).await;
    let leader = lab.leader().await;
    let now = state(lab.store(leader)).await;
    assert!(now.namespace(&namespace(5)).is_some());
    assert_eq!((now.ancestors(), restored.unreported), (&[old][..], 2));
}

/// A member of the old cluster that comes back is no member of the new one.
#[tokio::test]
async fn an_old_member_does_not_come_into_the_restored_cluster() {
    let mut lab = used().await;
    let leader = lab.leader().await;
    let backup = lab.store(leader).backup().await.unwrap();
    lab.members.iter_mut().for_each(crate::lab::Member::kill);
    lab.members[0].wipe().await;
    restore(&target(&lab), backup).await.unwrap();
    lab.start_all().await;
    lab.members[0].phase("a member", |phase| *phase == Phase::Member).await;
    // The two old ones are a majority of the old cluster, and go on with it, apart from the new one.
    let strangers = until("two clusters that stay apart", || async {
        let clusters: Vec<_> = (0..3).map(|at| lab.store(at).status().cluster).collect();
        let members: Vec<_> = (0..3).map(|at| lab.store(at).status().members.len()).collect();
        (clusters[0] != clusters[1] && clusters[1] == clusters[2]).then_some(members)
    })
    .await;
    assert_eq!(strangers[0], 1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(lab.store(0).status().members.len(), 1);
}

#[tokio::test]
async fn what_is_no_backup_or_no_place_for_one_is_refused_and_nothing_is_written() {
    let lab = used().await;
    let leader = lab.leader().await;
    let backup = lab.store(leader).backup().await.unwrap();
    let elsewhere = RestoreTarget { data_dir: lab.directory.path().join("new"), ..target(&lab) };
    for at in (0..backup.len()).step_by(backup.len() / 97 + 1) {
        let mut damaged = backup.clone();
        damaged[at] ^= 1;
        let error = restore(&elsewhere, damaged).await.unwrap_err().to_string();
        assert!(error.contains("nothing was written"), "byte {at}: {error}");
    }
    let cut = backup[..backup.len() / 2].to_vec();
    assert!(
        restore(&elsewhere, cut).await.unwrap_err().to_string().contains("nothing was written")
    );
    assert!(!elsewhere.data_dir.exists());
    let error = restore(&target(&lab), backup.clone()).await.unwrap_err().to_string();
    assert!(error.contains("is not empty") && error.contains("Move what is there"), "{error}");
    restore(&elsewhere, backup).await.unwrap();
}
