//! Who hurts the members.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use atoll_api::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::sleep;

use super::disks::Collected;
use super::net::Net;
use super::workload::Dice;
use crate::bare::BareMember;
use crate::wait::wait_until;

/// A member that leads no more is known as such after this time; else there is none.
const LEADER: Duration = Duration::from_secs(20);

/// A wiped member takes the place of its old id 30 s after the leader heard of that last.
const REPLACED: Duration = Duration::from_secs(75);

/// What is done to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL, and a start some time later.
    Kill,
    /// The same of the one that leads.
    KillLeader,
    /// SIGSTOP, and SIGCONT some time later.
    Pause,
    /// The same of the one that leads.
    PauseLeader,
    /// Nothing passes between two of them.
    CutPair,
    /// Nothing passes from one to another.
    CutOneWay,
    /// Nothing passes between the leader and anybody.
    IsolateLeader,
    /// What the leader sends reaches nobody.
    MuteLeader,
    /// What is sent to the leader does not reach it.
    DeafLeader,
    /// The leader is asked to hand over.
    Transfer,
    /// One loses its disk.
    Wipe,
}

impl Fault {
    /// All but the wipe, which takes longer.
    pub const QUICK: [Self; 10] = [
        Self::Kill,
        Self::KillLeader,
        Self::Pause,
        Self::PauseLeader,
        Self::CutPair,
        Self::CutOneWay,
        Self::IsolateLeader,
        Self::MuteLeader,
        Self::DeafLeader,
        Self::Transfer,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "a member killed",
            Self::KillLeader => "the leader killed",
            Self::Pause => "a member paused",
            Self::PauseLeader => "the leader paused",
            Self::CutPair => "two members cut off from each other",
            Self::CutOneWay => "one direction between two members cut",
            Self::IsolateLeader => "the leader cut off",
            Self::MuteLeader => "nobody hears the leader",
            Self::DeafLeader => "the leader hears nobody",
            Self::Transfer => "leadership handed over",
            Self::Wipe => "a disk wiped",
        })
    }
}

/// The members, and what was done to them.
#[derive(Debug)]
pub struct Nemesis {
    /// The members.
    pub members: Vec<BareMember>,
    /// What was gathered of their logs meanwhile.
    pub collected: Collected,
    /// How often each was done.
    pub done: BTreeMap<Fault, usize>,
    net: Net,
    operator: Client,
    dice: Dice,
    /// The member that was wiped last, and the id that it had.
    wiped: Option<(usize, u64)>,
}

impl Nemesis {
    /// Has done nothing yet.
    #[must_use]
    pub fn new(members: Vec<BareMember>, net: Net, operator: Client, seed: u64) -> Self {
        let (done, collected) = (BTreeMap::new(), Collected::default());
        Self { members, collected, done, net, operator, dice: Dice::new(seed), wiped: None }
    }

    /// Each of `faults`, in an order of chance, again and again until `end`. After the first round,
    /// if `wipes`, one disk is lost, and until it is replaced nothing is done that needs an election:
    /// each would begin the wait for the old id anew. In later rounds it is done all the same.
    ///
    /// # Errors
    ///
    /// Something could not be done.
    pub async fn run(&mut self, faults: &[Fault], wipes: bool, end: Instant) -> Result<()> {
        for round in 0_u32.. {
            let mut left = faults.to_vec();
            if left.is_empty() {
                self.startle().await?;
            }
            while !left.is_empty() {
                let at = usize::try_from(self.dice.below(left.len() as u64))?;
                self.suffer(left.swap_remove(at)).await?;
                if Instant::now() >= end {
                    return Ok(());
                }
            }
            if wipes && self.is_replaced().await {
                self.wipe().await?;
                while round % 2 == 0 && Instant::now() < end && !self.is_replaced().await {
                    self.startle().await?;
                }
            }
            if Instant::now() >= end {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn suffer(&mut self, fault: Fault) -> Result<()> {
        let leader = self.leader().await?;
        let others: Vec<usize> = (0..self.members.len()).filter(|it| *it != leader).collect();
        let some = usize::try_from(self.dice.below(self.members.len() as u64))?;
        let other = *self.dice.pick(&others).context("three members")?;
        match fault {
            Fault::Kill => self.kill(some).await?,
            Fault::KillLeader => self.kill(leader).await?,
            Fault::Pause => self.pause(some, 500, 2_000).await?,
            Fault::PauseLeader => self.pause(leader, 1_000, 2_500).await?,
            Fault::CutPair => self.cut(&[(leader, other), (other, leader)]).await?,
            Fault::CutOneWay => match self.dice.below(2) {
                0 => self.cut(&[(leader, other)]).await?,
                _ => self.cut(&[(other, leader)]).await?,
            },
            Fault::IsolateLeader => {
                let mute = others.iter().map(|it| (leader, *it));
                let deaf = others.iter().map(|it| (*it, leader));
                self.cut(&mute.chain(deaf).collect::<Vec<_>>()).await?;
            }
            Fault::MuteLeader => {
                self.cut(&others.iter().map(|it| (leader, *it)).collect::<Vec<_>>()).await?;
            }
            Fault::DeafLeader => {
                self.cut(&others.iter().map(|it| (*it, leader)).collect::<Vec<_>>()).await?;
            }
            // It may answer that somebody else leads by now.
            Fault::Transfer => drop(self.operator.transfer_leadership(None).await),
            Fault::Wipe => self.wipe().await?,
        }
        *self.done.entry(fault).or_default() += 1;
        self.nap(200, 700).await;
        self.collect().await;
        Ok(())
    }

    async fn nap(&mut self, least_ms: u64, most_ms: u64) {
        let ms = least_ms + self.dice.below(most_ms - least_ms);
        sleep(Duration::from_millis(ms)).await;
    }

    async fn kill(&mut self, member: usize) -> Result<()> {
        self.members[member].kill().await?;
        self.nap(100, 1_500).await;
        self.members[member].start()
    }

    async fn pause(&mut self, member: usize, least_ms: u64, most_ms: u64) -> Result<()> {
        self.signal(member, Signal::SIGSTOP)?;
        self.nap(least_ms, most_ms).await;
        self.signal(member, Signal::SIGCONT)
    }

    fn signal(&self, member: usize, signal: Signal) -> Result<()> {
        let pid = self.members[member].pid().context("it does not run")?;
        Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
    }

    async fn cut(&mut self, ways: &[(usize, usize)]) -> Result<()> {
        for (from, to) in ways {
            self.net.cut(*from, *to).await?;
        }
        self.nap(1_200, 3_000).await;
        self.net.heal().await
    }

    /// Too short for an election.
    async fn startle(&mut self) -> Result<()> {
        let some = usize::try_from(self.dice.below(self.members.len() as u64))?;
        self.pause(some, 50, 150).await?;
        self.nap(500, 1_500).await;
        self.collect().await;
        Ok(())
    }

    /// One loses its disk, and is started with an empty one.
    async fn wipe(&mut self) -> Result<()> {
        let member = usize::try_from(self.dice.below(self.members.len() as u64))?;
        // Its last words: they may be on no other disk yet, but then nobody was told.
        let old =
            wait_until(LEADER, "its id", async || Ok(self.members[member].status().await?.id));
        let old = old.await?;
        self.members[member].kill().await?;
        let data = self.members[member].data_dir().to_owned();
        fs::remove_dir_all(&data).with_context(|| data.display().to_string())?;
        fs::create_dir_all(&data)?;
        self.members[member].start()?;
        self.wiped = Some((member, old));
        *self.done.entry(Fault::Wipe).or_default() += 1;
        Ok(())
    }

    /// Has the wiped one taken its old place?
    async fn is_replaced(&self) -> bool {
        self.replaced().await.is_ok()
    }

    async fn replaced(&self) -> Result<()> {
        let Some((member, old)) = self.wiped else { return Ok(()) };
        let status = self.members[member].status().await?;
        ensure!(status.id != old, "it still has its old id");
        let voters: Vec<u64> =
            status.members.iter().filter(|it| it.voter).map(|it| it.id).collect();
        ensure!(voters.contains(&status.id), "it does not vote; {voters:?} do");
        ensure!(!voters.contains(&old) && voters.len() == self.members.len(), "{voters:?} vote");
        Ok(())
    }

    /// Nothing hurts any more; returns when everybody is there again.
    ///
    /// # Errors
    ///
    /// They are not in time.
    pub async fn rest(&mut self) -> Result<()> {
        self.net.heal().await?;
        wait_until(REPLACED, "three voters", async || self.replaced().await).await?;
        self.leader().await.map(drop)
    }

    /// The member that leads, in the highest term that anybody knows.
    async fn leader(&self) -> Result<usize> {
        wait_until(LEADER, "a leader", async || {
            let statuses = self.operator.statuses().await;
            let told = statuses.iter().enumerate().filter_map(|(at, (_, told))| {
                let status = told.as_ref().ok()?;
                (status.role == "leader").then_some((status.term, at))
            });
            match told.max() {
                Some((_, at)) => Ok(at),
                None => bail!("{statuses:?}"),
            }
        })
        .await
    }

    /// Copies the log of somebody who answers.
    async fn collect(&mut self) {
        for member in &self.members {
            // One that does not answer is copied next time.
            if self.collected.take(member).await.is_ok() {
                return;
            }
        }
    }
}
