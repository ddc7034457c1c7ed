//! Objects as names and values, and what a change did to them.

use std::io::Write as _;

use atoll_model::{
    Addresses, Allocation, AllocationState, Change, ChangeSet, Draining, GatewayType, Mirror, Node,
    Object, Origin, Pod, PodPhase, Qos, Rate, Subnet, Workload,
};
use serde_json::{Map, Value, json};

use crate::Failure;
use crate::{key, moment};

/// Values longer than this are cut in a line; documents hold them whole.
const VALUE_CHARS: usize = 60;

fn texts<T: ToString>(items: impl IntoIterator<Item = T>) -> Value {
    items.into_iter().map(|item| Value::from(item.to_string())).collect()
}

fn text<T: ToString>(item: Option<&T>) -> Value {
    item.map_or(Value::Null, |item| item.to_string().into())
}

fn rate(rate: Option<Rate>) -> Value {
    rate.map_or(Value::Null, |rate| json!({ "mbit": rate.mbit, "burstMbit": rate.burst() }))
}

fn held<'a>(held: impl Iterator<Item = (&'a atoll_model::SubnetName, Addresses)>) -> Value {
    texts(held.map(|(subnet, addresses)| format!("{subnet}:{addresses}")))
}

/// What an object says, apart from the revisions that made and changed it. Empty values are left
/// out.
pub(crate) fn fields(object: &Object) -> Map<String, Value> {
    let value = match object {
        Object::Settings(it) => json!({
            "clusterRouter": it.cluster_router,
            "joinSubnet": it.join_subnet.as_str(),
            "cooldownMs": it.cooldown_ms,
            "workloadGraceMs": it.workload_grace_ms,
            "applyVersion": it.apply_version,
            "members": it.members.map(|size| size.get()),
            "projectionPaused": it.projection_paused.then_some(true),
        }),
        Object::Central(it) => {
            json!({ "member": it.name.as_str(), "nb": it.nb, "sb": it.sb, "since": it.since.0 })
        }
        Object::Subnet(it) => subnet(it),
        Object::Namespace(it) => json!({ "labels": it.labels }),
        Object::Node(it) => node(it),
        Object::Pod(it) => pod(it),
        Object::Allocation(it) => allocation(it),
        Object::Draining(it) => draining(it),
        Object::Workload(it) => workload(it),
        Object::Reservation(it) => json!({
            "subnet": it.spec.subnet.as_str(),
            "addresses": texts(it.spec.addresses.iter()),
            "mac": text(it.spec.mac.as_ref()),
            "owner": it.spec.owner.to_string(),
            "interface": text(it.spec.interface.as_ref()),
        }),
        Object::Qos(it) => qos(it),
        Object::Mirror(it) => {
            let Mirror { target, .. } = it.as_ref();
            json!({ "target": target.to_string() })
        }
        Object::Sighting(it) => json!({
            "pod": it.key.to_string(),
            "node": it.node.as_str(),
            "since": it.since.0,
            "twice": it.twice,
            "unplugged": it.unplugged,
        }),
        Object::Janitor(it) => json!({
            "apiserver": it.apiserver.as_str(),
            "resourceVersion": it.resource_version,
            "stopped": text(it.stopped.as_ref()),
            "since": it.since.0,
        }),
        Object::Reconciling(it) => json!({ "since": it.since.0 }),
    };
    let Value::Object(mut fields) = value else { return Map::new() };
    fields.retain(|_, value| !is_empty(value));
    fields
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn subnet(it: &Subnet) -> Value {
    let spec = &it.spec;
    let gateways = spec.gateway_type.nodes().iter().map(|gateway| gateway.node.to_string());
    json!({
        "cidr": texts(spec.nets.iter().map(|net| net.cidr)),
        "gateway": texts(spec.nets.iter().map(|net| net.gateway)),
        "excluded": texts(&spec.excluded),
        "namespaces": texts(&spec.namespaces),
        "namespaceSelectors": texts(spec.namespace_selectors.iter().map(|it| format!("{it:?}"))),
        "default": spec.default,
        "natOutgoing": spec.nat_outgoing,
        "natOutgoingPolicyRules": texts(spec.nat_rules.iter().map(|rule| {
            format!("{:?} {:?} {}", texts(&rule.sources), texts(&rule.destinations), rule.action)
        })),
        "mtu": spec.mtu,
        "gatewayType": match &spec.gateway_type {
            GatewayType::Distributed => "distributed",
            GatewayType::Centralized(_) => "centralized",
        },
        "gatewayNodes": texts(gateways),
        "activeGateways": texts(&it.active_gateways),
        "private": spec.private,
        "allowSubnets": texts(&spec.allow_subnets),
        "acls": texts(spec.acls.iter().map(|acl| {
            format!("{} {} {} {}", acl.direction, acl.priority, acl.matches, acl.action)
        })),
        "dhcp": spec.dhcp.enabled,
        "dhcpV4Options": spec.dhcp.v4,
        "dhcpV6Options": spec.dhcp.v6,
        "origin": match it.origin {
            Origin::Api => "api",
            Origin::Kubernetes => "kubernetes",
        },
        "deleting": it.deleting,
        "generation": it.generation,
    })
}

fn node(it: &Node) -> Value {
    json!({
        "uid": it.spec.uid.as_str(),
        "addresses": texts(&it.spec.addresses),
        "labels": it.spec.labels,
        "chassis": text(it.chassis.as_ref()),
        "encap": text(it.encap.as_ref()),
        "nodeEpoch": it.node_epoch,
        "ready": it.ready,
        "fenced": it.fenced,
        "drained": it.drained,
        "inventoryAt": it.inventory_at.map(|revision| revision.0),
        "conflicts": it.conflicts,
    })
}

fn pod(it: &Pod) -> Value {
    let (spec, request) = (&it.spec, &it.spec.request);
    json!({
        "uid": spec.uid.as_str(),
        "node": spec.node.as_str(),
        "owner": spec.owner.as_ref().map(|owner| format!("{} {}", owner.kind, owner.name)),
        "finished": spec.phase == PodPhase::Finished,
        "asksForAddresses": texts(request.addresses.iter()),
        "asksForMac": text(request.mac.as_ref()),
        "asksForSubnet": text(request.subnet.as_ref()),
        "asksForOneOf": texts(&request.list),
        "interfaces": texts(request.interfaces.iter().map(|interface| &interface.name)),
        "ingress": rate(spec.traffic.rates.ingress),
        "egress": rate(spec.traffic.rates.egress),
        "mirror": spec.traffic.mirror,
        "labels": spec.traffic.labels,
        "waiting": text(it.waiting.as_ref()),
        "sandbox": it.bound.as_ref().map(|bound| bound.sandbox.to_string()),
        "boundAt": it.bound.as_ref().map(|bound| bound.bound_at.0),
    })
}

fn allocation(it: &Allocation) -> Value {
    json!({
        "subnet": it.subnet.as_str(),
        "addresses": texts(it.addresses.iter()),
        "owner": it.owner.to_string(),
        "mac": it.mac.to_string(),
        "interface": text(it.interface.as_ref()),
        "state": match it.state {
            AllocationState::Active => "active",
            AllocationState::Kept => "kept",
        },
        "keptFor": it.sticky.as_ref().map(|owner| format!("{} {}", owner.kind, owner.name)),
        "tunnelKey": it.port_key,
    })
}

fn draining(it: &Draining) -> Value {
    json!({
        "pod": it.key.to_string(),
        "node": it.node.as_str(),
        "sandbox": it.binding.sandbox.as_str(),
        "addresses": held(it.held()),
    })
}

fn workload(it: &Workload) -> Value {
    json!({
        "uid": it.spec.uid.as_str(),
        "replicas": it.spec.replicas,
        "startOrdinal": it.spec.start_ordinal,
        "goneAtMs": it.gone_at_ms,
        "over": it.over,
    })
}

fn qos(it: &Qos) -> Value {
    let spec = &it.spec;
    let selectors = spec.selectors.iter().map(|it| format!("{it:?}"));
    json!({
        "ingress": rate(spec.rates.ingress),
        "egress": rate(spec.rates.egress),
        "important": spec.important,
        "priority": spec.priority,
        "pods": texts(&spec.pods),
        "namespaces": texts(&spec.namespaces),
        "subnets": texts(&spec.subnets),
        "selectors": texts(selectors),
    })
}

/// A change in one line: `+ subnet blue cidr=10.1.0.0/16`, `~ node n1 ready: - → true`.
pub(crate) fn line(change: &Change) -> String {
    format!("{} {}{}", sign(change), key::text(&change.key), difference(change))
}

fn sign(change: &Change) -> char {
    match (&change.before, &change.after) {
        (None, _) => '+',
        (_, None) => '-',
        _ => '~',
    }
}

/// What a change did: what is there if it made the object, what differs if it was there before.
pub(crate) fn difference(change: &Change) -> String {
    let fields = |object: &Option<Object>| object.as_ref().map(fields).unwrap_or_default();
    let (before, after) = (fields(&change.before), fields(&change.after));
    let mut words = String::new();
    match (&change.before, &change.after) {
        (Some(_), Some(_)) => {
            let names = before.keys().chain(after.keys().filter(|it| !before.contains_key(*it)));
            for name in names.filter(|name| before.get(*name) != after.get(*name)) {
                let (old, new) = (short(before.get(name)), short(after.get(name)));
                words += &format!(" {name}: {old} → {new}");
            }
        }
        (None, _) => {
            after
                .iter()
                .for_each(|(name, value)| words += &format!(" {name}={}", short(Some(value))));
        }
        (Some(_), None) => {}
    }
    words
}

fn short(value: Option<&Value>) -> String {
    let text = match value {
        None => return "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let items: Vec<_> = items.iter().map(|item| short(Some(item))).collect();
            items.join(",")
        }
        Some(other) => other.to_string(),
    };
    match text.char_indices().nth(VALUE_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// A change as a document.
pub(crate) fn document(change: &Change) -> Value {
    let what = match sign(change) {
        '+' => "made",
        '-' => "deleted",
        _ => "changed",
    };
    json!({
        "kind": key::ObjectKind::of(&change.key).word(),
        "name": key::name(&change.key),
        "change": what,
        "before": change.before.as_ref().map(fields),
        "after": change.after.as_ref().map(fields),
    })
}

/// A revision as a document.
pub(crate) fn set_document(set: &ChangeSet) -> Value {
    json!({
        "revision": set.revision.0,
        "time": moment::text(Some(set.wall_ms)),
        "actor": set.actor.to_string(),
        "changes": set.changes.iter().map(document).collect::<Vec<_>>(),
    })
}

/// Prints what the history may lack.
pub(crate) fn note_floor(floor: atoll_model::Revision) -> Result<(), Failure> {
    if floor.0 > 0 {
        writeln!(
            std::io::stderr(),
            "atollctl: note: the history of the member that answers begins after revision {floor}; \
             what was before may be missing here"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use atoll_model::{Namespace, NamespaceName, ObjectKey, Revision};

    use super::*;

    fn namespace(labels: &[(&str, &str)]) -> Object {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Object::Namespace(Arc::new(Namespace {
            name: NamespaceName::new("a").unwrap(),
            labels: labels.collect(),
            created: Revision(1),
            changed: Revision(2),
        }))
    }

    #[test]
    fn a_change_is_one_line_with_what_differs() {
        let key = ObjectKey::Namespace(NamespaceName::new("a").unwrap());
        let change = |before, after| line(&Change { key: key.clone(), before, after });
        let (plain, labelled) = (namespace(&[]), namespace(&[("x", "y")]));
        assert_eq!(change(None, Some(plain.clone())), "+ namespace a");
        assert_eq!(change(None, Some(labelled.clone())), r#"+ namespace a labels={"x":"y"}"#);
        assert_eq!(
            change(Some(plain.clone()), Some(labelled.clone())),
            r#"~ namespace a labels: - → {"x":"y"}"#
        );
        assert_eq!(change(Some(labelled), None), "- namespace a");
        let long = namespace(&[("x", &"é".repeat(100))]);
        assert!(change(Some(plain), Some(long)).ends_with("é…"));
    }
}
