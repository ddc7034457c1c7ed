//! A disk that reads and writes only half of what it is asked for, at every place: nothing that was
//! acknowledged is lost, and nothing is read that was not written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Result, ensure};
use atoll_model::{Object, Revision};
use atoll_tests::bare::{self, BareMember};
use atoll_tests::people::{program, say};
use tokio::process::Command;

use super::{PATIENCE, SMALL, namespace, put};

/// Transactions of each member: enough for several snapshots.
const TRANSACTIONS: usize = 200;

/// (place, part of the paths there, whether a start reads it)
const PLACES: [(&str, &str, bool); 5] = [
    ("log", "/wal/", true),
    ("identity", "/identity", true),
    ("snapshot", "/snapshot/", true),
    ("history", "/history/", true),
    // The identity knows the cluster: only who has none looks at the marker.
    ("formation marker", "/formed", false),
];

/// Builds the library that makes calls short.
pub(crate) async fn library(dir: &Path) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/disk_faults/short.c");
    let built = dir.join("short.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&built).arg(source).arg("-ldl");
    let said = say(&mut cc, "").await?;
    ensure!(said.status == 0, "cc: {}", said.err);
    Ok(built)
}

fn shorten(member: &mut BareMember, library: &Path, call: &str, part: &str) -> PathBuf {
    let notes = library.with_file_name("notes");
    let _ = fs::remove_file(&notes);
    member.set("LD_PRELOAD", &library.to_string_lossy());
    member.set("SHORT_CALL", call);
    member.set("SHORT_PATH", part);
    member.set("SHORT_NOTES", &notes.to_string_lossy());
    notes
}

/// How many calls were made short.
fn noted(notes: &Path) -> u64 {
    fs::metadata(notes).map_or(0, |it| it.len())
}

/// What a member knows: its objects, and every change of them.
async fn known(member: &BareMember) -> Result<(Revision, Vec<Object>, usize)> {
    let (revision, objects) = member.state().await?;
    let client = member.client(PATIENCE)?;
    let (first, floor) =
        client.changes_of(&atoll_model::ObjectKey::Namespace(namespace(0))).await?;
    ensure!(floor <= Revision(3), "the history begins at {floor}");
    Ok((revision, objects, first.len()))
}

#[tokio::test]
async fn half_writes_and_half_reads_lose_nothing_at_any_place() {
    let tools = tempfile::tempdir().unwrap();
    let library = library(tools.path()).await.unwrap();
    for (place, part, is_read) in PLACES {
        let dir = tempfile::tempdir().unwrap();
        let data = [dir.path().join("data")];
        let mut members = bare::members(dir.path(), &data, &program("atolld-mutant")).unwrap();
        SMALL.iter().for_each(|(name, value)| members[0].set(name, value));
        let notes = shorten(&mut members[0], &library, "write", part);
        members[0].start().unwrap();
        bare::ready(&members).await.unwrap();
        let client = members[0].client(PATIENCE).unwrap();
        for number in 0..TRANSACTIONS {
            client.txn(vec![], vec![put(number % 50)]).await.unwrap();
        }
        let told = known(&members[0]).await.unwrap();
        members[0].kill().await.unwrap();
        assert!(noted(&notes) > 0, "{place}: no write was short");
        let snapshots = fs::read_dir(data[0].join("snapshot")).unwrap().count();
        assert!(snapshots > 0, "{place}: no snapshot was written");

        let notes = shorten(&mut members[0], &library, "read", part);
        members[0].start().unwrap();
        bare::ready(&members).await.unwrap();
        let again = known(&members[0]).await.unwrap();
        assert_eq!(told.1, again.1, "{place}");
        assert_eq!(told.2, again.2, "{place}: another history");
        assert_eq!(noted(&notes) > 0, is_read, "{place}: {} reads were short", noted(&notes));
        members[0].kill().await.unwrap();
    }
}

/// A backup, written and read in halves by the programs that people use, is the same backup.
#[tokio::test]
async fn a_backup_that_is_written_in_halves_is_whole() {
    let tools = tempfile::tempdir().unwrap();
    let library = library(tools.path()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut members = super::member(dir.path());
    members[0].start().unwrap();
    bare::ready(&members).await.unwrap();
    let client = members[0].client(PATIENCE).unwrap();
    for number in 0..TRANSACTIONS {
        client.txn(vec![], vec![put(number)]).await.unwrap();
    }
    let file = dir.path().join("kept.backup");
    let half = |name: &str, call: &str, notes: &Path| {
        let mut command = Command::new(program(name));
        command.env("LD_PRELOAD", &library).env("SHORT_CALL", call);
        command.env("SHORT_PATH", "/kept.").env("SHORT_NOTES", notes).stdin(Stdio::null());
        command
    };
    let (written, read) = (tools.path().join("written"), tools.path().join("read"));
    let endpoint = format!("unix:{}", members[0].socket().display());
    let mut backup = half("atollctl", "write", &written);
    backup.args(["--insecure-dev", "--endpoints", &endpoint, "backup"]).arg(&file);
    let said = say(&mut backup, "").await.unwrap();
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(noted(&written) > 0, "no write was short");
    let whole =
        say(Command::new(program("atolld")).arg("backup-info").arg(&file), "").await.unwrap();
    let halves =
        say(half("atolld", "read", &read).arg("backup-info").arg(&file), "").await.unwrap();
    assert_eq!((whole.status, &whole.out), (0, &halves.out), "{} {}", whole.err, halves.err);
    assert!(noted(&read) > 0, "no read was short");
    members[0].kill().await.unwrap();
}
