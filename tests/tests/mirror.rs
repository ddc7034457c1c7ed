//! What comes out of `mirror0`: with real packets, each compared with what was sent. Needs root.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{
    FaultTarget, FaultVerb, Lab, Options, Place, Pod, PodOptions, ScopedLab, Space, run,
};
use atoll_tests::people::atollctl;
use atoll_tests::probe::Flow;
use atoll_tests::report::{Report, Target};
use atoll_tests::wait::wait_until;
use futures::future::try_join_all;
use tokio::process::Child;
use uuid::Uuid;

/// From an order, or the start of what was stopped, to copies.
const SETTLED: Duration = Duration::from_secs(20);

/// Probes of a pair of pods in an exchange that is counted.
const PROBES: u32 = 100;

/// Who probes whom: `a` and `b` are on the first node, `c` is on the second.
const PAIRS: [(usize, usize); 3] = [(0, 1), (0, 2), (2, 1)];

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

/// A frame as it was captured: from, to, and what `ping` wrote into it.
type Frames = BTreeMap<(IpAddr, IpAddr, String), u32>;

struct Bench<'a> {
    lab: &'a Lab,
    report: &'a mut Report,
    pods: Vec<Pod>,
    node: Space,
}

impl<'a> Bench<'a> {
    async fn new(lab: &'a Lab, report: &'a mut Report) -> Result<Self> {
        let mut pods = Vec::new();
        for (name, node) in [("shop/a", 1), ("shop/b", 1), ("shop/c", 2)] {
            pods.push(lab.run_pod(PodOptions::new(name.parse()?, node)).await?);
        }
        let node = lab.node(1)?.space()?;
        Ok(Self { lab, report, pods, node })
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
        self.order("on", "pod/shop/b").await?;
        self.shows("two pods that talk to each other", &[0, 1]).await?;
        self.order("on", "node/n1").await?;
        self.order("off", "pod/shop/a").await?;
        self.order("off", "pod/shop/b").await?;
        self.shows("all pods of the node", &[0, 1]).await?;
        self.restarts().await?;
        self.order("off", "pod/shop/a").await?;
        self.is_off().await?;
        self.toggles().await?;
        let mirrors = self.vsctl(&["--bare", "--columns=name", "list", "Mirror"]).await?;
        ensure!(mirrors.trim() == "others", "mirrors that are left: {mirrors}");
        Ok(())
    }

    async fn restarts(&mut self) -> Result<()> {
        let (agent, ovs) = (FaultTarget::Agent(1), FaultTarget::Ovs(1));
        self.lab.fault(FaultVerb::Kill, agent).await?;
        self.shows("all pods, no agent", &[0, 1]).await?;
        self.order("on", "pod/shop/a").await?;
        self.order("off", "node/n1").await?;
        self.lab.fault(FaultVerb::Restart, agent).await?;
        self.shows("one pod, ordered while no agent ran", &[0]).await?;
        self.lab.fault(FaultVerb::Restart, ovs).await?;
        self.shows("one pod, after a restart of ovs-vswitchd", &[0]).await
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
        let flows = PAIRS.into_iter().map(flow).collect::<Result<Vec<_>>>()?;
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
        try_join_all(PAIRS.map(|pair| self.probe(pair, probes, BYTES))).await?;
        // What comes after everything else.
        self.probe(PAIRS[0], 1, LAST).await?;
        let frames = capture.end().await?;
        let mut sent = 0;
        for (from, to) in PAIRS {
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
        let mut command = self.node.command("ovs-vsctl");
        command.arg(format!("--db={}", self.lab.node(1)?.ovs_db())).arg("--no-wait");
        run(command.args(arguments)).await
    }
}

/// `tcpdump` on `mirror0`.
struct Capture {
    child: Child,
    output: PathBuf,
    _dir: tempfile::TempDir,
}

impl Capture {
    async fn start(node: &Space) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (output, log) = (dir.path().join("frames"), dir.path().join("log"));
        let mut command = node.command("tcpdump");
        command.args(["-n", "-t", "-l", "--immediate-mode", "-i", "mirror0", "icmp or icmp6"]);
        command.stdin(Stdio::null()).stdout(std::fs::File::create(&output)?);
        command.stderr(std::fs::File::create(&log)?).kill_on_drop(true);
        let child = command.spawn().context("tcpdump cannot be started")?;
        wait_until(Duration::from_secs(2), "tcpdump to listen", || async {
            let said = std::fs::read_to_string(&log)?;
            ensure!(said.contains("listening on"), "{said}");
            Ok(())
        })
        .await?;
        Ok(Self { child, output, _dir: dir })
    }

    /// Waits for the answer to the last probe; what came before it.
    async fn end(mut self) -> Result<Frames> {
        let is_last = |line: &str| line.ends_with("length 40");
        let text = wait_until(Duration::from_secs(3), "the last probe on mirror0", || async {
            let text = std::fs::read_to_string(&self.output)?;
            let last = |line: &str| line.contains("echo reply") && is_last(line);
            ensure!(text.lines().any(last), "{} lines", text.lines().count());
            Ok(text)
        })
        .await?;
        self.child.kill().await?;
        let mut frames = Frames::new();
        for line in text.lines().filter(|line| line.contains("echo") && !is_last(line)) {
            *frames.entry(frame(line).with_context(|| line.to_owned())?).or_default() += 1;
        }
        Ok(frames)
    }
}

/// Reads `IP 10.1.0.2 > 10.1.0.3: ICMP echo request, id 5, seq 1, length 64`.
fn frame(line: &str) -> Option<(IpAddr, IpAddr, String)> {
    let (_, rest) = line.split_once(' ')?;
    let (from, rest) = rest.split_once(" > ")?;
    let (to, what) = rest.split_once(": ")?;
    Some((from.parse().ok()?, to.parse().ok()?, what.to_owned()))
}

fn address(pod: &Pod) -> Result<IpAddr> {
    let text = pod.addresses.first().context("it has no address")?;
    Ok(text.split('/').next().unwrap_or_default().parse()?)
}

fn to_f64(count: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(count)?))
}
