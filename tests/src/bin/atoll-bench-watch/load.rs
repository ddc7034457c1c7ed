//! Subscribers while nothing changes, then while much does.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_api::WatchEvent;
use atoll_api::client::Watch;
use atoll_model::Revision;
use atoll_tests::bare::{self, BareMember};
use atoll_tests::report::{Report, Target};
use atoll_tests::wait::wait_until;
use tokio::time::sleep;

use crate::Options;
use crate::process::{Cpu, rss_mib};
use crate::readers::{Position, Reader, Readers};
use crate::verdict::{Judged, Ledger, Told, Wrong};
use crate::writers::{self, Writes};

/// How long the processor time of idle subscribers is counted.
const IDLE: Duration = Duration::from_secs(20);

/// Readers that read nothing, each over a connection of its own, each of everything.
const STUCK: usize = 20;

/// Subscribers that go away and come back.
const LEAVING: usize = 100;

/// What has not come after this time is lost.
const LATE: Duration = Duration::from_secs(20);

pub(crate) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let data_dirs: Vec<_> = (1..=3).map(|n| dir.path().join(format!("data{n}"))).collect();
    let mut members = bare::members(dir.path(), &data_dirs, &options.program)?;
    members.iter_mut().try_for_each(BareMember::start)?;
    bare::ready(&members).await?;
    let client = bare::client(&members, Duration::from_secs(10))?;
    let revision = writers::make_nodes(&client, options.subscribers).await?;
    let leader = leader(&members).await?;
    let status = members[leader].status().await?;
    let position = (status.cluster.context("no cluster")?, revision);
    let mut bench = Bench { options, members, leader, position, readers: Readers::default() };

    bench.idle(report).await?;
    let quiet = bench.load(report, "", 0).await?;
    let beside_stuck = bench.load(report, " beside stuck readers", STUCK).await?;
    let more = beside_stuck.grown_mib - quiet.grown_mib;
    report.claim(
        "memory that the leader takes more with stuck readers than without",
        "MiB",
        more,
        Target::AtMost(64.0),
    );
    let after = bench.members[bench.leader].status().await?;
    report.note("elections", "elections", count(after.term - status.term));
    Ok(())
}

async fn leader(members: &[BareMember]) -> Result<usize> {
    for (at, member) in members.iter().enumerate() {
        if member.status().await?.role == "leader" {
            return Ok(at);
        }
    }
    anyhow::bail!("nobody leads")
}

#[allow(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
fn count(number: impl TryInto<u64>) -> f64 {
    number.try_into().map_or(f64::NAN, |it| it as f64)
}

struct Bench<'a> {
    options: &'a Options,
    members: Vec<BareMember>,
    leader: usize,
    position: Position,
    readers: Readers,
}

/// What a round showed.
struct Round {
    grown_mib: f64,
}

impl Bench<'_> {
    fn pid(&self) -> Result<u32> {
        self.members[self.leader].pid().context("the leader does not run")
    }

    /// The leader's processor time with more and more subscribers that nothing concerns.
    async fn idle(&mut self, report: &mut Report) -> Result<()> {
        let most = self.options.subscribers;
        let mut counts = vec![0, 100.min(most), 1_000.min(most), most];
        counts.dedup();
        let mut seen = Vec::new();
        for subscribers in counts {
            let member = &self.members[self.leader];
            self.readers.grow(member, &self.position, subscribers).await?;
            let cpu = Cpu::begin(self.pid()?)?;
            sleep(IDLE).await;
            let percent = cpu.percent()?;
            seen.push(percent);
            let case = format!("leader with {subscribers} idle subscribers");
            report.note(&case, "% of a core", percent);
        }
        let (first, last) = (seen.first().copied(), seen.last().copied());
        let more = last.unwrap_or_default() - first.unwrap_or_default();
        let case = format!("what {most} idle subscribers cost the leader");
        report.claim(&case, "% of a core", more, Target::AtMost(5.0));
        Ok(())
    }

    /// One round of writes; what everybody was told of it.
    async fn load(&mut self, report: &mut Report, words: &str, stuck: usize) -> Result<Round> {
        let time = self.options.time() / 2;
        let pid = self.pid()?;
        let mut stuck = self.stick(stuck).await?;
        let before = rss_mib(pid)?;
        let cpu = Cpu::begin(pid)?;
        let (members, rate) = (&self.members, self.options.rate);
        let nodes = self.options.subscribers;
        let round = u64::from(!stuck.is_empty());
        let writing = writers::run(members, round, nodes, rate, time);
        // They come back while the writing goes on.
        let leaving = if stuck.is_empty() { 0 } else { LEAVING.min(nodes / 2) };
        let cluster = self.position.0.clone();
        let readers = &mut self.readers.readers;
        let coming_back = async {
            sleep(time / 4).await;
            readers[..leaving].iter_mut().for_each(|it| it.leave());
            sleep(time / 4).await;
            readers[..leaving].iter_mut().for_each(|it| it.resume(&cluster));
        };
        let (writes, ()) = tokio::join!(writing, coming_back);
        let writes = writes?;
        let percent = cpu.percent()?;
        let after = rss_mib(pid)?;
        report.note(&format!("leader{words}"), "% of a core", percent);
        report.note(&format!("leader's memory before{words}"), "MiB", before);
        report.note(&format!("leader's memory after{words}"), "MiB", after);
        let written = self.judge(report, words, writes, leaving).await?;
        if !stuck.is_empty() {
            self.free(report, &mut stuck, &written).await?;
        }
        self.position.1 = written.last().copied().unwrap_or(self.position.1);
        Ok(Round { grown_mib: after - before })
    }

    /// Readers that take one event and then nothing.
    async fn stick(&self, number: usize) -> Result<Vec<(Watch, Position)>> {
        let stick = async |_| {
            let client = self.members[self.leader].client(Duration::from_secs(10))?;
            let mut watch = client.watch(Some(self.position.clone()));
            let first = tokio::time::timeout(LATE, watch.next()).await?;
            ensure!(matches!(first, WatchEvent::Bookmark(_)), "a stuck reader heard {first:?}");
            Ok((watch, self.position.clone()))
        };
        futures::future::try_join_all((0..number).map(stick)).await
    }

    /// What subscribers were told since the last round, against what was written in this one.
    async fn judge(
        &mut self,
        report: &mut Report,
        words: &str,
        writes: Writes,
        left: usize,
    ) -> Result<Vec<Revision>> {
        let from = self.position.1;
        report.claim(
            &format!("changes that were not acknowledged{words}"),
            "changes",
            count(writes.failed.len()),
            Target::Exactly(0.0),
        );
        report.details(writes.failed.into_iter().take(5).collect());
        let ledger = Ledger::new(writes.written);
        #[allow(clippy::cast_precision_loss, reason = "a rate is small")]
        let wanted = self.options.rate as f64 * 0.99;
        report.claim(&format!("changes{words}"), "/s", ledger.rate()?, Target::AtLeast(wanted));
        let readers = &self.readers.readers;
        let expected: usize = readers.iter().map(|it| ledger.of(it.told().node).count()).sum();
        // What does not come is counted below.
        let _ = wait_until(LATE, "all changes", async || {
            let told = |it: Told| it.changes.iter().filter(|(at, _)| *at > from).count();
            let seen: usize = readers.iter().map(|it| told(it.told())).sum();
            ensure!(seen >= expected, "{seen} of {expected}");
            Ok(())
        })
        .await;
        let mut judged = Judged::default();
        for (number, reader) in readers.iter().enumerate() {
            let mut told = reader.told();
            told.changes.retain(|(at, _)| *at > from);
            judged.take_in(&Told { from, ..told }, &ledger, number >= left);
        }
        report.note(&format!("changes told{words}"), "changes", count(expected));
        judged.say(report, words)?;
        let interrupted: u32 = readers.iter().map(Reader::interruptions).sum();
        let case = format!("subscribers that had to resume{words}");
        report.note(&case, "times", f64::from(interrupted));
        if left > 0 {
            let case = format!("subscribers that went and came back{words}");
            report.note(&case, "subscribers", count(left));
        }
        Ok(ledger.revisions())
    }

    /// The stuck readers read again: what they missed comes, exactly.
    async fn free(
        &self,
        report: &mut Report,
        stuck: &mut [(Watch, Position)],
        written: &[Revision],
    ) -> Result<()> {
        let (mut cut, mut wrong) = (0, Wrong::default());
        for (watch, (_, from)) in &mut *stuck {
            let last = written.last().copied().context("nothing was written")?;
            let mut told = Told { from: *from, ..Told::default() };
            let mut was_cut = false;
            while told.changes.last().is_none_or(|(at, _)| *at < last) {
                let Ok(event) = tokio::time::timeout(LATE, watch.next()).await else { break };
                match event {
                    WatchEvent::Changes(set) => {
                        told.changes.push((set.revision, std::time::Instant::now()));
                    }
                    WatchEvent::Interrupted(_) => was_cut = true,
                    WatchEvent::Resync(..) | WatchEvent::Bookmark(_) => {}
                }
            }
            cut += usize::from(was_cut);
            wrong.take_in(&told, written.iter().copied());
        }
        let zero = Target::Exactly(0.0);
        let all = count(wrong.lost + wrong.twice + wrong.disordered + wrong.foreign);
        report.note("stuck readers", "readers", count(stuck.len()));
        report.note("stuck readers that were cut", "readers", count(cut));
        report.claim("wrong with what they heard when they read again", "changes", all, zero);
        Ok(())
    }
}
