//! Clusters of members: formation, failover, lost disks, foreign disks.

mod lab;

use std::collections::BTreeSet;
use std::time::Duration;

use atoll_model::{MemberId, Outcome, Revision};
use atoll_raft::{OpenError, Phase, ProposeError, ReadError, Role, Store};
use futures::StreamExt as _;
use lab::{Lab, namespace, put_namespace, txn, until};

fn voters(store: &Store) -> BTreeSet<MemberId> {
    store.status().members.iter().filter(|m| m.voter).map(|m| m.id).collect()
}

async fn has_namespaces(store: &Store, count: usize) {
    let published = store.published();
    until("all namespaces", || async {
        let state = published.borrow().state.clone();
        (0..count).all(|n| state.namespace(&namespace(n)).is_some()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn three_members_form_one_cluster_with_its_settings() {
    let lab = Lab::formed(3).await;
    let leader = lab.leader().await;
    let mut published = lab.store(leader).published();
    let ready = published.wait_for(|published| published.state.settings().is_some());
    tokio::time::timeout(Duration::from_secs(20), ready).await.unwrap().unwrap();
    let clusters: BTreeSet<_> =
        (0..3).map(|at| lab.store(at).status().cluster.unwrap().to_string()).collect();
    assert_eq!(clusters.len(), 1);
    let marker = std::fs::read_to_string(lab.directory.path().join("marker")).unwrap();
    assert!(marker.contains(clusters.first().unwrap()), "{marker}");
    for at in 0..3 {
        assert_eq!(voters(lab.store(at)).len(), 3);
    }
}

#[tokio::test]
async fn acknowledged_writes_survive_a_killed_leader_and_the_end_of_all_members() {
    let mut lab = Lab::formed(3).await;
    for number in 0..20 {
        lab.write(put_namespace(number)).await;
    }
    let first = lab.leader().await;
    let term = lab.store(first).status().term;
    lab.members[first].kill();
    for number in 20..40 {
        lab.write(put_namespace(number)).await;
    }
    let second = lab.leader().await;
    assert_ne!(first, second);
    assert!(lab.store(second).status().term > term);
    lab.members[first].start().await;
    has_namespaces(lab.store(first), 40).await;

    let cluster = lab.store(second).status().cluster;
    lab.members.iter_mut().for_each(lab::Member::kill);
    lab.start_all().await;
    for at in 0..3 {
        has_namespaces(lab.store(at), 40).await;
        assert_eq!(lab.store(at).status().cluster, cluster);
    }
    lab.write(put_namespace(40)).await;
}

/// The state is there at once, not only after an election: the commit position was on the disk.
#[tokio::test]
async fn a_member_that_starts_alone_shows_what_was_committed_when_it_stopped() {
    let mut lab = Lab::formed(3).await;
    for number in 0..5 {
        lab.write(put_namespace(number)).await;
    }
    let leader = lab.leader().await;
    for member in &mut lab.members {
        member.stop().await;
    }
    lab.members[leader].start().await;
    let published = lab.store(leader).published().borrow().clone();
    assert!(published.is_formed());
    assert!((0..5).all(|n| published.state.namespace(&namespace(n)).is_some()));
}

#[tokio::test]
async fn leadership_is_handed_over_and_a_follower_names_the_leader() {
    let lab = Lab::formed(3).await;
    lab.write(put_namespace(0)).await;
    let first = lab.leader().await;
    lab.store(first).transfer_leadership(None).await;
    assert!(!lab.store(first).leadership().borrow().is_leader || lab.leader().await != first);
    lab.write(put_namespace(1)).await;
    let second = lab.leader().await;
    let follower = (0..3).find(|&at| at != second).unwrap();
    let expected = lab.store(second).status().id;
    let named = until("the leader's name", || async {
        match lab.store(follower).propose(txn(put_namespace(2))).await {
            Err(ProposeError::NotLeader { leader: Some(leader) }) => Some(leader.id),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(named.await, expected);
    let read = lab.store(follower).linearizable().await;
    assert!(matches!(read, Err(ReadError::NotLeader { leader: Some(_) })), "{read:?}");
    assert!(lab.store(second).linearizable().await.is_ok());
}

#[tokio::test]
async fn without_a_quorum_a_proposal_is_never_reported_as_done() {
    let mut lab = Lab::formed(3).await;
    lab.write(put_namespace(0)).await;
    let leader = lab.leader().await;
    for at in (0..3).filter(|&at| at != leader) {
        lab.members[at].kill();
    }
    let answer = lab.store(leader).propose(txn(put_namespace(1))).await;
    assert!(
        matches!(answer, Err(ProposeError::Unknown(_) | ProposeError::NotLeader { .. })),
        "{answer:?}"
    );
    assert!(lab.store(leader).linearizable().await.is_err());
    let why = lab.members[leader].waits_because("has no quorum").await;
    assert!(why.contains("do not answer"), "{why}");
    // "leader" was what people read, of a member that nobody followed.
    assert_ne!(lab.store(leader).status().role, Role::Leader);
}

#[tokio::test]
async fn a_member_with_a_wiped_disk_comes_back_under_a_new_id_and_takes_its_old_place() {
    let mut lab = Lab::formed(3).await;
    for number in 0..10 {
        lab.write(put_namespace(number)).await;
    }
    let lost = (lab.leader().await + 1) % 3;
    let old = lab.store(lost).status().id;
    lab.members[lost].kill();
    lab.members[lost].wipe().await;
    lab.members[lost].start().await;
    lab.members[lost].phase("a member", |phase| *phase == Phase::Member).await;
    let new = lab.store(lost).status().id;
    assert_ne!(old, new);
    has_namespaces(lab.store(lost), 10).await;
    for at in 0..3 {
        until("the new membership everywhere", || async {
            let voters = voters(lab.store(at));
            (voters.len() == 3 && voters.contains(&new) && !voters.contains(&old)).then_some(())
        })
        .await;
    }
    lab.write(put_namespace(10)).await;
}

/// The disk that was replaced comes back: its id is not a member's any more.
#[tokio::test]
async fn a_replaced_disk_that_comes_back_stays_outside_and_says_so() {
    let mut lab = Lab::formed(3).await;
    lab.write(put_namespace(0)).await;
    let lost = (lab.leader().await + 1) % 3;
    lab.members[lost].kill();
    let elsewhere = lab.directory.path().join("old-disk");
    let data_dir = lab.members[lost].options.data_dir.clone();
    std::fs::rename(&data_dir, &elsewhere).unwrap();
    lab.members[lost].start().await;
    lab.members[lost].phase("a member", |phase| *phase == Phase::Member).await;
    let new = lab.store(lost).status().id;

    // The same name again, on another address, with the old disk.
    let mut old = lab::Member::new(lab.members[lost].options.clone());
    old.options.data_dir = elsewhere;
    old.options.advertise = lab.members[lost].options.advertise.replace(":7400", ":7401");
    old.start().await;
    let why = old.waits_because("goes on without this disk").await;
    assert!(why.contains(&new.to_string()), "{why}");
    lab.write(put_namespace(1)).await;
    assert_eq!(voters(lab.store(lost)).len(), 3);
    assert!(voters(lab.store(lost)).contains(&new));
    old.kill();
}

#[tokio::test]
async fn a_member_that_moved_is_found_at_its_new_address() {
    let mut lab = Lab::formed(3).await;
    lab.write(put_namespace(0)).await;
    let moved = (lab.leader().await + 1) % 3;
    lab.members[moved].stop().await;
    lab.write(put_namespace(1)).await;
    let address = lab.members[moved].options.advertise.replace(":7400", ":7402");
    lab.members[moved].options.advertise = address.clone();
    lab.members[moved].start().await;
    has_namespaces(lab.store(moved), 2).await;
    for at in 0..3 {
        until("the new address everywhere", || async {
            let members = lab.store(at).status().members;
            members.iter().any(|member| member.address == address).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_member_does_not_start_on_a_disk_in_use_or_without_its_log() {
    let mut lab = Lab::formed(1).await;
    lab.write(put_namespace(0)).await;
    let options = lab.members[0].options.clone();
    let error = Store::open(options.clone()).await.unwrap_err();
    assert!(matches!(error, OpenError::InUse(_)), "{error}");
    lab.members[0].stop().await;
    std::fs::remove_dir_all(options.data_dir.join("wal")).unwrap();
    let error = until("the lock", || async {
        match Store::open(options.clone()).await.unwrap_err() {
            OpenError::InUse(_) => None,
            error => Some(error),
        }
    })
    .await;
    assert!(matches!(error, OpenError::Incomplete { .. }), "{error}");
    assert!(error.to_string().contains("comes back under a new id"), "{error}");
}

#[tokio::test]
async fn two_wiped_disks_make_no_second_cluster() {
    let mut lab = Lab::formed(3).await;
    lab.write(put_namespace(0)).await;
    let cluster = lab.store(0).status().cluster;
    lab.members.iter_mut().for_each(lab::Member::kill);
    lab.members[0].wipe().await;
    lab.members[1].wipe().await;
    lab.start_all().await;
    for at in 0..3 {
        let why = lab.members[at].waits_because("has no quorum").await;
        assert!(why.contains("2 of 3 disks are not there"), "{why}");
        assert!(why.contains("Bring a disk back"), "{why}");
    }
    for at in [0, 1] {
        assert_eq!(lab.store(at).status().cluster, None);
        assert!(!lab.store(at).published().borrow().is_formed());
    }
    assert_eq!(lab.store(2).status().cluster, cluster);
}

#[tokio::test]
async fn all_disks_wiped_make_no_second_cluster_while_the_marker_exists() {
    let mut lab = Lab::formed(3).await;
    let cluster = lab.store(0).status().cluster.unwrap();
    lab.members.iter_mut().for_each(lab::Member::kill);
    for member in &lab.members {
        member.wipe().await;
    }
    lab.start_all().await;
    for member in &lab.members {
        let why = member.waits_because("all 3 disks are empty").await;
        assert!(why.contains(&cluster.to_string()), "{why}");
        assert!(why.contains("remove"), "{why}");
        assert_eq!(member.store().status().cluster, None);
    }
    // What the message says helps.
    lab.members.iter_mut().for_each(lab::Member::kill);
    std::fs::remove_file(lab.directory.path().join("marker")).unwrap();
    lab.start_all().await;
    lab.settled().await;
    assert_ne!(lab.store(0).status().cluster, Some(cluster));
}

#[tokio::test]
async fn a_disk_of_another_cluster_is_refused_with_both_ids() {
    let mut ours = Lab::formed(3).await;
    let mut theirs = Lab::formed(3).await;
    theirs.members.iter_mut().for_each(lab::Member::kill);
    ours.members[2].kill();
    ours.members[2].options.data_dir = theirs.members[2].options.data_dir.clone();
    ours.members[2].start().await;
    let mine = ours.store(2).status().cluster.unwrap();
    let cluster = ours.store(0).status().cluster.unwrap();
    assert_ne!(mine, cluster);
    let why = ours.members[2].waits_because("they do not mix").await;
    assert!(why.contains(&mine.to_string()) && why.contains(&cluster.to_string()), "{why}");
    ours.write(put_namespace(0)).await;
    assert!(ours.store(2).published().borrow().state.namespace(&namespace(0)).is_none());
    assert_eq!(ours.store(2).status().cluster, Some(mine));
}

#[tokio::test]
async fn a_cluster_of_one_forms_and_answers() {
    let lab = Lab::formed(1).await;
    lab.write(put_namespace(0)).await;
    let read = lab.store(0).linearizable().await.unwrap();
    assert!(read.state.namespace(&namespace(0)).is_some());
    assert_eq!(read.lineage.revision, read.state.revision());
}

#[tokio::test]
async fn changes_are_streamed_in_order_and_resumed_without_a_gap_on_another_member() {
    let mut lab = Lab::formed(3).await;
    let leader = lab.leader().await;
    let mut stream = lab.store(leader).changes(Revision(0)).unwrap();
    let mut revisions = Vec::new();
    for number in 0..10 {
        revisions.push(lab.write(put_namespace(number)).await);
    }
    let mut seen = Vec::new();
    while seen.len() < 5 || seen.last() < Some(&revisions[4]) {
        seen.push(stream.next().await.unwrap().unwrap().revision);
    }
    drop(stream);
    lab.members[leader].kill();
    let other = lab.leader().await;
    let from = *seen.last().unwrap();
    let mut resumed = lab.store(other).changes(from).unwrap();
    revisions.push(lab.write(put_namespace(10)).await);
    while seen.last() < revisions.last() {
        seen.push(resumed.next().await.unwrap().unwrap().revision);
    }
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
    assert!(revisions.iter().all(|revision| seen.contains(revision)), "{seen:?} {revisions:?}");
}

/// What a reign decided by what it knew must not be done in the next one, which may be the same
/// member's, after another leader's.
#[tokio::test]
async fn what_is_meant_for_one_term_is_not_done_in_another() {
    let lab = Lab::formed(3).await;
    lab.write(put_namespace(0)).await;
    let leader = lab.store(lab.leader().await);
    let term = leader.leadership().borrow().term;
    let outcome = leader.propose_in_term(term, txn(put_namespace(1))).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    for other in [term - 1, term + 1] {
        let answer = leader.propose_in_term(other, txn(put_namespace(2))).await;
        assert!(matches!(answer, Err(ProposeError::NotLeader { .. })), "{answer:?}");
    }
    let state = leader.linearizable().await.unwrap().state;
    assert!(state.namespace(&namespace(1)).is_some());
    assert!(state.namespace(&namespace(2)).is_none());
}
