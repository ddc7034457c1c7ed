//! Power loss: three members on disks of their own lose their power at the same moment, again and
//! again, under a load of several clients. Every transaction that a client was told is done must
//! be there afterwards. And the same test must see each of the ways to forget a sync.
//!
//! Says what it saw in the report `power-loss`. Needs root and loop devices; `make power-loss`.
//! `ATOLL_POWER_ROUNDS` says how many rounds (20).

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]
#![allow(clippy::print_stdout, reason = "what a run saw is for people too")]

mod disk;
mod load;
mod verdict;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_api::ClientError;
use atoll_model::{Labels, Operation};
use atoll_tests::bare::{self, BareMember};
use atoll_tests::people::program;
use atoll_tests::report::{Report, Target};
use atoll_tests::wait::wait_until;
use disk::{Disk, Room, Switch};
use load::Shared;
use tokio::task::JoinSet;
use verdict::{Finding, Kind, Leaders};

const MEMBERS: usize = 3;
const CLIENTS: usize = 8;
const ROUNDS: usize = 20;

/// Sizes that make segments change, and live again, several times in a second.
const SMALL: [(&str, &str); 3] =
    [("ATOLL_SEGMENT_BYTES", "16384"), ("ATOLL_SNAPSHOT_EVERY", "300"), ("ATOLL_LOG_KEEP", "50")];

/// What happens right before the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Nothing but the load.
    Load,
    /// The disks take no writes for a moment: what is acknowledged meanwhile is on none.
    Stall,
    /// Leadership is on its way to another member.
    Election,
    /// The same on idle members whose disks take no writes: so no vote can be given.
    StalledElection,
}

const MOMENTS: [Moment; 5] =
    [Moment::Load, Moment::Stall, Moment::Election, Moment::StalledElection, Moment::Load];

/// An idle member has written its commit position after this time.
const IDLE: Duration = Duration::from_millis(300);

/// A number below `bound`.
fn random(bound: u64) -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1 % bound
}

/// Three members and their disks.
struct Cluster {
    members: Vec<BareMember>,
    disks: Vec<Disk>,
    room: Rc<Room>,
    ledger: Shared,
    _files: tempfile::TempDir,
}

/// What one round saw.
#[derive(Debug, Default)]
struct Round {
    acknowledged: usize,
    findings: Vec<Finding>,
}

impl Cluster {
    async fn up(program_name: &str, envs: &[(&str, &str)]) -> Result<Self> {
        let program = program(program_name);
        ensure!(program.exists(), "{} is not built; use `make power-loss`", program.display());
        // Beside the build and not in /tmp: its sync must reach a disk.
        let parent = program.parent().context("a directory")?.join("power-loss");
        std::fs::create_dir_all(&parent)?;
        let files = tempfile::tempdir_in(parent)?;
        let names = (1..=MEMBERS).map(|n| format!("disk{n}"));
        let room = Rc::new(Room::new()?);
        let disks = names.map(|name| Disk::new(&room, files.path(), &name));
        let disks = disks.collect::<Result<Vec<_>>>()?;
        let data_dirs: Vec<PathBuf> = disks.iter().map(|disk| disk.path().join("data")).collect();
        let mut members = bare::members(files.path(), &data_dirs, &program)?;
        for member in &mut members {
            envs.iter().for_each(|(name, value)| member.set(name, value));
            member.wrap(&room.words());
            member.start()?;
        }
        bare::ready(&members).await?;
        Ok(Self { members, disks, room, ledger: Shared::default(), _files: files })
    }

    /// Load, cut, and what is there afterwards; the members run again then.
    async fn round(&mut self, moment: Moment) -> Result<Round> {
        self.ledger.with(|it| it.acknowledged.clear());
        let mut clients = JoinSet::new();
        self.load(&mut clients)?;
        let switch = Switch::of(&self.room, &self.disks).await?;
        tokio::time::sleep(Duration::from_millis(200 + random(600))).await;
        let led = Leaders::watch(&self.members)?;
        match moment {
            Moment::Load => {}
            Moment::Stall => {
                // Idle when the disks stop: so the next write of every member is one that waits.
                clients.shutdown().await;
                tokio::time::sleep(IDLE).await;
                disk::freeze_all(&self.disks)?;
                self.load(&mut clients)?;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            Moment::Election => {
                self.ask_for_election(&mut clients)?;
                tokio::time::sleep(Duration::from_millis(random(40))).await;
            }
            Moment::StalledElection => {
                clients.shutdown().await;
                tokio::time::sleep(IDLE).await;
                disk::freeze_all(&self.disks)?;
                self.ask_for_election(&mut clients)?;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        switch.cut().await?;
        if matches!(moment, Moment::Stall | Moment::StalledElection) {
            self.disks.iter().try_for_each(Disk::thaw)?;
        }
        for member in &mut self.members {
            member.kill().await?;
        }
        let led = led.highest().await;
        clients.shutdown().await;
        self.disks.iter().try_for_each(Disk::power_on)?;
        self.judge(led).await
    }

    fn load(&self, clients: &mut JoinSet<()>) -> Result<()> {
        for number in 0..CLIENTS {
            let client = bare::client(&self.members, Duration::from_secs(2))?;
            clients.spawn(load::write(client, number, self.ledger.clone()));
        }
        Ok(())
    }

    fn ask_for_election(&self, tasks: &mut JoinSet<()>) -> Result<()> {
        let client = bare::client(&self.members, Duration::from_secs(1))?;
        tasks.spawn(async move {
            // It cannot always be answered: the power goes.
            let _ = client.transfer_leadership(None).await;
        });
        Ok(())
    }

    async fn judge(&mut self, led: u64) -> Result<Round> {
        let acknowledged = self.ledger.with(|it| it.acknowledged.clone());
        let mut findings = verdict::of_disks(&self.members, &self.room, &acknowledged, led)?;
        if !findings.is_empty() {
            // Members with such disks may never answer again.
            return Ok(Round { acknowledged: acknowledged.len(), findings });
        }
        for member in &mut self.members {
            member.start()?;
        }
        match bare::ready(&self.members).await {
            Ok(()) => findings.extend(verdict::of_states(&self.members, &self.ledger).await?),
            Err(error) => findings.push(Finding::new(Kind::DoesNotStart, format!("{error:#}"))),
        }
        Ok(Round { acknowledged: acknowledged.len(), findings })
    }
}

fn report() -> Report {
    Report::new("power-loss", "make power-loss")
}

fn rounds() -> usize {
    let told = std::env::var("ATOLL_POWER_ROUNDS").ok().and_then(|text| text.parse().ok());
    told.unwrap_or(ROUNDS)
}

/// Half of the rounds with the member as it is, half with segments so small that they change all
/// the time.
#[tokio::test]
async fn every_acknowledged_transaction_survives_the_loss_of_all_power_at_once() {
    let (began, total) = (Instant::now(), rounds());
    let (mut done, mut acknowledged, mut findings) = (0_usize, 0, Vec::new());
    for (program, envs) in [("atolld", &[][..]), ("atolld-mutant", &SMALL[..])] {
        let mut cluster = Cluster::up(program, envs).await.unwrap();
        let share = if envs.is_empty() { total.div_ceil(2) } else { total / 2 };
        for moment in MOMENTS.into_iter().cycle().take(share) {
            let round = cluster.round(moment).await.unwrap();
            println!("{program}, {moment:?}: {} acknowledged", round.acknowledged);
            round.findings.iter().for_each(|finding| println!("  {finding}"));
            done += 1;
            acknowledged += round.acknowledged;
            findings.extend(round.findings);
        }
    }
    let mut report = report();
    let exactly = |count: usize| Target::Exactly(count as f64);
    report.claim("power cuts of all members at once", "", done as f64, exactly(total));
    let some = Target::AtLeast(total as f64);
    report.claim("acknowledged transactions", "", acknowledged as f64, some);
    for (case, kinds) in [
        ("acknowledged transactions lost", &[Kind::Lost][..]),
        ("acknowledged transactions on less than two disks", &[Kind::NotOnAQuorum]),
        ("terms with a leader whose votes are forgotten", &[Kind::VoteForgotten]),
        ("states that differ at the same revision", &[Kind::StatesDiffer]),
        ("members that do not come back", &[Kind::DoesNotStart, Kind::Unreadable]),
    ] {
        let count = findings.iter().filter(|it| kinds.contains(&it.kind)).count();
        report.claim(case, "", count as f64, exactly(0));
    }
    report.note("time", "s", began.elapsed().as_secs_f64());
    print!("{}", report.table());
    report.save().unwrap();
    assert!(findings.is_empty(), "{findings:#?}");
    assert_eq!(report.failures(), Vec::<String>::new());
}

/// Rounds within which a forgotten sync must be seen.
const RED_WITHIN: usize = 10;

#[tokio::test]
async fn each_way_to_forget_a_sync_is_seen() {
    let mut report = report();
    for (mutant, moment) in [
        ("no-fdatasync", Moment::Load),
        ("early-ack", Moment::Stall),
        ("unsynced-vote", Moment::StalledElection),
        ("no-directory-sync", Moment::Load),
    ] {
        let envs = [&SMALL[..], &[("ATOLL_MUTANT", mutant)]].concat();
        let mut cluster = Cluster::up("atolld-mutant", &envs).await.unwrap();
        let (mut seen, mut rounds) = (None, 0);
        while seen.is_none() && rounds < RED_WITHIN {
            rounds += 1;
            seen = cluster.round(moment).await.unwrap().findings.into_iter().next();
        }
        let told = seen.as_ref().map_or("nothing seen".to_owned(), ToString::to_string);
        println!("{mutant}, round {rounds}: {told}");
        let case = format!("mutant {mutant}: red in round");
        let value = if seen.is_some() { rounds } else { RED_WITHIN + 1 };
        report.claim(&case, "", value as f64, Target::AtMost(RED_WITHIN as f64));
    }
    print!("{}", report.table());
    report.save().unwrap();
    assert_eq!(report.failures(), Vec::<String>::new());
}

/// Requirement: on a full disk reads and releases work, everything else is refused with a clear
/// condition, and service comes back with the space. Also when what the members gave up is taken
/// from them: then the history leaves out what comes, and says so.
#[tokio::test]
async fn a_full_disk_takes_releases_and_refuses_the_rest_until_there_is_space() {
    let mut cluster = Cluster::up("atolld", &[]).await.unwrap();
    let client = bare::client(&cluster.members, Duration::from_secs(3)).unwrap();
    let put = |name: &str| Operation::PutNamespace(name.parse().unwrap(), Labels::new());
    let delete = |name: &str| Operation::DeleteNamespace(name.parse().unwrap());
    for number in 0..50 {
        client.txn(vec![], vec![put(&format!("before-{number}"))]).await.unwrap();
    }
    cluster.disks.iter().try_for_each(|disk| disk.fill("most", 16)).unwrap();
    let refused = wait_until(Duration::from_secs(20), "the condition", async || {
        match client.txn(vec![], vec![put("too-much")]).await {
            Ok(_) => anyhow::bail!("it was taken"),
            // What was under way while the disk became full may have been done.
            Err(error @ ClientError::Unknown(..)) => anyhow::bail!("{error}"),
            Err(error) => Ok(error.to_string()),
        }
    });
    let refused = refused.await.unwrap();
    assert!(refused.contains("nothing was done") && refused.contains("is full"), "{refused}");
    for number in 0..50 {
        if number == 25 {
            cluster.disks.iter().try_for_each(|disk| disk.fill("all", 8)).unwrap();
        }
        client.txn(vec![], vec![delete(&format!("before-{number}"))]).await.unwrap();
    }
    for member in &cluster.members {
        wait_until(Duration::from_secs(5), "what the history says", async || {
            let said = member.log().contains("the history leaves out what changes from here on");
            anyhow::ensure!(said, "{}", member.log());
            Ok(())
        })
        .await
        .unwrap();
    }
    // The members still hold on to their logs when they are killed now.
    for member in &mut cluster.members {
        member.kill().await.unwrap();
        member.start().unwrap();
    }
    bare::ready(&cluster.members).await.unwrap();
    let read = client.read(&[], None).await.unwrap();
    assert!(!read.objects.iter().any(|it| it.key().to_string().contains("before-")));
    cluster.disks.iter().try_for_each(|disk| disk.make_space("all")).unwrap();
    cluster.disks.iter().try_for_each(|disk| disk.make_space("most")).unwrap();
    let taken = wait_until(Duration::from_secs(20), "service", async || {
        Ok(client.txn(vec![], vec![put("after")]).await?)
    });
    taken.await.unwrap();
}
