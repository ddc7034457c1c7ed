//! What the node has of itself: the store's word, Open vSwitch, `ovn0`, packet filter, mirror.

use std::time::Duration;

use anyhow::Context as _;
use atoll_api::Client;
use atoll_model::PortName;
use atoll_ovsdb::{Operation, Replica};
use time::OffsetDateTime;

use super::Concern;
use crate::cleanup::Files;
use crate::config::Config;
use crate::firewall;
use crate::leg;
use crate::link::{self, Namespace};
use crate::mirror::copied;
use crate::ovs::mirror::{Copied, MIRROR0, plan};
use crate::ovs::settings::{self, OVN0};
use crate::southbound::{self, Missing};
use crate::view::View;

/// How long each member has to answer.
const MEMBER: Duration = Duration::from_secs(2);

/// Whose state the cache is, and whether the node belongs to it.
pub(super) fn store(config: &Config, view: &View) -> Concern {
    let Some(lineage) = view.lineage() else {
        let why = "no member was ever heard: are the endpoints in the configuration right?";
        return Concern::new("store", "nothing is known").but([why.to_owned()]);
    };
    let believed = format!("cluster {}, revision {}", lineage.cluster, lineage.revision);
    let differs = match view.node(&config.node) {
        None => Some(format!("the store does not know node {}", config.node)),
        Some(node) if node.fenced => Some(format!(
            "node {} was fenced: its pods may run elsewhere; its agent registers it again",
            config.node
        )),
        Some(node) if node.chassis.is_none() => {
            Some(format!("node {} is not registered yet", config.node))
        }
        Some(_) => None,
    };
    Concern::new("store", believed).but(differs)
}

/// Which members answer now: any of them is enough.
pub(super) async fn members(config: &Config) -> Concern {
    let name = "members";
    let client = config.credentials().map_err(anyhow::Error::from).and_then(|credentials| {
        let client = Client::new(config.endpoints.clone(), &credentials)?;
        Ok(client.with_timeout(MEMBER))
    });
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            return Concern::new(name, "they cannot be asked").but([format!("{error:#}")]);
        }
    };
    let answers = client.statuses().await;
    let silent = answers.iter().filter_map(|(endpoint, answer)| {
        answer.as_ref().err().map(|why| format!("{endpoint} does not answer: {why}"))
    });
    let silent: Vec<String> = silent.collect();
    let (all, heard) = (answers.len(), answers.len() - silent.len());
    Concern::new(name, format!("{heard} of {all} answer")).but(silent)
}

/// What the store was not told of yet.
pub(super) fn reports(config: &Config) -> anyhow::Result<Concern> {
    let untold = Files::of(config)?.untold();
    let differs =
        (untold > 0).then(|| format!("{untold} wait: no member takes them, or no agent runs"));
    Ok(Concern::new("reports", "the store was told of every pod").but(differs))
}

/// Where `ovn-controller` was sent, and whether it is there.
pub(super) async fn southbound(config: &Config, view: &View, replica: &Replica) -> Concern {
    let (wanted, now) = (leg::chosen(view), settings::remote(replica));
    let mut differs = Vec::new();
    match (&wanted, &now) {
        (Some(wanted), now) if now.as_ref() != Some(wanted) => {
            let now = now.as_deref().unwrap_or("nowhere");
            differs.push(format!("ovn-controller was sent to {now}"));
        }
        _ => {}
    }
    let mut believed = wanted.or(now).unwrap_or_else(|| "none is known".to_owned());
    match Missing::look(&config.ovn_run_dir, &config.state_dir).await {
        Some(missing) => differs.push(missing.describe(OffsetDateTime::now_utc())),
        None => {
            let since = southbound::connected_since(&config.state_dir);
            believed +=
                &since.map_or_else(String::new, |since| format!(", connected since {since}"));
        }
    }
    Concern::new("southbound", believed).but(differs)
}

/// Open vSwitch's settings, the bridge, the node's own port.
pub(super) fn switch(config: &Config, view: &View, replica: &Replica) -> anyhow::Result<Concern> {
    let remote = settings::remote(replica);
    let desired = leg::desired(config, view, replica, remote)?;
    let believed = format!("chassis {}, tunnels by {}", desired.chassis, desired.encap);
    let plan = settings::plan(&desired, replica);
    Ok(Concern::new("Open vSwitch", believed).but(plan.iter().map(missing)))
}

/// `ovn0`, its addresses and routes.
pub(super) async fn leg(config: &Config, view: &View) -> anyhow::Result<Concern> {
    let port = PortName::of_node(&config.node);
    let (Some(own), Some(join)) = (view.allocation(&port), view.join_subnet()) else {
        let why = format!("the store has no address for node {}", config.node);
        return Ok(Concern::new(OVN0, "none").but([why]));
    };
    let addresses = leg::with_prefixes(own.addresses, join)?;
    let routes = leg::routes(view, join)?;
    let believed = format!("{}, {} routes", own.addresses, routes.len());
    let seen = link::seen(&Namespace::Own, OVN0).await.context("cannot look at the node's leg")?;
    let Some(link) = seen.link else {
        return Ok(Concern::new(OVN0, believed).but(["there is no such interface".to_owned()]));
    };
    let mut differs = Vec::new();
    if !link.is_up {
        differs.push("it is down".to_owned());
    }
    if link.mac != Some(link::Mac(own.mac.octets())) {
        let mac = link.mac.map_or_else(|| "none".to_owned(), |it| it.to_string());
        differs.push(format!("its hardware address is {mac}, not {}", own.mac));
    }
    let missing = addresses.iter().filter(|it| !seen.addresses.contains(it));
    differs.extend(missing.map(|it| format!("address {it} is missing")));
    let more = seen.addresses.iter().filter(|it| !addresses.contains(it));
    differs.extend(more.map(|it| format!("address {it} is nobody's")));
    let missing = routes.iter().filter(|it| !seen.routes.contains(it));
    differs.extend(missing.map(|it| format!("no route to {}", it.destination)));
    Ok(Concern::new(OVN0, believed).but(differs))
}

/// Sets and chains.
pub(super) async fn filter(config: &Config, view: &View) -> anyhow::Result<Concern> {
    let desired = leg::packet_filter(view, &config.node)?;
    let believed = format!(
        "{} networks, {} leave by a node's address, {} private",
        desired.subnets.len(),
        desired.nat.len(),
        desired.private.len()
    );
    let differs = firewall::differences(&desired).await?;
    Ok(Concern::new("packet filter", believed).but(differs))
}

/// What is copied to `mirror0`.
pub(super) async fn mirror(
    config: &Config,
    view: &View,
    replica: &Replica,
) -> anyhow::Result<Concern> {
    let copied = copied(view, &config.node, replica);
    let believed = match &copied {
        None => "nothing is copied".to_owned(),
        Some(Copied::All) => "everything is copied".to_owned(),
        Some(Copied::Of(interfaces)) => format!("{} pods are copied", interfaces.len()),
    };
    let link = link::find(&Namespace::Own, MIRROR0).await?;
    let differs = match plan(copied.as_ref(), link.is_some(), replica) {
        Ok(plan) => plan.iter().map(missing).collect(),
        Err(error) => vec![error.to_string()],
    };
    Ok(Concern::new(MIRROR0, believed).but(differs))
}

/// A change that the agent would make, as OVSDB's protocol has it (RFC 7047).
fn missing(operation: &Operation) -> String {
    let text = serde_json::to_string(operation).unwrap_or_else(|_| format!("{operation:?}"));
    format!("not done yet, or undone by somebody: {text}")
}
