//! What the annotations of a pod ask for: kube-ovn's keys.

use std::net::IpAddr;

use atoll_model::{
    Addresses, MacAddress, NAMES_QOS, PodRequest, PodTraffic, QosName, Rate, SubnetName,
};

use super::Unreadable;

/// What begins so is meant for the network.
pub(crate) const PREFIX: &str = "ovn.kubernetes.io/";

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
        let Some(short) = key.strip_prefix(PREFIX) else { continue };
        let value = value.trim();
        if value.is_empty() {
            continue;
        }
        let wrong = |why: String| Unreadable(format!("annotation {key}={value}: {why}"));
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
