//! An agent that is killed and started again on a node full of pods: nothing is changed, no packet
//! is lost.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_tests::kubelet::{Call, on_node};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab, Place, Pod, PodOptions};
use atoll_tests::people::atollctl;
use atoll_tests::probe::Flow;
use atoll_tests::report::{Report, Target};
use atoll_tests::wait::wait_until;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::process::Child;

use super::{SOON, healthy, up};

/// How many ADDs kubelet has on their way.
const IN_FLIGHT: usize = 8;

/// Between two probes.
const EVERY: Duration = Duration::from_millis(10);

/// Longer than the timer of the agent's loops.
const A_PASS_BY_TIMER: Duration = Duration::from_secs(12);

/// Columns that say how things should be; the others count packets.
const WATCHED: [(&str, &str); 4] = [
    ("Open_vSwitch", "bridges,external_ids,ssl,other_config"),
    ("Bridge", "name,ports,external_ids,other_config,datapath_type,fail_mode"),
    ("Port", "name,interfaces,external_ids,other_config,qos"),
    ("Interface", "name,type,external_ids,options,mac,mtu_request,ofport,error"),
];

#[tokio::test]
async fn an_agent_that_starts_again_on_a_full_node_changes_nothing() {
    let pods = super::pods();
    let lab = up(1, 1).await;
    let name = |number| format!("dual/p{number}").parse().unwrap();
    let run = |number| lab.run_pod(PodOptions::new(name(number), 1));
    let pods: Vec<Pod> =
        stream::iter(0..pods).map(run).buffer_unordered(IN_FLIGHT).try_collect().await.unwrap();
    let mut report = Report::new("cni-faults", "make cni-faults");
    starts_again(&lab, &pods, &mut report).await.unwrap();
    report.save().unwrap();
    assert_eq!(report.failures(), Vec::<String>::new());
    healthy(&lab, &pods[0]).await.unwrap();
}

async fn starts_again(lab: &Lab, pods: &[Pod], report: &mut Report) -> Result<()> {
    until_well(lab).await?;
    // What the first agent had still to do is nobody's change.
    let said = atollctl(lab, &["ovn", "rollout", "--wait", "30"], "").await?;
    ensure!(said.status == 0, "{}", said.err);
    let before = packet_filter(lab).await?;
    let monitors = WATCHED.map(|(table, columns)| Monitor::start(lab, table, columns));
    let monitors = monitors.into_iter().collect::<Result<Vec<_>>>()?;
    let space = lab.space(&Place::Pod(pods[0].name.clone()))?;
    let target = pods[1].addresses[0].split('/').next().unwrap_or_default();
    let flow = Flow::start_every(EVERY, &space, target)?;
    let programs = lab.dir().join("programs");

    lab.fault(FaultVerb::Kill, FaultTarget::Agent(1)).await?;
    let file = programs.display().to_string();
    let tracer = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-e", "trace=execve", "-o", &file];
    let began = Instant::now();
    lab.node(1)?.start_agent_under(&tracer).await?;
    until_well(lab).await?;
    let well = began.elapsed();
    wait_until(SOON, "a pass by the timer", || async {
        ensure!(began.elapsed() > A_PASS_BY_TIMER, "{:?}", began.elapsed());
        Ok(())
    })
    .await?;

    let seen = flow.stop().await?;
    let mut changes = Vec::new();
    for monitor in monitors {
        changes.extend(monitor.stop().await?);
    }
    let restores = restores(&programs)?;
    let (count, of) = (pods.len(), format!("agent killed and started with {} pods", pods.len()));
    ensure!(seen.sent > 500, "only {} probes were sent to one of {count} pods", seen.sent);
    let mut zero = |what: &str, unit: &str, found: &[String]| {
        let value = f64::from(u32::try_from(found.len()).unwrap_or(u32::MAX));
        report.claim(&format!("{of}: {what}"), unit, value, Target::Exactly(0.0));
        report.details(found.iter().take(5).cloned().collect());
    };
    zero("changes of Open vSwitch's rows", "rows", &changes);
    zero("runs of restore programs", "runs", &restores);
    zero(
        "lines of the packet filter that differ",
        "lines",
        &differing(&before, &packet_filter(lab).await?),
    );
    zero("lost of probes every 10 ms", "probes", &seen.missing);
    report.note(&format!("{of}: probes sent"), "probes", f64::from(u32::try_from(seen.sent)?));
    report.note(&format!("{of}: until it takes pods"), "s", well.as_secs_f64());
    Ok(())
}

/// Until pods can be attached, by the agent's own word.
async fn until_well(lab: &Lab) -> Result<()> {
    wait_until(SOON, "STATUS to be good", async || {
        Call::new("STATUS", None).on(lab, 1).await?.done().map(drop)
    })
    .await
}

/// Rules and sets, without what counts packets.
async fn packet_filter(lab: &Lab) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for line in [&["iptables-save"][..], &["ip6tables-save"], &["ipset", "save"]] {
        let printed = on_node(lab, 1, line).await?;
        let rules = printed.lines().filter(|line| !line.starts_with('#'));
        lines.extend(rules.map(|line| line.split(" [").next().unwrap_or_default().to_owned()));
    }
    ensure!(lines.iter().any(|line| line.contains("MASQUERADE")), "no rules of ours: {lines:?}");
    Ok(lines)
}

fn differing(before: &[String], after: &[String]) -> Vec<String> {
    let only = |one: &[String], other: &[String]| {
        one.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>()
    };
    [only(before, after), only(after, before)].concat()
}

/// The programs that were started to change the packet filter.
fn restores(traced: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(traced)?;
    let started: Vec<&str> = text.lines().filter(|line| line.ends_with("= 0")).collect();
    // It looks, or nothing was traced at all.
    ensure!(started.iter().any(|line| line.contains("iptables-save")), "{text}");
    let changes = started
        .into_iter()
        .filter(|line| line.contains("restore") || line.contains("ipset\", \"-exist"));
    Ok(changes.map(ToOwned::to_owned).collect())
}

/// `ovsdb-client monitor` of one table.
struct Monitor {
    child: Child,
    output: PathBuf,
}

impl Monitor {
    fn start(lab: &Lab, table: &str, columns: &str) -> Result<Self> {
        let output = lab.dir().join(format!("monitor-{table}"));
        let db = lab.node(1)?.ovs_db();
        let mut command = tokio::process::Command::new("ovsdb-client");
        command.args(["--format=csv", "monitor", &db, "Open_vSwitch", table, columns]);
        command.stdin(Stdio::null()).stdout(std::fs::File::create(&output)?);
        let child = command.kill_on_drop(true).spawn().context("ovsdb-client")?;
        Ok(Self { child, output })
    }

    /// What changed since it began.
    async fn stop(mut self) -> Result<Vec<String>> {
        ensure!(self.child.try_wait()?.is_none(), "a monitor has ended by itself");
        self.child.kill().await?;
        let text = std::fs::read_to_string(&self.output)?;
        ensure!(text.contains(",initial,"), "a monitor saw nothing: {text}");
        // A cell may have line breaks within quotes, and then begins no line.
        let is_change = |line: &&str| {
            let action = line.split(',').nth(1).unwrap_or_default();
            ["insert", "delete", "old", "new"].contains(&action)
        };
        Ok(text.lines().filter(is_change).map(ToOwned::to_owned).collect())
    }
}
