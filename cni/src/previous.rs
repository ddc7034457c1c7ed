//! The result of an earlier `ADD`, as the runtime hands it back for a `CHECK`.
//!
//! It is that of the whole chain: later plugins may have added interfaces, addresses and routes,
//! which are theirs to check.

use std::net::IpAddr;

use atoll_cni_wire::{Added, Address, Interface, Prefix, Route};
use serde::Deserialize;

/// A result in any of the versions: they differ in fields that are not needed here.
#[derive(Debug, Deserialize)]
pub(crate) struct PreviousResult {
    #[serde(default)]
    interfaces: Vec<PreviousInterface>,
    #[serde(default)]
    ips: Vec<PreviousIp>,
    #[serde(default)]
    routes: Vec<PreviousRoute>,
}

#[derive(Debug, Deserialize)]
struct PreviousInterface {
    name: String,
    #[serde(default)]
    mac: String,
    /// Since 1.1.0.
    mtu: Option<u32>,
    #[serde(default)]
    sandbox: String,
}

#[derive(Debug, Deserialize)]
struct PreviousIp {
    address: Prefix,
    gateway: Option<IpAddr>,
    /// Which of the interfaces has it.
    interface: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct PreviousRoute {
    dst: Prefix,
    gw: Option<IpAddr>,
}

impl PreviousResult {
    /// What it says of the interface `ifname` in the pod and of the interfaces on the node. None if
    /// it does not name that interface.
    pub(crate) fn of(self, ifname: &str) -> Option<Added> {
        let is_ours = |it: &PreviousInterface| it.name == ifname && !it.sandbox.is_empty();
        let index = self.interfaces.iter().position(is_ours)?;
        let has_it = |ip: &PreviousIp| ip.interface.is_none_or(|its| its == index);
        let ips: Vec<Address> = self.ips.into_iter().filter(has_it).map(Address::from).collect();
        // A route through somebody else's gateway is somebody else's.
        let is_through = |route: &PreviousRoute| ips.iter().any(|ip| ip.gateway == route.gw);
        let routes = self.routes.into_iter().filter(is_through).map(Route::from).collect();
        let interfaces = self.interfaces.into_iter().map(Interface::from).collect();
        Some(Added { interfaces, ips, routes })
    }
}

impl From<PreviousInterface> for Interface {
    fn from(previous: PreviousInterface) -> Self {
        let PreviousInterface { name, mac, mtu, sandbox } = previous;
        Self { name, mac, mtu, sandbox: Some(sandbox).filter(|sandbox| !sandbox.is_empty()) }
    }
}

impl From<PreviousIp> for Address {
    fn from(previous: PreviousIp) -> Self {
        let PreviousIp { address, gateway, interface } = previous;
        Self { address, gateway, interface }
    }
}

impl From<PreviousRoute> for Route {
    fn from(previous: PreviousRoute) -> Self {
        Self { destination: previous.dst, gateway: previous.gw }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_plugins_of_the_chain_added_is_left_to_them() {
        let text = r#"{"cniVersion":"1.0.0",
            "interfaces":[{"name":"cafe_h","mac":"0a:00:00:00:00:01"},
                {"name":"net1","mac":"0a:00:00:00:00:09","sandbox":"/n"},
                {"name":"eth0","mac":"0a:00:00:00:00:02","sandbox":"/n"}],
            "ips":[{"address":"10.16.0.5/16","gateway":"10.16.0.1","interface":2},
                {"address":"192.0.2.7/24","gateway":"192.0.2.1","interface":1}],
            "routes":[{"dst":"0.0.0.0/0","gw":"10.16.0.1"},
                {"dst":"198.51.100.0/24","gw":"192.0.2.1"},
                {"dst":"203.0.113.0/24"}],
            "dns":{}}"#;
        let read = || serde_json::from_str::<PreviousResult>(text).unwrap();
        let added = read().of("eth0").unwrap();
        assert_eq!(added.interfaces.len(), 3);
        assert_eq!(added.interfaces[0].sandbox, None);
        assert_eq!(added.interfaces[2].mtu, None);
        let addresses: Vec<_> = added.ips.iter().map(|ip| ip.address.to_string()).collect();
        assert_eq!(addresses, ["10.16.0.5/16"]);
        let routes: Vec<_> = added.routes.iter().map(|it| it.destination.to_string()).collect();
        assert_eq!(routes, ["0.0.0.0/0"]);
        assert_eq!(read().of("cafe_h"), None, "it is not in the pod");
        assert_eq!(read().of("eth9"), None);
    }
}
