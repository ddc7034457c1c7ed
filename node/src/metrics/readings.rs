//! Numbers that are looked up when somebody asks.

use std::path::PathBuf;

use atoll_cni_wire::Tombstone;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::Meter;
use crate::applied::Progress;
use crate::brake::Brake;
use crate::drain::is_drained;
use crate::mirror::copied;
use crate::ovs::Ovs;
use crate::ovs::mirror::Copied;
use crate::ovs::port;
use crate::pause::Pause;
use crate::queue::Queue;
use crate::southbound;
use crate::view::View;

/// Where the numbers are.
#[derive(Debug)]
pub(crate) struct Readings {
    pub(crate) node: atoll_model::NodeName,
    pub(crate) views: watch::Receiver<View>,
    pub(crate) ovs: Ovs,
    pub(crate) progress: Progress,
    pub(crate) southbound: southbound::Told,
    pub(crate) pause: Pause,
    pub(crate) queue: Queue,
    pub(crate) tombstones: PathBuf,
    pub(crate) meter: Meter,
    pub(crate) brake: Brake,
}

impl Collector for Readings {
    /// What is not known is left out: a wrong 0 would be an answer.
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut to = Writer(encoder);
        let view = self.views.borrow().clone();
        to.whole("pods_decided", "Pods that the store has on this node", view.pods().count())?;
        if let Some(session) = self.ovs.now() {
            let replica = session.monitor.replica();
            let plugged = port::all_plugged(&replica).len();
            to.whole("pods_plugged", "Pods whose port is on the bridge", plugged)?;
            let copied = copied(&view, &self.node, &replica);
            let is = |what: bool| usize::from(what);
            to.each(
                "mirror",
                "What is copied to mirror0: the state that is 1",
                "copies",
                [
                    ("nothing", is(copied.is_none())),
                    ("pods", is(matches!(copied, Some(Copied::Of(_))))),
                    ("node", is(matches!(copied, Some(Copied::All)))),
                ],
            )?;
        }
        if let Some(revision) = view.revision() {
            to.whole("revision_heard", "How far the store's word has come here", revision.0)?;
            let wanted = view.subnets_changed().0;
            to.whole("revision_wanted", "The revision that last changed a subnet", wanted)?;
        }
        let applied = self.progress.now();
        to.each(
            "revision_applied",
            "The revision of the subnets that are in force, by what enforces them",
            "concern",
            [
                ("flows", applied.flows),
                ("firewall", applied.firewall),
                ("connections", applied.connections),
            ],
        )?;
        if let Some(since) = self.meter.since_heard() {
            let help = "Since a member was heard";
            to.seconds("member_heard", help, since.as_secs_f64())?;
        }
        let missing = *self.southbound.borrow();
        let missing = missing.map_or(0.0, |it| it.seconds(OffsetDateTime::now_utc()));
        to.seconds("southbound_missing", "Since ovn-controller has no southbound; or 0", missing)?;
        let paused = usize::from(self.pause.now().is_some());
        to.whole("paused", "1: an operator has paused this node", paused)?;
        let drained = usize::from(is_drained(&view, &self.node));
        to.whole("drained", "1: this node is to be emptied", drained)?;
        let braked = usize::from(!self.brake.describe().is_empty());
        to.whole("braked", "1: too much is gone at once, and stays until it is released", braked)?;
        if let Ok(waiting) = self.queue.count() {
            to.whole("reports_waiting", "Pods that the store was not told of yet", waiting)?;
        }
        let tombstones = Tombstone::read_all(&self.tombstones).map(|found| found.len());
        if let Ok(waiting) = tombstones {
            to.whole("tombstones_waiting", "Late deletions that wait for this agent", waiting)?;
        }
        Ok(())
    }
}

/// Gauges, one after the other.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn whole(&mut self, name: &str, help: &str, value: impl TryInto<i64>) -> std::fmt::Result {
        self.one(name, help, None, whole(value))
    }

    fn seconds(&mut self, name: &str, help: &str, value: f64) -> std::fmt::Result {
        self.one(name, help, Some(&prometheus_client::registry::Unit::Seconds), value)
    }

    fn one<N>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&prometheus_client::registry::Unit>,
        value: N,
    ) -> std::fmt::Result
    where
        ConstGauge<N>: EncodeMetric,
    {
        let gauge = ConstGauge::new(value);
        let encoder = self.0.encode_descriptor(name, help, unit, gauge.metric_type())?;
        gauge.encode(encoder)
    }

    /// One gauge for each value of a label.
    fn each<N: TryInto<i64>, const COUNT: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: [(&'static str, N); COUNT],
    ) -> std::fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (value, number) in values {
            let labels = [(label, value)];
            ConstGauge::new(whole(number)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Gauges are signed.
fn whole(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
