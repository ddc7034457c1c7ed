//! What a pod's annotations ask of the network.
//!
//! Where there is Kubernetes, Atoll's own controller reads the annotations; here the lab stands in
//! for it. It knows the same keys, and refuses those that it does not know, because an annotation
//! that is silently ignored makes a test prove nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use atoll_model::{
    InterfaceName, InterfaceRequest, MacAddress, PodRequest, PodTraffic, Rate, SubnetName,
};

use super::error::Usage;

/// What is before the slash of an annotation that is meant for the network; of a further interface with
/// its name and a dot before it.
const DOMAIN: &str = "ovn.kubernetes.io";

/// The annotation by which a pod asks for a further interface, in a subnet.
#[must_use]
pub fn interface_in(name: &str, subnet: &str) -> (String, String) {
    (format!("{name}.{DOMAIN}/logical_switch"), subnet.to_owned())
}

/// What a pod asks for itself, and of its traffic.
pub(super) type Asked = (PodRequest, PodTraffic);

/// Reads the annotations of a pod.
pub(super) fn read(annotations: &BTreeMap<String, String>) -> Result<Asked, Usage> {
    let mut request = PodRequest::default();
    let mut traffic = PodTraffic::default();
    for (key, value) in annotations {
        let wrong = |why: String| Usage(format!("annotation {key}={value}: {why}"));
        let Some((domain, short)) = key.split_once('/') else { continue };
        if let Some(name) = domain.strip_suffix(DOMAIN).and_then(|it| it.strip_suffix('.')) {
            let further = further(&mut request, name).map_err(wrong)?;
            if !address(further, short, value).map_err(wrong)? {
                return Err(wrong("the lab does not know it of a further interface".to_owned()));
            }
            continue;
        }
        if domain != DOMAIN || address(&mut request, short, value).map_err(wrong)? {
            continue;
        }
        match short {
            "mirror" => {
                traffic.mirror =
                    value.parse().map_err(|_| wrong("neither true nor false".into()))?;
            }
            "ingress_rate" => traffic.rates.ingress = Some(rate(value).map_err(wrong)?),
            "egress_rate" => traffic.rates.egress = Some(rate(value).map_err(wrong)?),
            _ => return Err(wrong("the lab does not know this annotation".to_owned())),
        }
    }
    Ok((request, traffic))
}

/// What is asked for a further interface; new ones behind those that are known.
fn further<'a>(request: &'a mut PodRequest, name: &str) -> Result<&'a mut PodRequest, String> {
    let name = InterfaceName::new(name).map_err(|error| error.to_string())?;
    let all = &mut request.interfaces;
    let known = all.iter().position(|it| it.name == name);
    let position = known.unwrap_or_else(|| {
        all.push(InterfaceRequest { name, request: PodRequest::default() });
        all.len() - 1
    });
    Ok(&mut all[position].request)
}

/// What any interface may ask for. False if it is something else.
fn address(request: &mut PodRequest, short: &str, value: &str) -> Result<bool, String> {
    match short {
        "ip_address" => {
            for address in value.split(',').map(str::trim) {
                let address = address.parse::<IpAddr>();
                request.addresses.set(address.map_err(|error| error.to_string())?);
            }
        }
        "mac_address" => {
            let mac = value.parse::<MacAddress>();
            request.mac = Some(mac.map_err(|error| error.to_string())?);
        }
        "logical_switch" => {
            let subnet = SubnetName::new(value);
            request.subnet = Some(subnet.map_err(|error| error.to_string())?);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn rate(mbit: &str) -> Result<Rate, String> {
    let mbit = mbit.parse().map_err(|_| "no number of Mbit/s".to_owned())?;
    Ok(Rate { mbit, burst_mbit: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> Result<Asked, Usage> {
        read(&BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    #[test]
    fn a_pod_may_ask_for_addresses_a_mac_and_a_subnet() {
        let (request, _) = one("ovn.kubernetes.io/ip_address", "10.16.0.9, fd00::9").unwrap();
        assert_eq!(request.addresses.to_string(), "10.16.0.9,fd00::9");
        let (request, _) = one("ovn.kubernetes.io/mac_address", "0a:00:00:00:00:09").unwrap();
        assert_eq!(request.mac.unwrap().to_string(), "0a:00:00:00:00:09");
        let (request, _) = one("ovn.kubernetes.io/logical_switch", "blue").unwrap();
        assert_eq!(request.subnet.unwrap().as_str(), "blue");
        assert_eq!(one("team.example/owner", "me").unwrap(), Asked::default());
    }

    #[test]
    fn a_pod_may_ask_for_further_interfaces() {
        let asked = BTreeMap::from([
            interface_in("net1", "blue"),
            interface_in("net2", "red"),
            ("net1.ovn.kubernetes.io/ip_address".to_owned(), "10.1.0.9".to_owned()),
            ("ovn.kubernetes.io/ip_address".to_owned(), "10.16.0.9".to_owned()),
        ]);
        let (request, _) = read(&asked).unwrap();
        assert_eq!(request.addresses.to_string(), "10.16.0.9");
        let [one, two] = &request.interfaces[..] else { panic!("{request:?}") };
        let subnet = |it: &InterfaceRequest| it.request.subnet.clone().unwrap().to_string();
        assert_eq!((one.name.as_str(), subnet(one).as_str()), ("net1", "blue"));
        assert_eq!((two.name.as_str(), subnet(two).as_str()), ("net2", "red"));
        assert_eq!(one.request.addresses.to_string(), "10.1.0.9");
        for key in ["net1.ovn.kubernetes.io/egress_rate", "Net1.ovn.kubernetes.io/mac_address"] {
            assert!(read(&BTreeMap::from([(key.to_owned(), "5".to_owned())])).is_err(), "{key}");
        }
    }

    #[test]
    fn a_pod_may_ask_for_rates_and_a_copy_of_its_traffic() {
        let (_, traffic) = one("ovn.kubernetes.io/mirror", "true").unwrap();
        assert!(traffic.mirror);
        let (_, traffic) = one("ovn.kubernetes.io/egress_rate", "5").unwrap();
        assert_eq!((traffic.rates.ingress, traffic.rates.egress.unwrap().mbit), (None, 5));
        let (_, traffic) = one("ovn.kubernetes.io/ingress_rate", "7").unwrap();
        assert_eq!((traffic.rates.ingress.unwrap().mbit, traffic.rates.egress), (7, None));
    }

    #[test]
    fn what_cannot_be_read_or_is_not_known_is_refused() {
        for (key, value) in [
            ("ip_address", "10.16.0"),
            ("mac_address", "x"),
            ("mirror", "maybe"),
            ("egress_rate", "fast"),
            ("vip", "10.0.0.1"),
        ] {
            let error = one(&format!("ovn.kubernetes.io/{key}"), value).unwrap_err();
            assert!(error.to_string().contains(value), "{error}");
        }
    }
}
