//! What a case expects after an operation, against what there is.

use std::collections::BTreeSet;

use atoll_model::{Addresses, Allocation, Family, MacAddress};
use serde_json::Value;

use super::lists::{read, write};
use super::network::Network;
use super::subject::Subject;
use super::{Checked, expect, text_of, unsupported};

impl Network {
    pub(super) fn compare_allocation(
        &mut self,
        allocation: &Allocation,
        wanted: &Value,
    ) -> Checked {
        let families = [("v4", Family::V4), ("v6", Family::V6)];
        for (field, family) in families {
            if let Some(expected) = wanted.get(field).and_then(Value::as_str) {
                expect(field, show(allocation.addresses, family).as_str(), expected)?;
            }
        }
        if let Some(expected) = wanted.get("ip").and_then(Value::as_str) {
            let family = if expected.contains(':') { Family::V6 } else { Family::V4 };
            expect("the address", show(allocation.addresses, family).as_str(), expected)?;
        }
        match wanted.get("mac").and_then(Value::as_str) {
            Some(expected) => self.compare_mac(allocation.mac, expected),
            None => Ok(()),
        }
    }

    /// Equal names, equal MACs; another name, another MAC.
    pub(super) fn compare_mac(&mut self, found: MacAddress, expected: &str) -> Checked {
        if let Ok(mac) = expected.parse::<MacAddress>() {
            return expect("the MAC", found, mac);
        }
        match self.macs.get(expected) {
            Some(known) => expect("the MAC", found, *known),
            None => {
                self.macs.insert(expected.to_owned(), found);
                Ok(())
            }
        }
    }

    /// The recorded tables of a subnet that have a counterpart here.
    pub(super) fn compare_state(&mut self, on: &str, operation: &Value) -> Checked {
        let wanted = operation.get("expect").and_then(|it| it.get("state"));
        for (key, value) in wanted.and_then(Value::as_object).into_iter().flatten() {
            let name = text_of(operation.get("expect").unwrap_or(&Value::Null), "is");
            let name = if name.is_empty() { on } else { name };
            let (subject, path) = match self.names.get(name) {
                Some(&subject) => (subject, key.as_str()),
                None => {
                    let (subnet, path) = key.split_once('/').unwrap_or((key, ""));
                    (self.find(&format!("{on}/{subnet}"))?, path)
                }
            };
            self.compare_row(subject, path, value)?;
        }
        Ok(())
    }

    pub(super) fn compare_row(&mut self, subject: usize, path: &str, value: &Value) -> Checked {
        let text = value.as_str().unwrap_or_default();
        let (table, row) = path.split_once('/').unwrap_or((path, ""));
        let family = if path.starts_with("v6") { Family::V6 } else { Family::V4 };
        let it = &self.subjects[subject];
        match table {
            "v4_available" | "v6_available" => {
                compare_ranges(it, family, &it.ranges(family).0, text)
            }
            "v4_using" | "v6_using" => expect(path, write(&it.ranges(family).1).as_str(), text),
            "v4_cidr" | "v6_cidr" => {
                let cidr = it.shape.cidrs.iter().find(|cidr| cidr.family() == family);
                expect(path, cidr.map(ToString::to_string).unwrap_or_default().as_str(), text)
            }
            "v4_ip_to_pod" | "v6_ip_to_pod" => {
                let owner = row.parse().ok().and_then(|address| it.owner(address));
                expect(path, owner.unwrap_or_default(), text)
            }
            "v4_nic_to_ip" | "v6_nic_to_ip" => {
                let found = it.allocation(row).map(|it| show(it.addresses, family));
                expect(path, found.unwrap_or_default().as_str(), text)
            }
            "nic_to_mac" => match (it.allocation(row).map(|it| it.mac), text) {
                (None, "") => Ok(()),
                (Some(mac), text) if !text.is_empty() => self.compare_mac(mac, text),
                (mac, text) => expect(path, format!("{mac:?}"), text.to_owned()),
            },
            "mac_to_pod" => {
                let mac = self.macs.get(row).copied().or_else(|| row.parse().ok());
                // A name that the case has not used yet is compared where it is used.
                let Some(mac) = mac else { return Ok(()) };
                expect(path, it.mac_owner(mac).unwrap_or_default(), text)
            }
            "pod_to_nics" => {
                let nics: BTreeSet<&str> = it.nics(row).into_iter().collect();
                let listed = value.as_array().into_iter().flatten().filter_map(Value::as_str);
                let expected: BTreeSet<&str> = listed.collect();
                expect(path, format!("{nics:?}"), format!("{expected:?}"))
            }
            "pools" if !row.starts_with("(default)") => unsupported("named pools"),
            _ => Ok(()),
        }
    }

    /// Counters and ranges as a Subnet resource shows them.
    pub(super) fn compare_status(&self, status: &Value) -> Checked {
        let Some(subject) = self.subjects.first().filter(|_| self.names.is_empty()) else {
            return Ok(());
        };
        let mut sum = 0;
        for (field, family) in [("v4", Family::V4), ("v6", Family::V6)] {
            let (available, using) = subject.ranges(family);
            sum += available.count();
            for (name, found) in [("available", available), ("using", using)] {
                if let Some(text) =
                    status.get(format!("{field}_{name}_range")).and_then(Value::as_str)
                {
                    expect(name, write(&found).as_str(), text)?;
                }
                if let Some(count) = status.get(format!("{field}_{name}")).and_then(Value::as_u64) {
                    expect(name, found.count(), u128::from(count))?;
                }
            }
        }
        match status.get("available_sum").and_then(Value::as_u64) {
            Some(expected) => expect("available", sum, u128::from(expected)),
            None => Ok(()),
        }
    }
}

fn show(addresses: Addresses, family: Family) -> String {
    addresses.get(family).map(|it| it.to_string()).unwrap_or_default()
}

/// What is available, the gateway apart.
pub(super) fn compare_ranges(
    subject: &Subject,
    family: Family,
    found: &atoll_ipam::RangeSet,
    text: &str,
) -> Checked {
    let Some(mut expected) = read(text) else {
        return unsupported("a range list that cannot be read");
    };
    if let Some(gateway) = subject.gateways.get(family) {
        expected.remove(gateway);
    }
    expect("available", write(found).as_str(), write(&expected).as_str())
}
