//! What was seen at the apiserver is remembered, as far as Atoll would say it, and looked at.

use std::collections::BTreeMap;

use atoll_api::proto::Kind;
use atoll_model::{NodeName, Object, PortName};
use kube::core::DynamicObject;

use super::desired::{ANNOTATIONS, NODE_ANNOTATIONS};
use super::observed::{SeenAnnotations, SeenManifest};
use super::{Publisher, Target, observed};
use crate::follow::Seen;
use crate::objects::{self, Node, Pod};
use crate::store::Store;
use crate::translate;

impl<S: Store> Publisher<S> {
    pub(crate) fn saw_pods(&mut self, seen: &Seen<Pod>) {
        match seen {
            Seen::List(list) => {
                self.pods.clear();
                list.items.iter().for_each(|pod| self.saw_pod(pod));
            }
            Seen::Put(pod) => self.saw_pod(pod),
            Seen::Gone(pod) => {
                if let Some(key) = translate::pod_key(&pod.metadata) {
                    self.pods.remove(&key);
                }
            }
        }
    }

    pub(super) fn saw_pod(&mut self, pod: &Pod) {
        let Some(key) = translate::pod_key(&pod.metadata) else { return };
        let seen = observed::annotations(&pod.metadata, &ANNOTATIONS);
        insert(&mut self.pods, &key, seen);
        self.due.put(Target::Pod(key), ());
    }

    pub(crate) fn saw_nodes(&mut self, seen: &Seen<Node>) {
        match seen {
            Seen::List(list) => {
                self.nodes.clear();
                list.items.iter().for_each(|node| self.saw_node(node));
            }
            Seen::Put(node) => self.saw_node(node),
            Seen::Gone(node) => {
                if let Ok(name) = NodeName::new(objects::name(&node.metadata)) {
                    self.nodes.remove(&name);
                }
            }
        }
    }

    pub(super) fn saw_node(&mut self, node: &Node) {
        let Ok(name) = NodeName::new(objects::name(&node.metadata)) else { return };
        let seen = observed::annotations(&node.metadata, &NODE_ANNOTATIONS);
        insert(&mut self.nodes, &name, seen);
        self.due.put(Target::Node(name), ());
    }

    pub(crate) fn saw_ips(&mut self, seen: &Seen<DynamicObject>) {
        match seen {
            Seen::List(list) => {
                self.ips = Some(BTreeMap::new());
                list.items.iter().for_each(|ip| self.saw_ip(ip));
                for object in self.store.objects(Kind::Allocation) {
                    if let Object::Allocation(it) = object {
                        self.due.put(Target::Ip(it.port.clone()), ());
                    }
                }
            }
            Seen::Put(ip) => self.saw_ip(ip),
            Seen::Gone(ip) => {
                let Ok(port) = PortName::new(objects::name(&ip.metadata)) else { return };
                if let Some(ips) = &mut self.ips {
                    ips.remove(&port);
                }
                self.due.put(Target::Ip(port), ());
            }
        }
    }

    pub(super) fn saw_ip(&mut self, ip: &DynamicObject) {
        let Ok(port) = PortName::new(objects::name(&ip.metadata)) else { return };
        let seen = observed::ip(ip);
        if let Some(ips) = &mut self.ips
            && ips.get(&port).is_none_or(|known| known.version <= seen.version)
        {
            ips.insert(port.clone(), seen);
        }
        self.due.put(Target::Ip(port), ());
    }

    pub(crate) fn saw_manifests(&mut self, seen: &Seen<DynamicObject>) {
        match seen {
            Seen::List(list) => list.items.iter().for_each(|it| self.saw_manifest(it)),
            Seen::Put(object) => self.saw_manifest(object),
            Seen::Gone(object) => {
                if let Some(key) = translate::manifest_name(object) {
                    self.manifests.remove(&key);
                    self.refused.remove(&key);
                }
            }
        }
    }

    pub(super) fn saw_manifest(&mut self, object: &DynamicObject) {
        let Some(key) = translate::manifest_name(object) else { return };
        let seen = observed::manifest(object);
        let is_newer = |known: &SeenManifest| known.version <= seen.version;
        if self.manifests.get(&key).is_none_or(is_newer) {
            self.manifests.insert(key.clone(), seen);
        }
        self.due.put(Target::Manifest(key), ());
    }
}

/// An event may be older than the answer to what was written since.
fn insert<K: Ord + Clone>(
    known: &mut BTreeMap<K, SeenAnnotations>,
    key: &K,
    seen: Option<SeenAnnotations>,
) {
    let Some(seen) = seen else { return };
    if known.get(key).is_none_or(|known| known.version <= seen.version) {
        known.insert(key.clone(), seen);
    }
}
