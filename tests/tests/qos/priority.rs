//! Two pods of a node send all that they can to another node, and its tunnel interface carries 100
//! Mbit/s: the important one has most of it, whichever that is at the moment.

#![allow(clippy::float_arithmetic, reason = "figures of measurements; no replica computes here")]

use std::time::Duration;

use anyhow::{Result, ensure};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab, Options, Place, PodOptions, ScopedLab, run};
use atoll_tests::people::atollctl;
use atoll_tests::report::{Report, Target};
use atoll_tests::wait::{pass, wait_until};

use crate::lab_name;
use crate::stream::{Protocol, Stream, WARM_UP, offering};

/// What the tunnel interface carries, in Mbit/s.
const CARRIED: u32 = 100;

/// What each of the two sends: more than there is room for, from either alone.
const OFFERED: u32 = 110;

/// Of what arrives, the important one has so much, and of two that are alike neither has. These
/// are in one queue, which takes what comes while it has room; Open vSwitch serves its ports one
/// after another, always in the same order, so that the shares are no halves.
const MOST: f64 = 0.8;
const ALIKE: std::ops::RangeInclusive<f64> = 1.0 - MOST..=MOST;

/// Of what the interface carries so much arrives at least, in frames of pods, or there was no
/// contention; and no more than all of it.
const BUSY: f64 = 0.8;

/// How soon what somebody takes away is put back: each look, and the next.
const HEALED: Duration = Duration::from_secs(25);

/// How soon a restarted Open vSwitch carries everything again.
const FLOWS: Duration = Duration::from_secs(60);

pub(super) async fn show(report: &mut Report) -> Result<()> {
    let options =
        Options { members: 1, nodes: 2, tunnel_mbit: Some(CARRIED), ..Options::new(lab_name()?) };
    let lab = ScopedLab::up(options).await?;
    let run = |name: &'static str, node| {
        let lab = &lab;
        async move { lab.run_pod(PodOptions::new(name.parse()?, node)).await }
    };
    let senders = [run("shop/one", 1).await?, run("shop/two", 1).await?];
    let hearers = [run("shop/hears-one", 2).await?, run("shop/hears-two", 2).await?];
    let start = |at: usize| {
        Stream::start(&lab, Protocol::Udp, &senders[at], &hearers[at], offering(OFFERED))
    };
    let streams = [start(0)?, start(1)?];
    let mut contest = Contest { lab: &lab, report, streams };
    contest.all_alike("nobody is important").await?;
    contest.important("shop/one").await?;
    contest.has_most("one of two", 0).await?;
    contest.important("shop/two").await?;
    contest.has_most("the other, changed live", 1).await?;
    contest.important("shop/one").await?;
    contest.has_most("the first again, changed live", 0).await?;
    contest.important("shop/one, shop/two").await?;
    contest.all_alike("both are important").await?;
    contest.important("shop/two").await?;
    contest.takes_it_away().await?;
    contest.has_most("put back after it was taken away", 1).await?;
    contest.restarts().await?;
    contest.has_most("Open vSwitch started anew", 1).await
}

struct Contest<'a> {
    lab: &'a Lab,
    report: &'a mut Report,
    streams: [Stream; 2],
}

impl Contest<'_> {
    /// Makes some pods important, and no others.
    async fn important(&self, pods: &str) -> Result<()> {
        let manifest = format!(
            "apiVersion: atoll.io/v1\nkind: QosSpec\nmetadata: {{ name: first }}\nspec:\n  \
             important: true\n  pods: [{pods}]\n"
        );
        let said = atollctl(self.lab, &["create", "-f", "-"], &manifest).await?;
        ensure!(said.status == 0, "atollctl create: {}", said.err);
        Ok(())
    }

    /// The share of the first, of what arrives.
    async fn share(&self, case: &str) -> Result<f64> {
        pass(WARM_UP).await;
        let [one, two] = &self.streams;
        let (one, two) = tokio::try_join!(one.measure(), two.measure())?;
        let carried = f64::from(CARRIED);
        ensure!(
            (BUSY * carried..=carried).contains(&(one + two)),
            "{case}: {one} and {two} of {carried} Mbit/s arrive"
        );
        Ok(one / (one + two))
    }

    async fn all_alike(&mut self, case: &str) -> Result<()> {
        let share = self.share(case).await?;
        self.report.note(&format!("share of one pod: {case}"), "of what arrives", share);
        ensure!(ALIKE.contains(&share), "{case}: one of two has {share}");
        Ok(())
    }

    async fn has_most(&mut self, case: &str, which: usize) -> Result<()> {
        let first = self.share(case).await?;
        let share = if which == 0 { first } else { 1.0 - first };
        let case = format!("share of the important pod: {case}");
        self.report.claim(&case, "of what arrives", share, Target::AtLeast(MOST));
        Ok(())
    }

    /// Somebody takes the discipline away; the agent puts it back.
    async fn takes_it_away(&self) -> Result<()> {
        self.tc("qdisc del dev eth1 root").await?;
        self.is_back().await
    }

    /// Open vSwitch takes away whatever it finds on its ports when it starts.
    async fn restarts(&self) -> Result<()> {
        self.lab.fault(FaultVerb::Restart, FaultTarget::Ovs(1)).await?;
        self.is_back().await?;
        // Flows come back in their own time.
        wait_until(FLOWS, "packets of both pods to arrive again", async || {
            self.share("after a restart").await.map(drop)
        })
        .await
    }

    async fn is_back(&self) -> Result<()> {
        wait_until(HEALED, "the filters of the tunnel interface", async || {
            let shown = self.tc("filter show dev eth1").await?;
            ensure!(shown.matches("flowid a701:10").count() == 2, "{shown}");
            Ok(())
        })
        .await
    }

    async fn tc(&self, arguments: &str) -> Result<String> {
        let mut command = self.lab.space(&Place::Node(1))?.command("tc");
        run(command.args(arguments.split(' '))).await
    }
}
