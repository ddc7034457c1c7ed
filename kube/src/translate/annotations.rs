//! What the annotations of a pod ask for: kube-ovn's keys.

use std::net::IpAddr;

use atoll_model::{
    Addresses, InterfaceName, InterfaceRequest, MacAddress, NAMES_QOS, PodRequest, PodTraffic,
    QosName, Rate, SubnetName,
};

use super::Unreadable;

/// What begins so is meant for the network; of a further interface with its name and a dot before it,
/// as kube-ovn has it with its providers.
pub(crate) const PREFIX: &str = "ovn.kubernetes.io/";

/// Longest name of an interface in a pod: the kernel's.
const IFNAME_BYTES_MAX: usize = 15;

/// Which interface an annotation is for, the first one without a name, and the rest of its key; none if
/// it is nobody's here.
pub(crate) fn part(key: &str) -> Option<(Option<&str>, &str)> {
    if let Some(short) = key.strip_prefix(PREFIX) {
        return Some((None, short));
    }
    let (name, short) = key.split_once(PREFIX)?;
    Some((Some(name.strip_suffix('.')?), short))
}

/// Asked for by users of kube-ovn, and not implemented: a pod that is half obeyed is worse than one
/// that waits and says why.
const NOT_IMPLEMENTED: [&str; 20] = [
    "aaps",
    "activation_strategy",
    "default_route",
    "dhcp-v4-options",
    "dhcp-v6-options",
    "eip",
    "ip_family",
    "jitter",
    "latency",
    "layer2_forward",
    "limit",
    "loss",
    "north_gateway",
    "port_security",
    "port_vips",
    "routes",
    "security_groups",
    "snat",
    "vip",
    "vlan_id",
];

/// What a pod asks for, and what it asks of its traffic.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) request: PodRequest,
    pub(crate) traffic: PodTraffic,
}

/// Reads the annotations of a pod. What is nobody's here, and what Atoll writes itself, is passed
/// over.
///
/// `ip_address`, `mac_address` and `logical_switch` are kube-ovn's keys for the request *and* for
/// the answer. The store looks at a request only as long as it has not granted one, so the answer
/// read back changes nothing; and if the store should know less than the pod, it is the best
/// request there is.
pub(crate) fn read<'a>(
    annotations: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Asked, Unreadable> {
    let mut asked = Asked::default();
    let (mut ingress, mut egress) = (Rates::default(), Rates::default());
    for (key, value) in annotations {
        let Some((interface, short)) = part(key) else { continue };
        let value = value.trim();
        if value.is_empty() {
            continue;
        }
        let wrong = |why: String| Unreadable(format!("annotation {key}={value}: {why}"));
        if let Some(name) = interface {
            further(&mut asked.request, name, short, value).map_err(wrong)?;
            continue;
        }
        let request = &mut asked.request;
        match short {
            "ip_address" => request.addresses = addresses(value).map_err(wrong)?,
            "mac_address" => request.mac = Some(mac(value).map_err(wrong)?),
            "logical_switch" => request.subnet = Some(subnet(value).map_err(wrong)?),
            "ip_pool" => request.list = list(value).map_err(wrong)?,
            "ingress_rate" => ingress.rate = number(value).map_err(wrong)?,
            "ingress_burst" => ingress.burst = number(value).map_err(wrong)?,
            "egress_rate" => egress.rate = number(value).map_err(wrong)?,
            "egress_burst" => egress.burst = number(value).map_err(wrong)?,
            "qos" => {
                qos(value).map_err(wrong)?;
                asked.traffic.labels.insert(NAMES_QOS.to_owned(), value.to_owned());
            }
            "mirror" => asked.traffic.mirror = switch(value).map_err(wrong)?,
            "port_security" if value == "false" => {}
            _ if NOT_IMPLEMENTED.contains(&short) => {
                return Err(wrong("is not implemented; leave it out".to_owned()));
            }
            _ => {}
        }
    }
    asked.traffic.rates.ingress = ingress.rate();
    asked.traffic.rates.egress = egress.rate();
    Ok(asked)
}

/// What is asked for a further interface, which is there as soon as anything is.
fn further(asked: &mut PodRequest, name: &str, short: &str, value: &str) -> Result<(), String> {
    let mut request = PodRequest::default();
    match short {
        "ip_address" => request.addresses = addresses(value)?,
        "mac_address" => request.mac = Some(mac(value)?),
        "logical_switch" => request.subnet = Some(subnet(value)?),
        "ip_pool" | "ingress_rate" | "ingress_burst" | "egress_rate" | "egress_burst" | "qos" => {
            return Err("is for a pod's first interface only; leave it out".to_owned());
        }
        _ if NOT_IMPLEMENTED.contains(&short) => {
            return Err("is not implemented; leave it out".to_owned());
        }
        // What Atoll writes itself.
        _ => return Ok(()),
    }
    if name.len() > IFNAME_BYTES_MAX {
        return Err(format!("{name} is to be an interface's name, and has more than 15 bytes"));
    }
    let name = InterfaceName::new(name).map_err(|error| error.to_string())?;
    let all = &mut asked.interfaces;
    let Some(known) = all.iter_mut().find(|it| it.name == name) else {
        all.push(InterfaceRequest { name, request });
        return Ok(());
    };
    let PodRequest { addresses, mac, subnet, .. } = request;
    let known = &mut known.request;
    if !addresses.is_empty() {
        known.addresses = addresses;
    }
    known.mac = mac.or(known.mac);
    known.subnet = subnet.or(known.subnet.take());
    Ok(())
}

#[derive(Default)]
struct Rates {
    rate: u32,
    burst: u32,
}

impl Rates {
    /// A rate of 0 is none, as kube-ovn has it.
    fn rate(&self) -> Option<Rate> {
        let burst_mbit = (self.burst > 0).then_some(self.burst);
        (self.rate > 0).then_some(Rate { mbit: self.rate, burst_mbit })
    }
}

fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "true or false".to_owned())
}

/// `v4`, `v6` or `v4,v6`.
fn addresses(text: &str) -> Result<Addresses, String> {
    let mut found = Addresses::default();
    for part in text.split(',').map(str::trim) {
        let address: IpAddr = part.parse().map_err(|_| format!("{part:?} is no address"))?;
        let is_second = match address {
            IpAddr::V4(_) => found.v4.is_some(),
            IpAddr::V6(_) => found.v6.is_some(),
        };
        if is_second {
            return Err("at most one address of each family".to_owned());
        }
        found.set(address);
    }
    Ok(found)
}

/// `v4,v6;v4,v6` for both families, `a;b` or `a,b` for one.
fn list(text: &str) -> Result<Vec<Addresses>, String> {
    if text.contains(';') {
        let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        return parts.map(addresses).collect();
    }
    let all: Vec<Addresses> =
        text.split(',').map(addresses).collect::<Result<_, _>>().map_err(|error| {
            format!("{error}; a named pool is not implemented, a list of addresses is")
        })?;
    match all.as_slice() {
        // One pair of both families, and not two addresses to choose from.
        [one, two] if one.v4.is_some() != two.v4.is_some() => addresses(text).map(|it| vec![it]),
        _ => Ok(all),
    }
}

fn mac(text: &str) -> Result<MacAddress, String> {
    text.parse().map_err(|error| format!("{error}"))
}

fn subnet(text: &str) -> Result<SubnetName, String> {
    SubnetName::new(text).map_err(|error| error.to_string())
}

fn qos(text: &str) -> Result<QosName, String> {
    QosName::new(text).map_err(|error| error.to_string())
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "a whole number of Mbit, 0 or more".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> Result<Asked, Unreadable> {
        let keys: Vec<(String, &str)> =
            pairs.iter().map(|(key, value)| (format!("{PREFIX}{key}"), *value)).collect();
        read(keys.iter().map(|(key, value)| (key.as_str(), *value)))
    }

    #[test]
    fn what_a_pod_may_ask_for_is_read() {
        let Asked { request, traffic } = asked(&[
            ("ip_address", "10.16.0.9, fd00::9"),
            ("mac_address", "0a:00:00:00:00:09"),
            ("logical_switch", "blue"),
            ("ingress_rate", "30"),
            ("egress_rate", "20"),
            ("egress_burst", "5"),
            ("mirror", "true"),
            ("qos", "gold"),
        ])
        .unwrap();
        assert_eq!(traffic.labels[NAMES_QOS], "gold");
        assert_eq!(request.addresses.to_string(), "10.16.0.9,fd00::9");
        assert_eq!(request.mac.unwrap().to_string(), "0a:00:00:00:00:09");
        assert_eq!(request.subnet.unwrap().as_str(), "blue");
        assert_eq!(traffic.rates.ingress, Some(Rate { mbit: 30, burst_mbit: None }));
        assert_eq!(traffic.rates.egress, Some(Rate { mbit: 20, burst_mbit: Some(5) }));
        assert!(traffic.mirror);
    }

    #[test]
    fn a_further_interface_is_asked_for_by_its_name() {
        let of = |pairs: &[(&str, &str)]| read(pairs.iter().copied()).map(|asked| asked.request);
        let request = of(&[
            ("net1.ovn.kubernetes.io/allocated", "true"),
            ("net1.ovn.kubernetes.io/ip_address", "10.1.0.9,fd00:1::9"),
            ("net1.ovn.kubernetes.io/logical_switch", "blue"),
            ("net1.ovn.kubernetes.io/mac_address", "0a:00:00:00:00:09"),
            ("net2.ovn.kubernetes.io/logical_switch", "red"),
            ("net3.ovn.kubernetes.io/logical_switch", " "),
            ("net4.ovn.kubernetes.io/cidr", "10.1.0.0/16"),
            ("ovn.kubernetes.io/logical_switch", "green"),
        ])
        .unwrap();
        assert_eq!(request.subnet.unwrap().as_str(), "green");
        let [one, two] = &request.interfaces[..] else { panic!("{:?}", request.interfaces) };
        assert_eq!((one.name.as_str(), two.name.as_str()), ("net1", "net2"));
        assert_eq!(one.request.addresses.to_string(), "10.1.0.9,fd00:1::9");
        assert_eq!(one.request.subnet.as_ref().unwrap().as_str(), "blue");
        assert_eq!(one.request.mac.unwrap().to_string(), "0a:00:00:00:00:09");
        assert_eq!(two.request.subnet.as_ref().unwrap().as_str(), "red");
        for (key, value, why) in [
            ("net1.ovn.kubernetes.io/egress_rate", "5", "first interface only"),
            ("net1.ovn.kubernetes.io/vip", "10.0.0.1", "is not implemented"),
            ("net1.ovn.kubernetes.io/ip_address", "10.1", "is no address"),
            ("Net1.ovn.kubernetes.io/logical_switch", "blue", "interface name"),
            ("attachment.default.ovn.kubernetes.io/logical_switch", "blue", "more than 15 bytes"),
        ] {
            let error = of(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(&format!("{key}={value}")) && error.contains(why), "{error}");
        }
        for (key, value) in [("netovn.kubernetes.io/vip", "x"), ("team.example/vip", "x")] {
            assert_eq!(of(&[(key, value)]).unwrap(), PodRequest::default(), "{key}");
        }
    }

    #[test]
    fn a_list_may_be_of_one_family_or_of_both() {
        for (text, means) in [
            ("10.0.0.1", vec!["10.0.0.1"]),
            ("10.0.0.1,10.0.0.2", vec!["10.0.0.1", "10.0.0.2"]),
            ("10.0.0.1;10.0.0.2;", vec!["10.0.0.1", "10.0.0.2"]),
            ("10.0.0.1,fd00::1", vec!["10.0.0.1,fd00::1"]),
            ("10.0.0.1,fd00::1; 10.0.0.2,fd00::2", vec!["10.0.0.1,fd00::1", "10.0.0.2,fd00::2"]),
        ] {
            let list = asked(&[("ip_pool", text)]).unwrap().request.list;
            let list: Vec<String> = list.iter().map(ToString::to_string).collect();
            assert_eq!(list, means, "{text}");
        }
    }

    #[test]
    fn what_says_nothing_asks_for_nothing() {
        for (key, value) in [
            ("ingress_rate", "0"),
            ("ip_address", " "),
            ("allocated", "true"),
            ("routed", "true"),
            ("cidr", "10.16.0.0/16"),
            ("gateway", "10.16.0.1"),
            ("pod_nic_type", "veth-pair"),
            ("mirror", "false"),
            ("somebody_elses", "x"),
        ] {
            assert_eq!(asked(&[(key, value)]).unwrap(), Asked::default(), "{key}");
        }
        assert_eq!(read([("team.example/owner", "me")].into_iter()).unwrap(), Asked::default());
    }

    #[test]
    fn what_cannot_be_read_or_is_not_implemented_is_named() {
        for (key, value, why) in [
            ("ip_address", "10.16.0", "is no address"),
            ("ip_address", "10.16.0.1,10.16.0.2", "one address of each family"),
            ("mac_address", "x", "x"),
            ("logical_switch", "Blue", "subnet name"),
            ("ip_pool", "pool-1", "a named pool is not implemented"),
            ("ingress_rate", "-3", "a whole number"),
            ("egress_rate", "1.5", "a whole number"),
            ("vip", "10.0.0.1", "is not implemented"),
            ("mirror", "yes", "true or false"),
            ("qos", "Gold", "QoS spec name"),
        ] {
            let error = asked(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(&format!("{PREFIX}{key}={value}")), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }
}
