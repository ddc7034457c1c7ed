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
use crate::link::{self, Mac, PAIRS_MAX, host_end, host_ends};
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
    unplug(&attacher.attached, sandbox, &session)
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
    let undone = match unplug(attached, sandbox, session).await {
        // Last: whatever is still there has a record.
        Ok(()) => attached.remove(sandbox).await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    if let Err(error) = undone {
        tracing::warn!(sandbox, error = format!("{error:#}"), "could not be undone");
    }
}

/// What is plugged in as a container's pair of a number, if the name of that is free or its own.
pub(crate) fn own(
    sandbox: &str,
    number: usize,
    session: &Session,
) -> Result<Option<Plugged>, CniError> {
    let (interface, _) = host_end(sandbox, number);
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

async fn unplug(attached: &Attached, sandbox: &str, session: &Session) -> anyhow::Result<()> {
    let recorded = attached.find(sandbox).await.map(|pod| pod.ports.len());
    let replica = session.monitor.replica();
    let known = port::of_sandbox(sandbox, &replica);
    let plan: Vec<_> =
        known.iter().flat_map(|plugged| port::unplug(&plugged.interface, &replica)).collect();
    transact(session, &plan).await?;
    reached(Step::Unplugged);
    let known: Vec<&str> = known.iter().map(|plugged| plugged.interface.as_str()).collect();
    link::detach_all(ends(sandbox, recorded, &known)).await?;
    reached(Step::Detached);
    Ok(())
}

/// What there may be of a container's links, each with the hardware address by which it is ours. What
/// our port led to is ours without one, also if an older release made it.
///
/// Who has a record has no more pairs than it says: it is written while the links are made, so without
/// one all have to be looked for.
fn ends(sandbox: &str, recorded: Option<usize>, known: &[&str]) -> Vec<(String, Option<Mac>)> {
    let pairs = recorded.unwrap_or(PAIRS_MAX).max(1);
    let all = host_ends(sandbox).enumerate();
    let ends = all.filter(|(number, (name, _))| *number < pairs || known.contains(&name.as_str()));
    let ends = ends.map(|(_, (name, mac))| {
        let is_known = known.contains(&name.as_str());
        (name, (!is_known).then_some(mac))
    });
    // The first one last: whoever lists links sees a pod as long as any of it is left.
    ends.collect::<Vec<_>>().into_iter().rev().collect()
}

/// What the store is to be told. Without a port the record says it: an agent may have died since it
/// took the port away. The store's own word is for a report that was lost, or a bridge.
async fn report(attacher: &Attacher, sandbox: &str, session: &Session) -> Option<Report> {
    if let Some(plugged) = port::of_sandbox(sandbox, &session.monitor.replica()).pop() {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(recorded: Option<usize>, known: &[&str]) -> Vec<String> {
        let ends = ends("cafe0123456789", recorded, known);
        let named = ends.into_iter().map(|(name, mac)| {
            let how = if mac.is_some() { "" } else { " by its port" };
            format!("{name}{how}")
        });
        named.collect()
    }

    #[test]
    fn a_record_says_how_many_pairs_there_may_be_and_a_port_which_is_ours() {
        assert_eq!(names(Some(1), &[]), ["cafe01234567_h"]);
        assert_eq!(names(Some(1), &["cafe01234567_h"]), ["cafe01234567_h by its port"]);
        assert_eq!(names(Some(2), &[]), ["cafe01234567_1", "cafe01234567_h"]);
        assert_eq!(names(None, &[]).len(), PAIRS_MAX);
        // The pod asked for fewer when it was added once more.
        let left = names(Some(1), &["cafe01234567_2"]);
        assert_eq!(left, ["cafe01234567_2 by its port", "cafe01234567_h"]);
    }
}
