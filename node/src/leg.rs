//! The node's own leg: Open vSwitch's settings, `ovn0` with its addresses and routes, the packet
//! filter, and the node's registration. One reconcile pass, on every change and on a timer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use atoll_api::Client;
use atoll_model::{
    AddressRange, Addresses, Allocation, ChassisName, Cidr, Family, NatAction, NatRule, NodeName,
    Operation, Outcome, PortName, Subnet,
};
use atoll_ovsdb::Replica;
use ipnetwork::IpNetwork;
use tokio_util::sync::CancellationToken;

use crate::applied::Progress;
use crate::config::Config;
use crate::firewall::{self, Firewall};
use crate::grievance::Grievance;
use crate::keep::{self, Concern, Ground};
use crate::link::{self, InterfaceSpec, Mac, Namespace, Route};
use crate::ovs::certificate::Certificate;
use crate::ovs::chassis;
use crate::ovs::settings::{self, Leg, OVN0, Settings};
use crate::ovs::{Session, transact};
use crate::view::View;

/// The packet filter is read back this often: that starts processes, so it must not depend on how
/// often pods come and go.
const VERIFY_EVERY: Duration = Duration::from_secs(60);

/// How long the node stays with the southbound that it has until the next one answers. A refused
/// connection costs `ovn-controller` a second before it tries again.
const NEXT_SOUTHBOUND: Duration = Duration::from_secs(3);

/// How long one try to reach it takes.
const REACH: Duration = Duration::from_millis(200);

/// Keeps the node's leg until `cancel`.
pub(crate) async fn keep(
    config: Arc<Config>,
    client: Client,
    ground: Ground,
    progress: Progress,
    cancel: CancellationToken,
) {
    let (firewall, verified) = (Firewall::new(), Instant::now());
    let (awaited, grievance) = (None, Grievance::of("leg", &ground.meter));
    let keeper = Keeper { config, client, progress, firewall, verified, awaited, grievance };
    keep::keep(keeper, ground, cancel).await;
}

struct Keeper {
    config: Arc<Config>,
    client: Client,
    progress: Progress,
    firewall: Firewall,
    /// When the packet filter was last read back.
    verified: Instant,
    /// The southbound that is about to serve, and since when it is waited for.
    awaited: Option<(String, Instant)>,
    grievance: Grievance,
}

impl Concern for Keeper {
    /// Nobody waits for a pass of the leg, and a burst of pods is one.
    const BATCH: Duration = Duration::from_millis(20);

    async fn pass(&mut self, view: &View, session: &Session) -> Duration {
        let outcome = self.reconcile(view, session).await;
        keep::pause_after(&outcome, &mut self.grievance, "the node's leg is not as it should be")
    }
}

impl Keeper {
    /// One pass. True when nothing is left to do; false when Open vSwitch is still at work.
    async fn reconcile(&mut self, view: &View, session: &Session) -> anyhow::Result<bool> {
        let replica = session.monitor.replica();
        let (remote, is_reached) = self.southbound(view, settings::remote(&replica)).await;
        let desired = desired(&self.config, view, &replica, remote)?;
        let chassis = desired.chassis.clone();
        let mut plan = settings::plan(&desired, &replica);
        let (shown, is_shown) = match self.certificate(&replica) {
            Ok(shown) => (shown, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        plan.extend(shown);
        if !plan.is_empty() {
            tracing::info!(changes = plan.len(), remote = ?desired.remote, "setting Open vSwitch up");
            transact(session, &plan).await?;
        }
        let allocation = view.allocation(&PortName::of_node(&self.config.node));
        let configured = match (allocation, view.join_subnet()) {
            (Some(allocation), Some(join)) => self.configure(view, allocation, join).await,
            _ => Ok(true),
        };
        // Last: a store that is away must not keep the node from its own leg.
        self.register(view, chassis.clone()).await?;
        let is_done = configured? && is_reached;
        is_shown?;
        if self.config.tls.is_some() {
            let known = registered(&self.config.node, view).flatten();
            chassis::check(&self.config.node, known.filter(|it| **it == chassis))?;
        }
        Ok(is_done)
    }

    /// What makes Open vSwitch show the certificate for the southbound.
    fn certificate(&self, replica: &Replica) -> anyhow::Result<Vec<atoll_ovsdb::Operation>> {
        let Some(files) = &self.config.southbound else { return Ok(Vec::new()) };
        Ok(Certificate::new(files)?.plan(replica)?)
    }

    /// The southbound to follow now; false if another one has to be followed as soon as it answers.
    async fn southbound(&mut self, view: &View, now: Option<String>) -> (Option<String>, bool) {
        let chosen = chosen(view);
        let next = chosen.clone().filter(|next| now.is_some() && now.as_ref() != Some(next));
        let Some(next) = next else {
            self.awaited = None;
            return (chosen, true);
        };
        if self.awaited.as_ref().is_none_or(|(awaited, _)| *awaited != next) {
            self.awaited = Some((next.clone(), Instant::now()));
        }
        let is_late = |(_, since): &(String, Instant)| since.elapsed() > NEXT_SOUTHBOUND;
        if answers(&next).await || self.awaited.as_ref().is_some_and(is_late) {
            return (chosen, true);
        }
        (now, false)
    }

    /// False while Open vSwitch has not made `ovn0`.
    async fn configure(
        &mut self,
        view: &View,
        allocation: &Allocation,
        join: &Subnet,
    ) -> anyhow::Result<bool> {
        if link::find(&Namespace::Own, OVN0).await?.is_none() {
            return Ok(false);
        }
        let spec = InterfaceSpec {
            mac: Mac(allocation.mac.octets()),
            mtu: u32::from(self.config.mtu),
            addresses: with_prefixes(allocation.addresses, join)?,
        };
        let configured = link::configure(&Namespace::Own, OVN0, &spec).await?;
        let routes = routes(view, join)?;
        let changes =
            link::reconcile_routes(&Namespace::Own, configured.link.index, &routes).await?;
        if configured.is_changed || !changes.is_empty() {
            tracing::info!(address = %allocation.addresses, ?changes, "ovn0 set up");
        }
        link::enable_forwarding()?;
        link::relax_reverse_path_filter(OVN0)?;
        let filter = packet_filter(view, &self.config.node)?;
        let mut changed = self.firewall.apply(&filter).await?;
        if self.verified.elapsed() >= VERIFY_EVERY {
            changed |= self.firewall.verify(&filter).await?;
            self.verified = Instant::now();
        }
        if changed {
            tracing::info!(
                subnets = filter.subnets.len(),
                nat = filter.nat.len(),
                "packet filter set"
            );
        }
        self.progress.firewall(view.subnets_changed());
        Ok(true)
    }

    /// Tells the store this node's chassis and tunnel endpoint, if it does not know them. Until it
    /// does no pod of this node is plugged in, so this is tried again like any failed pass.
    async fn register(&self, view: &View, chassis: ChassisName) -> anyhow::Result<()> {
        let Some(node) = view.node(&self.config.node) else { return Ok(()) };
        let known = node.chassis.as_ref() == Some(&chassis);
        // Somebody held this machine for dead: it has to say that it is not.
        if known && node.encap == Some(self.config.encap_ip) && !node.fenced {
            return Ok(());
        }
        let operation = Operation::RegisterNode {
            node: self.config.node.clone(),
            chassis,
            encap: self.config.encap_ip,
        };
        let outcome = self.client.txn(Vec::new(), vec![operation]).await;
        match outcome.context("this node is not registered with the store yet")? {
            Outcome::Applied { .. } => {
                tracing::info!("registered with the store");
                Ok(())
            }
            Outcome::Refused { refusal, .. } => {
                Err(anyhow::Error::new(refusal).context("the store does not register this node"))
            }
        }
    }
}

/// The southbound that serves; empty in the store while its databases are being made.
pub(crate) fn chosen(view: &View) -> Option<String> {
    view.central().map(|central| central.sb.clone()).filter(|sb| !sb.is_empty())
}

/// What the store knows of this node's chassis; `None` if it does not know the node.
fn registered<'a>(node: &NodeName, view: &'a View) -> Option<Option<&'a ChassisName>> {
    view.node(node).map(|node| node.chassis.as_ref())
}

/// What Open vSwitch should say of this node, with `remote` for the southbound.
pub(crate) fn desired(
    config: &Config,
    view: &View,
    replica: &Replica,
    remote: Option<String>,
) -> anyhow::Result<Settings> {
    let own = ChassisName::new(config.node.as_str())?;
    let (set, known) = (settings::chassis(replica), registered(&config.node, view));
    let port = PortName::of_node(&config.node);
    let leg = view.allocation(&port).map(|it| it.mac);
    Ok(Settings {
        chassis: chassis::choose(own, set, known, config.tls.is_some()),
        hostname: config.node.to_string(),
        remote,
        encap: config.encap_ip,
        datapath_type: config.datapath_type.clone(),
        is_marked: config.tunnel.is_some(),
        leg: leg.map(|mac| Leg { port, mac, mtu: config.mtu }),
    })
}

/// Whether somebody listens at one of several OVSDB remotes, which have commas between them; one that
/// cannot be asked counts as answering.
pub(crate) async fn answers(remotes: &str) -> bool {
    let reach = async |remote: &str| {
        let address = remote.split_once(':').and_then(|(_, address)| address.parse().ok());
        let Some(address) = address else { return true };
        let connect = tokio::net::TcpStream::connect::<std::net::SocketAddr>(address);
        matches!(tokio::time::timeout(REACH, connect).await, Ok(Ok(_)))
    };
    futures::future::join_all(remotes.split(',').map(reach)).await.contains(&true)
}

pub(crate) fn with_prefixes(
    addresses: Addresses,
    subnet: &Subnet,
) -> anyhow::Result<Vec<IpNetwork>> {
    let mut networks = Vec::new();
    for net in &subnet.spec.nets {
        if let Some(address) = addresses.get(net.cidr.family()) {
            networks.push(IpNetwork::new(address, net.cidr.prefix())?);
        }
    }
    Ok(networks)
}

/// A route to every other subnet through the router's leg on the join switch.
pub(crate) fn routes(view: &View, join: &Subnet) -> anyhow::Result<Vec<Route>> {
    let mut routes = Vec::new();
    for subnet in view.subnets().filter(|subnet| subnet.spec.name != join.spec.name) {
        for net in &subnet.spec.nets {
            if let Some(via) = join.spec.net(net.cidr.family()) {
                let destination = IpNetwork::new(net.cidr.first(), net.cidr.prefix())?;
                routes.push(Route { destination, gateway: Some(via.gateway) });
            }
        }
    }
    Ok(routes)
}

pub(crate) fn packet_filter(view: &View, me: &NodeName) -> anyhow::Result<firewall::Desired> {
    let mut desired = firewall::Desired::default();
    let network = |cidr: &Cidr| IpNetwork::new(cidr.first(), cidr.prefix());
    let join: Vec<Cidr> = view.join_subnet().into_iter().flat_map(|join| cidrs(join)).collect();
    for subnet in view.subnets() {
        let by_others = is_elsewhere(subnet, me);
        for cidr in cidrs(subnet) {
            desired.subnets.insert(network(&cidr)?);
            if by_others {
                desired.elsewhere.insert(network(&cidr)?);
            }
            if subnet.spec.nat_outgoing {
                desired.nat.insert(network(&cidr)?);
                desired.exceptions.extend(exceptions(&subnet.spec.nat_rules, &cidr));
                let gateways = subnet.spec.gateway_type.nodes();
                if !gateways.is_empty() {
                    desired.central.insert(network(&cidr)?);
                }
                let mine = gateways.iter().find(|it| it.node == *me);
                if let Some(address) = mine.and_then(|it| it.egress.get(cidr.family())) {
                    desired.egress.insert(network(&cidr)?, address);
                }
            }
            if !subnet.spec.private {
                continue;
            }
            desired.private.insert(network(&cidr)?);
            let others = cidrs(subnet).chain(join.iter().copied());
            let others = others.chain(subnet.spec.allow_subnets.iter().copied());
            for other in others.filter(|other| other.family() == cidr.family()) {
                desired.allowed.insert((network(&cidr)?, network(&other)?));
            }
        }
    }
    Ok(desired)
}

/// The rules of one family of a subnet, each pair of a source and a destination by itself.
fn exceptions(rules: &[NatRule], cidr: &Cidr) -> Vec<firewall::Exception> {
    let is_of_family = |it: &&AddressRange| it.family() == cidr.family();
    let of_rule = |rule: &NatRule| {
        let named = rule.sources.iter().chain(&rule.destinations).find(is_of_family);
        let sources = match rule.sources.is_empty() {
            true => vec![AddressRange::from(*cidr)],
            false => rule.sources.clone(),
        };
        let destinations: Vec<_> = match rule.destinations.is_empty() {
            true => vec![None],
            false => rule.destinations.iter().copied().map(Some).collect(),
        };
        let is_translated = rule.action == NatAction::Nat;
        let of_source = move |source: AddressRange| {
            let pairs = destinations.clone().into_iter();
            pairs.map(move |destination| firewall::Exception { source, destination, is_translated })
        };
        named.map(|_| sources.into_iter().flat_map(of_source)).into_iter().flatten()
    };
    rules.iter().flat_map(of_rule).collect()
}

/// Whether a subnet may leave by this node, and leaves by others.
fn is_elsewhere(subnet: &Subnet, me: &NodeName) -> bool {
    let is_named = subnet.spec.gateway_type.nodes().iter().any(|it| it.node == *me);
    let active = &subnet.active_gateways;
    is_named && !active.is_empty() && !active.contains(me)
}

fn cidrs(subnet: &Subnet) -> impl Iterator<Item = Cidr> + '_ {
    subnet.spec.nets.iter().map(|net| net.cidr)
}

/// The addresses of a pod with their prefixes, and its default routes.
///
/// # Errors
///
/// None in practice: the model's prefixes are valid.
pub(crate) fn pod_network(
    addresses: Addresses,
    subnet: &Subnet,
) -> anyhow::Result<(Vec<IpNetwork>, Vec<Route>)> {
    let families = [Family::V4, Family::V6].into_iter();
    let gateways = families.filter_map(|family| {
        addresses.get(family).and(subnet.spec.net(family)).map(|net| net.gateway)
    });
    Ok((with_prefixes(addresses, subnet)?, gateways.map(Route::default_via).collect()))
}
