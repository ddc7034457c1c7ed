use super::*;
use crate::lab::{Lab, put_namespace, until};
use crate::{ProposeError, ReadError};

#[test]
fn only_a_majority_says_who_is_wrong() {
    let judge = |own, others: &[Option<u128>]| judge(own, others, 3);
    assert_eq!(judge(1, &[Some(1), Some(1)]), Verdict::Agreed);
    assert_eq!(judge(1, &[Some(1), None]), Verdict::Agreed);
    assert_eq!(judge(1, &[Some(1), Some(2)]), Verdict::Agreed);
    assert_eq!(judge(2, &[Some(1), Some(1)]), Verdict::Minority);
    assert_eq!(judge(2, &[Some(1), None]), Verdict::Open);
    assert_eq!(judge(2, &[None, None]), Verdict::Open);
    assert_eq!(judge(1, &[Some(2), Some(3)]), Verdict::Open);
    assert_eq!(super::judge(1, &[], 1), Verdict::Agreed);
}

#[test]
fn marks_are_found_by_their_entry_and_the_oldest_are_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let marks = Marks::open(directory.path()).unwrap();
    for index in 0..=REMEMBERED as u64 {
        marks.note(index, index.into());
    }
    assert_eq!((marks.at(0), marks.at(1), marks.at(64)), (None, Some(1), Some(64)));
    assert_eq!(marks.newest(), Some((64, 64)));
    marks.set_quarantine("because");
    let again = Marks::open(directory.path()).unwrap();
    assert_eq!(again.quarantine(), Some("because"));
}

/// Makes the member at `wrong` compute something else than the others, and sees it stand aside
/// while the others serve.
async fn diverge(mut lab: Lab, wrong: usize) {
    lab.write(put_namespace(1)).await;
    let broken = lab.store(wrong).clone();
    broken.member().shown.plant_divergence();
    lab.write(put_namespace(2)).await;
    let quarantined = |phase: &Phase| matches!(phase, Phase::Quarantined { .. });
    let phase = lab.members[wrong].phase("quarantined", quarantined).await;
    let Phase::Quarantined { why } = phase else { panic!("{phase:?}") };
    assert!(why.contains("a majority has another"), "{why}");

    // It serves nobody …
    assert!(!broken.published().borrow().is_formed());
    let refused = broken.propose(crate::lab::txn(put_namespace(3))).await.unwrap_err();
    assert!(matches!(&refused, ProposeError::Unavailable(why) if why.contains("quarantine")));
    let read = broken.linearizable().await.unwrap_err();
    assert!(matches!(read, ReadError::Unavailable(_) | ReadError::NotLeader { .. }), "{read}");
    let mut changes = broken.changes(atoll_model::Revision(0)).unwrap();
    assert!(futures::StreamExt::next(&mut changes).await.is_none(), "its watchers are sent away");
    // … the others do …
    until("another leader", || async {
        let leader = lab.leader().await;
        (leader != wrong).then_some(())
    })
    .await;
    let revision = lab.write(put_namespace(4)).await;
    // … with its vote: it is the second of two.
    let leader = lab.leader().await;
    let third = (0..3).find(|&at| at != wrong && at != leader).unwrap();
    lab.members[third].kill();
    assert!(lab.write(put_namespace(5)).await > revision);
    drop(broken);

    // It stays so over a restart, and is healed by an empty disk.
    lab.members[third].start().await;
    lab.members[wrong].kill();
    lab.members[wrong].start().await;
    lab.members[wrong].phase("quarantined", quarantined).await;
    assert!(!lab.store(wrong).published().borrow().is_formed());
    lab.members[wrong].kill();
    lab.members[wrong].wipe().await;
    lab.members[wrong].start().await;
    lab.members[wrong].phase("a member", |phase| *phase == Phase::Member).await;
}

fn quick(mut lab: Lab) -> Lab {
    for member in &mut lab.members {
        member.options.timing.mark_interval = Duration::from_millis(100);
    }
    lab
}

async fn formed() -> Lab {
    let mut lab = quick(Lab::new(3));
    lab.start_all().await;
    lab.settled().await;
    lab
}

#[tokio::test]
async fn a_follower_that_differs_stands_aside() {
    let lab = formed().await;
    let leader = lab.leader().await;
    diverge(lab, (leader + 1) % 3).await;
}

#[tokio::test]
async fn a_leader_that_differs_stands_aside() {
    let lab = formed().await;
    let leader = lab.leader().await;
    diverge(lab, leader).await;
}

/// Members that agree make marks while something changes, and none when nothing does.
#[tokio::test]
async fn marks_end_with_the_changes() {
    let lab = formed().await;
    lab.write(put_namespace(1)).await;
    let leader = lab.leader().await;
    let marked = |at: usize| {
        let member = lab.store(at).member().clone();
        let applied = member.shown.published.borrow().state.applied().0;
        member.shown.marks.newest().filter(|(index, _)| *index == applied)
    };
    let (index, digest) = until("a mark behind the last change", || async { marked(leader) }).await;
    for at in 0..3 {
        let same = || async { lab.store(at).member().shown.marks.at(index) };
        assert_eq!(until("the same mark", same).await, digest);
    }
    // Ten intervals later the log is as it was.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(marked(leader), Some((index, digest)));
}
