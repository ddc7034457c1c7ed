//! Which subnets a namespace uses: those that list it by name or select it by its labels.
//!
//! The binding is derived and indexed both ways, so that a pod costs nothing of it. A subnet with
//! selectors looks at every namespace once when it is put; a namespace whose labels change is
//! looked at by the subnets that have selectors. Neither touches pods that have an address.

use std::sync::Arc;

use atoll_model::{Labels, Namespace, NamespaceName, Subnet, SubnetName};
use imbl::{OrdMap, OrdSet};

use crate::index::{Indexes, remove_from};
use crate::state::State;

impl State {
    /// The subnets that pods of `namespace` come to, in order: those that list or select it, the
    /// oldest first, else the default. O(log n) for each.
    pub fn bound_subnets(&self, namespace: &NamespaceName) -> impl Iterator<Item = &Arc<Subnet>> {
        let bound = self.indexes.subnets_by_namespace.get(namespace);
        let default = self.indexes.default_subnet.iter().filter(move |_| bound.is_none());
        let names = bound.into_iter().flatten().map(|(_, name)| name).chain(default);
        names.filter_map(|name| self.subnets.get(name))
    }
}

impl Indexes {
    /// The namespaces that `subnet` lists or selects.
    pub(crate) fn bound_to(&self, subnet: &SubnetName) -> OrdSet<NamespaceName> {
        self.namespaces_by_subnet.get(subnet).cloned().unwrap_or_default()
    }

    /// Binds what a new subnet lists or selects. O(n) for n namespaces if it has selectors.
    pub(crate) fn bind_subnet(
        &mut self,
        subnet: &Subnet,
        namespaces: &OrdMap<NamespaceName, Arc<Namespace>>,
    ) {
        for namespace in &subnet.spec.namespaces {
            self.bind(subnet, namespace);
        }
        if subnet.spec.namespace_selectors.is_empty() {
            return;
        }
        self.selecting.insert(subnet.spec.name.clone());
        for (name, namespace) in namespaces {
            if subnet.spec.selects(&namespace.labels) {
                self.bind(subnet, name);
            }
        }
    }

    /// Undoes [`Indexes::bind_subnet`]. O(its namespaces).
    pub(crate) fn unbind_subnet(&mut self, subnet: &Subnet) {
        let name = &subnet.spec.name;
        self.selecting.remove(name);
        let row = (subnet.created, name.clone());
        for namespace in self.namespaces_by_subnet.remove(name).into_iter().flatten() {
            remove_from(&mut self.subnets_by_namespace, &namespace, &row);
        }
    }

    /// Binds a namespace anew whose labels are these now; without labels it is gone. O(subnets
    /// with selectors).
    pub(crate) fn bind_namespace(
        &mut self,
        name: &NamespaceName,
        labels: Option<&Labels>,
        subnets: &OrdMap<SubnetName, Arc<Subnet>>,
    ) {
        let selecting = self.selecting.clone();
        for subnet in selecting.iter().filter_map(|subnet| subnets.get(subnet)) {
            let listed = subnet.spec.namespaces.contains(name);
            if listed || labels.is_some_and(|labels| subnet.spec.selects(labels)) {
                self.bind(subnet, name);
            } else {
                let row = (subnet.created, subnet.spec.name.clone());
                remove_from(&mut self.subnets_by_namespace, name, &row);
                remove_from(&mut self.namespaces_by_subnet, &subnet.spec.name, name);
            }
        }
    }

    fn bind(&mut self, subnet: &Subnet, namespace: &NamespaceName) {
        let (row, name) = ((subnet.created, subnet.spec.name.clone()), &subnet.spec.name);
        self.subnets_by_namespace.entry(namespace.clone()).or_default().insert(row);
        self.namespaces_by_subnet.entry(name.clone()).or_default().insert(namespace.clone());
    }
}

#[cfg(test)]
#[path = "selector_tests.rs"]
mod tests;
