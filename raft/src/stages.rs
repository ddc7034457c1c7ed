//! How long each stage of a write takes, as histograms that whoever serves metrics registers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// 1 µs, 2 µs, … 4 s: an applied entry takes microseconds, a full disk's `fdatasync` seconds.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(1e-6, 2.0, 23))
}

/// Whose answer was waited for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Peer {
    /// Its id, as `atollctl member list -o wide` shows it.
    peer: String,
}

/// The histograms of one member; clones are the same.
#[derive(Debug, Clone)]
pub struct Stages {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    queue: Histogram,
    commit: Histogram,
    write: Histogram,
    sync: Histogram,
    replicate: Family<Peer, Histogram, fn() -> Histogram>,
    apply: Histogram,
    lag: Histogram,
}

impl Default for Stages {
    fn default() -> Self {
        Self {
            inner: Arc::new(Inner {
                queue: histogram(),
                commit: histogram(),
                write: histogram(),
                sync: histogram(),
                replicate: Family::new_with_constructor(histogram),
                apply: histogram(),
                lag: histogram(),
            }),
        }
    }
}

/// What is measured by its two ends on one thread.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage {
    /// A transaction waits for the proposer.
    Queue,
    /// A batch is proposed until its last transaction is answered: replicated, committed, applied.
    Commit,
    /// A batch of the log is written.
    Write,
    /// Its `fdatasync`.
    Sync,
    /// One entry is applied.
    Apply,
    /// The consensus thread was asked until it came to answer.
    Lag,
}

impl Stages {
    fn of(&self, stage: Stage) -> &Histogram {
        match stage {
            Stage::Queue => &self.inner.queue,
            Stage::Commit => &self.inner.commit,
            Stage::Write => &self.inner.write,
            Stage::Sync => &self.inner.sync,
            Stage::Apply => &self.inner.apply,
            Stage::Lag => &self.inner.lag,
        }
    }

    /// `stage` began at `begun` and ends now.
    pub(crate) fn took(&self, stage: Stage, begun: Instant) -> Duration {
        let took = begun.elapsed();
        self.of(stage).observe(took.as_secs_f64());
        took
    }

    /// Entries were sent to `peer` at `sent`, and its answer is here.
    pub(crate) fn replicated(&self, peer: &str, sent: Instant) {
        let peer = Peer { peer: peer.to_owned() };
        self.inner.replicate.get_or_create(&peer).observe(sent.elapsed().as_secs_f64());
    }

    /// Names the histograms, all in seconds.
    pub fn register(&self, registry: &mut Registry) {
        let named = [
            (Stage::Queue, "atoll_queue", "A transaction waits until it is proposed"),
            (Stage::Commit, "atoll_commit", "A batch is proposed until it is applied"),
            (Stage::Write, "atoll_wal_write", "A batch is written to the log"),
            (Stage::Sync, "atoll_wal_sync", "The fdatasync of such a batch"),
            (Stage::Apply, "atoll_apply", "An entry is applied to the state"),
            (Stage::Lag, "atoll_lag", "The consensus thread is asked until it answers"),
        ];
        for (stage, name, help) in named {
            registry.register_with_unit(name, help, Unit::Seconds, self.of(stage).clone());
        }
        let help = "Entries are sent to a peer until it has them on its disk";
        let replicate = self.inner.replicate.clone();
        registry.register_with_unit("atoll_replicate", help, Unit::Seconds, replicate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_a_histogram_of_its_own() {
        let stages = Stages::default();
        let all = [
            (Stage::Queue, "atoll_queue"),
            (Stage::Commit, "atoll_commit"),
            (Stage::Write, "atoll_wal_write"),
            (Stage::Sync, "atoll_wal_sync"),
            (Stage::Apply, "atoll_apply"),
            (Stage::Lag, "atoll_lag"),
        ];
        for (times, (stage, _)) in (1..).zip(all) {
            for _ in 0..times {
                stages.took(stage, Instant::now());
            }
        }
        stages.replicated("000000000000002a", Instant::now());
        let mut registry = Registry::default();
        stages.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for (times, (_, name)) in (1..).zip(all) {
            assert!(text.contains(&format!("{name}_seconds_count {times}\n")), "{name}: {text}");
        }
        let peer = "atoll_replicate_seconds_count{peer=\"000000000000002a\"} 1\n";
        assert!(text.contains(peer), "{text}");
    }
}
