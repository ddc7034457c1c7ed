//! What comes out of `mirror0`: with real packets, each compared with what was sent. Needs root.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

mod capture;
mod foreign;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{
    FaultTarget, FaultVerb, Lab, Node, Options, Place, Pod, PodOptions, ScopedLab, Space, run,
};
use atoll_tests::people::{atollctl, create_subnets};
use atoll_tests::probe::Flow;
use atoll_tests::report::{Report, Target};
use atoll_tests::wait::wait_until;
use futures::future::try_join_all;
use uuid::Uuid;

use self::capture::Capture;

/// From an order, or the start of what was stopped, to copies.
const SETTLED: Duration = Duration::from_secs(20);

/// Probes of a pair of pods in an exchange that is counted.
const PROBES: u32 = 100;

/// The pods, and the node that each is on. `d` is in a subnet of its own.
const PODS: [(&str, u8); 4] = [("shop/a", 1), ("shop/b", 1), ("shop/c", 2), ("blue/d", 1)];

/// Who probes whom, of those that run; those with `d` through the router.
const PAIRS: [(usize, usize); 6] = [(0, 1), (0, 2), (2, 1), (0, 3), (2, 3), (2, ASKS)];

/// A pod that asks for copies itself.
const ASKS: usize = PODS.len();

/// Size of the payload of what is counted, and of the last probe of a capture.
const BYTES: &str = "56";
const LAST: &str = "32";

#[tokio::test]
async fn each_frame_of_a_mirrored_pod_comes_out_once() {
    let name = format!("m{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap();
    let lab = ScopedLab::up(Options { members: 1, nodes: 2, ..Options::new(name) }).await.unwrap();
    let mut report = Report::new("mirror", "make mirror");
    let told = Bench::new(&lab, &mut report).await.unwrap().all().await;
    report.save().unwrap();
    told.unwrap();
    assert!(report.failures().is_empty(), "{:?}", report.failures());
}

struct Bench<'a> {
    lab: &'a Lab,
    report: &'a mut Report,
    pods: Vec<Pod>,
    node: Space,
}

impl<'a> Bench<'a> {
    async fn new(lab: &'a Lab, report: &'a mut Report) -> Result<Self> {
        create_subnets(lab, &[("blue", "10.31.0.0/16", "blue")]).await?;
        let mut pods = Vec::new();
        for (name, node) in PODS {
            pods.push(lab.run_pod(PodOptions::new(name.parse()?, node)).await?);
        }
        let node = lab.node(1)?.space()?;
        Ok(Self { lab, report, pods, node })
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<'a> {
        let running = self.pods.len();
        PAIRS.into_iter().filter(move |(from, to)| *from < running && *to < running)
    }

    async fn all(&mut self) -> Result<()> {
        self.vsctl(
            &["--", "--id=@m", "create", "Mirror", "name=others"]
                .into_iter()
                .chain(["--", "add", "Bridge", "br-int", "mirrors", "@m"])
                .collect::<Vec<_>>(),
        )
        .await?;
        self.order("on", "pod/shop/a").await?;
        self.shows("one pod", &[0]).await?;
        self.asks().await?;
        self.order("on", "pod/shop/b").await?;
        self.shows("two pods that talk to each other", &[0, 1]).await?;
        self.order("on", "pod/blue/d").await?;
        self.shows("three pods, one in another subnet", &[0, 1, 3]).await?;
        self.order("on", "node/n1").await?;
        for pod in ["pod/shop/a", "pod/shop/b", "pod/blue/d"] {
            self.order("off", pod).await?;
        }
        self.shows("all pods of the node", &[0, 1, 3]).await?;
        self.restarts().await?;
        self.order("off", "pod/shop/a").await?;
        self.is_off().await?;
        self.toggles().await?;
        let mirrors = self.vsctl(&["--bare", "--columns=name", "list", "Mirror"]).await?;
        ensure!(mirrors.trim() == "others", "mirrors that are left: {mirrors}");
        foreign::stays_as_it_is(self.lab, 2).await
    }

    /// Beside a pod that is mirrored by order.
    async fn asks(&mut self) -> Result<()> {
        let annotations = [("ovn.kubernetes.io/mirror".to_owned(), "true".to_owned())].into();
        let options = PodOptions { annotations, ..PodOptions::new("shop/asks".parse()?, 1) };
        self.pods.push(self.lab.run_pod(options).await?);
        self.shows("one pod, and another by its annotation", &[0, ASKS]).await?;
        self.lab.delete_pod(&self.pods[ASKS].name).await?;
        self.pods.pop();
        self.shows("one pod, the other one is over", &[0]).await
    }

    async fn restarts(&mut self) -> Result<()> {
        let (agent, ovs) = (FaultTarget::Agent(1), FaultTarget::Ovs(1));
        self.lab.fault(FaultVerb::Kill, agent).await?;
        self.shows("all pods, no agent", &[0, 1, 3]).await?;
        self.order("on", "pod/shop/a").await?;
        self.order("off", "node/n1").await?;
        self.lab.fault(FaultVerb::Restart, agent).await?;
        self.shows("one pod, ordered while no agent ran", &[0]).await?;
        self.lab.fault(FaultVerb::Restart, ovs).await?;
        self.shows("one pod, after a restart of ovs-vswitchd", &[0]).await?;
        foreign::is_silent(&self.node).await
    }

    /// On and off while pods talk: nothing of that may be lost.
    async fn toggles(&mut self) -> Result<()> {
        let times: u32 = match std::env::var("ATOLL_MIRROR_TOGGLES") {
            Ok(times) => times.parse()?,
            Err(_) => 10,
        };
        let flow = |(from, to): (usize, usize)| {
            Flow::start(&self.space(from)?, &address(&self.pods[to])?.to_string())
        };
        let flows = self.pairs().map(flow).collect::<Result<Vec<_>>>()?;
        for _ in 0..times {
            self.order("on", "pod/shop/a").await?;
            self.is_on().await?;
            self.order("off", "pod/shop/a").await?;
            self.is_off().await?;
        }
        let seen = Flow::stop_all(flows).await?;
        self.report.note("switched on and off", "times", f64::from(times));
        self.report.note("probes between the pods meanwhile", "probes", to_f64(seen.sent)?);
        let lost = to_f64(seen.lost)?;
        self.report.claim("lost meanwhile", "probes", lost, Target::Exactly(0.0));
        ensure!(seen.lost == 0, "lost: {:?}", seen.missing);
        Ok(())
    }

    /// Waits until exactly the frames of these pods are copied, then counts a longer exchange.
    async fn shows(&mut self, what: &str, mirrored: &[usize]) -> Result<()> {
        let awaited = format!("mirror0 to show {what}");
        wait_until(SETTLED, &awaited, || async { self.compare(mirrored, 3).await }).await?;
        let (sent, copied) = self.compare(mirrored, PROBES).await.context(awaited)?;
        let case = format!("{what}: frames on mirror0");
        self.report.claim(&case, "frames", f64::from(copied), Target::Exactly(f64::from(sent)));
        Ok(())
    }

    /// Frames that these pods sent and received, and as many on `mirror0`: each once, and no other.
    async fn compare(&self, mirrored: &[usize], probes: u32) -> Result<(u32, u32)> {
        let capture = Capture::start(&self.node).await?;
        try_join_all(self.pairs().map(|pair| self.probe(pair, probes, BYTES))).await?;
        // What comes after everything else.
        self.probe(PAIRS[0], 1, LAST).await?;
        let frames = capture.end().await?;
        let mut sent = 0;
        for (from, to) in self.pairs() {
            let is_mirrored = mirrored.contains(&from) || mirrored.contains(&to);
            let expected = if is_mirrored { probes } else { 0 };
            for (from, to) in [(from, to), (to, from)] {
                let [source, target] = [address(&self.pods[from])?, address(&self.pods[to])?];
                let of_pair: Vec<u32> = frames
                    .iter()
                    .filter(|((from, to, _), _)| (*from, *to) == (source, target))
                    .map(|(_, times)| *times)
                    .collect();
                let once = of_pair.iter().filter(|times| **times == 1).count();
                let counted = (of_pair.len(), once);
                let wanted = usize::try_from(expected)?;
                let names = (&self.pods[from].name, &self.pods[to].name);
                ensure!(
                    counted == (wanted, wanted),
                    "{} → {}: {} different frames, {} of them once, of {wanted}",
                    names.0,
                    names.1,
                    counted.0,
                    counted.1
                );
                sent += expected;
            }
        }
        Ok((sent, frames.values().sum()))
    }

    async fn probe(&self, (from, to): (usize, usize), probes: u32, bytes: &str) -> Result<()> {
        let mut ping = self.space(from)?.command("ping");
        ping.args(["-n", "-q", "-i", "0.01", "-W", "2", "-s", bytes, "-c", &probes.to_string()]);
        let said = run(ping.arg(address(&self.pods[to])?.to_string())).await?;
        ensure!(said.contains(" 0% packet loss"), "a probe was lost: {said}");
        Ok(())
    }

    fn space(&self, pod: usize) -> Result<Space> {
        self.lab.space(&Place::Pod(self.pods[pod].name.clone()))
    }

    async fn order(&self, verb: &str, target: &str) -> Result<()> {
        let said = atollctl(self.lab, &["mirror", verb, target], "").await?;
        ensure!(said.status == 0, "atollctl mirror {verb} {target}: {}", said.err);
        Ok(())
    }

    async fn is_on(&self) -> Result<()> {
        wait_until(SETTLED, "a mirror of ours", || async {
            let mirrors = self.vsctl(&["--bare", "--columns=name", "list", "Mirror"]).await?;
            ensure!(mirrors.contains("mirror0"), "{mirrors}");
            Ok(())
        })
        .await
    }

    async fn is_off(&self) -> Result<()> {
        wait_until(SETTLED, "our mirror to be gone", || async {
            let mirrors = self.vsctl(&["--bare", "--columns=name", "list", "Mirror"]).await?;
            ensure!(!mirrors.contains("mirror0"), "{mirrors}");
            Ok(())
        })
        .await
    }

    async fn vsctl(&self, arguments: &[&str]) -> Result<String> {
        vsctl(&self.lab.node(1)?, arguments).await
    }
}

async fn vsctl(node: &Node, arguments: &[&str]) -> Result<String> {
    let mut command = node.space()?.command("ovs-vsctl");
    command.arg(format!("--db={}", node.ovs_db())).arg("--no-wait");
    run(command.args(arguments)).await
}

fn address(pod: &Pod) -> Result<IpAddr> {
    let text = pod.addresses.first().context("it has no address")?;
    Ok(text.split('/').next().unwrap_or_default().parse()?)
}

fn to_f64(count: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(count)?))
}
