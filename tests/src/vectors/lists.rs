//! Operations on bare addresses and range lists.

use std::net::IpAddr;

use atoll_ipam::{AddressRange, Cidr, Family, RangeSet};
use serde_json::Value;

use super::{Checked, Other, expect, text_of, texts_of, unsupported};

/// Carries out `operation` if it is one on bare addresses or lists.
pub(super) fn operate(operation: &Value) -> Option<Checked> {
    let empty = Value::Null;
    let args = operation.get("args").unwrap_or(&empty);
    let wanted = operation.get("expect").unwrap_or(&empty);
    let on = text_of(operation, "on");
    Some(match text_of(operation, "op") {
        "NewIP" => address(args, wanted),
        "NewIPRangeList" => pairs(args, wanted),
        "NewIPRangeListFrom" => from_texts(args, wanted),
        "Contains" => listed(on, |list| {
            is(wanted, text_of(args, "ip").parse().is_ok_and(|ip| list.contains(ip)))
        }),
        "Equal" => listed(on, |list| is(wanted, Some(list) == read(text_of(args, "x")).as_ref())),
        "Add" => listed(on, |list| change(list, args, wanted, true)),
        "Remove" => listed(on, |list| change(list, args, wanted, false)),
        "Separate" => both(on, args, wanted, |a, b| a.subtract(&b)),
        "Merge" => both(on, args, wanted, |mut a, b| {
            a.merge(&b);
            a
        }),
        "Count" => listed(on, |list| says(wanted, &list.count().to_string())),
        "At" => listed(on, |list| {
            let position = args.get("i").and_then(Value::as_u64).unwrap_or_default();
            let position = usize::try_from(position).unwrap_or(usize::MAX);
            let range = list.iter().nth(position).map(|it| RangeSet::from_iter([it]));
            says(wanted, &range.map(|it| write(&it)).unwrap_or_default())
        }),
        "AddressCountBigInt" => match text_of(args, "network").parse::<Cidr>() {
            Ok(cidr) if cidr.family() == Family::V6 && cidr.prefix() < 127 => {
                says(wanted, &(cidr.capacity() - 1).to_string())
            }
            Ok(cidr) => says(wanted, &cidr.capacity().to_string()),
            Err(_) => unsupported("subnets of one address (/32, /128)"),
        },
        "CountIPNumsBigInt" => {
            let ranges: Option<RangeSet> = texts_of(args, "exclude")
                .into_iter()
                .map(|it| it.parse::<AddressRange>().ok())
                .collect();
            says(wanted, &ranges.map(|it| it.count().to_string()).unwrap_or_default())
        }
        "CIDROverlap" => cidrs(args, |a, b| is(wanted, a.overlaps(&b))),
        "CIDRContainsCIDR" => contains(args, wanted),
        "CIDRContainIP" => {
            let (cidr, ips) = (text_of(args, "cidr"), text_of(args, "ipStr"));
            is(wanted, all_within(cidr, ips))
        }
        "IsValidIP" => is(wanted, text_of(args, "ip").parse::<IpAddr>().is_ok()),
        "SubnetNumber" => {
            let cidr = text_of(args, "subnet").parse::<Cidr>();
            says(wanted, &cidr.map(|it| it.first().to_string()).unwrap_or_default())
        }
        "FirstIP" => end(args, wanted, |range| range.first()),
        "LastIP" => end(args, wanted, |range| range.last()),
        "CheckProtocol" => says(wanted, protocol(text_of(args, "ip"))),
        "ExpandExcludeIPs" => excluded(args, wanted),
        "Allocate" => unsupported("allocation from a bare range list"),
        _ => return None,
    })
}

/// Ranges as the vectors write them.
pub(super) fn write(set: &RangeSet) -> String {
    let ranges: Vec<String> = set.iter().map(|it| it.to_string().replace("..", "-")).collect();
    ranges.join(",")
}

/// Ranges as the vectors write them.
pub(super) fn read(text: &str) -> Option<RangeSet> {
    text.replace('-', "..").parse().ok()
}

fn listed(on: &str, then: impl FnOnce(&RangeSet) -> Checked) -> Checked {
    match read(on) {
        Some(list) => then(&list),
        None => unsupported("a range list that cannot be read"),
    }
}

fn is(wanted: &Value, found: bool) -> Checked {
    match wanted.get("result").and_then(Value::as_bool) {
        Some(expected) => expect("the answer", found, expected),
        None => unsupported("an answer that is neither true nor false"),
    }
}

fn says(wanted: &Value, found: &str) -> Checked {
    expect("the answer", found, text_of(wanted, "result"))
}

fn address(args: &Value, wanted: &Value) -> Checked {
    let found = text_of(args, "s").parse::<IpAddr>();
    expect(
        "the address",
        found.map(|it| it.to_string()).unwrap_or_default().as_str(),
        text_of(wanted, "ip"),
    )
}

fn pairs(args: &Value, wanted: &Value) -> Checked {
    let ends: Vec<IpAddr> = texts_of(args, "ips").iter().filter_map(|it| it.parse().ok()).collect();
    let mut list = RangeSet::new();
    for pair in ends.chunks(2) {
        match pair {
            [first, last] => match AddressRange::new(*first, *last) {
                Ok(range) => list.insert(range),
                Err(error) => return Err(Other::Different(format!("refused: {error}"))),
            },
            _ => return unsupported("an odd number of ends"),
        }
    }
    expect("the list", write(&list).as_str(), text_of(wanted, "list"))
}

fn from_texts(args: &Value, wanted: &Value) -> Checked {
    let mut list = RangeSet::new();
    for text in texts_of(args, "x") {
        match text.parse::<AddressRange>() {
            Ok(range) => list.insert(range),
            Err(error) => return Err(Other::Different(format!("refused: {error}"))),
        }
    }
    expect("the list", write(&list).as_str(), text_of(wanted, "list"))
}

fn change(list: &RangeSet, args: &Value, wanted: &Value, add: bool) -> Checked {
    let Ok(ip) = text_of(args, "ip").parse::<IpAddr>() else {
        return unsupported("an address that cannot be read");
    };
    let mut after = list.clone();
    if add {
        after.insert(ip);
    } else {
        after.remove(ip);
    }
    is(wanted, after != *list)?;
    match wanted.get("after").and_then(Value::as_str) {
        Some(text) => expect("the list", write(&after).as_str(), text),
        None => Ok(()),
    }
}

fn both(
    on: &str,
    args: &Value,
    wanted: &Value,
    join: impl FnOnce(RangeSet, RangeSet) -> RangeSet,
) -> Checked {
    listed(on, |list| match read(text_of(args, "x")) {
        Some(other) => says(wanted, &write(&join(list.clone(), other))),
        None => unsupported("a range list that cannot be read"),
    })
}

fn cidrs(args: &Value, then: impl FnOnce(Cidr, Cidr) -> Checked) -> Checked {
    match (text_of(args, "a").parse(), text_of(args, "b").parse()) {
        (Ok(a), Ok(b)) => then(a, b),
        _ => unsupported("pairs of ranges of which one is none"),
    }
}

fn contains(args: &Value, wanted: &Value) -> Checked {
    let expected = wanted.get("results").and_then(|it| it.get(0)).and_then(Value::as_bool);
    let refused = wanted.get("results").and_then(|it| it.get(1)).is_some_and(|it| !it.is_null());
    if refused {
        let read = |field| text_of(args, field).parse::<Cidr>().ok();
        let apart = match (read("a"), read("b")) {
            (Some(a), Some(b)) => a.family() != b.family(),
            _ => true,
        };
        return expect("the pair is refused", apart, true);
    }
    cidrs(args, |a, b| {
        let found = a.contains(b.first()) && a.contains(b.last());
        expect("the answer", found, expected.unwrap_or_default())
    })
}

fn all_within(cidr: &str, ips: &str) -> bool {
    let cidrs: Option<Vec<Cidr>> = cidr.split(',').map(|it| it.parse().ok()).collect();
    let ips: Option<Vec<IpAddr>> = ips.split(',').map(|it| it.parse().ok()).collect();
    match (cidrs, ips) {
        (Some(cidrs), Some(ips)) => {
            ips.iter().all(|&ip| cidrs.iter().any(|cidr| cidr.contains(ip)))
        }
        _ => false,
    }
}

fn end(args: &Value, wanted: &Value, of: impl FnOnce(AddressRange) -> IpAddr) -> Checked {
    let expected = wanted.get("results").and_then(|it| it.get(0)).and_then(Value::as_str);
    match text_of(args, "subnet").parse::<Cidr>() {
        Ok(cidr) => {
            let found = of(cidr.assignable()).to_string();
            expect("the address", found.as_str(), expected.unwrap_or_default())
        }
        Err(_) if expected == Some("") => Ok(()),
        Err(_) => unsupported("subnets of one address (/32, /128)"),
    }
}

fn protocol(text: &str) -> &'static str {
    let family = |part: &str| {
        let range = part.trim().parse::<AddressRange>().ok().filter(|_| !part.contains(".."));
        range.map(|it| it.family())
    };
    let families: Option<Vec<Family>> = text.split(',').map(family).collect();
    match families.as_deref() {
        Some([Family::V4]) => "IPv4",
        Some([Family::V6]) => "IPv6",
        Some([Family::V4, Family::V6] | [Family::V6, Family::V4]) => "Dual",
        _ => "",
    }
}

/// What of an exclusion lies in a range, as a set: entries that meet are one.
fn excluded(args: &Value, wanted: &Value) -> Checked {
    let Ok(cidrs) =
        text_of(args, "cidr").split(',').map(str::parse).collect::<Result<Vec<Cidr>, _>>()
    else {
        return unsupported("ranges of which one is none");
    };
    let mut shape: RangeSet = cidrs.iter().map(Cidr::assignable).collect();
    for cidr in cidrs.iter().filter(|it| it.family() == Family::V6 && it.prefix() < 127) {
        shape.remove(cidr.last());
    }
    let mut given = RangeSet::new();
    for text in texts_of(args, "exclude") {
        match text.parse::<AddressRange>() {
            Ok(range) => given.insert(range),
            Err(error) => return Err(Other::Different(format!("refused: {error}"))),
        }
    }
    let found = shape.subtract(&shape.subtract(&given));
    let expected: Option<RangeSet> =
        texts_of(wanted, "result").into_iter().map(|it| it.parse::<AddressRange>().ok()).collect();
    expect(
        "the set",
        write(&found).as_str(),
        expected.map(|it| write(&it)).unwrap_or_default().as_str(),
    )
}
