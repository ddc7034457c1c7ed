//! Ends connections that a private subnet's rules do not allow any more.
//!
//! Rules decide about the first packet of a connection and, in the direction in which it was opened,
//! about the others. What goes the other way passes as an answer for as long as the datapath
//! remembers the connection: a stream that a pod pushes to whom it may no longer talk to would go on
//! for ever. So, of the pods of private subnets on this node, the datapath is made to forget what
//! their subnet does not allow.
//!
//! Rules reach the flows a little later than this agent. `ovn-controller` notes on the bridge which
//! rules it has made flows of; then the last look is made, and this node is counted among those that
//! have them installed. Until then it looks at short intervals, and at long ones always.
//!
//! So it is with what waits on this node for a next hop that has not answered, of subnets that left by
//! it and do not any more: it is dropped, before this node says that it has the rules.
//!
//! Deliberately absent: subnets whose users have rules that may decide before the border does; pods
//! that are not private, whose connections with private ones end at these.

mod border;
mod bridge;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atoll_model::{Addresses, NodeName, PortName, Revision, Subnet, SubnetName};
use atoll_ovsdb::Replica;
use atoll_ovsdb::unixctl::{self, ControlError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::applied::Progress;
use crate::config::Config;
use crate::grievance::Grievance;
use crate::keep::{self, Concern, Ground, PERIOD};
use crate::link::{self, LinkError, Namespace};
use crate::metrics::Meter;
use crate::ovs::Session;
use crate::ovs::daemon::{self, DaemonError};
use crate::view::View;
use border::{Border, borders, pods};
use table::Tracked;

/// Between looks after the rules have changed, ...
const SOON: Duration = Duration::from_millis(200);

/// ... for as long as `ovn-controller` may take to make flows of them on a busy node.
const SETTLING: Duration = Duration::from_secs(15);

/// A look that failed.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error("ovs-vswitchd does not tell, or does not forget, connections")]
    Control(#[from] ControlError),
    #[error("the kernel does not drop what waits for a neighbour")]
    Waiting(#[from] LinkError),
}

/// Looks until `cancel`, and says how far flows and connections are.
pub(crate) async fn keep(
    config: Arc<Config>,
    ground: Ground,
    progress: Progress,
    cancel: CancellationToken,
) {
    keep::keep(Keeper::new(config, progress, &ground.meter), ground, cancel).await;
}

struct Keeper {
    config: Arc<Config>,
    progress: Progress,
    borders: BTreeMap<SubnetName, Border>,
    /// The revision of the rules that these were drawn by; `None` before the first.
    drawn: Option<Revision>,
    /// The rules that flows are of, and that the switch is known to use alone; `None` while that has to be
    /// found out.
    flows: Option<Revision>,
    /// The subnets that leave by this node, as of flows and view; `None` before the first.
    leaving: Option<BTreeSet<SubnetName>>,
    /// Until when rules that changed are looked after at short intervals.
    settled: Instant,
    /// When to look next.
    due: Instant,
    grievance: Grievance,
}

impl Concern for Keeper {
    const BATCH: Duration = Duration::ZERO;

    fn begin(&mut self) {
        // What it had installed while nobody looked has to be found out.
        self.flows = None;
    }

    async fn pass(&mut self, view: &View, session: &Session) -> Duration {
        let replica = session.monitor.replica();
        let flows = bridge::rules(&replica);
        self.notice(view, flows);
        // Pods come and go far more often than rules change.
        if Instant::now() >= self.due {
            let looked = self.look(view, &replica, flows).await;
            let is_behind = looked.is_err() || flows < view.subnets_changed();
            self.tell(looked);
            let is_settling = is_behind && Instant::now() < self.settled;
            self.due = Instant::now() + if is_settling { SOON } else { PERIOD };
        }
        self.due.saturating_duration_since(Instant::now())
    }
}

impl Keeper {
    fn new(config: Arc<Config>, progress: Progress, meter: &Meter) -> Self {
        let (settled, due) = (Instant::now(), Instant::now());
        let (borders, drawn, flows) = (BTreeMap::new(), None, None);
        let (leaving, grievance) = (None, Grievance::of("connections", meter));
        Self { config, progress, borders, drawn, flows, leaving, settled, due, grievance }
    }

    /// A look is due at once when rules have changed here or in the switch.
    fn notice(&mut self, view: &View, flows: Revision) {
        // A subnet that is deleted leaves an older revision behind, and may change no border.
        let (borders, drawn) = (borders(view), Some(view.subnets_changed()));
        if (&borders, drawn) != (&self.borders, self.drawn) {
            (self.borders, self.drawn) = (borders, drawn);
            (self.settled, self.due) = (Instant::now() + SETTLING, Instant::now());
        }
        if self.flows != Some(flows) {
            self.due = Instant::now();
        }
    }

    /// Ends what is not allowed; after new flows twice: at once, and when nothing can go on by older
    /// ones.
    async fn look(
        &mut self,
        view: &View,
        replica: &Replica,
        flows: Revision,
    ) -> Result<(), LookError> {
        let is_news = self.flows != Some(flows);
        let guarded = guarded(&self.borders, pods(view, &self.config.node));
        let beside = self.config.ovs_db.parent().unwrap_or(Path::new("/"));
        let control = daemon::control(beside, "ovs-vswitchd").await?;
        let zones = bridge::zones(replica);
        end(&control, &guarded, &zones).await?;
        if is_news {
            revalidated(&control).await?;
            self.progress.flows(flows);
            end(&control, &guarded, &zones).await?;
        }
        self.flows = Some(flows);
        let is_whole = flows >= view.subnets_changed();
        self.forsake(leaving(view, &self.config.node), is_whole).await?;
        self.progress.connections(view.subnets_changed().min(flows));
        Ok(())
    }

    /// Nothing of subnets that left by this node until now leaves any more. While flows are behind they
    /// may be sent here still: it is done again when they are not.
    async fn forsake(
        &mut self,
        now: BTreeSet<SubnetName>,
        is_whole: bool,
    ) -> Result<(), LinkError> {
        if self.leaving.as_ref().is_some_and(|before| !before.is_subset(&now)) {
            let neighbours = link::drop_waiting(&Namespace::Own).await?;
            if neighbours > 0 {
                tracing::info!(neighbours, "what waited for silent neighbours was dropped");
            }
        }
        if is_whole {
            self.leaving = Some(now);
        }
        Ok(())
    }

    fn tell(&mut self, looked: Result<(), LookError>) {
        match looked {
            Ok(()) => self.grievance.clear(),
            Err(error) => {
                self.grievance.tell("connections across borders cannot be ended", &error.into());
            }
        }
    }
}

/// The subnets that leave by this node: those that leave by all, and those that leave by it.
fn leaving(view: &View, me: &NodeName) -> BTreeSet<SubnetName> {
    let by_me = |subnet: &&Subnet| {
        subnet.spec.gateway_type.nodes().is_empty() || subnet.active_gateways.contains(me)
    };
    view.subnets().map(|it| &**it).filter(by_me).map(|it| it.spec.name.clone()).collect()
}

/// An interface of a pod in a private subnet.
struct Guarded<'a> {
    port: PortName,
    addresses: Addresses,
    border: &'a Border,
}

fn guarded(
    borders: &BTreeMap<SubnetName, Border>,
    pods: BTreeMap<SubnetName, Vec<(PortName, Addresses)>>,
) -> Vec<Guarded<'_>> {
    let private = pods.into_iter().filter_map(|(subnet, pods)| Some((borders.get(&subnet)?, pods)));
    private
        .flat_map(|(border, pods)| {
            pods.into_iter().map(move |(port, addresses)| Guarded { port, addresses, border })
        })
        .collect()
}

/// Ends the connections of the guarded that are not allowed.
async fn end(
    control: &Path,
    guarded: &[Guarded<'_>],
    zones: &BTreeMap<&str, &str>,
) -> Result<(), LookError> {
    for Guarded { port, addresses, border } in guarded {
        // A port that is not plugged in yet has no zone.
        let Some(zone) = zones.get(port.as_str()) else { continue };
        let zone = format!("zone={zone}");
        let dump = unixctl::command(control, "dpctl/dump-conntrack", &[&zone]).await?;
        for tracked in forbidden(&dump, addresses, border) {
            let command = "dpctl/flush-conntrack";
            unixctl::command(control, command, &[&zone, &tracked.tuple()]).await?;
            tracing::info!(%port, from = %tracked.from, to = %tracked.to, "a connection that the \
                subnet's rules do not allow any more was ended");
        }
    }
    Ok(())
}

/// Waits until the datapath has no flow of its own left that was made by older rules. The first round
/// may have begun before the rules came.
async fn revalidated(control: &Path) -> Result<(), LookError> {
    for _round in 0..2 {
        unixctl::command(control, "revalidator/wait", &[]).await?;
    }
    Ok(())
}

/// The connections in a dump of a pod's zone that its subnet does not allow.
fn forbidden(dump: &str, addresses: &Addresses, border: &Border) -> BTreeSet<Tracked> {
    let own = |address| addresses.iter().any(|own| own == address);
    let is_forbidden = |tracked: &Tracked| match (own(tracked.from), own(tracked.to)) {
        (true, false) => !border.allows(tracked.to),
        (false, true) => !border.allows(tracked.from),
        // Its own, or nobody's that we know.
        _ => false,
    };
    table::parse(dump).into_iter().filter(is_forbidden).collect()
}
