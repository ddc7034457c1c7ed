//! What this agent does and how it fares, as numbers: counted where it happens, told by
//! `serve` to whoever asks with a certificate.
//!
//! * [`Meter`]: what is counted, cheap to clone and to be given to each loop;
//! * `readings`: what is looked up when somebody asks;
//! * `serve`: `GET /metrics`.
//!
//! Deliberately absent: numbers of single pods or subnets, of which there may be thousands.

mod readings;
mod serve;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_cni_wire::CniError;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

pub(crate) use readings::Readings;
pub(crate) use serve::keep;

/// 5 ms, 10 ms, … 82 s: an ADD takes some 30 ms, and the longest request two minutes.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 15))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Command {
    command: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failed {
    command: &'static str,
    code: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    concern: &'static str,
}

/// What is counted; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    cni: Family<Command, Histogram, fn() -> Histogram>,
    cni_failures: Family<Failed, Counter>,
    passes: Family<Of, Counter>,
    pass_failures: Family<Of, Counter>,
    heard: Mutex<Option<Instant>>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            cni: Family::new_with_constructor(histogram),
            cni_failures: Family::default(),
            passes: Family::default(),
            pass_failures: Family::default(),
            heard: Mutex::new(None),
        }
    }
}

impl Meter {
    /// A request of the plugin was answered, after so long.
    pub fn answered(&self, command: &'static str, took: Duration, refused: Option<&CniError>) {
        self.inner.cni.get_or_create(&Command { command }).observe(took.as_secs_f64());
        if let Some(error) = refused {
            let failed = Failed { command, code: error.code.0 };
            self.inner.cni_failures.get_or_create(&failed).inc();
        }
    }

    /// One pass of a concern has ended.
    pub fn passed(&self, concern: &'static str, is_well: bool) {
        let of = Of { concern };
        self.inner.passes.get_or_create(&of).inc();
        // Made with the first pass, so that nobody has to guess whether none failed.
        let failures = self.inner.pass_failures.get_or_create(&of);
        if !is_well {
            failures.inc();
        }
    }

    /// A member has said something.
    pub fn heard(&self) {
        let mut heard = self.inner.heard.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = Some(Instant::now());
    }

    /// How long ago that was; `None` if none has since this agent started.
    #[must_use]
    pub fn since_heard(&self) -> Option<Duration> {
        let heard = self.inner.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.map(|at| at.elapsed())
    }

    fn register(&self, registry: &mut Registry) {
        let Inner { cni, cni_failures, passes, pass_failures, .. } = self.inner.as_ref();
        registry.register_with_unit(
            "cni",
            "How long requests of the plugin took, refused ones too",
            Unit::Seconds,
            cni.clone(),
        );
        registry.register("cni_failures", "Requests refused, by CNI code", cni_failures.clone());
        registry.register("passes", "Looks at what this node should be", passes.clone());
        registry.register("pass_failures", "Looks that ended with an error", pass_failures.clone());
    }
}

#[cfg(test)]
mod tests {
    use atoll_cni_wire::Code;
    use prometheus_client::encoding::text;

    use super::*;

    fn told(meter: &Meter) -> String {
        let mut registry = Registry::with_prefix("atoll_node");
        meter.register(&mut registry);
        let mut body = String::new();
        text::encode(&mut body, &registry).unwrap();
        body
    }

    #[test]
    fn requests_are_counted_by_command_and_refusals_by_code() {
        let meter = Meter::default();
        let later = CniError::new(Code::TRY_AGAIN_LATER, "why");
        meter.answered("ADD", Duration::from_millis(7), None);
        meter.answered("ADD", Duration::from_millis(90), Some(&later));
        let told = told(&meter);
        for line in [
            "atoll_node_cni_seconds_count{command=\"ADD\"} 2",
            "atoll_node_cni_seconds_bucket{le=\"0.005\",command=\"ADD\"} 0",
            "atoll_node_cni_seconds_bucket{le=\"0.01\",command=\"ADD\"} 1",
            "atoll_node_cni_failures_total{command=\"ADD\",code=\"11\"} 1",
        ] {
            assert!(told.lines().any(|it| it == line), "{line}: {told}");
        }
    }

    #[test]
    fn a_concern_that_never_failed_says_so() {
        let meter = Meter::default();
        meter.passed("leg", true);
        meter.passed("mirror", false);
        let told = told(&meter);
        for line in [
            "atoll_node_passes_total{concern=\"leg\"} 1",
            "atoll_node_pass_failures_total{concern=\"leg\"} 0",
            "atoll_node_pass_failures_total{concern=\"mirror\"} 1",
        ] {
            assert!(told.lines().any(|it| it == line), "{line}: {told}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_known_since_when_no_member_was_heard() {
        let meter = Meter::default();
        assert_eq!(meter.since_heard(), None);
        meter.heard();
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(meter.since_heard(), Some(Duration::from_secs(3)));
    }
}
