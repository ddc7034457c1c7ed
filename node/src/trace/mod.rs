//! What this node's switch would do with a packet, by order of the leader.
//!
//! The agent listens for nobody: orders come in the answers to its signs of life, and what became
//! of them goes out with the next (`applied`). Here they are carried out, one after another: the
//! pod's interface is looked up, `ofproto/trace` is asked through the switch's control socket, and
//! its text is read. Nothing is changed, and no packet is sent.

mod interfaces;
mod judge;
mod packet;
mod read;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atoll_api::proto::{SwitchTrace, SwitchTraced, TraceLeg, TraceVerdict};
use atoll_ovsdb::TransactError;
use atoll_ovsdb::unixctl::{self, ControlError};
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::ovs::daemon::{self, DaemonError};
use crate::ovs::{BRIDGE, Ovs, OvsError};
use crate::southbound;
use judge::{judge, leg};
use packet::OrderError;

/// Orders that wait; beyond them the answer is that there are too many.
const WAITING_MAX: usize = 4;

/// Answers that the leader has not taken yet; older ones are nobody's any more.
const ANSWERS_MAX: usize = 4;

/// For one order.
const WITHIN: Duration = Duration::from_secs(3);

/// How long it may wait for Open vSwitch's database.
const OVS: Duration = Duration::from_secs(1);

/// Most of what an answer holds of the switch's words: ten times what a way has.
const OUTPUT_BYTES_MAX: usize = 128 << 10;

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error(transparent)]
    Ovs(#[from] OvsError),
    #[error("Open vSwitch's database does not tell its interfaces")]
    Interfaces(#[from] TransactError),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error("Open vSwitch cannot be asked")]
    Control(#[from] ControlError),
}

/// Orders on their way to the switch, and what it said of them; cheap to clone.
#[derive(Debug, Clone)]
pub struct Traces {
    orders: mpsc::Sender<SwitchTrace>,
    desk: watch::Sender<Desk>,
}

#[derive(Debug, Default)]
struct Desk {
    /// Orders that are not answered yet.
    taken: BTreeSet<u64>,
    /// Answers that the leader has not taken yet, the oldest first.
    answers: Vec<SwitchTraced>,
}

impl Desk {
    fn answer(&mut self, id: u64, leg: TraceLeg) {
        self.taken.remove(&id);
        self.answers.push(SwitchTraced { id, leg: Some(leg) });
        if self.answers.len() > ANSWERS_MAX {
            self.answers.remove(0);
        }
    }
}

impl Traces {
    /// Where orders are left, and the orders, for whoever carries them out.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<SwitchTrace>) {
        let (orders, ordered) = mpsc::channel(WAITING_MAX);
        (Self { orders, desk: watch::Sender::default() }, ordered)
    }

    /// Takes orders in. The leader names each until it has the answer; the same one twice counts
    /// once.
    pub fn order(&self, orders: Vec<SwitchTrace>) {
        for order in orders {
            let id = order.id;
            let is_known = |desk: &Desk| {
                desk.taken.contains(&id) || desk.answers.iter().any(|answer| answer.id == id)
            };
            if is_known(&self.desk.borrow()) {
                continue;
            }
            self.desk.send_if_modified(|desk| {
                desk.taken.insert(id);
                false
            });
            if self.orders.try_send(order).is_err() {
                let why = format!("{WAITING_MAX} traces wait on this node already; try again");
                self.answer(id, leg(TraceVerdict::Unknown, why));
            }
        }
    }

    /// What the switch says of an order.
    pub fn answer(&self, id: u64, leg: TraceLeg) {
        self.desk.send_modify(|desk| desk.answer(id, leg));
    }

    /// The answers that the leader has to be told.
    #[must_use]
    pub fn answers(&self) -> Vec<SwitchTraced> {
        self.desk.borrow().answers.clone()
    }

    /// The leader has these answers.
    pub fn told(&self, answers: &[SwitchTraced]) {
        self.desk.send_if_modified(|desk| {
            desk.answers.retain(|answer| !answers.iter().any(|told| told.id == answer.id));
            false
        });
    }

    /// Notified when there is an answer.
    #[must_use]
    pub fn news(&self) -> News {
        News(self.desk.subscribe())
    }
}

/// Whether there are answers; see [`Traces::news`].
#[derive(Debug)]
pub struct News(watch::Receiver<Desk>);

impl News {
    /// Whatever there is by now is no news.
    pub fn mark_seen(&mut self) {
        self.0.mark_unchanged();
    }

    /// Waits for the next answer. Cancel safe.
    pub async fn come(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Where orders are left, and the loop that carries them out until `cancel`.
pub(crate) fn keep(
    config: Arc<Config>,
    ovs: Ovs,
    southbound: southbound::Told,
    cancel: CancellationToken,
) -> (Traces, impl Future<Output = ()>) {
    let (traces, mut ordered) = Traces::new();
    let answers = traces.clone();
    let keeping = async move {
        loop {
            let order = tokio::select! {
                order = ordered.recv() => order,
                () = cancel.cancelled() => return,
            };
            let Some(order) = order else { return };
            let looked = tokio::time::timeout(WITHIN, look(&config, &ovs, &southbound, &order));
            let leg = match looked.await {
                Ok(Ok(leg)) => leg,
                Ok(Err(error)) => {
                    leg(TraceVerdict::Unknown, format!("{:#}", anyhow::Error::from(error)))
                }
                Err(_elapsed) => {
                    leg(TraceVerdict::Unknown, format!("the switch did not say within {WITHIN:?}"))
                }
            };
            answers.answer(order.id, leg);
        }
    };
    (traces, keeping)
}

async fn look(
    config: &Config,
    ovs: &Ovs,
    southbound: &southbound::Told,
    order: &SwitchTrace,
) -> Result<TraceLeg, LookError> {
    let session = ovs.session(OVS).await?;
    let interfaces = interfaces::all(&session).await?;
    let port = &order.port;
    let Some(own) = interfaces.iter().find(|it| it.port.as_ref() == Some(port)) else {
        let why =
            format!("no interface of this node's switch is port {port}: it is not plugged in");
        return Ok(leg(TraceVerdict::Drops, why));
    };
    let Some(ofport) = own.ofport else {
        let why = format!("Open vSwitch does not use interface {} of port {port}", own.name);
        return Ok(leg(TraceVerdict::Drops, why));
    };
    let flow = packet::flow(order, ofport)?;
    let beside = config.ovs_db.parent().unwrap_or(Path::new("/"));
    let control = daemon::control(beside, "ovs-vswitchd").await?;
    let text = unixctl::command(&control, "ofproto/trace", &[BRIDGE, &flow]).await?;
    let found = judge(order, &interfaces, &text);
    let missing = southbound.borrow().map(|it| it.describe(OffsetDateTime::now_utc()));
    let found = if own.installed { found } else { without_flows(port, missing, found) };
    Ok(TraceLeg { output: cut(text), ..found })
}

/// `ovn-controller` has not said that it is done with the sender's port.
fn without_flows(port: &str, missing: Option<String>, found: TraceLeg) -> TraceLeg {
    let missing = missing.map(|missing| format!(" ({missing})")).unwrap_or_default();
    let TraceLeg { why, .. } = &found;
    let why = format!(
        "ovn-controller has not installed the flows of port {port} yet{missing}; as it is, the packet: \
         {why}"
    );
    let verdict = match found.verdict() {
        // Those that are there may be some of an earlier time.
        TraceVerdict::Passes => TraceVerdict::Unknown,
        other => other,
    };
    TraceLeg { verdict: verdict.into(), why, ..found }
}

/// Beginning and end of a text that is too long: the end says what became of the packet.
fn cut(text: String) -> String {
    if text.len() <= OUTPUT_BYTES_MAX {
        return text;
    }
    let (half, all) = (OUTPUT_BYTES_MAX / 2, text.len());
    let is_boundary = |at: &usize| text.is_char_boundary(*at);
    let head = (0..=half).rev().find(is_boundary).unwrap_or(0);
    let tail = (all - half..=all).find(is_boundary).unwrap_or(all);
    format!("{}\n[… {} bytes …]\n{}", &text[..head], tail - head, &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::tests::order;

    fn numbered(id: u64) -> SwitchTrace {
        SwitchTrace { id, ..order("10.1.0.2", "10.2.0.2") }
    }

    fn ids(traces: &Traces) -> Vec<u64> {
        traces.answers().iter().map(|answer| answer.id).collect()
    }

    /// The leader names an order until it is answered, and an answer may be lost on its way.
    #[test]
    fn an_order_is_carried_out_once_and_answered_until_it_is_told() {
        let (traces, mut ordered) = Traces::new();
        traces.order(vec![numbered(1)]);
        traces.order(vec![numbered(1), numbered(2)]);
        assert_eq!(ordered.try_recv().unwrap().id, 1);
        assert_eq!(ordered.try_recv().unwrap().id, 2);
        assert!(ordered.try_recv().is_err(), "once");
        let done = || leg(TraceVerdict::Passes, "done".to_owned());
        traces.answer(1, done());
        traces.order(vec![numbered(1)]);
        assert!(ordered.try_recv().is_err(), "answered, and not told yet");
        let answers = traces.answers();
        assert_eq!(ids(&traces), [1]);
        traces.answer(2, done());
        traces.told(&answers);
        assert_eq!(ids(&traces), [2], "what came meanwhile is told next");
    }

    #[test]
    fn too_many_orders_are_answered_and_too_many_answers_forgotten() {
        let (traces, _ordered) = Traces::new();
        let last = WAITING_MAX as u64 + 1;
        traces.order((1..=last).map(numbered).collect());
        assert_eq!(ids(&traces), [last]);
        let why = traces.answers()[0].leg.clone().unwrap().why;
        assert!(why.contains("traces wait on this node already"), "{why}");
        for id in 1..=last {
            let leg = leg(TraceVerdict::Passes, String::new());
            traces.answer(id + 100, leg);
        }
        assert_eq!(ids(&traces).len(), ANSWERS_MAX);
        assert_eq!(ids(&traces).last(), Some(&(last + 100)));
    }

    #[tokio::test]
    async fn an_answer_is_news_and_what_was_told_is_none() {
        let (traces, _ordered) = Traces::new();
        let mut news = traces.news();
        traces.order(vec![numbered(1)]);
        traces.told(&[]);
        assert!(futures::poll!(std::pin::pin!(news.come())).is_pending());
        traces.answer(1, TraceLeg::default());
        news.come().await;
        news.mark_seen();
        assert!(futures::poll!(std::pin::pin!(news.come())).is_pending());
    }

    #[test]
    fn without_installed_flows_nothing_passes_for_certain() {
        let after = |verdict| {
            let found = leg(verdict, "goes out at port b.green".to_owned());
            let it = without_flows("a.blue", Some("no southbound".to_owned()), found);
            assert!(it.why.contains("flows of port a.blue yet (no southbound)"), "{}", it.why);
            assert!(it.why.ends_with("goes out at port b.green"), "{}", it.why);
            it.verdict()
        };
        assert_eq!(after(TraceVerdict::Passes), TraceVerdict::Unknown);
        assert_eq!(after(TraceVerdict::Drops), TraceVerdict::Drops);
    }

    #[test]
    fn a_long_text_keeps_both_its_ends() {
        let short = "é".repeat(10);
        assert_eq!(cut(short.clone()), short);
        let long = format!("begin{}end", "é".repeat(OUTPUT_BYTES_MAX));
        let it = cut(long);
        assert!(it.starts_with("begin") && it.ends_with("end"));
        assert!(it.len() < OUTPUT_BYTES_MAX + 100, "{}", it.len());
    }
}
