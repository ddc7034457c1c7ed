//! A disk that cannot be read when a member starts: it ends with one line that names the file, and
//! changes nothing, so that it is as before once the disk can be read.

use std::fs;
use std::path::{Path, PathBuf};

use atoll_tests::bare;
use atoll_tests::people::program;

use super::{PATIENCE, SMALL, namespace, put, refusal};

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else if fs::metadata(&path).unwrap().len() > 0 {
            found.push(path);
        }
    }
}

/// Files that a start does not read: what is in them is not needed, or comes from elsewhere.
fn is_unread(path: &Path) -> bool {
    let name = path.to_string_lossy();
    ["/lock", "/reserve", ".new", ".spare"].iter().any(|end| name.ends_with(end))
}

#[tokio::test]
async fn a_file_that_cannot_be_read_at_the_start_ends_the_member_with_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut members =
        bare::members(dir.path(), std::slice::from_ref(&data), &program("atolld-mutant")).unwrap();
    SMALL.iter().for_each(|(name, value)| members[0].set(name, value));
    members[0].start().unwrap();
    bare::ready(&members).await.unwrap();
    let client = members[0].client(PATIENCE).unwrap();
    for number in 0..200 {
        client.txn(vec![], vec![put(number % 50)]).await.unwrap();
    }
    let told = members[0].state().await.unwrap();
    members[0].kill().await.unwrap();

    let mut files = Vec::new();
    files_below(&data, &mut files);
    files.retain(|path| !is_unread(path));
    let mut seen = Vec::new();
    for file in &files {
        let text = file.to_string_lossy();
        let calls = "read,pread64,readv,preadv";
        let inject = format!("inject={calls}:error=EIO");
        let trace = format!("trace={calls}");
        let words = [
            "strace",
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-P",
            &text,
            "-e",
            &trace,
            "-e",
            &inject,
        ];
        members[0].wrap(&words.map(ToOwned::to_owned));
        let line = refusal(&mut members).await;
        assert!(line.contains("ERROR") && line.contains("Input/output error"), "{text}: {line}");
        assert!(line.contains(&*data.to_string_lossy()), "{text}: {line}");
        let errors = members[0].log().lines().filter(|line| line.contains("ERROR")).count();
        assert_eq!(errors, 1, "{text}: {}", members[0].log());
        let relative = file.strip_prefix(&data).unwrap();
        seen.push(relative.components().next().unwrap().as_os_str().to_owned());
    }
    for place in ["wal", "snapshot", "history", "identity"] {
        assert!(seen.iter().any(|it| it == place), "{place} is not among {files:?}");
    }

    members[0].wrap(&[]);
    members[0].start().unwrap();
    bare::ready(&members).await.unwrap();
    assert_eq!(members[0].state().await.unwrap().1, told.1);
    let key = atoll_model::ObjectKey::Namespace(namespace(0));
    let (changes, floor) = members[0].client(PATIENCE).unwrap().changes_of(&key).await.unwrap();
    assert!(floor.0 <= 3 && changes.len() >= 4, "{floor}: {changes:?}");
    members[0].kill().await.unwrap();
}
