//! A thousand ADDs at once, most of them for pods that nobody announced: what is in work is
//! bounded, everybody is answered, and those that were announced get their network.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_cni_wire::{Code, Command, Response};
use atoll_tests::kubelet::{
    announce, end_pod, make_sandbox, run_pod, settled, unannounced, until_held,
};
use atoll_tests::lab::{Lab, Pod};
use atoll_tests::report::{Report, Target};
use atoll_tests::wire;
use futures::future::try_join_all;

use super::{healthy, up};

/// All of them.
const CALLS: usize = 1_000;

/// How often a pod is asked for again that is told to try later.
const TRIES: usize = 10;

/// A program of the agent's kind has so many of these to spare on any node.
const FILES_MAX: u64 = 1_500;
const THREADS_MAX: u64 = 300;
const GROWTH_MAX_MIB: u64 = 128;

#[tokio::test]
async fn a_thousand_pods_at_once_are_answered_and_the_announced_ones_come() {
    let lab = up(1, 1).await;
    let beside = run_pod(&lab, "dual/beside", 1).await.unwrap();
    let mut report = Report::new("cni-faults", "make cni-faults");
    crowd(&lab, &mut report).await.unwrap();
    report.save().unwrap();
    assert_eq!(report.failures(), Vec::<String>::new());
    healthy(&lab, &beside).await.unwrap();
}

async fn crowd(lab: &Lab, report: &mut Report) -> Result<()> {
    let before = settled(lab, 1).await?;
    let announced = super::pods() as usize;
    let names: Vec<String> = (0..CALLS).map(|number| format!("dual/c{number}")).collect();
    let (some, rest) = names.split_at(announced);
    let pods = try_join_all(some.iter().map(|name| announce(lab, name, 1))).await?;
    for pod in &pods {
        make_sandbox(lab, pod).await?;
    }
    let unknown: Vec<Pod> = rest.iter().map(|name| unannounced(name, 1)).collect::<Result<_>>()?;
    let agent = lab.node(1)?.agent().pid().context("there is no agent")?;
    let socket = lab.node(1)?.dir().join("run/atoll/cni.sock");
    let watch = Watch::start(agent)?;
    let began = Instant::now();
    let all = [pods.clone(), unknown].concat();
    // Each on a thread of its own, as a plugin is a process of its own.
    let each = move |pod: &Pod| Ok((pod.uid.clone(), ask(&socket, pod)?));
    let asked = tokio::task::spawn_blocking(move || wire::for_each(&all, CALLS, each));
    let answers: BTreeMap<String, Response> = asked.await??.into_iter().collect();
    let took = began.elapsed();
    let seen = watch.stop()?;
    for pod in &pods {
        ensure!(matches!(answers[&pod.uid], Response::Added(_)), "{:?}", answers[&pod.uid]);
    }
    let is_told = |answer: &&Response| match answer {
        Response::Error(error) => error.code == Code::TRY_AGAIN_LATER,
        _ => false,
    };
    let told = answers.values().filter(is_told).count();
    ensure!(told == CALLS - pods.len(), "only {told} were told that nobody announced them");
    let figure = |value: u64| f64::from(u32::try_from(value).unwrap_or(u32::MAX));
    report.note("1,000 ADDs at once: until the last answer", "s", took.as_secs_f64());
    for (what, unit, value, bound) in [
        ("files of the agent", "files", seen.files, FILES_MAX),
        ("threads of the agent", "threads", seen.threads, THREADS_MAX),
        ("growth of the agent", "MiB", seen.mib - seen.mib_before, GROWTH_MAX_MIB),
    ] {
        let case = format!("1,000 ADDs at once: {what}, most");
        report.claim(&case, unit, figure(value), Target::AtMost(figure(bound)));
    }
    try_join_all(pods.iter().map(|pod| end_pod(lab, pod))).await?;
    until_held(lab, 1, &before).await
}

/// As kubelet: again, as long as that is what the answer says. Who was not announced is asked once.
fn ask(socket: &Path, pod: &Pod) -> Result<Response> {
    for _ in 0..TRIES {
        let answer = wire::ask(socket, &wire::request(Command::Add, pod))?;
        match &answer {
            Response::Error(error) if !error.message.contains("is not known on node") => {
                ensure!(error.code == Code::TRY_AGAIN_LATER, "{}: {error}", pod.name);
            }
            _ => return Ok(answer),
        }
    }
    anyhow::bail!("{} was told to try later {TRIES} times", pod.name)
}

/// The most that a process had of everything, looked at again and again.
#[derive(Debug, Clone, Copy, Default)]
struct Most {
    files: u64,
    threads: u64,
    mib: u64,
    mib_before: u64,
}

struct Watch {
    ended: Arc<AtomicBool>,
    looking: thread::JoinHandle<Result<Most>>,
}

impl Watch {
    fn start(pid: i32) -> Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        let mib_before = status(pid, "VmRSS:")? / 1024;
        let looking = thread::Builder::new().spawn(move || {
            let mut most = Most { mib_before, mib: mib_before, ..Most::default() };
            while !end.load(Ordering::Relaxed) {
                let files = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
                most.files = most.files.max(u64::try_from(files)?);
                most.threads = most.threads.max(status(pid, "Threads:")?);
                most.mib = most.mib.max(status(pid, "VmRSS:")? / 1024);
                thread::park_timeout(Duration::from_millis(20));
            }
            Ok(most)
        })?;
        Ok(Self { ended, looking })
    }

    fn stop(self) -> Result<Most> {
        self.ended.store(true, Ordering::Relaxed);
        self.looking.join().ok().context("the watch panicked")?
    }
}

/// A number of `/proc/PID/status`.
fn status(pid: i32, key: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)).context("no such line")?;
    Ok(value.split_whitespace().next().context("no value")?.parse()?)
}
