//! Members, clients, faults, and the verdict.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use atoll_api::Credentials;
use atoll_model::Revision;
use tokio::task::JoinSet;

use super::check::{Verdict, check};
use super::client::{self, Lines};
use super::nemesis::{Fault, Nemesis};
use super::net::Net;
use super::record::Record;
use super::workload::{Mind, setup};
use crate::bare::{self, BareMember};

const MEMBERS: usize = 3;
const CLIENTS: usize = 8;

/// After the faults the clients go on for this time, and must be answered.
const QUIET: Duration = Duration::from_secs(1);

/// Members have the same state after this time without writes.
const SETTLED: Duration = Duration::from_secs(30);
const PERIOD: Duration = Duration::from_millis(100);

/// What is wanted.
#[derive(Debug)]
pub struct Wish<'a> {
    /// The member's program.
    pub program: &'a str,
    /// Its environment.
    pub envs: &'a [(&'a str, &'a str)],
    /// What hurts, for how long.
    pub faults: &'a [Fault],
    /// Whether a disk is lost as well.
    pub wipes: bool,
    /// For how long it hurts.
    pub hurts: Duration,
    /// Of all dice.
    pub seed: u64,
}

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    /// Of the checker.
    pub verdict: Verdict,
    /// How often each was done.
    pub faults: Vec<(Fault, usize)>,
    /// All attempts of all clients.
    pub attempts: usize,
    /// Attempts after the faults that were answered.
    pub answered_in_quiet: usize,
    /// Entries of the log.
    pub entries: usize,
    /// Entries that a second disk confirmed.
    pub confirmed: usize,
    /// Entries that were purged from a disk.
    pub purged: usize,
    /// What members' disks or states hold differently.
    pub differing: Vec<String>,
}

/// Hurts members for a while, lets them rest, and judges what their clients were told.
///
/// # Errors
///
/// They do not come up, or do not come together again.
pub async fn run(wish: &Wish<'_>) -> Result<Seen> {
    let dir = tempfile::tempdir()?;
    let net = Net::new(MEMBERS).await?;
    let (mut members, credentials) = net.members(dir.path(), wish.program)?;
    for member in &mut members {
        wish.envs.iter().for_each(|(name, value)| member.set(name, value));
        member.start()?;
    }
    bare::ready(&members).await?;
    let operator = bare::client(&members, Duration::from_secs(3))?;
    let born = operator.read(&[], None).await?.revision;
    let (epoch, lines) = (Instant::now(), Lines::new(&members, &credentials)?);
    let mut records = lines.insist(CLIENTS, epoch, &setup(born)).await?;

    let mut nemesis = Nemesis::new(members, net, operator, wish.seed);
    let clients = Clients::start(&nemesis.members, &credentials, wish.seed, born, epoch)?;
    let hurt = nemesis.run(wish.faults, wish.wipes, epoch + wish.hurts).await;
    let rested = match hurt {
        Ok(()) => nemesis.rest().await,
        Err(error) => Err(error),
    };
    let quiet = epoch.elapsed();
    tokio::time::sleep(QUIET).await;
    records.extend(clients.stop().await);
    if let Err(error) = rested {
        bail!("{error:#}; {}", last_words(&nemesis.members))
    }
    let is_answer = |it: &&Record| it.sent > quiet && !it.is_unanswered();
    let answered_in_quiet = records.iter().filter(is_answer).count();

    let mut differing = Vec::new();
    let (log, digests) = settle(&mut nemesis, &lines).await?;
    let verdict =
        tokio::task::spawn_blocking(move || (check(&log, &records), records.len(), log.len()));
    let (verdict, attempts, entries) = verdict.await?;
    for (member, (applied, digest)) in nemesis.members.iter().zip(digests) {
        if digest != verdict.digest {
            differing.push(format!("the state of {} after {applied} is another", member.name()));
        }
    }
    let collected = std::mem::take(&mut nemesis.collected);
    differing.extend(collected.differing);
    let faults = std::mem::take(&mut nemesis.done).into_iter().collect();
    for member in &mut nemesis.members {
        member.kill().await?;
    }
    let (confirmed, purged) = (collected.confirmed, usize::try_from(collected.purged.0)?);
    Ok(Seen { verdict, faults, attempts, answered_in_quiet, entries, confirmed, purged, differing })
}

fn last_words(members: &[BareMember]) -> String {
    let said = |member: &BareMember| {
        let log = member.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("\n{}:\n{}", member.name(), lines[lines.len().saturating_sub(20)..].join("\n"))
    };
    members.iter().map(said).collect()
}

/// Clients at work.
struct Clients {
    tasks: JoinSet<Vec<Record>>,
    stop: Arc<AtomicBool>,
}

impl Clients {
    fn start(
        members: &[BareMember],
        credentials: &Credentials,
        seed: u64,
        born: Revision,
        epoch: Instant,
    ) -> Result<Self> {
        let (mut tasks, stop) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        for number in 0..CLIENTS {
            let (lines, mind) = (Lines::new(members, credentials)?, Mind::new(number, seed, born));
            tasks.spawn(client::run(lines, mind, number, epoch, stop.clone()));
        }
        Ok(Self { tasks, stop })
    }

    async fn stop(self) -> Vec<Record> {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.into_iter().flatten().collect()
    }
}

type Log = Vec<super::check::Entry>;

/// Waits until all states have come as far as the log that was copied from all disks.
async fn settle(nemesis: &mut Nemesis, lines: &Lines) -> Result<(Log, Vec<(Revision, u128)>)> {
    let end = Instant::now() + SETTLED;
    loop {
        match settled(nemesis, lines).await {
            Err(_) if Instant::now() < end => tokio::time::sleep(PERIOD).await,
            settled => return settled,
        }
    }
}

async fn settled(nemesis: &mut Nemesis, lines: &Lines) -> Result<(Log, Vec<(Revision, u128)>)> {
    for member in &nemesis.members {
        nemesis.collected.take(member).await?;
    }
    let (digests, log) = (lines.digests().await?, nemesis.collected.log());
    let last = log.last().map(|(at, _)| *at);
    let are_there = digests.iter().all(|(applied, _)| Some(*applied) == last);
    ensure!(are_there, "the log ends at {last:?}, the states are at {digests:?}");
    Ok((log, digests))
}
