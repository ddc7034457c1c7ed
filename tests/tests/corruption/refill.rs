//! What one member's history has lost comes back from the others, and is what they have.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_model::Revision;
use atoll_tests::bare::{self, BareMember};
use atoll_tests::people::program;
use atoll_tests::wait::wait_until;

use super::{PATIENCE, SMALL, files_in, fill, hear};

/// What a member says when a part, or all, of its history is not there.
const LOST: &str = "changes up to it are not known here until they have come from another member";

/// What it says when it is there, and no row can be believed.
const DAMAGED: &str = "the history is damaged, is set aside and begun anew";

fn overwrite(path: &Path, at: u64, len: usize) -> Result<()> {
    let file = fs::File::options().write(true).open(path)?;
    Ok(file.write_all_at(&vec![0xa5; len], at)?)
}

/// Where a damage is, how it is done to a directory, and what the member says then.
type Damage = (&'static str, fn(&Path) -> Result<()>, &'static [&'static str]);

const DAMAGES: [Damage; 4] = [
    ("the directory, removed", |history| Ok(fs::remove_dir_all(history)?), &[LOST]),
    ("the file db, removed", |history| Ok(fs::remove_file(history.join("db"))?), &[LOST, DAMAGED]),
    (
        "the file db, from its beginning",
        |it| overwrite(&it.join("db"), 0, 1 << 17),
        &[LOST, DAMAGED],
    ),
    ("the file conf", |it| overwrite(&it.join("conf"), 0, 8), &[LOST, DAMAGED]),
];

async fn leader(members: &[BareMember]) -> Result<usize> {
    wait_until(PATIENCE, "a leader", async || {
        for (at, member) in members.iter().enumerate() {
            if member.status().await.is_ok_and(|it| it.role == "leader") {
                return Ok(at);
            }
        }
        anyhow::bail!("nobody leads")
    })
    .await
}

/// A history that was damaged used to begin anew, for ever: `--at` and resumed watches failed on that
/// member and worked on the others.
#[tokio::test]
async fn a_lost_history_comes_back_from_the_other_members() {
    let dir = tempfile::tempdir().unwrap();
    let program = program("atolld-mutant");
    assert!(program.exists(), "{} is not built; use `make corruption`", program.display());
    let data_dirs: Vec<_> = (1..=3).map(|n| dir.path().join(format!("data{n}"))).collect();
    let mut members = bare::members(dir.path(), &data_dirs, &program).unwrap();
    for member in &mut members {
        // The sizes; elections are over at once only where nobody else is asked.
        SMALL[..3].iter().for_each(|(name, value)| member.set(name, value));
        member.start().unwrap();
    }
    bare::ready(&members).await.unwrap();
    let client = bare::client(&members, Duration::from_secs(10)).unwrap();
    fill(&client).await.unwrap();
    let last = Revision(members[leader(&members).await.unwrap()].status().await.unwrap().revision);
    for (what, inflict, said) in DAMAGES {
        let leader = leader(&members).await.unwrap();
        let expected = hear(&members[leader], last).await.unwrap();
        assert!(expected.history.is_some(), "{}", members[leader].log());
        let other = (leader + 1) % 3;
        has_snapshot(&members[other]).await.unwrap();
        members[other].kill().await.unwrap();
        inflict(&data_dirs[other].join("history")).unwrap();
        members[other].start().unwrap();
        let told = wait_until(PATIENCE * 2, "all of the history", async || {
            let told = hear(&members[other], last).await?;
            ensure!(told.history.is_some(), "it says that it does not know all");
            Ok(told)
        });
        let told = told.await.with_context(|| format!("{what}: {}", members[other].log())).unwrap();
        assert_eq!(told.history, expected.history, "{what}");
        assert_eq!(told.objects, expected.objects, "{what}");
        let log = members[other].log();
        let warned = log.lines().filter(|line| line.contains("WARN") && line.contains("history"));
        let warned: Vec<&str> =
            warned.filter(|line| said.iter().any(|it| line.contains(it))).collect();
        assert!(!warned.is_empty() && warned.len() <= 2, "{what}: {log}");
        let directory = data_dirs[other].join("history").display().to_string();
        assert!(warned.iter().all(|line| line.contains(&directory)), "{what}: {log}");
        assert!(log.contains("the history is whole"), "{what}: {log}");
        let kept = data_dirs[other].join("history.damaged-1");
        assert_eq!(log.contains(DAMAGED), kept.exists(), "{what}: {log}");
        let _ = fs::remove_dir_all(kept);
    }
}

async fn has_snapshot(member: &BareMember) -> Result<()> {
    let snapshots = member.data_dir().join("snapshot");
    wait_until(PATIENCE, "a snapshot", async || {
        let files = files_in(&snapshots)?;
        ensure!(files.iter().any(|it| it.extension().is_some_and(|it| it == "snap")), "{files:?}");
        Ok(())
    })
    .await
}
