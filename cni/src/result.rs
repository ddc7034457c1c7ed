//! What is printed: results in the shape of the asked version, errors, versions.

use atoll_cni_wire::{Added, Address, CniError, Interface, Route};
use serde::Serialize;

use crate::config::SUPPORTED_VERSIONS;

/// The result of `ADD`. One type for all versions; fields that a version lacks are left out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AddResult {
    cni_version: &'static str,
    interfaces: Vec<PrintedInterface>,
    ips: Vec<PrintedIp>,
    routes: Vec<PrintedRoute>,
    dns: Empty,
}

#[derive(Debug, Serialize)]
struct Empty {}

#[derive(Debug, Serialize)]
struct PrintedInterface {
    name: String,
    mac: String,
    /// Since 1.1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<String>,
}

#[derive(Debug, Serialize)]
struct PrintedIp {
    /// Before 1.0.0: `4` or `6`.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<usize>,
}

#[derive(Debug, Serialize)]
struct PrintedRoute {
    dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<String>,
}

impl AddResult {
    /// The attachment in the shape of `cni_version`, which is one of [`SUPPORTED_VERSIONS`].
    pub(crate) fn new(added: Added, cni_version: &'static str) -> Self {
        let has_ip_version = matches!(cni_version, "0.3.1" | "0.4.0");
        let has_mtu = cni_version == "1.1.0";
        let in_pod = added.interfaces.iter().position(|interface| interface.sandbox.is_some());
        Self {
            cni_version,
            ips: added.ips.iter().map(|ip| printed_ip(ip, in_pod, has_ip_version)).collect(),
            interfaces: added
                .interfaces
                .into_iter()
                .map(|Interface { name, mac, mtu, sandbox }| PrintedInterface {
                    name,
                    mac,
                    mtu: mtu.filter(|_| has_mtu),
                    sandbox,
                })
                .collect(),
            routes: added.routes.iter().map(printed_route).collect(),
            dns: Empty {},
        }
    }
}

fn printed_ip(ip: &Address, interface: Option<usize>, has_version: bool) -> PrintedIp {
    let interface = ip.interface.or(interface);
    let version = if ip.address.address().is_ipv4() { "4" } else { "6" };
    PrintedIp {
        version: has_version.then_some(version),
        address: ip.address.to_string(),
        gateway: ip.gateway.map(|gateway| gateway.to_string()),
        interface,
    }
}

fn printed_route(route: &Route) -> PrintedRoute {
    PrintedRoute {
        dst: route.destination.to_string(),
        gw: route.gateway.map(|gateway| gateway.to_string()),
    }
}

/// A CNI error.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErrorResult<'a> {
    cni_version: &'a str,
    code: u32,
    msg: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    details: &'a str,
}

impl<'a> ErrorResult<'a> {
    pub(crate) fn new(error: &'a CniError, cni_version: &'a str) -> Self {
        Self { cni_version, code: error.code.0, msg: &error.message, details: &error.details }
    }
}

/// The answer to `VERSION`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionResult<'a> {
    cni_version: &'a str,
    supported_versions: [&'static str; 4],
}

impl<'a> VersionResult<'a> {
    pub(crate) fn new(cni_version: &'a str) -> Self {
        Self { cni_version, supported_versions: SUPPORTED_VERSIONS }
    }
}
