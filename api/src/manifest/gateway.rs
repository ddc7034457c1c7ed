//! `gatewayType`, `gatewayNode` and `enableEcmp`, as kube-ovn writes them.

use std::net::IpAddr;

use atoll_model::{Addresses, CentralGateway, Family, GatewayNode, GatewayType, NodeName};

/// The fields as they are written.
pub(super) struct Written<'a> {
    /// Empty for the default.
    pub(super) kind: &'a str,
    /// Nodes with commas between them, each `NODE` or `NODE:ADDRESS`, of two families
    /// `NODE:ADDRESS,ADDRESS`: an address alone belongs to the node before it.
    pub(super) nodes: &'a str,
    pub(super) ecmp: bool,
}

impl Written<'_> {
    /// What they mean.
    ///
    /// # Errors
    ///
    /// The field that is wrong, and the rule.
    pub(super) fn read(&self) -> Result<GatewayType, (&'static str, String)> {
        let is_central = match self.kind {
            "" | "distributed" => false,
            "centralized" => true,
            other => {
                let rule = format!("{other:?} is none of distributed, centralized");
                return Err(("spec.gatewayType", rule));
            }
        };
        if is_central {
            let nodes = nodes(self.nodes).map_err(|rule| ("spec.gatewayNode", rule))?;
            return Ok(GatewayType::Centralized(CentralGateway { nodes, ecmp: self.ecmp }));
        }
        if !self.nodes.trim().is_empty() {
            let rule = "only a centralized gateway has nodes; set gatewayType: centralized";
            return Err(("spec.gatewayNode", rule.to_owned()));
        }
        if self.ecmp {
            let rule = "only a centralized gateway has it; set gatewayType: centralized";
            return Err(("spec.enableEcmp", rule.to_owned()));
        }
        Ok(GatewayType::Distributed)
    }
}

fn nodes(text: &str) -> Result<Vec<GatewayNode>, String> {
    let mut nodes: Vec<GatewayNode> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if let Ok(address) = part.parse() {
            let node = nodes.last_mut().ok_or(format!("{part} belongs to no node"))?;
            designate(node, address)?;
            continue;
        }
        let (name, address) = part.split_once(':').map_or((part, None), |(a, b)| (a, Some(b)));
        let name = NodeName::new(name).map_err(|error| error.to_string())?;
        let mut node = GatewayNode { node: name, egress: Addresses::default() };
        if let Some(text) = address {
            designate(&mut node, text.parse().map_err(|_| format!("{text:?} is no address"))?)?;
        }
        nodes.push(node);
    }
    Ok(nodes)
}

fn designate(node: &mut GatewayNode, address: IpAddr) -> Result<(), String> {
    if node.egress.get(Family::of(address)).is_some() {
        return Err(format!("{address}: node {} has an address of that family", node.node));
    }
    node.egress.set(address);
    Ok(())
}

/// As `gatewayType` says it.
pub(super) fn kind(gateway: &GatewayType) -> &'static str {
    match gateway {
        GatewayType::Distributed => "distributed",
        GatewayType::Centralized(_) => "centralized",
    }
}

/// As `gatewayNode` says it.
pub(super) fn node(gateway: &GatewayNode) -> String {
    let (node, egress) = (&gateway.node, gateway.egress);
    if egress.is_empty() { node.to_string() } else { format!("{node}:{egress}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, nodes: &str, ecmp: bool) -> Result<GatewayType, String> {
        Written { kind, nodes, ecmp }.read().map_err(|(field, rule)| format!("{field}: {rule}"))
    }

    #[test]
    fn gateway_nodes_come_back_as_they_were_written() {
        for text in ["n1", "n1,n2", "n1:172.31.0.9,n2", "n1:172.31.0.9,fd31::9,n2:fd31::8"] {
            let read = read("centralized", text, true).unwrap();
            let back: Vec<String> = read.nodes().iter().map(node).collect();
            assert_eq!(back.join(","), text);
        }
        assert_eq!(read("", "", false).unwrap(), GatewayType::Distributed);
    }

    #[test]
    fn what_is_wrong_with_them_is_named() {
        for (kind, nodes, ecmp, part) in [
            ("central", "", false, "gatewayType: \"central\" is none of"),
            ("distributed", "n1", false, "gatewayNode: only a centralized"),
            ("", "", true, "enableEcmp: only a centralized"),
            ("centralized", "n1:x", false, "\"x\" is no address"),
            ("centralized", "10.0.0.1", false, "10.0.0.1 belongs to no node"),
            ("centralized", "n1:10.0.0.1,10.0.0.2", false, "has an address of that family"),
            ("centralized", "N_1", false, "gatewayNode: "),
        ] {
            let error = read(kind, nodes, ecmp).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
