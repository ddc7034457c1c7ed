//! One pod's network taken away again, and what of it is whose.
//!
//! Only what was made for this very container is touched: a port that carries our mark and the
//! container's id, a link with the hardware address that is made of it. A name alone holds only the
//! beginning of an id.

use atoll_cni_wire::{CniError, Code};
use atoll_model::{Binding, PodKey, Uid};

use crate::attach::{Attacher, OVS, failed, later};
use crate::attached::Attached;
use crate::cni::DelRequest;
use crate::link::{self, host_ifname, host_mac};
use crate::ovs::port::{self, Holder, Plugged};
use crate::ovs::{Session, transact};
use crate::queue::{Happened, Report};
use crate::step::{Step, reached};

/// Takes it away and notes that the store is to be told.
///
/// The record goes last: as long as anything is left to do or to tell, a repetition knows of it.
pub(crate) async fn del(attacher: &Attacher, request: &DelRequest) -> Result<(), CniError> {
    let sandbox = &request.container_id;
    let session = attacher.ovs.session(OVS).await.map_err(|error| later(error.to_string()))?;
    reached(Step::Asked);
    let report = report(attacher, sandbox, &session).await;
    unplug(sandbox, &session)
        .await
        .map_err(|error| failed("the pod could not be unplugged; it is tried again", error))?;
    if let Some(report) = report {
        tracing::info!(pod = format!("{}/{}", report.namespace, report.name), "pod detached");
        let pushed = attacher.queue.push(report).await;
        pushed.map_err(|error| failed("the report to the store cannot be kept", error))?;
    }
    reached(Step::Told);
    let forgotten = attacher.attached.remove(sandbox).await;
    forgotten.map_err(|error| failed("the record of the pod cannot be removed", error))?;
    reached(Step::Forgotten);
    Ok(())
}

/// Leaves nothing half made. What cannot be undone now is taken up by the next ADD or DEL.
pub(crate) async fn undo(attached: &Attached, sandbox: &str, session: &Session) {
    let undone = match unplug(sandbox, session).await {
        // Last: whatever is still there has a record.
        Ok(()) => attached.remove(sandbox).await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    if let Err(error) = undone {
        tracing::warn!(sandbox, error = format!("{error:#}"), "could not be undone");
    }
}

/// What is plugged in for a container, if its name is free or its own.
pub(crate) fn own(sandbox: &str, session: &Session) -> Result<Option<Plugged>, CniError> {
    let interface = host_ifname(sandbox);
    let whose = match port::holder(&interface, &session.monitor.replica()) {
        Holder::Nobody => return Ok(None),
        Holder::Ours(plugged) if plugged.sandbox == sandbox => return Ok(Some(*plugged)),
        Holder::Ours(plugged) => format!("container {}", plugged.sandbox),
        Holder::Others => "somebody else".to_owned(),
    };
    let why = format!(
        "Open vSwitch has a port {interface} of {whose}, which is left alone; a sandbox with \
         another id can be attached"
    );
    Err(CniError::new(Code::PLUMBING, why))
}

async fn unplug(sandbox: &str, session: &Session) -> anyhow::Result<()> {
    let interface = host_ifname(sandbox);
    let is_known = own(sandbox, session).is_ok_and(|plugged| plugged.is_some());
    if is_known {
        transact(session, &port::unplug(&interface, &session.monitor.replica())).await?;
    }
    reached(Step::Unplugged);
    // What our port led to is ours, also if an older release made it.
    let mac = (!is_known).then(|| host_mac(sandbox));
    link::detach(&interface, mac).await?;
    reached(Step::Detached);
    Ok(())
}

/// What the store is to be told. Without a port the record says it: an agent may have died since it
/// took the port away. The store's own word is for a report that was lost, or a bridge.
async fn report(attacher: &Attacher, sandbox: &str, session: &Session) -> Option<Report> {
    if let Ok(Some(plugged)) = own(sandbox, session) {
        return Some(Report {
            happened: Happened::Unplugged,
            namespace: plugged.namespace,
            name: plugged.name,
            uid: plugged.uid,
            sandbox: plugged.sandbox,
        });
    }
    if let Some(pod) = attacher.attached.find(sandbox).await {
        return Some(unplugged(&pod.spec.key, &pod.spec.uid, sandbox));
    }
    let view = attacher.views.borrow();
    let bound = view.bound(sandbox);
    bound.map(|(key, uid, Binding { sandbox, .. })| unplugged(key, uid, sandbox.as_str()))
}

fn unplugged(key: &PodKey, uid: &Uid, sandbox: &str) -> Report {
    Report {
        happened: Happened::Unplugged,
        namespace: key.namespace().to_string(),
        name: key.name().to_owned(),
        uid: uid.to_string(),
        sandbox: sandbox.to_owned(),
    }
}
