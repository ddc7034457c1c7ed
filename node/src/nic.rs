//! A pod's interfaces on this node: what is made of each of its allocations.
//!
//! One ADD plugs in all that the store gave the pod: the interface that the runtime asked for, and the
//! further ones by the names that the pod gave them. Each is a veth pair and a port of its own. Only
//! the first has a default route: two would take each other's packets, and OVN drops what leaves by the
//! wrong one.

use std::net::IpAddr;
use std::sync::Arc;

use atoll_cni_wire::{Added, Address, CniError, Code, Interface, Prefix, Route as WireRoute};
use atoll_model::{Allocation, Family, Pod, Sandbox, Subnet};

use crate::attach::failed;
use crate::cni::AddRequest;
use crate::config::Config;
use crate::leg::{pod_network, with_prefixes};
use crate::link::{Mac, PodLink, host_end};
use crate::ovs::port::PodPort;

/// Longest name of an interface: the kernel's `IFNAMSIZ` without the zero behind it.
const IFNAME_BYTES_MAX: usize = 15;

/// What the store decided for one interface.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) allocation: Arc<Allocation>,
    pub(crate) subnet: Arc<Subnet>,
}

/// One interface, as it is to be.
#[derive(Debug, Clone)]
pub(crate) struct Nic {
    pub(crate) link: PodLink,
    pub(crate) port: PodPort,
    /// Of its subnet, for each family that it has.
    pub(crate) gateways: Vec<IpAddr>,
    given: Given,
}

/// All interfaces of a pod, the first one first.
///
/// # Errors
///
/// An id or a name is one that cannot be used.
pub(crate) fn nics(
    config: &Config,
    request: &AddRequest,
    pod: &Pod,
    given: &[Given],
) -> Result<Vec<Nic>, CniError> {
    let numbered = given.iter().enumerate();
    numbered.map(|(number, given)| nic(config, request, pod, (number, given))).collect()
}

fn nic(
    config: &Config,
    request: &AddRequest,
    pod: &Pod,
    (number, given): (usize, &Given),
) -> Result<Nic, CniError> {
    let sandbox = Sandbox::new(&request.container_id)
        .map_err(|error| CniError::new(Code::INVALID_ENVIRONMENT, error.to_string()))?;
    let Given { allocation, subnet } = given;
    let unusable = |error: anyhow::Error| failed("the pod's addresses are unusable", error);
    let ifname = ifname(request, allocation)?;
    let (addresses, routes) = match allocation.interface {
        None => pod_network(allocation.addresses, subnet).map_err(unusable)?,
        Some(_) => (with_prefixes(allocation.addresses, subnet).map_err(unusable)?, Vec::new()),
    };
    let (host_ifname, host_mac) = host_end(&request.container_id, number);
    let port = PodPort {
        interface: host_ifname.clone(),
        port: allocation.port.clone(),
        key: pod.spec.key.clone(),
        uid: pod.spec.uid.clone(),
        netns: request.netns.display().to_string(),
        sandbox,
        ifname: ifname.clone(),
        attachment: allocation.interface.as_ref().map(|_| request.ifname.clone()),
        addresses: allocation.addresses,
        network: request.network.clone(),
    };
    let link = PodLink {
        netns: request.netns.clone(),
        ifname,
        host_ifname,
        host_mac,
        mac: Mac(allocation.mac.octets()),
        mtu: u32::from(subnet.spec.mtu.unwrap_or(config.mtu)),
        addresses,
        routes,
        turn_off_tx_checksums: config.is_userspace(),
    };
    let families = [Family::V4, Family::V6].into_iter();
    let net = |family| allocation.addresses.get(family).and(subnet.spec.net(family));
    let gateways = families.filter_map(net).map(|net| net.gateway).collect();
    Ok(Nic { link, port, gateways, given: given.clone() })
}

/// The name in the pod: the runtime's for the first interface, the pod's own for a further one.
fn ifname(request: &AddRequest, allocation: &Allocation) -> Result<String, CniError> {
    let Some(name) = &allocation.interface else { return Ok(request.ifname.clone()) };
    let refused = |why: &str| {
        let why = format!("the pod's interface {name} cannot be made: {why}; call it net1, say");
        CniError::new(Code::PLUMBING, why)
    };
    match name.as_str() {
        name if name.len() > IFNAME_BYTES_MAX => Err(refused("its name has more than 15 bytes")),
        name if name == request.ifname => Err(refused("the first one has its name")),
        "lo" => Err(refused("that is the loopback's name")),
        name => Ok(name.to_owned()),
    }
}

impl Nic {
    /// As ADD says it, with the end on the node as it is. Only the first one's routes are said.
    pub(crate) fn added(&self, host_mac: Option<Mac>, host_mtu: u32) -> Result<Added, CniError> {
        let internal = |what: &str| CniError::new(Code::INTERNAL, format!("{what} is unusable"));
        let mut ips = Vec::new();
        for network in &self.link.addresses {
            let address = Prefix::new(network.ip(), network.prefix());
            let address = address.ok_or_else(|| internal("an address"))?;
            ips.push(Address { address, gateway: self.gateway(network.ip()), interface: Some(1) });
        }
        let mut routes = Vec::new();
        for route in &self.link.routes {
            let to = Prefix::new(route.destination.network(), route.destination.prefix());
            let destination = to.ok_or_else(|| internal("a route"))?;
            routes.push(WireRoute { destination, gateway: route.gateway });
        }
        let pod = Interface {
            name: self.link.ifname.clone(),
            mac: self.link.mac.to_string(),
            mtu: Some(self.link.mtu),
            sandbox: Some(self.link.netns.display().to_string()),
        };
        let host = Interface {
            name: self.link.host_ifname.clone(),
            mac: host_mac.map(|mac| mac.to_string()).unwrap_or_default(),
            mtu: Some(host_mtu),
            sandbox: None,
        };
        Ok(Added { interfaces: vec![host, pod], ips, routes })
    }

    fn gateway(&self, address: IpAddr) -> Option<IpAddr> {
        let mut nets = self.given.subnet.spec.nets.iter();
        nets.find(|net| net.cidr.contains(address)).map(|net| net.gateway)
    }

    /// The subnet's name, for people.
    pub(crate) fn subnet(&self) -> &str {
        self.given.subnet.spec.name.as_str()
    }
}

/// What ADD says of all interfaces.
pub(crate) fn together(each: Vec<Added>) -> Added {
    let mut all = Added { interfaces: Vec::new(), ips: Vec::new(), routes: Vec::new() };
    for Added { interfaces, ips, routes } in each {
        let before = all.interfaces.len();
        let numbered =
            |ip: Address| Address { interface: ip.interface.map(|it| it + before), ..ip };
        all.ips.extend(ips.into_iter().map(numbered));
        all.interfaces.extend(interfaces);
        all.routes.extend(routes);
    }
    all
}
