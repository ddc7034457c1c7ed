//! What operators and strangers do to a member by mistake: one clear line each, and nothing else
//! happens.
//!
//! Elsewhere: disks of others and missing logs (`disk_faults`), foreign clusters (`cli`, and
//! `raft/tests/identity.rs`), other releases' bytes (beside the code that reads them), a request that
//! was born too long ago (`store/src/tests.rs`, `api/src/client/tests.rs`), databases whose certificates
//! do not fit, or that speak plaintext (`ovn-sync/ovsdb/tests`, `ovn-sync/tests/central/secured.rs`).

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use atoll_api::ClientError;
use atoll_model::{Labels, NamespaceName, Operation, Outcome};
use atoll_tests::bare::{self, BareMember, Place};
use atoll_tests::certificates::Authority;
use atoll_tests::people::program;
use atoll_tests::wait::wait_until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(30);

fn namespace(number: usize) -> NamespaceName {
    format!("ns-{number}").parse().unwrap()
}

fn put(number: usize) -> Operation {
    Operation::PutNamespace(namespace(number), Labels::new())
}

/// Root may write everywhere but on a file system that is mounted so that nobody may.
#[tokio::test]
async fn a_data_directory_that_cannot_be_written_is_named_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let mut members =
        bare::members(dir.path(), std::slice::from_ref(&data), &program("atolld")).unwrap();
    let script = format!(
        "mount --bind {0} {0} && mount -o remount,bind,ro {0} && exec \"$@\"",
        data.display()
    );
    let words = ["unshare", "--mount", "sh", "-ec", &script, "sh"];
    members[0].wrap(&words.map(ToOwned::to_owned));
    members[0].start().unwrap();
    let status = members[0].ended(PATIENCE).await.unwrap();
    let line = members[0].last_line();
    assert_eq!(status.code(), Some(1), "{}", members[0].log());
    assert!(line.contains("ERROR") && line.contains("cannot create"), "{line}");
    assert!(line.contains(&*data.to_string_lossy()), "{line}");
    assert!(line.contains("Read-only file system"), "{line}");
    assert_eq!(members[0].log().lines().count(), 1, "{}", members[0].log());
}

/// Bytes that are neither TLS nor HTTP/2, and too many of them; ends when the member hangs up.
async fn babble(address: &str) -> Result<usize> {
    let mut stream = TcpStream::connect(address).await?;
    let garbage = vec![0x5a_u8; 64 * 1024];
    // It may hang up before it has heard all.
    let _ = stream.write_all(&garbage).await;
    let mut answer = Vec::new();
    let heard = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await?;
    // A reset is an end as well.
    Ok(heard.unwrap_or(answer.len()))
}

async fn still_serves(member: &BareMember, number: usize) {
    let client = member.client(PATIENCE).unwrap();
    let outcome = client.txn(vec![], vec![put(number)]).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
}

#[tokio::test]
async fn garbage_on_the_port_is_turned_away_with_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path()).unwrap();
    let network = 1 + u8::try_from(std::process::id() % 250).unwrap();
    let address = format!("{}:7400", Ipv4Addr::new(127, network, 250, 1));
    let certificate = authority.issue("member/m1", &[]).unwrap();
    let places = vec![Place { address: address.clone(), words: Vec::new(), certificate }];
    let credentials = authority.operator().unwrap();
    let data = [dir.path().join("data")];
    let mut members =
        bare::members_at(dir.path(), &data, &program("atolld"), places, &credentials).unwrap();
    members[0].start().unwrap();
    bare::ready(&members).await.unwrap();
    let before = members[0].log().lines().count();
    for number in 0..5 {
        babble(&address).await.unwrap();
        still_serves(&members[0], number).await;
    }
    let log = members[0].log();
    let new: Vec<&str> = log.lines().skip(before).collect();
    assert_eq!(new.len(), 1, "{new:?}");
    assert!(new[0].contains("a connection is turned away"), "{new:?}");
    assert!(new[0].contains("127.0.0.1") && new[0].contains("does not speak TLS"), "{new:?}");
    members[0].kill().await.unwrap();
}

/// Without certificates there is no handshake to fail: the connection is closed, nobody else notices.
#[tokio::test]
async fn garbage_on_a_plaintext_port_is_hung_up_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = [dir.path().join("data")];
    let mut members = bare::members(dir.path(), &data, &program("atolld")).unwrap();
    members[0].start().unwrap();
    bare::ready(&members).await.unwrap();
    for number in 0..5 {
        babble(members[0].address()).await.unwrap();
        still_serves(&members[0], number).await;
    }
    members[0].kill().await.unwrap();
}

/// Larger than an entry of the log, and larger than a message: both times it is certain that nothing
/// was done, and said.
#[tokio::test]
async fn an_oversized_request_is_refused_as_undone() {
    let dir = tempfile::tempdir().unwrap();
    let data = [dir.path().join("data")];
    let mut members = bare::members(dir.path(), &data, &program("atolld")).unwrap();
    members[0].start().unwrap();
    bare::ready(&members).await.unwrap();
    let client = members[0].client(Duration::from_secs(5)).unwrap();
    let labels: Labels = (0..4).map(|n| (format!("label-{n}"), "x".repeat(63))).collect();
    for operations in [900, 100_000] {
        let large = (0..operations).map(|n| Operation::PutNamespace(namespace(n), labels.clone()));
        let large: Vec<Operation> = large.collect();
        let error = client.txn(vec![], large).await.unwrap_err();
        assert!(matches!(error, ClientError::Invalid(_)), "{operations}: {error}");
        let text = error.to_string();
        assert!(text.contains("at most 262144 are allowed, split it"), "{operations}: {text}");
        still_serves(&members[0], 1).await;
    }
    members[0].kill().await.unwrap();
}

/// Waits until all vote; answers their cluster and how many belong to it, by each of them.
async fn settled(members: &[BareMember]) -> Vec<(Option<String>, usize)> {
    let mut told = Vec::new();
    for member in members {
        let settled = wait_until(PATIENCE, "a voter", async || {
            let status = member.status().await?;
            ensure!(status.phase == "member", "{status:?}");
            Ok((status.cluster, status.members.len()))
        });
        told.push(settled.await.unwrap());
    }
    told
}

/// Machines come up before their volumes are mounted: members start with empty directories, and the
/// real disks appear over them. Nobody forms a second cluster, nobody writes on a disk that came late,
/// and with the disks the cluster is what it was.
#[tokio::test]
async fn volumes_that_are_mounted_late_make_no_second_cluster_and_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let data = [1, 2, 3].map(|n| dir.path().join(format!("disk{n}")));
    let mut members = bare::members(dir.path(), &data, &program("atolld")).unwrap();
    members.iter_mut().try_for_each(BareMember::start).unwrap();
    bare::ready(&members).await.unwrap();
    let client = bare::client(&members, PATIENCE).unwrap();
    for number in 0..20 {
        client.txn(vec![], vec![put(number)]).await.unwrap();
    }
    let before = settled(&members).await;
    let identity = |n: usize| fs::read(data[n].join("identity")).unwrap();
    for member in &mut members {
        member.kill().await.unwrap();
    }
    let identities = [0, 1, 2].map(identity);

    let aside = |n: usize, what: &str| dir.path().join(format!("{what}{n}"));
    for (n, disk) in data.iter().enumerate() {
        fs::rename(disk, aside(n, "volume")).unwrap();
        fs::create_dir(disk).unwrap();
    }
    members.iter_mut().try_for_each(BareMember::start).unwrap();
    for member in &members {
        let waiting = wait_until(PATIENCE, "a member that waits", async || {
            let status = member.status().await?;
            ensure!(status.phase == "waiting", "{status:?}");
            ensure!(status.why.contains("was formed"), "{}", status.why);
            Ok(status)
        });
        let status = waiting.await.unwrap();
        assert_eq!((&status.cluster, status.last_log), (&None, 0), "{status:?}");
    }

    // The volumes are mounted, and two members are restarted: they are a quorum.
    for (n, disk) in data.iter().enumerate() {
        fs::rename(disk, aside(n, "empty")).unwrap();
        fs::rename(aside(n, "volume"), disk).unwrap();
    }
    for member in &mut members[..2] {
        member.kill().await.unwrap();
        member.start().unwrap();
    }
    bare::ready(&members[..2]).await.unwrap();
    // The third one still runs without its disk, and would join.
    let told = wait_until(PATIENCE, "the third member's word", async || {
        let status = members[2].status().await?;
        ensure!(status.why.contains("was its volume mounted late?"), "{status:?}");
        Ok(status)
    });
    let told = told.await.unwrap();
    assert_eq!(told.cluster, None, "{told:?}");
    assert_eq!(identity(2), identities[2], "a disk that came late was written to");
    let said = |line: &&str| line.contains("was its volume mounted late?");
    assert_eq!(members[2].log().lines().filter(said).count(), 1, "{}", members[2].log());

    members[2].kill().await.unwrap();
    members[2].start().unwrap();
    assert_eq!(settled(&members).await, before);
    let read = client.read(&[], None).await.unwrap();
    let kept = read.objects.iter().filter(|it| it.key().to_string().contains("ns-")).count();
    assert_eq!(kept, 20);
    assert_eq!([0, 1, 2].map(identity), identities);
    for member in &mut members {
        member.kill().await.unwrap();
    }
}
