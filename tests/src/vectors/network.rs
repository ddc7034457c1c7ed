//! The subnets of a case, and the operations on them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use atoll_ipam::AddressRange;
use atoll_model::{Addresses, Cidr, Family, MacAddress};
use serde_json::Value;

use super::compare::compare_ranges;
use super::lists::write;
use super::subject::{Asked, Shape, Subject};
use super::{Checked, Other, expect, text_of, texts_of, unsupported};

/// What a case has made so far.
pub(super) struct Network {
    pub(super) subjects: Vec<Subject>,
    /// `subnet-N`, and `ipam-N/NAME`.
    pub(super) names: BTreeMap<String, usize>,
    /// The case's names for MACs that are left to us.
    pub(super) macs: BTreeMap<String, MacAddress>,
    spoken: BTreeSet<IpAddr>,
    pods: u32,
}

impl Network {
    pub(super) fn new(case: &Value) -> Self {
        let mut spoken = BTreeSet::new();
        let operations = case.get("ops").and_then(Value::as_array);
        for operation in operations.into_iter().flatten() {
            for place in ["args", "expect"] {
                let fields = operation.get(place).and_then(Value::as_object);
                let fields = fields.into_iter().flatten();
                fields
                    .filter(|(name, _)| *name != "exclude")
                    .for_each(|(_, it)| speak(it, &mut spoken));
            }
            let states =
                [operation.get("state"), operation.get("expect").and_then(|it| it.get("state"))];
            for (key, value) in states.into_iter().flatten().filter_map(Value::as_object).flatten()
            {
                if key.ends_with("_using") || key.contains("_ip_to_pod") || key.contains("_gateway")
                {
                    speak(value, &mut spoken);
                }
            }
        }
        Self {
            subjects: Vec::new(),
            names: BTreeMap::new(),
            macs: BTreeMap::new(),
            spoken,
            pods: 0,
        }
    }

    /// Carries out one operation and compares all that it says.
    pub(super) fn operate(&mut self, operation: &Value) -> Checked {
        let empty = Value::Null;
        let args = operation.get("args").unwrap_or(&empty);
        let wanted = operation.get("expect").unwrap_or(&empty);
        let on = text_of(operation, "on");
        match text_of(operation, "op") {
            "NewSubnet" => self.make(text_of(wanted, "is"), args, wanted)?,
            "attach" => {
                let subnet = self.find(text_of(args, "subnet"))?;
                self.names.insert(format!("{on}/{}", text_of(args, "name")), subnet);
            }
            "put_subnet" => {
                let name = format!("{on}/{}", text_of(args, "name"));
                self.make(&name, args, wanted)?;
            }
            "delete_subnet" => {
                return self.delete(&format!("{on}/{}", text_of(args, "subnet")), wanted);
            }
            "allocate" | "allocate_static" | "allocate_family" | "allocate_static_family" => {
                self.allocate(on, text_of(operation, "op"), args, wanted)?;
            }
            "release_pod" | "release_nic" => self.release(on, args)?,
            "given" => self.given(on, operation)?,
            "contains" | "assigned_to_other" => return self.owners(on, args, wanted),
            "pod_addresses" => return self.addresses(on, args, wanted),
            "ranges" => return self.ranges(on, args, wanted),
            "v4_mask" => {
                let subject =
                    &self.subjects[self.find(&format!("{on}/{}", text_of(args, "subnet")))?];
                let v4 = subject.shape.cidrs.iter().find(|it| it.family() == Family::V4);
                let mask = v4.map(|it| it.prefix().to_string()).unwrap_or_default();
                return expect("the mask", mask.as_str(), text_of(wanted, "mask"));
            }
            "put_pool"
            | "remove_pool"
            | "pool_statistics"
            | "ExpandIPPoolAddresses"
            | "ExpandIPPoolAddressesForOVN"
            | "CanonicalizeIPPoolEntries" => {
                return unsupported("named pools");
            }
            "create_pods" | "create_deployment" => self.create(count(args))?,
            "restart_deployment" => self.restart(count(args))?,
            "delete_pods" => self.drop_pods()?,
            "pod" => return self.pod(args, wanted),
            other => return unsupported(&format!("the operation {other}")),
        }
        self.compare_status(wanted)?;
        self.compare_state(on, operation)
    }

    pub(super) fn find(&self, name: &str) -> Result<usize, Other> {
        let found = self.names.get(name).copied();
        found.ok_or_else(|| Other::Unsupported(format!("{name}, which the case did not make")))
    }

    /// The subnet of an operation on an ipam or on a subnet.
    fn target(&self, on: &str, args: &Value) -> Option<usize> {
        let named = format!("{on}/{}", text_of(args, "subnet"));
        self.names.get(on).or_else(|| self.names.get(&named)).copied()
    }

    fn shape(&self, args: &Value) -> Result<Result<Shape, &'static str>, Other> {
        let text = text_of(args, "cidr");
        if text.is_empty() {
            return unsupported("subnets without addresses (MAC only)");
        }
        let cidrs: Result<Vec<Cidr>, _> = text.split(',').map(str::parse).collect();
        let Ok(cidrs) = cidrs else { return Ok(Err("CIDRInvalid")) };
        let mut excluded = Vec::new();
        for text in texts_of(args, "exclude") {
            match text.parse::<AddressRange>() {
                Ok(range) => excluded.push(range),
                Err(error) => return Err(Other::Different(format!("refused: {error}"))),
            }
        }
        let gateways = text_of(args, "gateway").split(',').filter(|it| !it.is_empty());
        let gateways: Result<Addresses, _> = gateways.map(str::parse::<IpAddr>).collect();
        let Ok(gateways) = gateways else { return Ok(Err("invalid")) };
        Ok(Ok(Shape { cidrs, excluded, gateways, spoken: self.spoken.clone() }))
    }

    fn make(&mut self, name: &str, args: &Value, wanted: &Value) -> Checked {
        let made = self.shape(args)?;
        expect(
            "the error",
            made.as_ref().err().copied().unwrap_or_default(),
            text_of(wanted, "error"),
        )?;
        let Ok(shape) = made else { return Ok(()) };
        match self.names.get(name) {
            Some(&known) => self.subjects[known].reshape(shape),
            None => {
                self.subjects.push(Subject::new(shape)?);
                self.names.insert(name.to_owned(), self.subjects.len() - 1);
                Ok(())
            }
        }
    }

    fn delete(&mut self, name: &str, wanted: &Value) -> Checked {
        let subject = self.find(name)?;
        self.subjects[subject].delete()?;
        self.names.remove(name);
        let left = wanted.get("state").and_then(Value::as_object);
        let left = left.into_iter().flatten().filter(|(_, value)| value.as_str() != Some(""));
        expect("what is left", 0, left.count())
    }

    fn allocate(&mut self, on: &str, op: &str, args: &Value, wanted: &Value) -> Checked {
        if !text_of(args, "pool").is_empty() {
            return unsupported("named pools");
        }
        if !texts_of(args, "skip").is_empty() {
            return unsupported("addresses to pass over, named by the caller");
        }
        let Some(target) = self.target(on, args) else {
            return expect("the error", "NoSubnet", text_of(wanted, "error"));
        };
        let subject = &mut self.subjects[target];
        if op.ends_with("family")
            && !text_of(args, "family").is_empty()
            && subject.shape.cidrs.len() > 1
        {
            return unsupported("one address family of a dual-stack subnet");
        }
        let mut asked = Asked::default();
        if op.starts_with("allocate_static") {
            let texts = text_of(args, "ip");
            let parsed: Result<Addresses, _> = texts.split(',').map(str::parse::<IpAddr>).collect();
            match parsed {
                Ok(addresses) => asked.addresses = addresses,
                Err(_) if texts.is_empty() => {
                    return unsupported("a static request without an address");
                }
                Err(_) => return expect("the error", "invalid", text_of(wanted, "error")),
            }
        }
        match text_of(args, "mac") {
            "" => {}
            text => match (self.macs.get(text), text.parse()) {
                (Some(&mac), _) | (None, Ok(mac)) => asked.mac = Some(mac),
                (None, Err(_)) => return expect("the error", "invalid", text_of(wanted, "error")),
            },
        }
        let answer = subject.put(text_of(args, "pod"), text_of(args, "nic"), asked)?;
        expect(
            "the error",
            answer.as_ref().err().copied().unwrap_or_default(),
            text_of(wanted, "error"),
        )?;
        match answer {
            Ok(allocation) => self.compare_allocation(&allocation, wanted),
            Err(_) => Ok(()),
        }
    }

    fn release(&mut self, on: &str, args: &Value) -> Checked {
        let nic = args.get("nic").and_then(Value::as_str);
        let all = on.starts_with("ipam") && text_of(args, "subnet").is_empty();
        let target = self.target(on, args);
        let prefix = format!("{on}/");
        let meant: Vec<usize> = if all {
            self.names
                .iter()
                .filter(|(name, _)| name.starts_with(&prefix))
                .map(|it| *it.1)
                .collect()
        } else {
            target.into_iter().collect()
        };
        for subject in meant {
            self.subjects[subject].release(text_of(args, "pod"), nic)?;
        }
        Ok(())
    }

    /// Of what a case sets by hand only the gateway can be set here.
    fn given(&mut self, on: &str, operation: &Value) -> Checked {
        let state = operation.get("state").and_then(Value::as_object);
        let mut gateways = Addresses::default();
        for (key, value) in state.into_iter().flatten() {
            match (key.rsplit('/').next(), value.as_str().map(str::parse::<IpAddr>)) {
                (Some("v4_gateway" | "v6_gateway"), Some(Ok(gateway))) => gateways.set(gateway),
                _ => return unsupported("tables set by hand"),
            }
        }
        let subject = self.find(on)?;
        let shape = Shape { gateways, ..self.subjects[subject].shape.clone() };
        self.subjects[subject].reshape(shape)
    }

    fn owners(&self, on: &str, args: &Value, wanted: &Value) -> Checked {
        let address = text_of(args, "ip").parse::<IpAddr>().ok();
        let prefix = format!("{on}/");
        let named = text_of(args, "subnet");
        let meant = self.names.iter().filter(|(name, _)| match named {
            "" => *name == on || name.starts_with(&prefix),
            named => *name == on || **name == format!("{prefix}{named}"),
        });
        let owner = meant.filter_map(|(_, it)| self.subjects[*it].owner(address?)).next();
        if let Some(expected) = wanted.get("contained").and_then(Value::as_bool) {
            return expect("whether it is held", owner.is_some(), expected);
        }
        let other = owner.filter(|it| *it != text_of(args, "pod"));
        expect("the other owner", other.unwrap_or_default(), text_of(wanted, "pod"))
    }

    fn addresses(&mut self, on: &str, args: &Value, wanted: &Value) -> Checked {
        if let Some(nic) = args.get("nic").and_then(Value::as_str) {
            let subject = self.find(on)?;
            let Some(allocation) = self.subjects[subject].allocation(nic).cloned() else {
                return expect("the addresses", "", text_of(wanted, "v4"));
            };
            return self.compare_allocation(&allocation, wanted);
        }
        let pod = text_of(args, "pod");
        let prefix = format!("{on}/");
        let meant = self.names.iter().filter(|(name, _)| name.starts_with(&prefix));
        let subjects = meant.map(|(_, it)| &self.subjects[*it]);
        let of = subjects.flat_map(|it| {
            it.nics(pod).into_iter().filter_map(|nic| it.allocation(nic)).collect::<Vec<_>>()
        });
        let found: BTreeSet<String> =
            of.flat_map(|it| it.addresses.iter()).map(|it| it.to_string()).collect();
        let expected = wanted.get("addresses").map(addresses_in).unwrap_or_default();
        expect("the addresses", format!("{found:?}"), format!("{expected:?}"))
    }

    fn ranges(&self, on: &str, args: &Value, wanted: &Value) -> Checked {
        let subject = &self.subjects[self.find(&format!("{on}/{}", text_of(args, "subnet")))?];
        let ranges = texts_of(args, "exclude").into_iter();
        let excluded: Option<atoll_ipam::RangeSet> =
            ranges.map(|it| it.parse::<AddressRange>().ok()).collect();
        for (field, family) in [("v4", Family::V4), ("v6", Family::V6)] {
            let (available, using) = subject.ranges(family);
            let using = using.subtract(&excluded.clone().unwrap_or_default());
            compare_ranges(
                subject,
                family,
                &available,
                text_of(wanted, &format!("{field}_available")),
            )?;
            expect("in use", write(&using).as_str(), text_of(wanted, &format!("{field}_using")))?;
        }
        Ok(())
    }

    /// A subnet as its user declares it: the gateway is the first address unless said otherwise.
    pub(super) fn put_as_resource(&mut self, case: &Value) -> Checked {
        let put = case.get("put").unwrap_or(&Value::Null);
        let mut shape = match self.shape(put)? {
            Ok(shape) => shape,
            Err(error) => return Err(Other::Different(format!("refused: {error}"))),
        };
        if shape.gateways.is_empty() {
            shape.gateways = shape.cidrs.iter().map(|cidr| cidr.assignable().first()).collect();
        }
        self.subjects.push(Subject::new(shape)?);
        if let Some(status) = case.get("expect_status") {
            self.compare_status(status)?;
        }
        match case.get("expect_spec") {
            Some(_) => {
                unsupported("defaults of the Subnet resource, which its controller fills in")
            }
            None => Ok(()),
        }
    }

    fn create(&mut self, count: u64) -> Checked {
        let subject = self.subjects.first_mut();
        let Some(subject) = subject else { return unsupported("pods before their subnet") };
        for _ in 0..count {
            self.pods += 1;
            let name = format!("made-{}", self.pods);
            if let Err(error) = subject.put("made", &name, Asked::default())? {
                return Err(Other::Different(format!("pod {name}: {error}")));
            }
        }
        Ok(())
    }

    /// The new pods come before the old ones go.
    fn restart(&mut self, count: u64) -> Checked {
        let old: Vec<String> = self
            .subjects
            .first()
            .map(|it| it.nics("made"))
            .unwrap_or_default()
            .into_iter()
            .map(ToOwned::to_owned)
            .collect();
        self.create(count)?;
        for nic in old {
            self.subjects[0].release("made", Some(&nic))?;
        }
        Ok(())
    }

    fn drop_pods(&mut self) -> Checked {
        match self.subjects.first_mut() {
            Some(subject) => subject.release("made", None),
            None => unsupported("pods before their subnet"),
        }
    }

    fn pod(&mut self, args: &Value, wanted: &Value) -> Checked {
        let texts = match (text_of(args, "ip_address"), text_of(args, "ip_pool")) {
            (texts, "") => texts,
            _ => return unsupported("lists of addresses to choose from"),
        };
        let parsed: Result<Addresses, _> = texts.split(',').map(str::parse::<IpAddr>).collect();
        let Ok(addresses) = parsed else { return unsupported("an address that cannot be read") };
        let Some(subject) = self.subjects.first_mut() else {
            return unsupported("pods before their subnet");
        };
        self.pods += 1;
        let asked = Asked { addresses, mac: None };
        let answer = subject.put("pod", &format!("pod-{}", self.pods), asked)?;
        expect("the error", answer.err().unwrap_or_default(), text_of(wanted, "error"))
    }
}

fn count(args: &Value) -> u64 {
    let count = args.get("count").or_else(|| args.get("replicas"));
    count.and_then(Value::as_u64).unwrap_or_default()
}

fn addresses_in(value: &Value) -> BTreeSet<String> {
    match value {
        Value::String(text) => text
            .split(',')
            .filter_map(|it| it.parse::<IpAddr>().ok())
            .map(|it| it.to_string())
            .collect(),
        Value::Array(items) => items.iter().flat_map(addresses_in).collect(),
        Value::Object(fields) => fields.values().flat_map(addresses_in).collect(),
        _ => BTreeSet::new(),
    }
}

/// Notes every single address in `value`.
fn speak(value: &Value, spoken: &mut BTreeSet<IpAddr>) {
    match value {
        Value::String(text) => {
            spoken.extend(text.split([',', '-']).filter_map(|it| it.parse::<IpAddr>().ok()));
        }
        Value::Array(items) => items.iter().for_each(|it| speak(it, spoken)),
        _ => {}
    }
}
