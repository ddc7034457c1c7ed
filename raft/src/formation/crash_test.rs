//! A former that crashed half-way.

use atoll_model::{ClusterId, MemberId};

use super::marker::{Marker, MarkerFile};
use crate::identity::IdentityFile;
use crate::lab::{Lab, Member};
use crate::stages::Stages;

const X: ClusterId = ClusterId(0xabc);

/// As the former leaves them when it crashes behind step 2.
fn begun(member: &Member) -> MemberId {
    let options = &member.options;
    std::fs::create_dir_all(&options.data_dir).unwrap();
    let identity = IdentityFile::open(&options.data_dir, &options.name).unwrap();
    identity.update(|identity| identity.forming = Some(X)).unwrap();
    let former = identity.get().id;
    let marker = Marker { cluster: X, former, formed_at_ms: 0 };
    MarkerFile::new(&options.formation_marker).create(&marker, &[]).unwrap();
    former
}

#[tokio::test]
async fn a_former_that_crashed_behind_the_marker_finishes_the_same_cluster() {
    let mut lab = Lab::new(3);
    begun(&lab.members[0]);
    lab.start_all().await;
    lab.settled().await;
    for at in 0..3 {
        assert_eq!(lab.store(at).status().cluster, Some(X));
    }
    let member = lab.store(0).member();
    assert_eq!(member.shown.identity.get().forming, None);
}

#[tokio::test]
async fn a_former_that_crashed_behind_enlisting_finishes_with_members_that_wait_for_it() {
    let mut lab = Lab::new(3);
    begun(&lab.members[0]);
    for member in &lab.members[1..] {
        std::fs::create_dir_all(&member.options.data_dir).unwrap();
        let identity = IdentityFile::open(&member.options.data_dir, &member.options.name).unwrap();
        identity.update(|identity| identity.cluster = Some(X)).unwrap();
        // Its log exists, and is empty.
        let wal = member.options.data_dir.join("wal");
        crate::wal::Wal::open(&wal, identity.get().id, Stages::default()).unwrap();
    }
    lab.start_all().await;
    lab.settled().await;
    assert_eq!(lab.store(2).status().cluster, Some(X));
}

#[tokio::test]
async fn a_former_that_lost_its_disk_behind_the_marker_forms_nothing_else() {
    let mut lab = Lab::new(3);
    begun(&lab.members[0]);
    lab.members[0].wipe().await;
    lab.start_all().await;
    for member in &lab.members {
        let why = member.waits_because("no second cluster arises").await;
        assert!(why.contains(&X.to_string()), "{why}");
    }
}
