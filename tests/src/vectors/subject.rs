//! One subnet of a case: a whole state with that subnet in it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use atoll_model::{
    Actor, Addresses, Allocation, Cidr, Family, MacAddress, NodeName, NodeSpec, Operation, Origin,
    Outcome, PodKey, PodSpec, PortName, RangeSet, Reply, Revision, SubnetName, SubnetNet,
    SubnetSpec, Txn, Uid, WaitReason,
};
use atoll_store::State;

use super::Other;

/// Made of what a case says of a subnet.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    pub(super) cidrs: Vec<Cidr>,
    pub(super) excluded: Vec<atoll_ipam::AddressRange>,
    /// The gateways that the case names.
    pub(super) gateways: Addresses,
    /// Every address of which the case speaks.
    pub(super) spoken: BTreeSet<IpAddr>,
}

/// A pod's interface, as the case names it.
#[derive(Debug, Clone)]
struct Port {
    pod: String,
    key: PodKey,
    uid: Uid,
}

/// What an interface may ask for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    pub(super) addresses: Addresses,
    pub(super) mac: Option<MacAddress>,
}

/// A state with one subnet, and the pods that ask for it.
#[derive(Debug)]
pub(super) struct Subject {
    state: State,
    ports: BTreeMap<String, Port>,
    /// The gateways, named by the case or standing in.
    pub(super) gateways: Addresses,
    pub(super) shape: Shape,
    made: u32,
}

const NODE: &str = "node";
const SUBNET: &str = "subject";

fn sound<T, E: std::fmt::Debug>(name: Result<T, E>) -> T {
    name.expect("the runner's own names are sound")
}

impl Subject {
    pub(super) fn new(shape: Shape) -> Result<Self, Other> {
        let mut subject = Self {
            state: State::default(),
            ports: BTreeMap::new(),
            gateways: Addresses::default(),
            shape: Shape::default(),
            made: 0,
        };
        let mut defaults = atoll_store::setup::defaults();
        defaults.retain(|operation| match operation {
            Operation::PutSubnet(spec, _) => !spec.default,
            _ => true,
        });
        for operation in &mut defaults {
            if let Operation::PutSettings(settings) = operation {
                settings.cooldown_ms = 0;
            }
        }
        defaults.push(Operation::PutNode(NodeSpec {
            name: sound(NodeName::new(NODE)),
            uid: sound(Uid::new("uid-of-node")),
            addresses: Vec::new(),
            labels: atoll_model::Labels::new(),
        }));
        subject.apply(defaults).map_err(Other::Unsupported)?;
        subject.reshape(shape)?;
        Ok(subject)
    }

    /// Gives the subnet another shape.
    pub(super) fn reshape(&mut self, shape: Shape) -> Result<(), Other> {
        let excluded: RangeSet = shape.excluded.iter().copied().collect();
        let name = sound(SubnetName::new(SUBNET));
        let mut spec = SubnetSpec { excluded: within(&shape), ..SubnetSpec::new(name, Vec::new()) };
        let mut gateways = Addresses::default();
        for &cidr in &shape.cidrs {
            let family = cidr.family();
            let gateway = match shape.gateways.get(family) {
                Some(gateway) => gateway,
                None => {
                    let found = stand_in(cidr, &excluded, &shape.spoken);
                    let found = self.gateways.get(family).filter(|it| cidr.contains(*it)).or(found);
                    found.ok_or_else(|| {
                        Other::Different("the gateway needs an address of its own".into())
                    })?
                }
            };
            gateways.set(gateway);
            spec.nets.push(SubnetNet { cidr, gateway });
            if family == Family::V6 && cidr.prefix() < 127 {
                spec.excluded.push(cidr.last().into());
            }
        }
        self.apply(vec![Operation::PutSubnet(spec, Origin::Api)]).map_err(Other::Different)?;
        self.gateways = gateways;
        self.shape = shape;
        Ok(())
    }

    fn apply(&mut self, operations: Vec<Operation>) -> Result<Vec<Reply>, String> {
        let txn = Txn {
            request: None,
            actor: Actor::Leader,
            preconditions: Vec::new(),
            operations,
            clock_ms: 1,
            wall_ms: 1,
        };
        let index = Revision(self.state.applied().0 + 1);
        let outcome = self.state.apply(index, &txn).outcome;
        if let Err(broken) = self.state.check() {
            return Err(format!("broken: {broken}"));
        }
        match outcome {
            Outcome::Applied { replies, .. } => Ok(replies),
            Outcome::Refused { refusal, .. } => Err(format!("refused: {refusal}")),
        }
    }

    /// Announces a pod's interface: its addresses, or the vectors' word for why not.
    pub(super) fn put(
        &mut self,
        pod: &str,
        nic: &str,
        asked: Asked,
    ) -> Result<Result<Allocation, &'static str>, Other> {
        let port = match self.ports.get(nic) {
            Some(port) => port.clone(),
            None => {
                self.made += 1;
                let key = sound(PodKey::parse(&format!("vectors/nic-{}", self.made)));
                let uid = sound(Uid::new(&format!("uid-{}", self.made)));
                Port { pod: pod.to_owned(), key, uid }
            }
        };
        let node = sound(NodeName::new(NODE));
        let mut spec = PodSpec::new(port.key.clone(), port.uid.clone(), node);
        spec.request.addresses = asked.addresses;
        spec.request.mac = asked.mac;
        spec.request.subnet = Some(sound(SubnetName::new(SUBNET)));
        let replies = self.apply(vec![Operation::PutPod(spec)]).map_err(Other::Different)?;
        match replies.into_iter().next() {
            Some(Reply::Allocated(allocation)) => {
                self.ports.insert(nic.to_owned(), port);
                Ok(Ok(allocation))
            }
            Some(Reply::Waiting(reason)) => {
                let gone = Operation::DeletePod(port.key, port.uid);
                self.apply(vec![gone]).map_err(Other::Different)?;
                Ok(Err(code(&reason)))
            }
            other => Err(Other::Different(format!("the reply is {other:?}"))),
        }
    }

    /// Ends every interface of `pod`, or only `nic`.
    pub(super) fn release(&mut self, pod: &str, nic: Option<&str>) -> Result<(), Other> {
        let meant = |name: &str, port: &Port| match nic {
            Some(nic) => name == nic,
            None => port.pod == pod,
        };
        let gone: Vec<String> = self
            .ports
            .iter()
            .filter(|(name, port)| meant(name, port))
            .map(|it| it.0.clone())
            .collect();
        for name in gone {
            if let Some(port) = self.ports.remove(&name) {
                let delete = Operation::DeletePod(port.key, port.uid);
                self.apply(vec![delete]).map_err(Other::Different)?;
            }
        }
        Ok(())
    }

    /// Deletes the subnet.
    pub(super) fn delete(&mut self) -> Result<(), Other> {
        let delete = Operation::DeleteSubnet(sound(SubnetName::new(SUBNET)));
        self.apply(vec![delete]).map(|_| ()).map_err(Other::Different)
    }

    /// The pod that has `address`.
    pub(super) fn owner(&self, address: IpAddr) -> Option<&str> {
        let subnet = sound(SubnetName::new(SUBNET));
        let port = &self.state.allocation_at(&subnet, address)?.port;
        let found = self.ports.values().find(|it| PortName::of_pod(&it.key) == *port)?;
        Some(&found.pod)
    }

    /// What an interface has.
    pub(super) fn allocation(&self, nic: &str) -> Option<&Allocation> {
        let port = self.ports.get(nic)?;
        Some(self.state.allocation(&PortName::of_pod(&port.key))?)
    }

    /// The interfaces of a pod.
    pub(super) fn nics(&self, pod: &str) -> Vec<&str> {
        let of = self.ports.iter().filter(|(_, port)| port.pod == pod);
        of.map(|(name, _)| name.as_str()).collect()
    }

    /// The pod that has a MAC.
    pub(super) fn mac_owner(&self, mac: MacAddress) -> Option<&str> {
        let has = |nic: &String| self.allocation(nic).is_some_and(|it| it.mac == mac);
        self.ports.iter().find(|(nic, _)| has(nic)).map(|(_, port)| port.pod.as_str())
    }

    /// What is available and in use of one family.
    pub(super) fn ranges(&self, family: Family) -> (RangeSet, RangeSet) {
        let usage = self.state.usage(&sound(SubnetName::new(SUBNET)));
        let usage = usage.and_then(|it| if family == Family::V4 { it.v4 } else { it.v6 });
        usage.map(|it| (it.available_ranges, it.using_ranges)).unwrap_or_default()
    }
}

/// The excluded ranges that meet the subnet: others are refused, as a mistake.
fn within(shape: &Shape) -> Vec<atoll_ipam::AddressRange> {
    let meets = |range: &&atoll_ipam::AddressRange| {
        shape.cidrs.iter().any(|it| it.contains(range.first()) || range.contains(it.first()))
    };
    shape.excluded.iter().filter(meets).copied().collect()
}

/// An address that the case will not miss.
fn stand_in(cidr: Cidr, excluded: &RangeSet, spoken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let assignable = cidr.assignable();
    if cidr.family() == Family::V6 && cidr.prefix() < 127 && !spoken.contains(&cidr.last()) {
        return Some(cidr.last());
    }
    let within = excluded.iter().filter(|range| range.family() == cidr.family());
    let ends = within.flat_map(|range| [range.first(), range.last()]);
    let usable = |it: &IpAddr| assignable.contains(*it) && !spoken.contains(it);
    let below = |address: IpAddr| -> Option<IpAddr> {
        match address {
            IpAddr::V4(v4) => Some(IpAddr::V4((v4.to_bits().checked_sub(1)?).into())),
            IpAddr::V6(v6) => Some(IpAddr::V6((v6.to_bits().checked_sub(1)?).into())),
        }
    };
    let last = std::iter::successors(Some(assignable.last()), |it| below(*it)).take(64);
    ends.chain(last).find(usable)
}

/// The vectors' word for a reason to wait.
fn code(reason: &WaitReason) -> &'static str {
    match reason {
        WaitReason::Full(_) => "NoAvailableAddress",
        WaitReason::NoSubnet(_) | WaitReason::UnknownSubnet(_) => "NoSubnet",
        WaitReason::Static(text) if text.contains("no free") => "NoAvailableAddress",
        WaitReason::Static(text) if text.contains("is not in") => "AddressOutOfRange",
        WaitReason::Static(text)
            if text.contains("is held by")
                || text.contains("is the gateway")
                || text.contains("is the router's") =>
        {
            "AddressConflict"
        }
        WaitReason::Static(_) | WaitReason::Reconciling => "invalid",
    }
}
