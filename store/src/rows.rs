//! The hash of each kind of row. Every struct is taken apart by name, so that a new field cannot
//! be forgotten: the compiler asks for it.

use std::net::IpAddr;

use atoll_model::{
    Acl, AddressRange, Allocation, AllocationState, Binding, Central, CentralGateway, Dhcp,
    Draining, GatewayNode, GatewayType, InterfaceRequest, Janitor, JanitorStop, LabelRequirement,
    LabelSelector, LabelTest, Mirror, MirrorTarget, Namespace, NatRule, Node, NodeSpec, Object,
    Origin, Outcome, Owner, Pod, PodKey, PodOwner, PodPhase, PodRequest, PodSelector, PodSpec,
    PodTraffic, Qos, QosSpec, Rate, Rates, Reconciling, Refusal, Reply, RequestId, Reservation,
    ReservationSpec, ReservedFor, Revision, Settings, Sighting, Subnet, SubnetName, SubnetNet,
    SubnetSpec, WaitReason, Workload, WorkloadKey, WorkloadKind, WorkloadSpec,
};

use crate::feed::{Feed, Scope};

/// The kinds of rows that are no objects; objects have the numbers below.
const COOLING: u8 = 101;
const OUTCOME: u8 = 102;
/// The fields of the state that are no rows.
pub(crate) const SCALARS: u8 = 103;
/// The effect of a transaction.
pub(crate) const EFFECT: u8 = 104;

/// The hash of an object, its key among it.
pub(crate) fn object(object: &Object, scope: Scope) -> u128 {
    let kind = match object {
        Object::Settings(_) => 1,
        Object::Central(_) => 2,
        Object::Subnet(_) => 3,
        Object::Namespace(_) => 4,
        Object::Node(_) => 5,
        Object::Pod(_) => 6,
        Object::Allocation(_) => 7,
        Object::Draining(_) => 8,
        Object::Workload(_) => 9,
        Object::Reservation(_) => 10,
        Object::Qos(_) => 40,
        Object::Mirror(_) => 41,
        Object::Sighting(_) => 42,
        Object::Janitor(_) => 43,
        Object::Reconciling(_) => 44,
    };
    let mut feed = Feed::new(kind, scope);
    match object {
        Object::Settings(it) => feed.settings(it),
        Object::Central(it) => feed.central(it),
        Object::Subnet(it) => feed.subnet(it),
        Object::Namespace(it) => feed.namespace(it),
        Object::Node(it) => feed.node(it),
        Object::Pod(it) => feed.pod(it),
        Object::Allocation(it) => feed.allocation(it),
        Object::Draining(it) => feed.draining(it),
        Object::Workload(it) => feed.workload(it),
        Object::Reservation(it) => feed.reservation(it),
        Object::Qos(it) => feed.qos(it),
        Object::Mirror(it) => feed.mirror(it),
        Object::Sighting(it) => feed.sighting(it),
        Object::Janitor(it) => feed.janitor(it),
        Object::Reconciling(it) => {
            let Reconciling { since } = &**it;
            feed.revision(*since);
        }
    }
    feed.finish()
}

/// The hash of a released address. While it is not confirmed, only its release counts: the end of
/// its cooling follows from the settings.
pub(crate) fn cooling(subnet: &SubnetName, address: IpAddr, row: atoll_ipam::Cooling) -> u128 {
    let atoll_ipam::Cooling { released_ms, ends_ms, confirmed } = row;
    let mut feed = Feed::new(COOLING, Scope::Row);
    feed.text(subnet.as_str());
    feed.address(address);
    feed.number(released_ms);
    feed.option(confirmed.then_some(ends_ms), Feed::number);
    feed.finish()
}

/// The hash of a remembered outcome.
pub(crate) fn outcome(request: RequestId, index: Revision, outcome: &Outcome) -> u128 {
    let RequestId { id, born } = request;
    let mut feed = Feed::new(OUTCOME, Scope::Row);
    feed.wide(id);
    feed.revision(born);
    feed.revision(index);
    match outcome {
        Outcome::Applied { revision, replies } => {
            feed.byte(1);
            feed.revision(*revision);
            feed.each(replies.iter(), Feed::reply);
        }
        Outcome::Refused { operation, refusal } => {
            feed.byte(2);
            feed.option(*operation, |feed, position| feed.number(position.into()));
            feed.refusal(refusal);
        }
    }
    feed.finish()
}

impl Feed {
    /// A refusal is what it says: its sentence names all of its fields.
    pub(crate) fn refusal(&mut self, refusal: &Refusal) {
        self.text(refusal.to_string());
    }

    fn reply(&mut self, reply: &Reply) {
        match reply {
            Reply::Done => self.byte(1),
            Reply::Allocated(allocation) => {
                self.byte(2);
                self.allocation(allocation);
            }
            Reply::Waiting(reason) => {
                self.byte(3);
                self.wait_reason(reason);
            }
            Reply::Bound(revision) => {
                self.byte(4);
                self.revision(*revision);
            }
        }
    }

    fn settings(&mut self, it: &Settings) {
        let Settings {
            cluster_router,
            join_subnet,
            cooldown_ms,
            workload_grace_ms,
            apply_version,
            members,
            projection_paused,
        } = it;
        self.text(cluster_router);
        self.text(join_subnet.as_str());
        self.number(*cooldown_ms);
        self.number(*workload_grace_ms);
        self.number((*apply_version).into());
        // Nothing when missing: members that do not know the field hash the same.
        if let Some(members) = members {
            self.byte(members.get());
        }
        if *projection_paused {
            self.byte(u8::MAX);
        }
    }

    fn central(&mut self, it: &Central) {
        let Central { member, name, nb, sb, since } = it;
        self.number(member.0);
        self.text(name.as_str());
        self.text(nb);
        self.text(sb);
        self.revision(*since);
    }

    fn subnet(&mut self, it: &Subnet) {
        let Subnet {
            spec,
            origin,
            deleting,
            generation,
            datapath_key,
            router_mac,
            active_gateways,
            created,
            changed,
        } = it;
        self.each(active_gateways.iter(), |feed, node| feed.text(node.as_str()));
        self.subnet_spec(spec);
        self.byte(match origin {
            Origin::Api => 1,
            Origin::Kubernetes => 2,
        });
        self.flag(*deleting);
        self.number(*generation);
        self.key(*datapath_key);
        self.bytes(&router_mac.octets());
        self.revision(*created);
        self.revision(*changed);
    }

    fn subnet_spec(&mut self, it: &SubnetSpec) {
        let SubnetSpec {
            name,
            nets,
            excluded,
            namespaces,
            namespace_selectors,
            default,
            nat_outgoing,
            nat_rules,
            mtu,
            gateway_type,
            private,
            allow_subnets,
            acls,
            dhcp: Dhcp { enabled, v4, v6 },
        } = it;
        self.text(name.as_str());
        self.each(nets.iter(), |feed, SubnetNet { cidr, gateway }| {
            feed.address(cidr.first());
            feed.byte(cidr.prefix());
            feed.address(*gateway);
        });
        self.each(excluded.iter(), |feed, range| feed.range(*range));
        self.each(namespaces.iter(), |feed, name| feed.text(name.as_str()));
        self.each(namespace_selectors.iter(), Self::selector);
        self.flag(*default);
        self.flag(*nat_outgoing);
        self.option(*mtu, |feed, mtu| feed.number(mtu.into()));
        self.gateway_type(gateway_type);
        self.flag(*private);
        self.each(allow_subnets.iter(), |feed, cidr| {
            feed.address(cidr.first());
            feed.byte(cidr.prefix());
        });
        self.each(acls.iter(), |feed, Acl { direction, priority, matches, action }| {
            feed.text(direction.to_string());
            feed.number((*priority).into());
            feed.text(matches);
            feed.text(action.to_string());
        });
        self.flag(*enabled);
        self.labels(v4);
        self.labels(v6);
        // Nothing for the others, so that a member of a release without them has the same digest.
        for NatRule { sources, destinations, action } in nat_rules {
            self.each(sources.iter(), |feed, range| feed.range(*range));
            self.each(destinations.iter(), |feed, range| feed.range(*range));
            self.text(action.to_string());
        }
    }

    fn range(&mut self, it: AddressRange) {
        self.address(it.first());
        self.address(it.last());
    }

    fn gateway_type(&mut self, it: &GatewayType) {
        self.flag(matches!(it, GatewayType::Centralized(_)));
        if let GatewayType::Centralized(CentralGateway { nodes, ecmp }) = it {
            self.each(nodes.iter(), |feed, GatewayNode { node, egress }| {
                feed.text(node.as_str());
                feed.addresses(*egress);
            });
            self.flag(*ecmp);
        }
    }

    fn selector(&mut self, it: &LabelSelector) {
        let LabelSelector { match_labels, match_expressions } = it;
        self.labels(match_labels);
        self.each(match_expressions.iter(), |feed, LabelRequirement { key, test }| {
            feed.text(key);
            let (kind, values) = match test {
                LabelTest::In(values) => (1, Some(values)),
                LabelTest::NotIn(values) => (2, Some(values)),
                LabelTest::Exists => (3, None),
                LabelTest::DoesNotExist => (4, None),
            };
            feed.byte(kind);
            feed.option(values, |feed, values| feed.each(values.iter(), Self::text));
        });
    }

    fn namespace(&mut self, it: &Namespace) {
        let Namespace { name, labels, created, changed } = it;
        self.text(name.as_str());
        self.labels(labels);
        self.revision(*created);
        self.revision(*changed);
    }

    fn node(&mut self, it: &Node) {
        let Node {
            spec,
            chassis,
            encap,
            node_epoch,
            ready,
            fenced,
            drained,
            inventory_at,
            conflicts,
            created,
            changed,
        } = it;
        self.flag(*ready);
        self.flag(*fenced);
        self.option(*inventory_at, Self::revision);
        self.each(conflicts.iter(), Self::text);
        let NodeSpec { name, uid, addresses, labels } = spec;
        self.text(name.as_str());
        self.text(uid.as_str());
        self.each(addresses.iter(), |feed, address| feed.address(*address));
        self.labels(labels);
        self.option(chassis.as_ref(), |feed, chassis| feed.text(chassis.as_str()));
        self.option(*encap, Self::address);
        self.number(*node_epoch);
        self.revision(*created);
        self.revision(*changed);
        if *drained {
            // At the end and not otherwise: members of a release that knows no drain have the same
            // digest as long as no node is drained.
            self.flag(true);
        }
    }

    pub(crate) fn pod_key(&mut self, key: &PodKey) {
        self.text(key.namespace().as_str());
        self.text(key.name());
    }

    fn pod(&mut self, it: &Pod) {
        let Pod { spec, waiting, bound, created, changed } = it;
        self.pod_spec(spec);
        self.option(waiting.as_ref(), Self::wait_reason);
        self.option(bound.as_ref(), Self::binding);
        self.revision(*created);
        self.revision(*changed);
    }

    fn pod_spec(&mut self, it: &PodSpec) {
        let PodSpec { key, uid, node, request, traffic, owner, phase } = it;
        let PodTraffic { rates, mirror, labels } = traffic;
        self.rates(rates);
        self.flag(*mirror);
        self.labels(labels);
        self.pod_key(key);
        self.text(uid.as_str());
        self.text(node.as_str());
        self.request(request);
        self.option(owner.as_ref(), Self::pod_owner);
        self.flag(*phase == PodPhase::Finished);
    }

    fn request(&mut self, it: &PodRequest) {
        let PodRequest { addresses, mac, subnet, list, interfaces } = it;
        self.addresses(*addresses);
        self.option(*mac, |feed, mac| feed.bytes(&mac.octets()));
        self.option(subnet.as_ref(), |feed, name| feed.text(name.as_str()));
        self.each(list.iter(), |feed, addresses| feed.addresses(*addresses));
        self.each(interfaces.iter(), |feed, InterfaceRequest { name, request }| {
            feed.text(name.as_str());
            feed.request(request);
        });
    }

    fn workload_kind(&mut self, kind: WorkloadKind) {
        self.byte(match kind {
            WorkloadKind::StatefulSet => 1,
            WorkloadKind::Deployment => 2,
            WorkloadKind::ReplicaSet => 3,
            WorkloadKind::DaemonSet => 4,
            WorkloadKind::Job => 5,
            WorkloadKind::Other => 6,
        });
    }

    fn workload_key(&mut self, key: &WorkloadKey) {
        let WorkloadKey { namespace, kind, name } = key;
        self.text(namespace.as_str());
        self.workload_kind(*kind);
        self.text(name);
    }

    fn pod_owner(&mut self, it: &PodOwner) {
        let PodOwner { kind, name, uid, ordinal } = it;
        self.workload_kind(*kind);
        self.text(name);
        self.text(uid.as_str());
        self.option(*ordinal, |feed, ordinal| feed.number(ordinal.into()));
    }

    fn workload(&mut self, it: &Workload) {
        let Workload { spec, gone_at_ms, over, created, changed } = it;
        let WorkloadSpec { key, uid, replicas, start_ordinal } = spec;
        self.workload_key(key);
        self.text(uid.as_str());
        self.number((*replicas).into());
        self.number((*start_ordinal).into());
        self.option(*gone_at_ms, Self::time);
        self.flag(*over);
        self.revision(*created);
        self.revision(*changed);
    }

    fn reservation(&mut self, it: &Reservation) {
        let Reservation { spec, created, changed } = it;
        let ReservationSpec { name, subnet, addresses, mac, owner, interface } = spec;
        self.text(name.as_str());
        self.text(subnet.as_str());
        self.addresses(*addresses);
        self.option(*mac, |feed, mac| feed.bytes(&mac.octets()));
        match owner {
            ReservedFor::Pod(key) => {
                self.byte(1);
                self.pod_key(key);
            }
            ReservedFor::Ordinal(workload, ordinal) => {
                self.byte(2);
                self.workload_key(workload);
                self.number((*ordinal).into());
            }
        }
        self.option(interface.as_ref(), |feed, name| feed.text(name.as_str()));
        self.revision(*created);
        self.revision(*changed);
    }

    fn rates(&mut self, it: &Rates) {
        let Rates { ingress, egress } = it;
        for rate in [ingress, egress] {
            self.option(rate.as_ref(), |feed, Rate { mbit, burst_mbit }| {
                feed.number((*mbit).into());
                feed.option(*burst_mbit, |feed, burst| feed.number(burst.into()));
            });
        }
    }

    fn qos(&mut self, it: &Qos) {
        let Qos { spec, created, changed } = it;
        let QosSpec { name, rates, important, priority, pods, namespaces, subnets, selectors } =
            spec;
        self.text(name.as_str());
        self.rates(rates);
        self.number((*priority).into());
        self.each(pods.iter(), Self::pod_key);
        self.each(namespaces.iter(), |feed, name| feed.text(name.as_str()));
        self.each(subnets.iter(), |feed, name| feed.text(name.as_str()));
        self.each(selectors.iter(), |feed, PodSelector { namespace, labels }| {
            feed.option(namespace.as_ref(), |feed, name| feed.text(name.as_str()));
            feed.selector(labels);
        });
        self.revision(*created);
        self.revision(*changed);
        // Nothing for the others, so that a member of a release without it has the same digest.
        if *important {
            self.flag(true);
        }
    }

    fn mirror(&mut self, it: &Mirror) {
        let Mirror { target, created } = it;
        match target {
            MirrorTarget::Node(name) => {
                self.byte(1);
                self.text(name.as_str());
            }
            MirrorTarget::Pod(key) => {
                self.byte(2);
                self.pod_key(key);
            }
        }
        self.revision(*created);
    }

    fn sighting(&mut self, it: &Sighting) {
        let Sighting { uid, key, node, since, since_ms, twice, unplugged, changed } = it;
        self.text(uid.as_str());
        self.pod_key(key);
        self.text(node.as_str());
        self.revision(*since);
        self.time(*since_ms);
        self.flag(*twice);
        self.flag(*unplugged);
        self.revision(*changed);
    }

    fn janitor(&mut self, it: &Janitor) {
        let Janitor { apiserver, resource_version, stopped, since, changed } = it;
        self.text(apiserver.as_str());
        self.number(*resource_version);
        match stopped {
            None => self.byte(0),
            Some(JanitorStop::OtherApiserver(uid)) => {
                self.byte(1);
                self.text(uid.as_str());
            }
            Some(JanitorStop::WentBack(version)) => {
                self.byte(2);
                self.number(*version);
            }
        }
        self.revision(*since);
        self.revision(*changed);
    }

    fn wait_reason(&mut self, it: &WaitReason) {
        match it {
            WaitReason::NoSubnet(name) => {
                self.byte(1);
                self.text(name.as_str());
            }
            WaitReason::UnknownSubnet(name) => {
                self.byte(2);
                self.text(name.as_str());
            }
            WaitReason::Full(names) => {
                self.byte(3);
                self.each(names.iter(), |feed, name| feed.text(name.as_str()));
            }
            WaitReason::Static(text) => {
                self.byte(4);
                self.text(text);
            }
            WaitReason::Reconciling => self.byte(5),
        }
    }

    fn binding(&mut self, it: &Binding) {
        let Binding { sandbox, bound_at } = it;
        self.text(sandbox.as_str());
        self.revision(*bound_at);
    }

    fn allocation(&mut self, it: &Allocation) {
        let Allocation {
            port,
            subnet,
            owner,
            addresses,
            mac,
            port_key,
            interface,
            state,
            sticky,
            created,
            changed,
        } = it;
        self.text(port.as_str());
        self.text(subnet.as_str());
        match owner {
            Owner::Pod(key, uid) => {
                self.byte(1);
                self.pod_key(key);
                self.text(uid.as_str());
            }
            Owner::Node(name) => {
                self.byte(2);
                self.text(name.as_str());
            }
        }
        self.addresses(*addresses);
        self.bytes(&mac.octets());
        self.key(*port_key);
        self.option(interface.as_ref(), |feed, name| feed.text(name.as_str()));
        self.flag(*state == AllocationState::Kept);
        self.option(sticky.as_ref(), Self::pod_owner);
        self.revision(*created);
        self.revision(*changed);
    }

    fn draining(&mut self, it: &Draining) {
        let Draining { uid, key, node, binding, subnet, addresses, more } = it;
        self.text(uid.as_str());
        self.pod_key(key);
        self.text(node.as_str());
        self.binding(binding);
        self.text(subnet.as_str());
        self.addresses(*addresses);
        self.each(more.iter(), |feed, (subnet, addresses)| {
            feed.text(subnet.as_str());
            feed.addresses(*addresses);
        });
    }
}
