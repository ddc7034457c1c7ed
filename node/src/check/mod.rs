//! Whether a pod's network is still as ADD said: the kernel, Open vSwitch, and the store as this
//! node knows it. Changes nothing.
//!
//! All differences are named at once. What settles by itself right after an ADD (the store's
//! binding, the flows) is waited for; every other difference stays until the pod is made anew.

mod links;
mod port;
#[cfg(test)]
mod samples;
mod stored;

use std::time::Duration;

use atoll_cni_wire::{CniError, Code};
use atoll_model::{PodKey, PortName};
use atoll_ovsdb::Replica;
use tokio::time::Instant;

use crate::attach::{Attacher, OVS, failed, given, later};
use crate::cni::{AddRequest, CheckRequest};
use crate::link::{LookError, NamespaceError, host_ifname, look};
use crate::nic;
use crate::ovs::{self, Session};
use stored::Stored;

/// How long something may take that follows an ADD by itself.
const SETTLE: Duration = Duration::from_secs(2);

/// Compares.
///
/// # Errors
///
/// [`Code::UNKNOWN_CONTAINER`] if there is nothing to compare with; [`Code::DIFFERS`] and
/// [`Code::TRY_AGAIN_LATER`] with all that is not as it should be.
pub(crate) async fn check(attacher: &Attacher, request: &CheckRequest) -> Result<(), CniError> {
    let session = attacher.ovs.session(OVS).await.map_err(|error| later(error.to_string()))?;
    let sandbox = &request.attachment.container_id;
    let interface = host_ifname(sandbox);
    let replica = session.monitor.replica();
    let plugged = ovs::port::plugged(&interface, &replica);
    let recorded = attacher.attached.sandboxes();
    let recorded = recorded.map_err(|error| failed("the records cannot be read", error))?;
    if !recorded.contains(sandbox) && plugged.as_ref().is_none_or(|it| it.sandbox != *sandbox) {
        return Err(never_added(request));
    }
    let first = Checked { request: request.clone(), port: port_of(request), interface };
    let mut found = differs(&first, &replica).await?;
    let all: Vec<Checked> = std::iter::once(first).chain(further(attacher, request)?).collect();
    for further in &all[1..] {
        found.extend(differs(further, &replica).await?);
    }
    // Nothing is worth waiting for where the pod has to be made anew.
    let settle = if found.is_empty() { SETTLE } else { Duration::ZERO };
    let until = (Instant::now() + settle).min(request.attachment.deadline);
    let mut passing = Vec::new();
    match stored(attacher, request, until).await? {
        Stored::Differs(why) => found.extend(why),
        Stored::Passing(why) => passing.push(why),
    }
    for Checked { interface, .. } in &all {
        if ovs::port::plugged(interface, &replica).is_some() {
            passing.extend(not_installed(&session, interface, until).await);
        }
    }
    verdict(request, found, passing)
}

/// One of the pod's interfaces, and what it should be.
struct Checked {
    /// With what ADD said of it.
    request: CheckRequest,
    /// The logical switch port.
    port: String,
    /// The end on the node.
    interface: String,
}

fn port_of(request: &CheckRequest) -> String {
    let pod = &request.attachment.pod;
    let key = PodKey::parse(&format!("{}/{}", pod.namespace, pod.name));
    key.map(|key| PortName::of_pod(&key).to_string()).unwrap_or_default()
}

/// The further interfaces as the store gives them: what the runtime hands back may be of others, which
/// add interfaces of the same names. What the store does not know is told by [`stored`].
fn further(attacher: &Attacher, request: &CheckRequest) -> Result<Vec<Checked>, CniError> {
    let attachment = &request.attachment;
    let view = attacher.views.borrow();
    let Some((key, uid, _)) = view.bound(&attachment.container_id) else { return Ok(Vec::new()) };
    let pod = view.pod(key).filter(|pod| pod.spec.uid == *uid);
    let Some((pod, given)) = pod.and_then(|pod| Some((pod, given(&view, pod)?))) else {
        return Ok(Vec::new());
    };
    let nics = nic::nics(&attacher.config, attachment, pod, &given)?.into_iter().skip(1);
    let checked = nics.map(|nic| {
        let previous = nic.added(Some(nic.link.host_mac), nic.link.mtu)?;
        let attachment = AddRequest { ifname: nic.link.ifname.clone(), ..attachment.clone() };
        let request = CheckRequest { attachment, previous };
        let (port, interface) = (nic.port.port.to_string(), nic.link.host_ifname);
        Ok(Checked { request, port, interface })
    });
    checked.collect()
}

/// What of its links and its port is not so.
async fn differs(checked: &Checked, replica: &Replica) -> Result<Vec<String>, CniError> {
    let Checked { request, port, interface } = checked;
    let mut found = linked(request, interface).await?;
    let (plugged, is_on_bridge) =
        (ovs::port::plugged(interface, replica), ovs::port::is_on_bridge(interface, replica));
    found.extend(port::differences(request, (interface, port), plugged.as_ref(), is_on_bridge));
    Ok(found)
}

fn never_added(request: &CheckRequest) -> CniError {
    let sandbox = &request.attachment.container_id;
    let why = format!(
        "container {sandbox} has no interface of this network on this node: it was never added, or \
         it was deleted; there is nothing to check"
    );
    CniError::new(Code::UNKNOWN_CONTAINER, why)
}

async fn linked(request: &CheckRequest, host: &str) -> Result<Vec<String>, CniError> {
    let attachment = &request.attachment;
    match look(attachment.netns.clone(), &attachment.ifname, host).await {
        Ok(seen) => Ok(links::differences(request, host, &seen)),
        Err(LookError::Namespace(NamespaceError::Absent { path, .. })) => {
            Ok(vec![format!("the pod's network namespace {} is gone", path.display())])
        }
        Err(error) => Err(failed("the pod's network cannot be looked at", error)),
    }
}

/// What the store knows, as soon as it agrees, or at `until`.
async fn stored(
    attacher: &Attacher,
    request: &CheckRequest,
    until: Instant,
) -> Result<Stored, CniError> {
    let sandbox = &request.attachment.container_id;
    let mut views = attacher.views.clone();
    loop {
        let found = stored::compare(request, &views.borrow_and_update());
        if found.agrees() {
            return Ok(found);
        }
        // Told by the next member that answers: an ADD does not wait for that either.
        let queued = attacher.queue.holds_plugged(sandbox).await;
        if queued.map_err(|error| failed("the queue cannot be read", error))? {
            return Ok(Stored::Differs(Vec::new()));
        }
        if !matches!(tokio::time::timeout_at(until, views.changed()).await, Ok(Ok(()))) {
            return Ok(found);
        }
    }
}

async fn not_installed(session: &Session, interface: &str, until: Instant) -> Option<String> {
    let left = until.saturating_duration_since(Instant::now());
    let is_installed =
        |replica: &_| ovs::port::plugged(interface, replica).is_some_and(|it| it.installed);
    let waited = session.monitor.wait_until(is_installed, left).await;
    waited.is_err().then(|| {
        format!(
            "ovn-controller has not installed the flows of {interface}: the southbound may be \
             away, see `atollctl ovn status`"
        )
    })
}

fn verdict(
    request: &CheckRequest,
    found: Vec<String>,
    passing: Vec<String>,
) -> Result<(), CniError> {
    let (code, what_to_do) = match (found.is_empty(), passing.is_empty()) {
        (true, true) => return Ok(()),
        (true, false) => (Code::TRY_AGAIN_LATER, "This can mend by itself"),
        (false, _) => {
            (Code::DIFFERS, "Nothing was changed; delete the pod, so that it is made anew")
        }
    };
    let (pod, all) = (&request.attachment.pod, [found, passing].concat().join("; "));
    let message = format!(
        "the network of pod {}/{} is not as ADD said: {all}. {what_to_do}",
        pod.namespace, pod.name
    );
    Err(CniError::new(code, message))
}
