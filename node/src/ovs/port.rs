//! A pod's port on the integration bridge.

use std::time::Duration;

use atoll_model::{Addresses, PodKey, PortName, Sandbox, Uid};
use atoll_ovsdb::{Condition, Datum, Mutation, Operation, Replica, Row};

use super::settings::{insert, row};
use super::{BRIDGE, Session, VENDOR, set_keys};

/// A pod's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPort {
    /// The host end of the pod's veth pair.
    pub interface: String,
    /// The logical switch port.
    pub port: PortName,
    /// The pod.
    pub key: PodKey,
    /// Its identity; OVN binds the port only to an interface that carries it.
    pub uid: Uid,
    /// Path of its network namespace.
    pub netns: String,
    /// The container id.
    pub sandbox: Sandbox,
    /// The interface's name in the pod.
    pub ifname: String,
    /// Of a further interface: the one that the runtime asked for, with which it came.
    pub attachment: Option<String>,
    /// Its addresses, for people.
    pub addresses: Addresses,
    /// Name of the network in the runtime's configuration; empty if nobody said it.
    pub network: String,
}

/// What a port's row says of the pod behind it: enough to unplug it without any cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugged {
    /// The host end of the pod's veth pair.
    pub interface: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's identity.
    pub uid: String,
    /// The container id.
    pub sandbox: String,
    /// The interface's name in the pod.
    pub ifname: String,
    /// Of a further interface: the one that the runtime asked for, with which it came.
    pub attachment: Option<String>,
    /// The logical switch port.
    pub port: String,
    /// Name of the network in the runtime's configuration; empty if nobody said it.
    pub network: String,
    /// OVN has installed its flows.
    pub installed: bool,
    /// Why Open vSwitch cannot use the interface.
    pub error: Option<String>,
}

/// Whose a name in Open vSwitch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// No port and no interface has it.
    Nobody,
    /// A port of ours, of whichever container.
    Ours(Box<Plugged>),
    /// A port or an interface without our mark.
    Others,
}

/// Why a port does not carry traffic yet.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Open vSwitch could not use the interface.
    #[error("Open vSwitch cannot use {interface}: {error}")]
    Interface {
        /// The interface.
        interface: String,
        /// Open vSwitch's own words.
        error: String,
    },
    /// `ovn-controller` has not installed the port's flows.
    #[error(
        "ovn-controller did not install the flows of {port} within {waited:?} \
         (southbound: {remote})"
    )]
    Flows {
        /// The logical switch port.
        port: PortName,
        /// How long was waited.
        waited: Duration,
        /// Where `ovn-controller` was sent.
        remote: String,
    },
    /// The connection to Open vSwitch was lost meanwhile.
    #[error("Open vSwitch's database went away")]
    Lost,
}

/// The operations that plug the port in; any other interface with the same logical port goes out
/// in the same transaction, so that OVN never sees two.
#[must_use]
pub fn plug(spec: &PodPort, replica: &Replica) -> Vec<Operation> {
    let mut plan: Vec<Operation> = replica
        .rows("Interface")
        .filter(|(_, row)| id(row, "iface-id") == Some(spec.port.as_str()))
        .filter_map(|(_, row)| row.get("name").and_then(Datum::as_str))
        .filter(|name| *name != spec.interface)
        .flat_map(|name| unplug(name, replica))
        .collect();
    let (pod, addresses) = (spec.key.name(), spec.addresses.to_string());
    let mut ids = vec![
        ("iface-id", spec.port.as_str()),
        ("iface-id-ver", spec.uid.as_str()),
        ("vendor", VENDOR),
        ("pod_name", pod),
        ("pod_namespace", spec.key.namespace().as_str()),
        ("pod_netns", spec.netns.as_str()),
        ("sandbox", spec.sandbox.as_str()),
        ("ifname", spec.ifname.as_str()),
        ("ip", addresses.as_str()),
        ("network", spec.network.as_str()),
    ];
    ids.extend(spec.attachment.as_deref().map(|attachment| ("attachment", attachment)));
    if let Some((uuid, row)) =
        replica.find("Interface", "name", &Datum::from(spec.interface.as_str()))
    {
        if ids.iter().any(|(key, value)| id(row, key) != Some(value)) {
            let mut mutations = set_keys("external_ids", &ids);
            // What was installed for another pod says nothing about this one.
            if id(row, "iface-id-ver") != Some(spec.uid.as_str()) {
                let stale = Datum::set(["ovn-installed", "ovn-installed-ts"]);
                mutations.push(Mutation::delete("external_ids", stale));
            }
            plan.push(Operation::mutate("Interface", vec![Condition::uuid(uuid)], mutations));
        }
        return plan;
    }
    // Several may be plugged in at once; an id of a container may hold what such a name may not.
    let named = |row: &str| format!("{row}_{}", spec.interface.replace(['.', '-'], "_"));
    let (pod_interface, pod_port) = (named("interface"), named("port"));
    let interface =
        row([("name", Datum::from(spec.interface.as_str())), ("external_ids", Datum::map(ids))]);
    let port = row([
        ("name", Datum::from(spec.interface.as_str())),
        ("interfaces", Datum::named_uuid(pod_interface.as_str())),
        ("external_ids", Datum::map([("vendor", VENDOR)])),
    ]);
    plan.extend([
        insert("Interface", &pod_interface, interface),
        insert("Port", &pod_port, port),
        Operation::mutate(
            "Bridge",
            vec![Condition::equal("name", BRIDGE)],
            vec![Mutation::insert("ports", Datum::named_uuid(pod_port.as_str()))],
        ),
    ]);
    plan
}

/// The operations that take an interface's port off the bridge; none if there is no such port.
#[must_use]
pub fn unplug(interface: &str, replica: &Replica) -> Vec<Operation> {
    let Some((uuid, _)) = replica.find("Port", "name", &Datum::from(interface)) else {
        return Vec::new();
    };
    // The port's row goes by itself once nothing refers to it.
    vec![Operation::mutate(
        "Bridge",
        vec![Condition::equal("name", BRIDGE)],
        vec![Mutation::delete("ports", Datum::from(uuid))],
    )]
}

/// What is plugged in behind an interface, if it is ours.
#[must_use]
pub fn plugged(interface: &str, replica: &Replica) -> Option<Plugged> {
    let (_, row) = replica.find("Interface", "name", &Datum::from(interface))?;
    plugged_by(interface, row)
}

/// Whose port or interface has a name.
#[must_use]
pub fn holder(name: &str, replica: &Replica) -> Holder {
    let is_in = |table| replica.find(table, "name", &Datum::from(name)).is_some();
    match plugged(name, replica) {
        Some(plugged) => Holder::Ours(Box::new(plugged)),
        None if is_in("Interface") || is_in("Port") => Holder::Others,
        None => Holder::Nobody,
    }
}

/// Every interface of a pod that is plugged in, in no order.
#[must_use]
pub fn all_plugged(replica: &Replica) -> Vec<Plugged> {
    let named = |row: &Row| plugged_by(row.get("name").and_then(Datum::as_str)?, row);
    let all = replica.rows("Interface").filter_map(|(_, row)| named(row));
    // The node's own leg is ours too, and has no sandbox.
    all.filter(|plugged| !plugged.sandbox.is_empty()).collect()
}

fn plugged_by(interface: &str, row: &Row) -> Option<Plugged> {
    (id(row, "vendor") == Some(VENDOR)).then(|| {
        let text = |key: &str| id(row, key).unwrap_or_default().to_owned();
        Plugged {
            interface: interface.to_owned(),
            namespace: text("pod_namespace"),
            name: text("pod_name"),
            uid: text("iface-id-ver"),
            sandbox: text("sandbox"),
            ifname: text("ifname"),
            attachment: id(row, "attachment").map(ToOwned::to_owned),
            port: text("iface-id"),
            network: text("network"),
            installed: id(row, "ovn-installed") == Some("true"),
            error: error(row),
        }
    })
}

/// What is plugged in for a sandbox, in no order.
#[must_use]
pub fn of_sandbox(sandbox: &str, replica: &Replica) -> Vec<Plugged> {
    all_plugged(replica).into_iter().filter(|plugged| plugged.sandbox == sandbox).collect()
}

/// Whether the integration bridge has a port of an interface.
#[must_use]
pub fn is_on_bridge(interface: &str, replica: &Replica) -> bool {
    let port = replica.find("Port", "name", &Datum::from(interface)).map(|(uuid, _)| uuid);
    let bridge = replica.find("Bridge", "name", &Datum::from(BRIDGE)).map(|(_, row)| row);
    let ports = bridge.and_then(|row| row.get("ports"));
    port.zip(ports).is_some_and(|(port, ports)| ports.uuids().any(|it| it == port))
}

fn error(row: &Row) -> Option<String> {
    let error = row.get("error").and_then(Datum::as_str);
    error.filter(|error| !error.is_empty()).map(ToOwned::to_owned)
}

/// Waits until `ovn-controller` says that the port's flows are installed: an event, not a poll.
///
/// # Errors
///
/// [`InstallError`] naming what is missing.
pub async fn wait_installed(
    session: &Session,
    spec: &PodPort,
    timeout: Duration,
) -> Result<(), InstallError> {
    let state = |replica: &Replica| {
        let found = replica.find("Interface", "name", &Datum::from(spec.interface.as_str()));
        let row = found.map(|(_, row)| row);
        let installed = row.is_some_and(|row| id(row, "ovn-installed") == Some("true"));
        (installed, row.and_then(error))
    };
    let done = |replica: &Replica| {
        let (installed, error) = state(replica);
        installed || error.is_some()
    };
    let waited = session.monitor.wait_until(done, timeout).await;
    let replica = match waited {
        Ok(replica) => replica,
        Err(atoll_ovsdb::WaitError::Lost(_)) => return Err(InstallError::Lost),
        Err(atoll_ovsdb::WaitError::TimedOut { .. }) => {
            let replica = session.monitor.replica();
            let root = replica.rows("Open_vSwitch").next().map(|(_, row)| row);
            let remote = root.and_then(|row| id(row, "ovn-remote")).unwrap_or("not known yet");
            return Err(InstallError::Flows {
                port: spec.port.clone(),
                waited: timeout,
                remote: remote.to_owned(),
            });
        }
    };
    match state(&replica) {
        (true, _) => Ok(()),
        (false, error) => Err(InstallError::Interface {
            interface: spec.interface.clone(),
            error: error.unwrap_or_default(),
        }),
    }
}

fn id<'a>(row: &'a Row, key: &str) -> Option<&'a str> {
    row.get("external_ids").and_then(|ids| ids.get(key))
}

/// Ports for tests.
#[cfg(test)]
pub(crate) mod samples {
    use super::Plugged;

    /// Pod `a/p` with uid `u1`, in a sandbox of this name.
    pub(crate) fn plugged(sandbox: &str) -> Plugged {
        Plugged {
            interface: format!("{sandbox}_h"),
            namespace: "a".into(),
            name: "p".into(),
            uid: "u1".into(),
            sandbox: sandbox.into(),
            ifname: "eth0".into(),
            attachment: None,
            port: "p.a".into(),
            network: "atoll".into(),
            installed: true,
            error: None,
        }
    }
}
