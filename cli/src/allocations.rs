//! `atollctl get allocations`: who holds which address, or held it.

use std::io::Write as _;
use std::net::IpAddr;

use atoll_api::Client;
use atoll_api::allocations::{AllocationQuery, At, Held, HeldBy, HeldState};
use atoll_model::{
    Addresses, Allocation, AllocationState, Draining, NodeName, Owner, Pod, PodKey, PodOwner,
    PortName, SubnetName, Uid,
};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::Failure;
use crate::arguments::Format;
use crate::key;
use crate::moment;
use crate::output::{Column, column, objects, wide};

/// Which addresses to show; everything that is given must fit.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
    /// Only addresses of this subnet.
    #[arg(long)]
    pub(crate) subnet: Option<SubnetName>,
    /// Only addresses on this node.
    #[arg(long)]
    pub(crate) node: Option<NodeName>,
    /// Only allocations of this pod.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = PodKey::parse)]
    pod: Option<PodKey>,
    /// Only the allocation with this address.
    #[arg(long)]
    address: Option<IpAddr>,
    /// Only allocations of a workload, or of a pod by its uid.
    #[arg(long, value_name = "KIND/NAMESPACE/NAME|UID", value_parser = owner)]
    owner: Option<HeldBy>,
    /// Only allocations in this state.
    #[arg(long, value_enum)]
    state: Option<State>,
    /// As it was at a revision, at a time, or so long ago.
    #[arg(long, value_name = "REVISION|TIME|AGO", value_parser = moment::parse)]
    at: Option<At>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    /// Its owner is there.
    Active,
    /// Its pod is gone; the next one of its ordinal gets it.
    Kept,
    /// Its pod is gone, and its node has not confirmed that it is unplugged.
    Draining,
    /// Released; it rests before chance may hand it out again. Not shown unless asked for.
    Cooling,
}

fn owner(text: &str) -> Result<HeldBy, String> {
    match text.contains('/') {
        true => key::workload(text).map(HeldBy::Workload),
        false => Uid::new(text).map(HeldBy::Uid).map_err(|error| error.to_string()),
    }
}

impl Filter {
    /// The first option that only allocations have, if one was given.
    pub(crate) fn only_for_allocations(&self) -> Option<&'static str> {
        [
            (self.pod.is_some(), "--pod"),
            (self.address.is_some(), "--address"),
            (self.owner.is_some(), "--owner"),
            (self.state.is_some(), "--state"),
            (self.at.is_some(), "--at"),
        ]
        .into_iter()
        .find_map(|(given, name)| given.then_some(name))
    }

    fn query(&self) -> AllocationQuery {
        AllocationQuery {
            pod: self.pod.clone(),
            address: self.address,
            subnet: self.subnet.clone(),
            node: self.node.clone(),
            owner: self.owner.clone(),
            state: self.state.map(|state| match state {
                State::Active => HeldState::Active,
                State::Kept => HeldState::Kept,
                State::Draining => HeldState::Draining,
                State::Cooling => HeldState::Cooling,
            }),
            at: self.at,
        }
    }
}

const COLUMNS: &[Column] = &[
    column("NAME", &["/metadata/name"]),
    column("SUBNET", &["/spec/subnet"]),
    column("ADDRESS", &["/spec/v4", "/spec/v6"]),
    column("STATE", &["/status/state"]),
    column("OWNER", &["/spec/owner/ref"]),
    column("NODE", &["/spec/node"]),
    column("SINCE", &["/status/created"]),
    wide("MAC", &["/spec/mac"]),
    wide("UID", &["/spec/owner/uid"]),
    wide("WORKLOAD", &["/spec/workload"]),
    wide("SANDBOX", &["/status/sandbox"]),
    wide("BOUND", &["/status/boundAt"]),
    wide("FREE", &["/status/freeIn"]),
];

pub(crate) async fn run(
    client: &Client,
    name: Option<&str>,
    filter: &Filter,
    format: Format,
) -> Result<(), Failure> {
    let answer = client.allocations(&filter.query()).await?;
    if filter.at.is_some() {
        let (revision, time) = (answer.revision, moment::text(answer.wall_ms));
        writeln!(std::io::stderr(), "atollctl: as of revision {revision} ({time})")?;
    }
    let mut rows: Vec<Row> = answer.held.iter().flat_map(|held| rows(held, filter)).collect();
    rows.sort_by(|a, b| (&a.subnet, a.order, &a.name).cmp(&(&b.subnet, b.order, &b.name)));
    if let Some(name) = name {
        rows.retain(|row| row.name == name);
        if rows.is_empty() {
            let why = format!("there is no {name} among the allocations");
            return Err(Failure::Refused(why));
        }
    }
    let items = rows.into_iter().map(|row| row.shown).collect();
    objects(items, COLUMNS, format, name.is_some())
}

/// One line, with what it is ordered by.
struct Row {
    subnet: SubnetName,
    order: Option<IpAddr>,
    name: String,
    shown: Value,
}

fn rows(held: &Held, filter: &Filter) -> Vec<Row> {
    match held {
        Held::Port(allocation, pod) => vec![port(allocation, pod.as_deref())],
        Held::Draining(draining) => drained(draining, filter),
        Held::Cooling { subnet, address, free_in } => {
            let free_in = match free_in {
                Some(rest) if rest.is_zero() => "now".to_owned(),
                Some(rest) => format!("{}s", rest.as_secs() + 1),
                None => "unconfirmed".to_owned(),
            };
            let status = json!({ "state": "cooling", "freeIn": free_in });
            let addresses = Addresses::from_iter([*address]);
            vec![row(address.to_string(), subnet, addresses, json!({}), status)]
        }
    }
}

fn row(
    name: String,
    subnet: &SubnetName,
    addresses: Addresses,
    mut spec: Value,
    status: Value,
) -> Row {
    spec["subnet"] = json!(subnet.as_str());
    spec["v4"] = json!(addresses.v4);
    spec["v6"] = json!(addresses.v6);
    let shown = json!({
        "apiVersion": "atoll.io/v1",
        "kind": "Allocation",
        "metadata": { "name": name },
        "spec": spec,
        "status": status,
    });
    Row { subnet: subnet.clone(), order: addresses.iter().next(), name, shown }
}

fn port(allocation: &Allocation, pod: Option<&Pod>) -> Row {
    let state = match allocation.state {
        AllocationState::Active => "active",
        AllocationState::Kept => "kept",
    };
    let (owner, node, namespace) = match &allocation.owner {
        Owner::Pod(key, uid) => {
            (pod_owner(key, uid), pod.map(|pod| pod.spec.node.as_str()), Some(key.namespace()))
        }
        Owner::Node(node) => {
            let owner = json!({
                "ref": format!("node/{node}"), "kind": "node", "name": node.as_str(),
            });
            (owner, Some(node.as_str()), None)
        }
    };
    let workload = pod.and_then(|pod| pod.spec.owner.as_ref()).or(allocation.sticky.as_ref());
    let workload = workload.zip(namespace);
    let bound = pod.and_then(|pod| pod.bound.as_ref());
    let spec = json!({
        "owner": owner,
        "node": node,
        "mac": allocation.mac.to_string(),
        "interface": allocation.interface.as_ref().map(ToString::to_string),
        "workload": workload.map(|(PodOwner { kind, name, .. }, namespace)| {
            format!("{kind}/{namespace}/{name}")
        }),
    });
    let status = json!({
        "state": state,
        "created": allocation.created.0,
        "changed": allocation.changed.0,
        "sandbox": bound.map(|bound| bound.sandbox.to_string()),
        "boundAt": bound.map(|bound| bound.bound_at.0),
        "tunnelKey": allocation.port_key,
    });
    let name = allocation.port.to_string();
    row(name, &allocation.subnet, allocation.addresses, spec, status)
}

fn pod_owner(key: &PodKey, uid: &Uid) -> Value {
    let shown = format!("pod/{key}");
    json!({ "ref": shown, "kind": "pod", "name": key.to_string(), "uid": uid.as_str() })
}

/// A row for each subnet in which the pod had something that was asked for.
fn drained(draining: &Draining, filter: &Filter) -> Vec<Row> {
    let asked = |(subnet, addresses): &(&SubnetName, Addresses)| {
        filter.subnet.as_ref().is_none_or(|it| it == *subnet)
            && filter.address.is_none_or(|it| addresses.iter().any(|address| address == it))
    };
    let shown = |(subnet, addresses): (&SubnetName, Addresses)| {
        let spec = json!({
            "owner": pod_owner(&draining.key, &draining.uid),
            "node": draining.node.as_str(),
        });
        let status = json!({
            "state": "draining",
            "sandbox": draining.binding.sandbox.as_str(),
            "boundAt": draining.binding.bound_at.0,
        });
        row(PortName::of_pod(&draining.key).to_string(), subnet, addresses, spec, status)
    };
    draining.held().filter(asked).map(shown).collect()
}
