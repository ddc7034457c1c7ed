//! Whether the next pod can be attached: what an ADD needs, looked at and not tried.

use std::time::Duration;

use atoll_cni_wire::{CniError, Code};
use atoll_model::NodeName;
use time::OffsetDateTime;

use crate::attach::Attacher;
use crate::drain;
use crate::leg;
use crate::ovs::settings;
use crate::ovs::{DATABASE, OvsError, Session};
use crate::southbound::Missing;
use crate::view::View;

/// How long Open vSwitch has for each of two steps; the southbound has its own time. All of it
/// together is less than a plugin waits.
const OVS: Duration = Duration::from_millis(300);

/// Looks at an operator's pause, at the store's view, which may be from the cache, at Open vSwitch and
/// at the southbound.
///
/// # Errors
///
/// [`Code::LIMITED_CONNECTIVITY`] if pods that are attached may suffer, else
/// [`Code::NOT_AVAILABLE`].
pub(crate) async fn status(attacher: &Attacher) -> Result<(), CniError> {
    if let Some(paused) = attacher.pause.now() {
        let why = format!("this node is {}", paused.describe());
        return Err(CniError::new(Code::NOT_AVAILABLE, why));
    }
    let session = attacher.ovs.session(OVS).await.map_err(|error| limited(&error))?;
    let answered = tokio::time::timeout(OVS, session.client.transact(DATABASE, &[])).await;
    match answered {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(limited(&OvsError::from(error))),
        Err(_) => return Err(CniError::new(Code::LIMITED_CONNECTIVITY, OVS_SILENT)),
    }
    known(&attacher.views.borrow(), &attacher.config.node)?;
    let missing = *attacher.southbound.borrow();
    southbound(&session, missing).await
}

const OVS_SILENT: &str =
    "Open vSwitch's database is connected and does not answer; is ovsdb-server frozen?";

fn limited(error: &OvsError) -> CniError {
    CniError::new(Code::LIMITED_CONNECTIVITY, error.to_string())
}

/// Whether the store takes pods of this node, as far as the node knows.
fn known(view: &View, name: &NodeName) -> Result<(), CniError> {
    let not_available = |why: String| Err(CniError::new(Code::NOT_AVAILABLE, why));
    if view.lineage().is_none() {
        return not_available(
            "this node has not heard of any store yet: is a member reachable?".into(),
        );
    }
    let Some(node) = view.node(name) else {
        return not_available(format!("the store does not know node {name}"));
    };
    if node.fenced {
        let why = format!(
            "node {name} was fenced: its pods may run elsewhere. Its agent registers it again as \
             soon as it reaches a member"
        );
        return Err(CniError::new(Code::LIMITED_CONNECTIVITY, why));
    }
    if node.chassis.is_none() {
        return not_available(format!(
            "node {name} is not registered with the store yet: are the members reachable?"
        ));
    }
    drain::refuse(view, name).or_else(|refused| not_available(refused.message))
}

/// Whether `ovn-controller` can have a southbound: one listens where it was sent.
async fn southbound(session: &Session, missing: Option<Missing>) -> Result<(), CniError> {
    let why = match settings::remote(&session.monitor.replica()) {
        Some(remote) if leg::answers(&remote).await => return Ok(()),
        Some(remote) => {
            let since = missing.map(|it| format!(": {}", it.describe(OffsetDateTime::now_utc())));
            let since = since.as_deref().unwrap_or("; see `atollctl ovn status`");
            format!(
                "no southbound answers at {remote}, and without one no new port is installed{since}"
            )
        }
        None => "ovn-controller was not told of a southbound yet; see `atollctl ovn status`".into(),
    };
    Err(CniError::new(Code::NOT_AVAILABLE, why))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use atoll_model::{ClusterId, Lineage, Node, Object, Revision};

    use super::*;
    use crate::view::samples::node;

    #[test]
    fn a_node_that_the_store_takes_pods_of_is_available() {
        let view = |node: Option<Node>| {
            let objects = node.into_iter().map(|node| Object::Node(Arc::new(node))).collect();
            View::restored(Lineage::new(ClusterId(1), Revision(9)), objects)
        };
        let name = "n1".parse().unwrap();
        let code = |view: &View| known(view, &name).map_err(|error| error.code);
        assert_eq!(code(&view(Some(node("n1")))), Ok(()));
        assert_eq!(code(&View::default()), Err(Code::NOT_AVAILABLE));
        assert_eq!(code(&view(None)), Err(Code::NOT_AVAILABLE));
        let unregistered = Node { chassis: None, ..node("n1") };
        assert_eq!(code(&view(Some(unregistered))), Err(Code::NOT_AVAILABLE));
        let drained = Node { drained: true, ..node("n1") };
        assert_eq!(code(&view(Some(drained))), Err(Code::NOT_AVAILABLE));
        let fenced = Node { fenced: true, ..node("n1") };
        assert_eq!(code(&view(Some(fenced))), Err(Code::LIMITED_CONNECTIVITY));
    }
}
