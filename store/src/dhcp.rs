//! Which DHCP options OVN takes.
//!
//! Values become part of OVN's logical flows as they are written: one that does not parse would
//! take the answers of all pods of its subnet with it, so each is read here as OVN reads it.

use std::net::IpAddr;

use atoll_model::{Cidr, Dhcp, DhcpOptions, Family, MacAddress, Refusal, SubnetSpec, limits};

use crate::transaction::over_limit;

/// What an option's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One address, or several in braces.
    Addresses,
    Address,
    Mac,
    /// Not above.
    Number(u64),
    /// `0` or `1`.
    Flag,
    /// In double quotes.
    Text,
    /// An address, or a name in double quotes.
    Host,
    /// `{RANGE,HOP, RANGE,HOP}`.
    Routes,
}

const U8: Kind = Kind::Number(u8::MAX as u64);
const U16: Kind = Kind::Number(u16::MAX as u64);
const U32: Kind = Kind::Number(u32::MAX as u64);

/// As OVN 23.03 lists them in its southbound, but for `offerip`, which is what it allocates.
const V4: [(&str, Kind); 37] = [
    ("T1", U32),
    ("T2", U32),
    ("arp_cache_timeout", U32),
    ("bootfile_name", Kind::Text),
    ("bootfile_name_alt", Kind::Text),
    ("broadcast_address", Kind::Address),
    ("classless_static_route", Kind::Routes),
    ("default_ttl", U8),
    ("dns_server", Kind::Addresses),
    ("domain_name", Kind::Text),
    ("domain_search_list", Kind::Text),
    ("ethernet_encap", Kind::Flag),
    ("hostname", Kind::Text),
    ("ip_forward_enable", Kind::Flag),
    ("lease_time", U32),
    ("log_server", Kind::Addresses),
    ("lpr_server", Kind::Addresses),
    ("ms_classless_static_route", Kind::Routes),
    ("mtu", U16),
    ("netbios_name_server", Kind::Addresses),
    ("netbios_node_type", U8),
    ("netmask", Kind::Address),
    ("next_server", Kind::Address),
    ("nis_server", Kind::Addresses),
    ("ntp_server", Kind::Addresses),
    ("path_prefix", Kind::Text),
    ("policy_filter", Kind::Addresses),
    ("router", Kind::Addresses),
    ("router_discovery", Kind::Flag),
    ("router_solicitation", Kind::Address),
    ("server_id", Kind::Address),
    ("server_mac", Kind::Mac),
    ("swap_server", Kind::Address),
    ("tcp_keepalive_interval", U32),
    ("tcp_ttl", U8),
    ("tftp_server", Kind::Host),
    ("tftp_server_address", Kind::Addresses),
];

/// The same; `ia_addr` is what it allocates.
const V6: [(&str, Kind); 3] =
    [("dns_server", Kind::Addresses), ("domain_search", Kind::Text), ("server_id", Kind::Mac)];

/// Refuses options that OVN does not know, or would not understand.
pub(crate) fn check_dhcp(spec: &SubnetSpec) -> Result<(), Refusal> {
    let Dhcp { enabled: _, v4, v6 } = &spec.dhcp;
    for (family, options, known) in [(Family::V4, v4, &V4[..]), (Family::V6, v6, &V6[..])] {
        check_limits(options)?;
        for (name, value) in options {
            check(family, known, name, value)
                .map_err(|rule| Refusal::SubnetInvalid { name: spec.name.clone(), rule })?;
        }
    }
    Ok(())
}

fn check_limits(options: &DhcpOptions) -> Result<(), Refusal> {
    if options.len() > limits::DHCP_OPTIONS_MAX {
        let most = limits::DHCP_OPTIONS_MAX as u64;
        return Err(over_limit("DHCP options of one family", most, "leave some out"));
    }
    if options.values().any(|value| value.len() > limits::DHCP_VALUE_BYTES_MAX) {
        let most = limits::DHCP_VALUE_BYTES_MAX as u64;
        return Err(over_limit("bytes of a DHCP option's value", most, "shorten it"));
    }
    Ok(())
}

fn check(family: Family, known: &[(&str, Kind)], name: &str, value: &str) -> Result<(), String> {
    let Some((_, kind)) = known.iter().find(|(it, _)| *it == name) else {
        let names: Vec<&str> = known.iter().map(|(it, _)| *it).collect();
        return Err(format!("OVN has no {family} DHCP option {name:?}, only {}", names.join(", ")));
    };
    match wrong(family, *kind, value) {
        None => Ok(()),
        Some(needs) => {
            Err(format!("{family} DHCP option {name} is {value:?}, but it has to be {needs}"))
        }
    }
}

/// What a value has to be, if it is not that.
fn wrong(family: Family, kind: Kind, value: &str) -> Option<String> {
    let is_address = |text: &str| is_of(family, text);
    let (right, needs) = match kind {
        Kind::Addresses => (
            items(value).is_some_and(|mut all| all.all(is_address)),
            format!("an {family} address, or several in braces, as in {{A, B}}"),
        ),
        Kind::Address => (is_address(value), format!("an {family} address")),
        Kind::Mac => (value.parse::<MacAddress>().is_ok(), "a MAC address".to_owned()),
        Kind::Number(most) => (
            is_number(value) && value.parse::<u64>().is_ok_and(|number| number <= most),
            format!("a number of at most {most}"),
        ),
        Kind::Flag => (["0", "1"].contains(&value), "0 or 1".to_owned()),
        Kind::Text => (is_quoted(value), "a text in double quotes".to_owned()),
        Kind::Host => (
            is_quoted(value) || is_address(value),
            format!("an {family} address, or a name in double quotes"),
        ),
        Kind::Routes => (
            are_routes(family, value),
            "pairs of a range and an address in braces, as in {10.0.0.0/8,10.1.0.1}".to_owned(),
        ),
    };
    (!right).then_some(needs)
}

fn is_of(family: Family, text: &str) -> bool {
    text.parse::<IpAddr>().is_ok_and(|address| Family::of(address) == family)
}

/// Numbers have digits and nothing else: Rust's would take a sign.
fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What is in braces, or the one value without.
fn items(value: &str) -> Option<impl Iterator<Item = &str>> {
    let inner = match value.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None if value.contains(',') => return None,
        None => value,
    };
    Some(inner.split(',').map(str::trim))
}

fn are_routes(family: Family, value: &str) -> bool {
    let Some(items) = items(value).filter(|_| value.starts_with('{')) else { return false };
    let items: Vec<&str> = items.collect();
    // An address stands for the range that it is alone in.
    let is_range = |text: &str| {
        is_of(family, text)
            || text == "0.0.0.0/0"
            || Cidr::parse(text).is_ok_and(|(cidr, _)| cidr.family() == family)
    };
    let is_pair = |pair: &[&str]| matches!(pair, [to, hop] if is_range(to) && is_of(family, hop));
    items.chunks(2).all(is_pair)
}

/// Nothing in it ends the text or is not for eyes.
fn is_quoted(value: &str) -> bool {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let is_plain = |it: char| !it.is_control() && it != '"' && it != '\\';
    inner.is_some_and(|inner| !inner.is_empty() && inner.chars().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, subnet_spec};

    fn options(pairs: &[(&str, &str)]) -> DhcpOptions {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_that_ovn_takes_are_stored_also_while_they_are_off() {
        let mut it = Scenario::new();
        let mut spec = subnet_spec("blue", &["10.99.0.0/24", "fd99::/64"]);
        spec.dhcp.v4 = options(&[
            ("lease_time", "3600"),
            ("server_mac", "02:00:00:00:00:01"),
            ("dns_server", "{10.0.0.1, 10.0.0.2}"),
            ("router", "10.99.0.9"),
            ("domain_name", "\"a b.example\""),
            ("tftp_server", "\"boot\""),
            ("router_discovery", "1"),
            ("classless_static_route", "{10.0.0.0/8,10.99.0.9, 0.0.0.0/0,10.99.0.1}"),
        ]);
        spec.dhcp.v6 = options(&[("dns_server", "fd99::9"), ("server_id", "02:00:00:00:00:01")]);
        it.put_subnet(spec.clone()).done().changed("subnet blue");
        spec.dhcp.enabled = true;
        it.put_subnet(spec).done().changed("subnet blue");
    }

    #[test]
    fn an_option_that_ovn_would_not_understand_is_refused_by_its_name() {
        let mut it = Scenario::new();
        let mut refused = |family, name: &str, value: &str, part: &str| {
            let mut spec = subnet_spec("blue", &["10.99.0.0/24"]);
            let options = options(&[(name, value)]);
            match family {
                Family::V4 => spec.dhcp.v4 = options,
                Family::V6 => spec.dhcp.v6 = options,
            }
            it.put_subnet(spec).refused(part);
        };
        let v4 = Family::V4;
        refused(v4, "dns", "10.0.0.1", "OVN has no IPv4 DHCP option \"dns\", only T1, T2");
        refused(v4, "offerip", "10.0.0.1", "OVN has no IPv4 DHCP option \"offerip\"");
        refused(Family::V6, "lease_time", "60", "OVN has no IPv6 DHCP option \"lease_time\"");
        for (name, value, needs) in [
            ("lease_time", "1h", "a number of at most 4294967295"),
            ("lease_time", "+1", "a number"),
            ("lease_time", "", "a number"),
            ("mtu", "65536", "a number of at most 65535"),
            ("router", "fd00::1", "an IPv4 address, or several in braces"),
            ("router", "10.0.0.1,10.0.0.2", "an IPv4 address, or several in braces"),
            ("router", "{10.0.0.1, }", "an IPv4 address, or several in braces"),
            ("router", "{10.0.0.1", "an IPv4 address, or several in braces"),
            ("server_id", "{10.0.0.1}", "an IPv4 address"),
            ("server_mac", "02:00", "a MAC address"),
            ("ip_forward_enable", "true", "0 or 1"),
            ("hostname", "web", "a text in double quotes"),
            ("hostname", "\"a\"); drop; (\"", "a text in double quotes"),
            ("hostname", "\"a\\\"", "a text in double quotes"),
            ("hostname", "\"a\nb\"", "a text in double quotes"),
            ("tftp_server", "boot", "an IPv4 address, or a name in double quotes"),
            ("classless_static_route", "{10.0.0.0/8}", "pairs of a range and an address"),
            ("classless_static_route", "10.0.0.0/8,10.0.0.1", "pairs of a range"),
        ] {
            let why = format!("IPv4 DHCP option {name} is {value:?}, but it has to be {needs}");
            refused(v4, name, value, &why);
        }
        refused(v4, "hostname", &"x".repeat(2_000), "bytes of a DHCP option's value: at most");
    }
}
