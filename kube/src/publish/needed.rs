//! What differs: what the store decided and what was last seen give what is to be written. No IO.

use std::sync::Arc;

use atoll_model::{
    Allocation, InterfaceRequest, NodeName, Object, ObjectKey, Origin, Owner, Pod as StoredPod,
    PodKey, PortName, Subnet, SubnetName,
};
use serde_json::Value;

use super::write::{Finalizer, Write};
use super::{Publisher, Target, desired, observed};
use crate::store::Store;

impl<S: Store> Publisher<S> {
    /// What is to be written; nothing if it is there already, or is nobody's.
    pub(super) fn needed(&self, target: &Target) -> Option<Write> {
        match target {
            Target::Node(name) => self.needed_node(name),
            Target::Pod(key) => self.needed_pod(key),
            Target::Ip(port) => self.needed_ip(port),
            Target::Manifest(key) => self.needed_manifest(key),
            Target::Event(key, reason) => self.needed_event(key, reason),
        }
    }

    fn needed_node(&self, name: &NodeName) -> Option<Write> {
        let seen = self.nodes.get(name)?;
        let node = match self.store.get(&ObjectKey::Node(name.clone()))? {
            Object::Node(node) if node.spec.uid == seen.uid => node,
            _ => return None,
        };
        let allocation = self.allocation(&PortName::of_node(name))?;
        let subnet = self.subnet(&allocation.subnet)?;
        let annotations = desired::node_annotations(&node, &allocation, &subnet);
        let differs = observed::digest_of(&annotations) != seen.digest;
        let (name, uid) = (name.clone(), seen.uid.clone());
        differs.then_some(Write::Node { name, uid, annotations })
    }

    fn needed_pod(&self, key: &PodKey) -> Option<Write> {
        let seen = self.pods.get(key)?;
        let pod = self.pod(key).filter(|pod| pod.spec.uid == seen.uid)?;
        let allocation = self.allocation(&PortName::of_pod(key))?;
        let subnet = self.subnet(&allocation.subnet)?;
        if !desired::is_shown(&pod, &allocation) {
            return None;
        }
        let Some(Object::Settings(settings)) = self.store.get(&ObjectKey::Settings) else {
            return None;
        };
        let router = &settings.cluster_router;
        let mut annotations = desired::annotations(&allocation, &subnet, router);
        let mut differs = observed::digest_of(&annotations) != seen.digest;
        for InterfaceRequest { name, .. } in &pod.spec.request.interfaces {
            let further = self.allocation(&PortName::of_interface(key, Some(name)))?;
            let subnet = self.subnet(&further.subnet)?;
            let further = desired::annotations(&further, &subnet, router);
            differs |= seen.further.get(name.as_str()) != Some(&observed::digest_of(&further));
            annotations.extend(further);
        }
        let (key, uid) = (key.clone(), seen.uid.clone());
        differs.then_some(Write::Pod { key, uid, annotations })
    }

    pub(super) fn needed_ip(&self, port: &PortName) -> Option<Write> {
        let seen = self.ips.as_ref()?.get(port);
        if let Some(seen) = seen.and_then(|seen| seen.reservation.as_deref()) {
            return self.needed_reserved(port, seen);
        }
        let Some(allocation) = self.allocation(port) else {
            let version = seen?.version;
            return Some(Write::NoIp { port: port.clone(), version });
        };
        let object = self.shown(&allocation);
        let differs = seen.is_none_or(|seen| seen.digest != observed::digest_of_ip(&object));
        let (port, version) = (port.clone(), seen.map(|seen| seen.version));
        differs.then_some(Write::Ip { port, object, version })
    }

    /// The IP of an allocation, if nobody else says what is in it.
    pub(super) fn shown(&self, allocation: &Allocation) -> Value {
        let pod = match &allocation.owner {
            Owner::Pod(key, uid) => self.pod(key).filter(|pod| pod.spec.uid == *uid),
            Owner::Node(_) => None,
        };
        let subnet = self.subnet(&allocation.subnet);
        desired::ip(allocation, pod.as_deref(), subnet.as_deref())
    }

    fn needed_manifest(&self, key: &ObjectKey) -> Option<Write> {
        let seen = self.manifests.get(key)?;
        let (key, uid) = (key.clone(), seen.uid.clone());
        let is_ours = match self.store.get(&key) {
            Some(Object::Subnet(it)) => it.origin == Origin::Kubernetes,
            Some(_) => true,
            None => false,
        };
        if !seen.deleting && !seen.held {
            return Some(Write::Finalizer { key, uid, finalizer: Finalizer::Set });
        }
        if seen.deleting && !is_ours {
            let let_go = Write::Finalizer { key, uid, finalizer: Finalizer::Removed };
            return seen.held.then_some(let_go);
        }
        let refused = self.refused.get(&key).map(String::as_str);
        let status = match self.store.get(&key).filter(|_| is_ours) {
            Some(Object::Subnet(it)) => {
                let usage = self.store.usage(&it.spec.name);
                desired::subnet_status(Some(&it), usage.as_ref(), refused, seen.generation)
            }
            Some(Object::Qos(it)) => desired::qos_status(Some(&it), refused, seen.generation),
            _ if matches!(key, ObjectKey::Qos(_)) => {
                desired::qos_status(None, refused, seen.generation)
            }
            _ => desired::subnet_status(None, None, refused, seen.generation),
        }?;
        (status != seen.status).then_some(Write::Status { key, uid, status })
    }

    pub(super) fn pod(&self, key: &PodKey) -> Option<Arc<StoredPod>> {
        match self.store.get(&ObjectKey::Pod(key.clone()))? {
            Object::Pod(pod) => Some(pod),
            _ => None,
        }
    }

    pub(super) fn allocation(&self, port: &PortName) -> Option<Arc<Allocation>> {
        match self.store.get(&ObjectKey::Allocation(port.clone()))? {
            Object::Allocation(allocation) => Some(allocation),
            _ => None,
        }
    }

    fn subnet(&self, name: &SubnetName) -> Option<Arc<Subnet>> {
        match self.store.get(&ObjectKey::Subnet(name.clone()))? {
            Object::Subnet(subnet) => Some(subnet),
            _ => None,
        }
    }
}
