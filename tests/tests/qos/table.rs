//! Set rate and measured rate as a table: both protocols, both directions, from the pod's first
//! moment on and changed while it talks; and a pod beside it that has no limit.

#![allow(clippy::float_arithmetic, reason = "figures of measurements; no replica computes here")]

use anyhow::{Result, ensure};
use atoll_tests::lab::{Lab, Pod, PodOptions};
use atoll_tests::report::{Report, Target};
use atoll_tests::wait::pass;

use crate::put;
use crate::stream::{FRAME, Protocol, Stream, WARM_UP, offering};

/// Mbit/s, each changed live to the next one.
const RATES: [u32; 5] = [1, 10, 50, 100, 200];

/// What a pod asks for by its annotations, in Mbit/s.
const ASKED: u32 = 10;

/// Measured rate by set rate: of everything at most, and of UDP at least, where the machine can be
/// trusted to carry as much.
const MOST: f64 = 1.05;
const LEAST: f64 = 0.85;
const TRUSTED: u32 = 50;

/// A burst is so many seconds' worth. A TCP that lost packets may be silent for 200 ms, and what it
/// does not use meanwhile is lost to it where the burst is smaller.
const BURST: f64 = 0.25;

/// What the pod beside sends, in packets a second: 5 Mbit/s.
const BESIDE: u32 = 5_000_000 / 8 / FRAME;

/// So much of it arrives while others are limited, of what arrives without them.
const UNAFFECTED: f64 = 0.95;

#[derive(Debug, Clone, Copy)]
enum Direction {
    Sent,
    Received,
}

const FLOWS: [(Protocol, Direction); 4] = [
    (Protocol::Udp, Direction::Sent),
    (Protocol::Udp, Direction::Received),
    (Protocol::Tcp, Direction::Sent),
    (Protocol::Tcp, Direction::Received),
];

pub(super) async fn fill(lab: &Lab, report: &mut Report) -> Result<()> {
    let pod = |name: &'static str, node| async move {
        lab.run_pod(PodOptions::new(name.parse()?, node)).await
    };
    let (far, near, free) =
        (pod("table/far", 2).await?, pod("table/near", 2).await?, pod("table/free", 1).await?);
    let beside = Stream::start(lab, Protocol::Udp, &free, &near, BESIDE)?;
    pass(WARM_UP).await;
    let alone = beside.measure().await?;
    let mut bench = Bench { lab, report, far, beside, others: Vec::new() };
    bench.unlimited().await?;
    for (at, rate) in RATES.into_iter().enumerate() {
        bench.rate(rate, RATES[(at + 1) % RATES.len()]).await?;
    }
    bench.asks().await?;
    let Bench { report, others, .. } = bench;
    let mean = others.iter().sum::<f64>() / f64::from(u32::try_from(others.len())?);
    let least = others.into_iter().fold(alone, f64::min);
    report.compare("a pod beside, on average", "Mbit/s", mean, ("without limited ones", alone));
    report.ratio_must_be(Target::AtLeast(UNAFFECTED));
    report.note("a pod beside, the least of all", "Mbit/s", least);
    Ok(())
}

struct Bench<'a> {
    lab: &'a Lab,
    report: &'a mut Report,
    /// The other side.
    far: Pod,
    /// A pod without a limit, on the node of the limited one.
    beside: Stream,
    /// What arrived of it while others were measured, each time.
    others: Vec<f64>,
}

impl Bench<'_> {
    /// What the machine can carry: a limit above that shows nothing.
    async fn unlimited(&mut self) -> Result<()> {
        let pod = self.lab.run_pod(PodOptions::new("table/open".parse()?, 1)).await?;
        let most = RATES.into_iter().max().unwrap_or_default();
        for (protocol, direction) in FLOWS {
            let stream = self.start((protocol, direction), &pod, most)?;
            pass(WARM_UP).await;
            let seen = stream.measure().await?;
            self.report.note(&format!("{protocol:?} {direction:?}, no limit"), "Mbit/s", seen);
        }
        self.lab.delete_pod(&pod.name).await?;
        Ok(())
    }

    /// A pod that is made with `rate`, and later has `next`.
    async fn rate(&mut self, rate: u32, next: u32) -> Result<()> {
        let name = format!("table/r{rate}");
        self.limit(&name, rate).await?;
        let pod = self.lab.run_pod(PodOptions::new(name.parse()?, 1)).await?;
        for flow in FLOWS {
            let stream = self.start(flow, &pod, rate)?;
            self.record(flow, &stream, rate, "from the first moment on").await?;
        }
        for flow in FLOWS {
            self.limit(&name, rate).await?;
            let stream = self.start(flow, &pod, rate.max(next))?;
            pass(WARM_UP).await;
            self.limit(&name, next).await?;
            self.record(flow, &stream, next, &format!("changed live from {rate}")).await?;
        }
        self.lab.delete_pod(&pod.name).await?;
        Ok(())
    }

    /// A pod that asks itself, with no word of its burst: that is four fifths of the rate.
    async fn asks(&mut self) -> Result<()> {
        let annotations = ["ingress_rate", "egress_rate"]
            .map(|key| (format!("ovn.kubernetes.io/{key}"), ASKED.to_string()))
            .into();
        let options = PodOptions { annotations, ..PodOptions::new("table/asks".parse()?, 1) };
        let pod = self.lab.run_pod(options).await?;
        for flow in FLOWS {
            let stream = self.start(flow, &pod, ASKED)?;
            self.record(flow, &stream, ASKED, "by its annotation").await?;
        }
        Ok(())
    }

    async fn limit(&self, pod: &str, rate: u32) -> Result<()> {
        let burst = (BURST * f64::from(rate)).max(1.0).round();
        let rates = format!("{{ rate: {rate}, burst: {burst} }}");
        put(self.lab, &format!("rate-of-{}", pod.replace('/', "-")), &rates, &rates, pod).await
    }

    /// Offers half as much again as the limit lets through.
    fn start(
        &self,
        (protocol, direction): (Protocol, Direction),
        pod: &Pod,
        rate: u32,
    ) -> Result<Stream> {
        let (from, to) = match direction {
            Direction::Sent => (pod, &self.far),
            Direction::Received => (&self.far, pod),
        };
        Stream::start(self.lab, protocol, from, to, offering(rate) * 3 / 2)
    }

    async fn record(
        &mut self,
        (protocol, direction): (Protocol, Direction),
        stream: &Stream,
        rate: u32,
        when: &str,
    ) -> Result<()> {
        pass(WARM_UP).await;
        let (seen, beside) = tokio::try_join!(stream.measure(), self.beside.measure())?;
        self.others.push(beside);
        let case = format!("{protocol:?} {direction:?}, {when}: {rate} Mbit/s");
        self.report.compare(&case, "Mbit/s", seen, ("set", f64::from(rate)));
        self.report.ratio_must_be(Target::AtMost(MOST));
        let least = match protocol {
            Protocol::Udp if rate <= TRUSTED => LEAST * f64::from(rate),
            _ => 0.0,
        };
        ensure!(seen > least, "{case}: {seen} arrive");
        Ok(())
    }
}
