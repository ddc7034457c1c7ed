//! A node stands still, its StatefulSet's pod is started elsewhere under its name and with its
//! address, and the node goes on, old container and all. Needs root, `tcpdump` and `busybox`.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::flow::address;
use atoll_tests::kubelet::{
    TRY_AGAIN_LATER, add, host_end, make_sandbox, on_node, pings, take_in, unannounced,
};
use atoll_tests::lab::store::PodSpec;
use atoll_tests::lab::{
    CentralMode, FaultTarget, FaultVerb, Lab, Options, Place, Pod, PodOptions, ScopedLab,
};
use atoll_tests::people::{atollctl, program};
use atoll_tests::report::{Report, Target};
use atoll_tests::talk::{Talker, now};
use atoll_tests::wait::{pass, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use uuid::Uuid;

/// What both lives of the pod have, as those of a StatefulSet's pod do.
const ADDRESS: &str = "10.16.7.7";
const MAC: &str = "0a:00:00:07:07:07";

/// Where the old container sends to.
const PORT: u16 = 9_001;

/// Packets a second, for longer than the test, of so many bytes.
const FLOOD: [&str; 3] = ["500", "600", "64"];

/// How long the node stands still, after its pod runs elsewhere; and how long it is looked at then.
const STILL: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_secs(10);

/// What its switch had queued, and what the container sends before the switch has other flows,
/// comes out of the node, and nobody takes it: no other node has a tunnel to it.
const LATE: Duration = Duration::from_secs(1);

/// Its agent has to hear of what happened first.
const UNPLUGGED: Duration = Duration::from_secs(10);

const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_container_that_was_given_up_is_silent_soon_after_its_node_goes_on() {
    silent("thawed-node", 1, CentralMode::Warm).await;
}

/// The member whose server leads the southbound takes the chassis away there.
#[tokio::test]
async fn one_that_was_given_up_is_as_silent_where_the_southbound_is_a_cluster() {
    silent("thawed-node-cluster", 3, CentralMode::Cluster).await;
}

async fn silent(title: &str, members: u8, central: CentralMode) {
    let name = format!("t{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap();
    let options = Options { members, nodes: 3, central, ..Options::new(name) };
    let lab = ScopedLab::up(options).await.unwrap();
    let mut report = Report::new(title, "cargo test -p atoll-tests --test thawed");
    let done = thaws(&lab, &mut report).await;
    report.save().unwrap();
    done.unwrap();
    assert!(report.failures().is_empty(), "{:?}", report.failures());
}

async fn thaws(lab: &Lab, report: &mut Report) -> Result<()> {
    let hears = lab.run_pod(PodOptions::new("set/hears".parse()?, 3)).await?;
    let ears = Talker::start(lab, &hears, &["hear", &PORT.to_string()])?;
    let mut old = life(lab, 1).await?;
    start(lab, &mut old).await?;
    let _sender = sends(lab, &old, &hears)?;
    wait_until(SOON, "the old container to be heard", async || {
        ensure!(ears.heard()?.len() > 100, "{} words", ears.heard()?.len());
        Ok(())
    })
    .await?;
    let bindings = Watched::bindings(lab).await?;
    let tunnel = Watched::tunnel(lab)?;

    stand_still(lab, &old, true).await?;
    lab.store()?.delete_pod("set", "db-0", &old.uid).await?;
    let mut new = life(lab, 2).await?;
    // Whether the first one has ended nobody knows but its node; or an operator, who says so.
    let early = add(lab, &new).await?;
    early.refused(TRY_AGAIN_LATER, &["when the node of its last owner confirms"])?;
    let fenced = atollctl(lab, &["node", "fence", "n1", "--yes"], "").await?;
    ensure!(fenced.status == 0, "atollctl node fence: {}", fenced.err);
    start(lab, &mut new).await?;
    wait_until(SOON, "the new life to talk", async || pings(lab, &new, &hears).await).await?;
    pass(STILL).await;
    let moved = bindings.of(&new)?.len();
    ensure!(moved > 0, "nothing was seen of the port");

    let thawed = now()?;
    stand_still(lab, &old, false).await?;
    let gone = wait_until(SOON, "the old container to be unplugged", async || {
        let link = host_end(&old);
        let ports = on_node(lab, 1, &["ovs-vsctl", "list-ports", "br-int"]).await?;
        ensure!(!ports.contains(&link), "{link} is on the bridge");
        now()
    })
    .await;
    pass(LOOK).await;
    pings(lab, &new, &hears).await?;
    let heard = ears.heard()?.into_iter().filter(|at| *at > thawed).collect::<Vec<_>>();
    let frames = frames(&tunnel.said()?, thawed);
    let flapped = bindings.of(&new)?.split_off(moved);
    let millis = |at: Option<&u128>| at.map_or(0.0, |at| number(at.saturating_sub(thawed)));
    let soon = Target::AtMost(number(LATE.as_millis()));
    report.note("frames of the old container on the underlay", "frames", count(&frames));
    let last = "the last of them, after the node went on";
    report.claim(last, "ms", millis(frames.last()), soon);
    let none = Target::Exactly(0.0);
    report.claim("words of it that a pod heard", "words", count(&heard), none);
    report.claim("changes of the pod's binding", "changes", count(&flapped), none);
    report.details(flapped);
    let (gone, unplugged) = (gone?, Target::AtMost(number(UNPLUGGED.as_millis())));
    report.claim("unplugged after", "ms", millis(Some(&gone)), unplugged);
    Ok(())
}

fn number(number: u128) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn count<T>(all: &[T]) -> f64 {
    f64::from(u32::try_from(all.len()).unwrap_or(u32::MAX))
}

/// The set's first pod in one of its lives: another uid and container, the same name and address.
async fn life(lab: &Lab, node: u8) -> Result<Pod> {
    let pod = unannounced("set/db-0", node)?;
    let asked = [("ip_address", ADDRESS), ("mac_address", MAC)]
        .map(|(key, value)| (format!("ovn.kubernetes.io/{key}"), value.to_owned()));
    let spec = PodSpec {
        namespace: "set".into(),
        name: "db-0".into(),
        uid: pod.uid.clone(),
        node: format!("n{node}"),
        annotations: BTreeMap::from(asked),
        labels: BTreeMap::new(),
    };
    lab.store()?.put_pod(&spec).await?;
    make_sandbox(lab, &pod).await?;
    Ok(pod)
}

/// As kubelet, which asks until it works.
async fn start(lab: &Lab, pod: &mut Pod) -> Result<()> {
    let added =
        wait_until(SOON, "a life to be added", async || add(lab, pod).await?.done()).await?;
    take_in(pod, &added);
    ensure!(pod.addresses.iter().any(|it| it.starts_with(ADDRESS)), "{:?}", pod.addresses);
    Ok(())
}

/// Datagrams, and that it has the address, from the container.
fn sends(lab: &Lab, old: &Pod, to: &Pod) -> Result<[Child; 2]> {
    let node = lab.space(&Place::Node(old.node))?;
    let run = |line: &[&str]| {
        let mut command = node.command("ip");
        command.args(["netns", "exec", &old.container_id]).args(line);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.kill_on_drop(true).spawn().context("the container does not start")
    };
    let talk = program("atoll-talk");
    let target = std::net::SocketAddr::new(address(to)?, PORT).to_string();
    let [rate, seconds, bytes] = FLOOD;
    let talk = talk.to_str().context("a path")?;
    let announce = format!("while :; do busybox arping -q -U -c 1 -I eth0 {ADDRESS}; done");
    Ok([run(&[talk, "flood", &target, rate, seconds, bytes])?, run(&["sh", "-c", &announce])?])
}

/// The node's daemons and what runs in the container stand still, or go on.
async fn stand_still(lab: &Lab, old: &Pod, still: bool) -> Result<()> {
    let (verb, signal) =
        if still { (FaultVerb::Stop, Signal::SIGSTOP) } else { (FaultVerb::Cont, Signal::SIGCONT) };
    let inside = on_node(lab, old.node, &["ip", "netns", "pids", &old.container_id]).await?;
    let inside: Vec<i32> = inside.lines().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(!inside.is_empty(), "nothing runs in the container");
    lab.fault(verb, FaultTarget::Node(old.node)).await?;
    // What a loop has started and is over by now is no matter.
    for pid in inside {
        let _ = kill(Pid::from_raw(pid), signal);
    }
    Ok(())
}

/// A program that tells what it sees; ends with its value.
struct Watched {
    _child: Child,
    output: PathBuf,
    _dir: tempfile::TempDir,
}

impl Watched {
    /// Whose the pod's port is, with each change.
    async fn bindings(lab: &Lab) -> Result<Self> {
        let southbound = lab.central().await?.sb;
        let mut monitor = Command::new("ovsdb-client");
        monitor.args(["monitor", "--format=csv", "--no-headings", &southbound, "OVN_Southbound"]);
        monitor.args(["Port_Binding", "logical_port,chassis"]);
        Self::start(monitor)
    }

    /// What comes in through tunnels where the pod is that hears.
    fn tunnel(lab: &Lab) -> Result<Self> {
        let mut tcpdump = lab.space(&Place::Node(3))?.command("tcpdump");
        tcpdump.args(["-n", "-l", "-tt", "-i", "eth1", "udp", "port", "6081"]);
        Self::start(tcpdump)
    }

    fn start(mut command: Command) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let output = dir.path().join("said");
        command.stdin(Stdio::null()).stdout(std::fs::File::create(&output)?);
        let child = command.stderr(Stdio::null()).kill_on_drop(true).spawn()?;
        Ok(Self { _child: child, output, _dir: dir })
    }

    /// Lines about a pod's port.
    fn of(&self, pod: &Pod) -> Result<Vec<String>> {
        let port = format!(",{}.{},", pod.name.name, pod.name.namespace);
        Ok(self.said()?.into_iter().filter(|line| line.contains(&port)).collect())
    }

    fn said(&self) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(&self.output)?;
        Ok(text.lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect())
    }
}

/// When frames of the old container came in since: its datagrams and its word that it has the
/// address, which the new one says of itself in nothing that is sent to this port.
fn frames(said: &[String], since: u128) -> Vec<u128> {
    let datagram = format!(".{PORT}: UDP");
    let word = format!("who-has {ADDRESS} ");
    let of_old = |line: &&String| line.contains(&datagram) || line.contains(&word);
    let at = |line: &String| {
        let seconds: f64 = line.split(' ').next()?.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok().map(|it| it.as_millis())
    };
    said.iter().filter(of_old).filter_map(at).filter(|at| *at > since).collect()
}
