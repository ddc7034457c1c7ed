//! What the store says of the pod, as this node knows it, against what ADD said.

use atoll_model::{Family, Pod, PodKey, Uid};

use super::links::of_pod;
use crate::cni::{AddRequest, CheckRequest};
use crate::view::View;

/// What the store says against what ADD said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stored {
    /// It says something else; nothing if it agrees.
    Differs(Vec<String>),
    /// It may not have heard yet.
    Passing(String),
}

impl Stored {
    pub(super) fn agrees(&self) -> bool {
        matches!(self, Self::Differs(why) if why.is_empty())
    }
}

/// The store's binding, and that its addresses are those that ADD gave.
pub(super) fn compare(request: &CheckRequest, view: &View) -> Stored {
    let AddRequest { container_id, pod, .. } = &request.attachment;
    let Some((key, uid, _)) = view.bound(container_id) else { return unbound(request, view) };
    let named = format!("{}/{}", pod.namespace, pod.name);
    if key.to_string() != named {
        return Stored::Differs(vec![format!(
            "the store has sandbox {container_id} for pod {key}"
        )]);
    }
    if let Some(other) = pod.uid.as_ref().filter(|it| *it != uid.as_str()) {
        let why = format!("the store has sandbox {container_id} for uid {uid}, not {other}");
        return Stored::Differs(vec![why]);
    }
    // One that is over keeps what it has until its DEL.
    let alive = view.pod(key).filter(|pod| pod.spec.uid == *uid);
    Stored::Differs(alive.map(|pod| addresses(request, view, pod, uid)).unwrap_or_default())
}

fn addresses(request: &CheckRequest, view: &View, pod: &Pod, uid: &Uid) -> Vec<String> {
    let key = &pod.spec.key;
    let Some(allocation) = view.allocation_of(pod) else {
        return vec![format!("the store has no address for pod {key} with uid {uid}")];
    };
    let said = &request.previous;
    let mut found = Vec::new();
    let mac = of_pod(said, &request.attachment.ifname).map(|it| it.mac.as_str());
    let wanted = allocation.mac.to_string();
    if mac.is_some_and(|mac| !mac.is_empty() && !mac.eq_ignore_ascii_case(&wanted)) {
        found.push(format!("the store has MAC {wanted} for pod {key}, which ADD did not say"));
    }
    let has = [Family::V4, Family::V6].map(|family| allocation.addresses.get(family));
    let lost = has.into_iter().flatten();
    let lost = lost.filter(|address| !said.ips.iter().any(|ip| ip.address.address() == *address));
    found.extend(lost.map(|address| {
        format!("the store has address {address} for pod {key}, which ADD did not say")
    }));
    found
}

fn unbound(request: &CheckRequest, view: &View) -> Stored {
    let pod = &request.attachment.pod;
    let named = format!("{}/{}", pod.namespace, pod.name);
    if view.lineage().is_none() {
        return Stored::Passing("this node has not heard of any store yet".into());
    }
    if view.reconciling().is_some() {
        let why = "the store was restored and is still being told what is plugged in";
        return Stored::Passing(why.into());
    }
    let known = PodKey::parse(&named).ok().and_then(|key| view.pod(&key));
    Stored::Differs(vec![match known.map(|pod| pod.bound.as_ref()) {
        None => format!("the store does not know pod {named} on this node"),
        Some(None) => format!("the store does not know that pod {named} is plugged in"),
        Some(Some(other)) => {
            format!("the store has pod {named} plugged in by sandbox {}", other.sandbox)
        }
    }])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use atoll_model::{Allocation, Binding, ClusterId, Lineage, Object, Reconciling, Revision};

    use super::*;
    use crate::check::samples::request;
    use crate::view::samples::{allocation, pod};

    fn stored(sandbox: Option<&str>, has: Allocation, more: Option<Object>) -> Stored {
        let bound = sandbox
            .map(|sandbox| Binding { sandbox: sandbox.parse().unwrap(), bound_at: Revision(4) });
        let pod = Object::Pod(Arc::new(Pod { bound, ..pod("a/p", "u1") }));
        let objects = [pod, Object::Allocation(Arc::new(has))].into_iter().chain(more).collect();
        compare(&request(), &View::restored(Lineage::new(ClusterId(1), Revision(9)), objects))
    }

    #[test]
    fn whatever_the_store_says_otherwise_is_named() {
        let has = || allocation("a/p", "u1", 2);
        assert!(stored(Some("c1"), has(), None).agrees());
        let differs = |text: &str| Stored::Differs(vec![text.to_owned()]);
        let other = "the store has pod a/p plugged in by sandbox c2";
        assert_eq!(stored(Some("c2"), has(), None), differs(other));
        let unbound = "the store does not know that pod a/p is plugged in";
        assert_eq!(stored(None, has(), None), differs(unbound));
        let reconciling = Object::Reconciling(Arc::new(Reconciling { since: Revision(5) }));
        assert!(matches!(stored(None, has(), Some(reconciling)), Stored::Passing(_)));
        let Stored::Differs(moved) = stored(Some("c1"), allocation("a/p", "u1", 9), None) else {
            panic!("it differs")
        };
        assert_eq!(moved.len(), 2, "{moved:?}");
        assert!(moved[0].starts_with("the store has MAC 0a:00:00:00:00:09"), "{moved:?}");
        assert!(moved[1].starts_with("the store has address 10.99.0.9"), "{moved:?}");
        let stranger = stored(Some("c1"), allocation("a/p", "u2", 2), None);
        assert_eq!(stranger, differs("the store has no address for pod a/p with uid u1"));
        assert!(matches!(compare(&request(), &View::default()), Stored::Passing(_)));
    }
}
