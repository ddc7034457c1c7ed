//! Nodes: announced, registered by their agents, gone.

use std::net::IpAddr;
use std::sync::Arc;

use atoll_model::{
    Addresses, ChassisName, Node, NodeName, NodeSpec, Object, ObjectKey, Owner, PortName, Refusal,
    Reply, limits,
};

use crate::choose::{Missing, complete};
use crate::namespace::check_labels;
use crate::transaction::{Transaction, over_limit};

impl Transaction {
    /// Announces a node, or what changed of it; a new one gets its join address.
    ///
    /// Another uid under the same name is another machine: its agent has to register anew. The
    /// join address is kept by name, so that the other nodes' routes need not change.
    pub(crate) fn put_node(&mut self, spec: &NodeSpec) -> Result<Reply, Refusal> {
        self.settings()?;
        check_labels(&spec.labels)?;
        self.check_outside_subnets(spec)?;
        let port = PortName::of_node(&spec.name);
        let Some(known) = self.state.nodes.get(&spec.name).cloned() else {
            return self.create_node(spec, port);
        };
        if known.spec != *spec {
            let mut node = Node { spec: spec.clone(), changed: self.revision, ..(*known).clone() };
            if known.spec.uid != spec.uid {
                node.node_epoch += 1;
                node.ready = false;
                node.fenced = false;
                node.drained = false;
                node.chassis = None;
                node.encap = None;
                node.inventory_at = None;
                node.conflicts = Vec::new();
                node.created = self.revision;
                self.doubt_sightings(&spec.name);
            }
            self.put(Object::Node(Arc::new(node)));
            self.renew_gateways(&spec.name);
        }
        let allocation = self.state.allocations.get(&port).expect("a node has a join address");
        Ok(Reply::Allocated(allocation.as_ref().clone()))
    }

    fn create_node(&mut self, spec: &NodeSpec, port: PortName) -> Result<Reply, Refusal> {
        self.check_reconciled()?;
        let refused = |reason| Refusal::NodeAddress { node: spec.name.clone(), reason };
        if self.state.nodes.len() >= limits::NODES_MAX {
            return Err(over_limit(
                "nodes",
                limits::NODES_MAX as u64,
                "delete those that are gone",
            ));
        }
        if let Some(owner) = self.state.other_owner(&port, None) {
            return Err(refused(format!("its port {port} is {owner}'s; rename one of them")));
        }
        let join = Arc::clone(self.state.join_subnet().expect("the settings name a subnet"));
        let name = &join.spec.name;
        let identity = [port.as_str(), spec.uid.as_str()];
        let choice = complete(&join, self.pools(name), Addresses::default(), identity);
        let choice = choice.map_err(|missing| match missing {
            Missing::Address(family) => {
                refused(format!("no free {family} address in subnet {name}; let it grow"))
            }
            Missing::PortKey => refused(format!("subnet {name} has as many ports as it can")),
        })?;
        let owner = Owner::Node(spec.name.clone());
        let allocation = choice.allocation_of(port, owner, self.revision);
        self.allocate(Arc::clone(&allocation));
        self.put(Object::Node(Arc::new(Node {
            spec: spec.clone(),
            chassis: None,
            encap: None,
            node_epoch: 0,
            ready: false,
            fenced: false,
            drained: false,
            inventory_at: None,
            conflicts: Vec::new(),
            created: self.revision,
            changed: self.revision,
        })));
        Ok(Reply::Allocated(allocation.as_ref().clone()))
    }

    /// Pods could not reach a node whose own address is taken for one of theirs.
    fn check_outside_subnets(&self, spec: &NodeSpec) -> Result<(), Refusal> {
        for &address in &spec.addresses {
            let name = self.state.indexes.subnet_of(address);
            let Some(subnet) = name.and_then(|name| self.state.subnets.get(name)) else { continue };
            let mut cidrs = subnet.spec.nets.iter().map(|net| net.cidr);
            if let Some(cidr) = cidrs.find(|cidr| cidr.contains(address)) {
                let (name, node) = (subnet.spec.name.clone(), spec.name.clone());
                return Err(Refusal::SubnetHoldsNode { name, cidr, address, node });
            }
        }
        Ok(())
    }

    /// A node's agent reports. The same report again changes nothing; another one, or the first
    /// after the node was re-created or fenced, begins a new life of the agent.
    pub(crate) fn register_node(
        &mut self,
        name: &NodeName,
        chassis: &ChassisName,
        encap: IpAddr,
    ) -> Result<Reply, Refusal> {
        let known = self.state.nodes.get(name);
        let known = known.ok_or_else(|| Refusal::NodeUnknown(name.clone()))?;
        let same = known.chassis.as_ref() == Some(chassis) && known.encap == Some(encap);
        if same && !known.fenced {
            return Ok(Reply::Done);
        }
        let node = Node {
            chassis: Some(chassis.clone()),
            encap: Some(encap),
            fenced: false,
            // This life has still to say what is plugged in.
            inventory_at: None,
            conflicts: Vec::new(),
            node_epoch: known.node_epoch + 1,
            changed: self.revision,
            ..(**known).clone()
        };
        self.put(Object::Node(Arc::new(node)));
        self.doubt_sightings(name);
        // It may have been fenced, and ready.
        self.renew_gateways(name);
        Ok(Reply::Done)
    }

    /// Deletes a node without pods, or whose pods are all absent twice (module `janitor`): they end.
    /// One that is not there is no matter. Nobody is plugged in on a machine that is gone, so this
    /// confirms what it had left to confirm: O(that).
    pub(crate) fn delete_node(&mut self, name: &NodeName) -> Result<Reply, Refusal> {
        if !self.state.nodes.contains_key(name) {
            return Ok(Reply::Done);
        }
        if !self.end_absent_pods(name) {
            let count = self.state.indexes.pods_by_node.get(name).map_or(0, |pods| pods.len());
            return Err(Refusal::NodeInUse { node: name.clone(), count: count as u64 });
        }
        let drainings = self.state.indexes.drainings_by_node.get(name).cloned();
        for uid in drainings.into_iter().flatten() {
            let draining = self.state.drainings.get(&uid).cloned();
            self.confirm(&draining.expect("the index names drainings"));
        }
        let allocation = self.state.allocations.get(&PortName::of_node(name)).cloned();
        self.release(&allocation.expect("a node has a join address"));
        self.remove(ObjectKey::Node(name.clone()));
        self.renew_gateways(name);
        Ok(Reply::Done)
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::Operation;

    use super::*;
    use crate::scenario::{Scenario, node, node_spec, pod, uid};

    fn register(chassis: &str, encap: &str) -> Operation {
        Operation::RegisterNode {
            node: node("n1"),
            chassis: chassis.parse().unwrap(),
            encap: encap.parse().unwrap(),
        }
    }

    #[test]
    fn a_new_node_gets_the_lowest_join_addresses_of_both_families() {
        let mut it = Scenario::new();
        let allocation = it.apply(Operation::PutNode(node_spec("n9"))).allocated();
        assert_eq!(allocation.addresses.to_string(), "100.64.0.5,fd00:100:64::5");
        assert_eq!((allocation.port.as_str(), allocation.subnet.as_str()), ("node-n9", "join"));
        it.apply(Operation::PutNode(node_spec("n9"))).unchanged().allocated();
    }

    #[test]
    fn before_the_cluster_is_set_up_there_are_no_nodes() {
        Scenario::empty()
            .apply(Operation::PutNode(node_spec("n1")))
            .refused("the cluster is not set up yet");
    }

    #[test]
    fn a_node_whose_address_is_in_a_subnet_is_refused() {
        let mut it = Scenario::new();
        let spec =
            NodeSpec { addresses: vec!["10.16.255.255".parse().unwrap()], ..node_spec("n9") };
        it.apply(Operation::PutNode(spec)).refused(
            "subnet ovn-default: 10.16.0.0/16 contains 10.16.255.255, the address of node n9",
        );
        assert!(it.state.node(&node("n9")).is_none());
    }

    #[test]
    fn a_full_join_subnet_refuses_another_node() {
        let mut it = Scenario::with_join("100.64.0.0/29");
        for n in 1..=5 {
            it.apply(Operation::PutNode(node_spec(&format!("m{n}")))).allocated();
        }
        it.apply(Operation::PutNode(node_spec("m6")))
            .refused("no free IPv4 address in subnet join");
        it.apply(Operation::DeleteNode(node("m2"))).done();
        let allocation = it.apply(Operation::PutNode(node_spec("m6"))).allocated();
        assert_eq!(allocation.addresses.to_string(), "100.64.0.6");
    }

    #[test]
    fn the_same_report_again_is_no_event_and_another_is_a_new_life() {
        let mut it = Scenario::new();
        it.apply(register("c1", "172.30.0.101")).done().changed("node n1");
        assert_eq!(it.state.node(&node("n1")).unwrap().node_epoch, 1);
        it.apply(register("c1", "172.30.0.101")).done().unchanged();
        it.apply(register("c1", "172.30.0.102")).done().changed("node n1");
        assert_eq!(it.state.node(&node("n1")).unwrap().node_epoch, 2);
    }

    #[test]
    fn a_report_of_an_unknown_node_is_refused() {
        let mut it = Scenario::new();
        it.apply(Operation::DeleteNode(node("n1"))).done();
        it.apply(register("c1", "172.30.0.101")).refused("node n1 is not known");
    }

    #[test]
    fn a_recreated_node_keeps_its_join_address_and_has_to_register_anew() {
        let mut it = Scenario::new();
        it.apply(register("c1", "172.30.0.101")).done();
        let before = it.apply(Operation::PutNode(node_spec("n1"))).allocated();
        let again = NodeSpec { uid: uid("another"), ..node_spec("n1") };
        let after = it.apply(Operation::PutNode(again)).allocated();
        assert_eq!(after, before);
        let known = it.state.node(&node("n1")).unwrap();
        assert_eq!((&known.chassis, known.encap, known.node_epoch), (&None, None, 2));
        assert_eq!(known.created, it.state.applied());
    }

    #[test]
    fn changed_labels_do_not_touch_the_agents_report() {
        let mut it = Scenario::new();
        it.apply(register("c1", "172.30.0.101")).done();
        let mut spec = node_spec("n1");
        spec.labels.insert("zone".into(), "a".into());
        it.apply(Operation::PutNode(spec)).changed("node n1").allocated();
        let known = it.state.node(&node("n1")).unwrap();
        assert_eq!((known.node_epoch, known.chassis.is_some()), (1, true));
    }

    #[test]
    fn a_node_goes_only_without_pods_and_takes_its_join_address_along() {
        let mut it = Scenario::new();
        it.put_pod("a/p", "u1").allocated();
        let delete = Operation::DeleteNode(node("n1"));
        it.apply(delete.clone()).refused("node n1 still has 1 pods");
        it.apply(Operation::DeletePod(pod("a/p"), uid("u1"))).done();
        it.apply(delete.clone()).done().changed("allocation node-n1").changed("node n1");
        it.apply(delete).done().unchanged();
    }

    #[test]
    fn a_deleted_node_confirms_what_it_had_left_to_confirm() {
        let mut it = Scenario::with_default("10.16.0.0/30");
        it.put_pod("a/p", "u1").allocated();
        it.bind("a/p", "u1", "n1", "s1").bound();
        it.apply(Operation::DeletePod(pod("a/p"), uid("u1"))).done().changed("draining u1");
        it.put_pod_on("a/q", "u2", "n2").waiting();
        it.apply(Operation::DeleteNode(node("n1"))).done().changed("pod a/q");
        assert_eq!(it.state.drainings().count(), 0);
    }
}
