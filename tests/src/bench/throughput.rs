//! The report `bench-cluster`: how much both write, and how long a write takes.
//!
//! A round runs every series on a cluster of its own, empty at first: etcd then ours, and in the next
//! round ours then etcd, so that a slow drift of the machine hits both. Of the rounds the median
//! counts. etcd has no stream for puts: streams are compared with its calls.

#![allow(clippy::float_arithmetic, reason = "figures of measurements; no replica computes here")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::cluster::{Cluster, Setting, System};
use super::lane::{Api, Family};
use super::load::{self, Load, Seen};
use super::{machine, workload};
use crate::report::{Report, Target};

/// Connections of the load generator, to the leader.
const CONNECTIONS: usize = 4;

/// As many pods as a cluster may have, less those of nodes.
const PODS: u64 = 990_000;

/// For how long the disk alone is measured.
const DISK: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For how long each point is measured.
    pub point: Duration,
    /// How often.
    pub rounds: usize,
    /// Without and with TLS.
    pub is_secure: Vec<bool>,
    /// Only points with these numbers of clients; empty: all.
    pub only: Vec<usize>,
}

/// Points of one kind, and the ratio to etcd that each has to reach.
struct Series {
    name: &'static str,
    api: Api,
    batch: u64,
    /// Clients, and the ratio.
    points: &'static [(usize, f64)],
    /// The series of etcd to compare with.
    against: usize,
    /// It is one of etcd's too.
    etcd_has: bool,
}

const SERIES: &[Series] = &[
    Series {
        name: "unary",
        api: Api::Unary,
        batch: 1,
        points: &[(1, 1.2), (16, 2.0), (64, 2.0), (256, 1.8), (1024, 1.5)],
        against: 0,
        etcd_has: true,
    },
    Series {
        name: "stream",
        api: Api::Stream,
        batch: 1,
        points: &[(1, 1.6), (16, 2.3), (64, 3.0), (256, 3.5), (1024, 3.5)],
        against: 0,
        etcd_has: false,
    },
    Series {
        name: "batches of 100",
        api: Api::Unary,
        batch: 100,
        points: &[(16, 1.2)],
        against: 2,
        etcd_has: true,
    },
];

type Key = (bool, usize, usize);

#[derive(Default)]
struct Results {
    /// By system (ours?), series and clients: one per round.
    seen: BTreeMap<Key, Vec<Seen>>,
    elections: u64,
    errors: u64,
    first_error: Option<String>,
}

/// Runs the plan and fills the report.
///
/// # Errors
///
/// A cluster does not start, or one of its processes ends.
pub async fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let (ours, theirs) = workload::request_bytes();
    report.note("bytes of a request of one pod", "B", load::to_f64(ours as u64));
    report.beside(load::to_f64(theirs as u64), "etcd: a put of 15 B and 256 B");
    report.note("512 B and fdatasync, the disk alone", "/s", machine::syncs_per_second(DISK)?);
    for &is_secure in &plan.is_secure {
        let mut results = Results::default();
        for round in 0..plan.rounds {
            let mut runs: Vec<(System, usize)> = Vec::new();
            for (at, series) in SERIES.iter().enumerate() {
                if series.etcd_has {
                    runs.push((System::Etcd, at));
                }
                runs.push((System::Atoll, at));
            }
            if round % 2 == 1 {
                runs.reverse();
            }
            for (system, series) in runs {
                one(plan, is_secure, system, series, &mut results)
                    .await
                    .with_context(|| format!("{system:?}, {}", SERIES[series].name))?;
            }
        }
        tell(report, is_secure, &results);
    }
    Ok(())
}

/// One series on a cluster of its own.
async fn one(
    plan: &Plan,
    is_secure: bool,
    system: System,
    at: usize,
    results: &mut Results,
) -> Result<()> {
    let series = &SERIES[at];
    let is_wanted = |clients: usize| plan.only.is_empty() || plan.only.contains(&clients);
    let points = series.points.iter().map(|(clients, _)| *clients).filter(|it| is_wanted(*it));
    let points: Vec<usize> = points.collect();
    if points.is_empty() {
        return Ok(());
    }
    let cluster = Cluster::start(system, Setting { is_secure, ..Setting::default() }).await?;
    let lead = cluster.lead().await?;
    let family = Family::new(cluster.revision(lead.at).await?);
    let lanes = cluster.lanes(series.api, lead.at, CONNECTIONS, &family)?;
    let next = Arc::new(AtomicU64::new(0));
    for clients in points {
        let load = Load { clients, batch: series.batch, during: plan.point };
        let seen = load::run(&lanes, load, &cluster.pids(), &next, PODS).await?;
        results.errors += seen.errors;
        results.first_error = results.first_error.take().or(seen.first_error.clone());
        let key = (system == System::Atoll, at, clients);
        results.seen.entry(key).or_default().push(seen);
    }
    results.elections += u64::from(cluster.lead().await? != lead);
    Ok(())
}

fn tell(report: &mut Report, is_secure: bool, results: &Results) {
    let tls = if is_secure { ", TLS" } else { "" };
    for (at, series) in SERIES.iter().enumerate() {
        for &(clients, least) in series.points {
            let ours = results.seen.get(&(true, at, clients));
            let theirs = results.seen.get(&(false, series.against, clients));
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                let case = format!("{}{tls}, {clients} clients", series.name);
                point(report, &case, (ours, theirs), least);
            }
        }
    }
    let errors = format!("writes without an acknowledgement{tls}");
    report.claim(&errors, "writes", load::to_f64(results.errors), Target::Exactly(0.0));
    report.details(results.first_error.iter().cloned().collect());
    let elections = format!("elections under load{tls}");
    report.claim(&elections, "elections", load::to_f64(results.elections), Target::Exactly(0.0));
}

fn point(report: &mut Report, case: &str, (ours, theirs): (&[Seen], &[Seen]), least: f64) {
    let figures = |rounds: &[Seen], of: fn(&Seen) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
    let rate = |seen: &Seen| seen.per_second;
    let (mine, etcd) = (figures(ours, rate), figures(theirs, rate));
    report.compare(case, "/s", load::median(&mine).0, ("etcd", load::median(&etcd).0));
    report.ratio_must_be(Target::AtLeast(least));
    let ratios: Vec<f64> = mine.iter().zip(&etcd).map(|(mine, etcd)| mine / etcd).collect();
    let (_, low, high) = load::median(&ratios);
    let rounds = ratios.len();
    report.details(vec![format!("{rounds} rounds, ratio {low:.2}–{high:.2}")]);
    let mut also = |name: &str, unit: &str, of: fn(&Seen) -> f64| {
        let (mine, etcd) =
            (load::median(&figures(ours, of)).0, load::median(&figures(theirs, of)).0);
        report.compare(&format!("{case}: {name}"), unit, mine, ("etcd", etcd));
    };
    also("p50", "ms", |seen| seen.p50_ms);
    also("processor time of the servers", "µs each", |seen| seen.server_us);
    also("processor time of the clients", "µs each", |seen| seen.client_us);
    also("p99", "ms", |seen| seen.p99_ms);
    report.ratio_must_be(Target::AtMost(1.0));
}
