//! A disk that refuses: each error at each kind of call ends a member with one clear line, and
//! what it had acknowledged is there when it starts again. A disk that does half of what it is asked
//! for: nothing is different. And disks that a member must not use.
//!
//! Needs strace, a C compiler and `atolld-mutant` (`make forgetful`).

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

#[path = "disk_faults/reads.rs"]
mod reads;
#[path = "disk_faults/short.rs"]
mod short;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use atoll_model::{Labels, NamespaceName, ObjectKey, Operation, Outcome};
use atoll_tests::bare::{self, BareMember};
use atoll_tests::people::program;

const PATIENCE: Duration = Duration::from_secs(20);

fn member(dir: &Path) -> Vec<BareMember> {
    bare::members(dir, &[dir.join("data")], &program("atolld")).unwrap()
}

/// Snapshots all the time, and an election that is over at once.
const SMALL: [(&str, &str); 5] = [
    ("ATOLL_SEGMENT_BYTES", "32768"),
    ("ATOLL_SNAPSHOT_EVERY", "60"),
    ("ATOLL_LOG_KEEP", "50"),
    ("ATOLL_HEARTBEAT_MS", "10"),
    ("ATOLL_ELECTION_MS", "40"),
];

/// Changes a namespace, whatever it was before.
fn put(number: usize) -> Operation {
    let mark = uuid::Uuid::new_v4().to_string();
    Operation::PutNamespace(namespace(number), Labels::from([("mark".to_owned(), mark)]))
}

fn namespace(number: usize) -> NamespaceName {
    format!("ns-{number}").parse().unwrap()
}

/// Writes until the member does not answer; answers how much it acknowledged.
async fn write_until_it_ends(member: &BareMember, first: usize) -> Result<usize> {
    let client = member.client(Duration::from_secs(2))?;
    for number in first.. {
        let put = Operation::PutNamespace(namespace(number), Labels::new());
        match client.txn(vec![], vec![put]).await {
            Ok(Outcome::Applied { .. }) => {}
            Ok(Outcome::Refused { refusal, .. }) => bail!("{refusal}"),
            Err(_) => return Ok(number),
        }
        if number > first + 2_000 {
            bail!("the fault does not come");
        }
    }
    Ok(0)
}

/// (what strace does, what the last line must say)
///
/// A member is never told twice: after the first error the process ends.
const FAULTS: [(&str, &str, &str); 4] = [
    ("fdatasync", "error=EIO:when=40+", "cannot sync"),
    ("pwrite64", "error=EIO:when=60+", "cannot write"),
    ("pwrite64", "error=ENOSPC:when=60+", "cannot write"),
    ("fsync", "error=EIO:when=1+", "Input/output error"),
];

#[tokio::test]
async fn an_error_of_the_disk_ends_the_member_with_one_line_and_nothing_is_lost() {
    for (call, fault, expected) in FAULTS {
        let dir = tempfile::tempdir().unwrap();
        let mut members = member(dir.path());
        // Formed on a sound disk.
        members[0].start().unwrap();
        bare::ready(&members).await.unwrap();
        members[0].kill().await.unwrap();

        let trace = format!("trace={call}");
        let inject = format!("inject={call}:{fault}");
        let words = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        members[0].wrap(&words.map(ToOwned::to_owned));
        members[0].start().unwrap();
        let acknowledged = match call {
            // It does not even come up.
            "fsync" => 0,
            _ => {
                bare::ready(&members).await.unwrap();
                write_until_it_ends(&members[0], 0).await.unwrap()
            }
        };
        let ended = members[0].ended(PATIENCE).await;
        let status =
            ended.unwrap_or_else(|error| panic!("{call} {fault}: {error:#}: {}", members[0].log()));
        let last = members[0].last_line();
        assert_eq!(status.code(), Some(1), "{call} {fault}: {}", members[0].log());
        assert!(last.contains("ERROR") && last.contains(expected), "{call} {fault}: {last}");
        let errors = members[0].log().lines().filter(|line| line.contains("ERROR")).count();
        assert_eq!(errors, 1, "{call} {fault}: {}", members[0].log());

        members[0].wrap(&[]);
        members[0].start().unwrap();
        bare::ready(&members).await.unwrap();
        let client = members[0].client(PATIENCE).unwrap();
        for number in 0..acknowledged {
            let key = ObjectKey::Namespace(namespace(number));
            let read = client.read(&[], Some(&key)).await.unwrap();
            assert_eq!(read.objects.len(), 1, "{call} {fault}: {key} was acknowledged");
        }
        members[0].kill().await.unwrap();
    }
}

/// Starts a member that must refuse; answers the line that says why.
async fn refusal(members: &mut [BareMember]) -> String {
    members[0].start().unwrap();
    let ended = members[0].ended(PATIENCE).await;
    let status = ended.unwrap_or_else(|error| panic!("{error:#}: {}", members[0].log()));
    assert_eq!(status.code(), Some(1), "{}", members[0].log());
    members[0].last_line()
}

#[tokio::test]
async fn a_disk_that_a_member_must_not_use_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut members = member(dir.path());
    members[0].start().unwrap();
    bare::ready(&members).await.unwrap();
    members[0].kill().await.unwrap();

    // Wiped, but under its old id.
    let wal = data.join("wal");
    fs::rename(&wal, dir.path().join("wal")).unwrap();
    let line = refusal(&mut members).await;
    assert!(line.contains("the log is not there"), "{line}");
    assert!(line.contains("comes back under a new id"), "{line}");
    fs::rename(dir.path().join("wal"), &wal).unwrap();

    // Another member's.
    let identity = data.join("identity");
    let own = fs::read(&identity).unwrap();
    let other = tempfile::tempdir().unwrap();
    let elsewhere = other.path().join("data");
    fs::create_dir_all(&elsewhere).unwrap();
    let dirs = ["x", "data", "y"].map(|name| other.path().join(name));
    let mut two = bare::members(other.path(), &dirs, &program("atolld")).unwrap();
    two[1].start().unwrap();
    let drawn = atoll_tests::wait::wait_until(PATIENCE, "an identity", async || {
        Ok(fs::read(elsewhere.join("identity"))?)
    });
    let drawn = drawn.await.unwrap();
    two[1].kill().await.unwrap();
    fs::write(&identity, drawn).unwrap();
    let line = refusal(&mut members).await;
    assert!(line.contains("belongs to member m2, but this is m1"), "{line}");
    fs::write(&identity, own).unwrap();

    // Not a directory at all: root may write everywhere else.
    fs::rename(&data, dir.path().join("aside")).unwrap();
    fs::write(&data, b"a file").unwrap();
    let line = refusal(&mut members).await;
    assert!(line.contains("cannot create") && line.contains(&*data.to_string_lossy()), "{line}");
    fs::remove_file(&data).unwrap();
    fs::rename(dir.path().join("aside"), &data).unwrap();

    // And it was none of these: it starts.
    members[0].start().unwrap();
    bare::ready(&members).await.unwrap();
    members[0].kill().await.unwrap();
}
