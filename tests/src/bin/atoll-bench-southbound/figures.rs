//! What was seen, as rows of the report.

use std::time::Duration;

use atoll_tests::report::{Report, Target};

use crate::client::Arrived;
use crate::server::Used;

/// What a move cost.
#[derive(Debug)]
pub(crate) struct Move {
    pub(crate) arrived: Vec<Arrived>,
    pub(crate) opened: Duration,
    pub(crate) took: Duration,
    /// Of a server or relay, for one client alone.
    pub(crate) each: Duration,
    pub(crate) server: Used,
    pub(crate) relays: Vec<Used>,
    pub(crate) clients: Duration,
    pub(crate) dump_bytes: usize,
}

/// What it cost that the server behind the relays was exchanged.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) took: Duration,
    pub(crate) most_bytes: usize,
    pub(crate) cut: usize,
    pub(crate) server: Used,
    pub(crate) relay: Duration,
}

impl Move {
    #[allow(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
    pub(crate) fn say(&self, size: &str, clients: usize, report: &mut Report) {
        let mut note = |what: &str, unit: &str, value: f64| {
            report.note(&format!("{size}: {what}"), unit, value)
        };
        let after = |at: usize| self.arrived[at].after.as_secs_f64();
        let there = self.arrived.len();
        let each = self.each.as_secs_f64();
        let servers = self.relays.len().max(1) as f64;
        note("contents", "MiB", self.dump_bytes as f64 / f64::from(1 << 20));
        note("open to clients after the kill", "s", self.opened.as_secs_f64());
        note("have everything at the end", "clients", there as f64);
        note("the end", "s", self.took.as_secs_f64());
        note("the first has everything", "s", after(0));
        note("the last of them has everything", "s", after(there - 1));
        note("processor time for one client alone", "s", each);
        note("so all, with a core for each server", "s", each * clients as f64 / servers);
        note("processor time of the promoted server", "s", self.server.processor.as_secs_f64());
        note("its memory at most", "MiB", self.server.peak_mib);
        let relays = self.relays.iter().map(|it| it.processor).max();
        if let Some(relay) = relays {
            note("processor time of the busiest relay", "s", relay.as_secs_f64());
        }
        if let Some(peak) = self.relays.iter().map(|it| it.peak_mib).max_by(f64::total_cmp) {
            note("memory of the largest relay at most", "MiB", peak);
        }
        note("processor time of all clients", "s", self.clients.as_secs_f64());
        let tries: usize = self.arrived.iter().map(|it| it.cut).sum();
        note("tries that failed before", "connections", tries as f64);
    }
}

impl Exchange {
    #[allow(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
    pub(crate) fn say(&self, size: &str, report: &mut Report) {
        let case = |what: &str| format!("{size}: {what}");
        report.note(
            &case("all heard of the next change after the kill"),
            "s",
            self.took.as_secs_f64(),
        );
        report.note(&case("told a client at most"), "bytes", self.most_bytes as f64);
        let processor = self.server.processor.as_secs_f64();
        report.note(&case("processor time of the promoted server"), "s", processor);
        report.note(&case("processor time of the busiest relay"), "s", self.relay.as_secs_f64());
        let both = processor + self.relay.as_secs_f64();
        report.note(&case("so all, with a core for each"), "s", both);
        let (cut, none) = (self.cut as f64, Target::Exactly(0.0));
        report.claim(&case("clients cut off"), "connections", cut, none);
    }
}
