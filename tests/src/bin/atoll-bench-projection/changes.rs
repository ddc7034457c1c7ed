//! Pods that come and go: how long until the database says so, and what that costs.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::Result;
use atoll_model::PortName;
use atoll_ovn_plan::{Table, row_uuid};
use atoll_ovn_sync::Projector;
use atoll_ovsdb::{MonitoredTable, Replica};
use atoll_tests::bench::load::percentile;
use atoll_tests::bench::machine::processor_time;
use atoll_tests::report::{Report, Target};
use uuid::Uuid;

use crate::feed::{CLUSTER, Feed, delete_pod, pod_key, put_pod};
use crate::northbound::{DATABASE, Northbound};
use crate::thread::Thread;
use crate::{Options, case, millis, rebuild};

/// Single changes.
const SAMPLES: usize = 400;

/// Changes a second.
const RATE: u32 = 1_000;

/// However busy the machine is.
const DEADLINE: Duration = Duration::from_secs(60);

/// One change, and what it does to the database.
#[derive(Debug, Clone, Copy)]
struct Change {
    port: Uuid,
    /// It comes; otherwise it goes.
    comes: bool,
}

impl Change {
    fn is_in(&self, replica: &Replica) -> bool {
        is_there(replica, self.port) == self.comes
    }
}

fn is_there(replica: &Replica, port: Uuid) -> bool {
    replica.row(Table::LogicalSwitchPort.name(), port).is_some()
}

/// Pods beyond those that are there, of which some come and the oldest go.
#[derive(Debug)]
pub(crate) struct Pods {
    ports: usize,
    next: usize,
    here: VecDeque<usize>,
}

/// Pods under load that are there at the same time: each is for half a second.
const HERE: usize = 500;

impl Pods {
    pub(crate) fn new(ports: usize) -> Self {
        Self { ports, next: ports, here: VecDeque::new() }
    }

    /// Lets a pod come, or go again.
    pub(crate) fn next(&mut self, feed: &mut Feed) -> Result<()> {
        self.change(feed, 1).map(drop)
    }

    /// Lets a pod come unless there are `most`, and the oldest go if there are.
    fn change(&mut self, feed: &mut Feed, most: usize) -> Result<Change> {
        let comes = self.here.len() < most;
        let number = if comes { self.next } else { self.here.pop_front().unwrap_or_default() };
        if comes {
            feed.apply(put_pod(number, self.ports))?;
            self.here.push_back(number);
            self.next += 1;
        } else {
            feed.apply(delete_pod(number)?)?;
        }
        let port = PortName::of_pod(&pod_key(number)?);
        let port = row_uuid(CLUSTER, Table::LogicalSwitchPort, port.as_str());
        Ok(Change { port, comes })
    }
}

/// What somebody else sees of the ports.
fn watched() -> [MonitoredTable; 1] {
    [MonitoredTable::new(Table::LogicalSwitchPort.name(), ["name"])]
}

/// One change after the other, each from the moment it is committed until another client of the
/// database is told.
pub(crate) async fn one_by_one(
    nb: &Northbound,
    feed: &mut Feed,
    pods: &mut Pods,
    report: &mut Report,
) -> Result<()> {
    let monitor = nb.connect().await?.monitor(DATABASE, &watched()).await?;
    let (mut latencies, thread) = (Vec::new(), Thread::begin()?);
    for _ in 0..SAMPLES {
        let begun = Instant::now();
        let change = pods.change(feed, 1)?;
        monitor.wait_until(|replica| change.is_in(replica), DEADLINE).await?;
        latencies.push(begun.elapsed());
    }
    latencies.sort_unstable();
    let ports = pods.ports;
    let what = |percent: usize| {
        case(&format!("one change, committed to in the northbound, p{percent}"), ports)
    };
    report.note(&what(50), "ms", percentile(&latencies, 50));
    report.note(&what(99), "ms", percentile(&latencies, 99));
    #[allow(clippy::cast_precision_loss, reason = "some hundred")]
    let each = millis(thread.used()?) / SAMPLES as f64;
    report.note(&case("one change, processor time of the ovn-sync thread", ports), "ms", each);
    Ok(())
}

/// Changes at a rate that does not wait for anything.
pub(crate) async fn sustained(
    options: &Options,
    nb: &Northbound,
    (feed, projector): (&mut Feed, &Projector),
    pods: &mut Pods,
    report: &mut Report,
) -> Result<()> {
    let mut monitor = nb.connect().await?.monitor(DATABASE, &watched()).await?;
    let sent = || projector.status().borrow().transactions;
    let (before, thread) = (sent(), Thread::begin()?);
    let server = processor_time(&[nb.pid()])?;
    let (begun, mut count) = (Instant::now(), 0_u32);
    let mut lags = Lags::default();
    while begun.elapsed() < options.time() {
        let due = begun + Duration::from_secs(1) * count / RATE;
        tokio::select! {
            // Both may be ready: what is due goes first.
            biased;
            () = tokio::time::sleep_until(due.into()) => {
                let now = Instant::now();
                // A sleep takes a millisecond or two: whatever is due by now is committed now.
                while begun + Duration::from_secs(1) * count / RATE <= now {
                    lags.committed(pods.change(feed, HERE)?);
                    count += 1;
                }
            }
            changed = monitor.changed() => changed?,
        }
        lags.seen(&monitor.replica());
    }
    let took = begun.elapsed();
    let (percent, server) = (thread.percent()?, processor_time(&[nb.pid()])? - server);
    let behind = lags.waiting();
    rebuild::equal(projector, feed).await?;
    let caught_up = begun.elapsed() - took;
    lags.finish();
    let transactions = sent() - before;
    let seconds = took.as_secs_f64();
    let what = |what: &str| {
        case(&format!("{RATE} changes a second, {}: {what}", time(options)), pods.ports)
    };
    report.claim(&what("committed"), "/s", f64::from(count) / seconds, Target::AtLeast(990.0));
    report.note(&what("until in the northbound, p50"), "ms", percentile(&lags.done, 50));
    let p99 = percentile(&lags.done, 99);
    report.claim(&what("until in the northbound, p99"), "ms", p99, Target::AtMost(1_000.0));
    report.claim(&what("equal after the last"), "ms", millis(caught_up), Target::AtMost(1_000.0));
    report.details(vec![format!("{behind} changes behind at the end")]);
    report.note(&what("the ovn-sync thread"), "% of a core", percent);
    let server = server.as_secs_f64() / seconds * 100.0;
    report.note(&what("ovsdb-server, two clients"), "% of a core", server);
    #[allow(clippy::cast_precision_loss, reason = "some thousand")]
    report.note(&what("transactions"), "/s", transactions as f64 / seconds);
    Ok(())
}

fn time(options: &Options) -> String {
    format!("{} s", options.seconds)
}

/// How long each change takes.
#[derive(Debug, Default)]
struct Lags {
    /// Ports that are to come, and since when.
    comes: BTreeMap<Uuid, Instant>,
    /// Ports that are to go.
    goes: BTreeMap<Uuid, Instant>,
    done: Vec<Duration>,
}

impl Lags {
    fn committed(&mut self, change: Change) {
        let waiting = if change.comes { &mut self.comes } else { &mut self.goes };
        waiting.insert(change.port, Instant::now());
    }

    fn waiting(&self) -> usize {
        self.comes.len() + self.goes.len()
    }

    fn seen(&mut self, replica: &Replica) {
        let now = Instant::now();
        let Self { comes, goes, done } = self;
        let is_there = |port: &Uuid| is_there(replica, *port);
        let mut keep = |waits: bool, begun: &Instant| {
            if !waits {
                done.push(now - *begun);
            }
            waits
        };
        comes.retain(|port, begun| keep(!is_there(port), begun));
        // Who has not come yet is not there either, and has not gone.
        goes.retain(|port, begun| keep(is_there(port) || comes.contains_key(port), begun));
    }

    /// Everything is in the database. A pod that came and went between two looks was never seen.
    fn finish(&mut self) {
        let now = Instant::now();
        let left = self.comes.values().chain(self.goes.values());
        self.done.extend(left.map(|begun| now - *begun));
        self.done.sort_unstable();
    }
}
