//! What the CNI plugin says to the node agent, without a process for each word: for crowds of pods.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_cni_wire::{Command, Request, Response, VERSION, read, write};

use crate::kubelet::netns;
use crate::lab::Pod;

/// As much of the plugin's usual 30 s as it leaves to the agent.
const DEADLINE: Duration = Duration::from_millis(29_500);

/// Room for one request; a thousand threads must not cost memory.
const STACK: usize = 256 * 1024;

/// The question about a pod.
#[must_use]
pub fn request(command: Command, pod: &Pod) -> Request {
    Request {
        version: VERSION,
        command,
        container_id: pod.container_id.clone(),
        netns: Some(netns(pod)),
        ifname: pod.ifname.clone(),
        pod_namespace: pod.name.namespace.clone(),
        pod_name: pod.name.name.clone(),
        pod_uid: Some(pod.uid.clone()),
        cni_version: "1.0.0".to_owned(),
        deadline_ms: u64::try_from(DEADLINE.as_millis()).unwrap_or(u64::MAX),
        network: "atoll".to_owned(),
        previous: None,
        valid: None,
    }
}

/// Asks on a socket, once.
///
/// # Errors
///
/// Nobody answers.
pub fn ask(socket: &Path, request: &Request) -> Result<Response> {
    let mut stream = UnixStream::connect(socket)?;
    write(&mut stream, request)?;
    Ok(read(&mut stream)?)
}

/// Does `one` for each pod, on `in_flight` threads; what came of each, in no order.
///
/// # Errors
///
/// The first that failed.
pub fn for_each<T: Send>(
    pods: &[Pod],
    in_flight: usize,
    one: impl Fn(&Pod) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(pod) = pods.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            done.push(one(pod)?);
        }
        Ok(done)
    };
    thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let threads = (0..in_flight).map(spawn).collect::<std::io::Result<Vec<_>>>()?;
        let mut all = Vec::new();
        for thread in threads {
            let done: Result<Vec<T>> = thread.join().ok().context("a thread panicked")?;
            all.extend(done?);
        }
        Ok(all)
    })
}

/// Asks the same of all pods; how long each answer took. All must succeed.
///
/// # Errors
///
/// The first that failed.
pub fn ask_all(
    socket: &Path,
    command: &Command,
    pods: &[Pod],
    in_flight: usize,
) -> Result<Vec<Duration>> {
    for_each(pods, in_flight, |pod| {
        let request = request(command.clone(), pod);
        let began = Instant::now();
        let answer = ask(socket, &request)?;
        let took = began.elapsed();
        ensure!(!matches!(answer, Response::Error(_)), "{}: {answer:?}", pod.name);
        Ok(took)
    })
}
