//! `IP` as a user makes it: addresses and a MAC that are kept for one pod, by its name.

use std::net::IpAddr;

use atoll_model::{
    Addresses, Family, MacAddress, NamespaceName, PodKey, PortName, ReservationName,
    ReservationSpec, ReservedFor, SubnetName,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Manifest, ManifestError};

/// kube-ovn's label of an IP: `false` on those that show what a pod or node has, which the network
/// writes itself; `true` on those that a user made, and anything else counts as that.
pub const RESERVED_LABEL: &str = "ovn.kubernetes.io/ip_reserved";

/// The fields of kube-ovn's schema, as they are written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Fields {
    pod_name: String,
    namespace: String,
    subnet: String,
    ip_address: String,
    v4_ip_address: String,
    v6_ip_address: String,
    mac_address: String,
    attach_subnets: Vec<String>,
    attach_ips: Vec<String>,
    attach_macs: Vec<String>,
    pod_type: String,
    /// Where the pod is: shown, not asked for.
    #[serde(rename = "nodeName")]
    _node_name: String,
    /// Its sandbox, likewise.
    #[serde(rename = "containerID")]
    _container_id: String,
}

pub(super) fn parse(value: &Value) -> Result<Manifest, ManifestError> {
    let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let reader = Reader { object: format!("IP {name}") };
    for key in value.as_object().into_iter().flat_map(Map::keys) {
        if !["apiVersion", "kind", "metadata", "spec", "status"].contains(&key.as_str()) {
            return Err(ManifestError::UnknownField { object: reader.object, field: key.clone() });
        }
    }
    let label = value.get("metadata").and_then(|it| it.get("labels")?.get(RESERVED_LABEL));
    if label.and_then(Value::as_str) == Some("false") {
        let rule = format!(
            "it says {RESERVED_LABEL}=false, and those are written by the network itself; leave \
             the label out, or say true, to reserve"
        );
        return Err(reader.field("metadata.labels", rule));
    }
    let mut spec = value.get("spec").cloned().unwrap_or(Value::Null);
    if spec.is_null() {
        spec = Value::Object(Map::new());
    }
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    let fields = Fields::deserialize(&spec).map_err(|error| reader.field("spec", error))?;
    reader.spec(name, &fields).map(Manifest::Reservation)
}

struct Reader {
    object: String,
}

impl Reader {
    fn field(&self, field: &'static str, rule: impl ToString) -> ManifestError {
        ManifestError::Field { object: self.object.clone(), field, rule: rule.to_string() }
    }

    fn spec(&self, name: &str, fields: &Fields) -> Result<ReservationSpec, ManifestError> {
        let pod = self.pod(fields)?;
        let called = PortName::of_pod(&pod);
        if name != called.as_str() {
            let rule = format!("the IP of pod {pod} is called {called}");
            return Err(self.field("metadata.name", rule));
        }
        let name = ReservationName::new(name).map_err(|it| self.field("metadata.name", it))?;
        if fields.subnet.is_empty() {
            return Err(self.field("spec.subnet", "must be set: where the addresses are from"));
        }
        let subnet = SubnetName::new(&fields.subnet).map_err(|it| self.field("spec.subnet", it))?;
        self.only_one_interface(fields)?;
        let mac = match fields.mac_address.trim() {
            "" => None,
            text => {
                let mac: MacAddress =
                    text.parse().map_err(|error| self.field("spec.macAddress", error))?;
                Some(mac)
            }
        };
        let addresses = self.addresses(fields)?;
        if addresses.is_empty() && mac.is_none() {
            let rule = "it reserves nothing; set v4IpAddress, v6IpAddress or macAddress";
            return Err(self.field("spec", rule));
        }
        let (owner, interface) = (ReservedFor::Pod(pod), None);
        Ok(ReservationSpec { name, subnet, addresses, mac, owner, interface })
    }

    fn pod(&self, fields: &Fields) -> Result<PodKey, ManifestError> {
        for (field, text) in
            [("spec.podName", &fields.pod_name), ("spec.namespace", &fields.namespace)]
        {
            if text.is_empty() {
                return Err(self.field(field, "must be set: the pod that the addresses are for"));
            }
        }
        let namespace =
            NamespaceName::new(&fields.namespace).map_err(|it| self.field("spec.namespace", it))?;
        PodKey::new(namespace, &fields.pod_name).map_err(|it| self.field("spec.podName", it))
    }

    fn only_one_interface(&self, fields: &Fields) -> Result<(), ManifestError> {
        for (field, texts) in [
            ("spec.attachSubnets", &fields.attach_subnets),
            ("spec.attachIps", &fields.attach_ips),
            ("spec.attachMacs", &fields.attach_macs),
        ] {
            if !texts.is_empty() {
                return Err(self.not_implemented(field, texts.join(",")));
            }
        }
        // A virtual machine's IP is its own and no pod's.
        match fields.pod_type.as_str() {
            "" | "StatefulSet" => Ok(()),
            other => Err(self.not_implemented("spec.podType", other.to_owned())),
        }
    }

    fn not_implemented(&self, field: &str, value: String) -> ManifestError {
        let (object, field) = (self.object.clone(), field.to_owned());
        ManifestError::NotImplemented { object, field, value }
    }

    /// All addresses: those of each family, and the old field that has both.
    fn addresses(&self, fields: &Fields) -> Result<Addresses, ManifestError> {
        let own = [
            ("spec.v4IpAddress", fields.v4_ip_address.as_str(), Some(Family::V4)),
            ("spec.v6IpAddress", fields.v6_ip_address.as_str(), Some(Family::V6)),
        ];
        let joint = fields.ip_address.split(',').map(|text| ("spec.ipAddress", text, None));
        let mut addresses = Addresses::default();
        for (field, text, family) in own.into_iter().chain(joint) {
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            let address: IpAddr =
                text.parse().map_err(|_| self.field(field, format!("{text:?} is no address")))?;
            let found = Family::of(address);
            if family.is_some_and(|family| family != found) {
                return Err(self.field(field, format!("{address} is of the other family")));
            }
            if let Some(known) = addresses.get(found).filter(|known| *known != address) {
                let rule = format!("{known} and {address} are of one family; a pod has one");
                return Err(self.field(field, rule));
            }
            addresses.set(address);
        }
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ip(name: &str, spec: Value) -> Value {
        json!({ "apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": { "name": name },
                "spec": spec })
    }

    fn full() -> Value {
        json!({ "podName": "web-0", "namespace": "shop", "subnet": "blue",
                "v4IpAddress": "10.1.0.9", "v6IpAddress": "fd00:1::9",
                "macAddress": "0A:00:00:00:00:09" })
    }

    fn with(field: &str, value: Value) -> Value {
        let mut spec = full();
        spec[field] = value;
        spec
    }

    fn read(value: &Value) -> ReservationSpec {
        match super::super::parse(value) {
            Ok(Manifest::Reservation(spec)) => spec,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_ip_names_the_pod_the_addresses_and_the_mac() {
        let spec = read(&ip("web-0.shop", full()));
        assert_eq!(spec.name.as_str(), "web-0.shop");
        assert_eq!(spec.owner, ReservedFor::Pod(PodKey::parse("shop/web-0").unwrap()));
        assert_eq!(spec.subnet.as_str(), "blue");
        assert_eq!(spec.addresses.to_string(), "10.1.0.9,fd00:1::9");
        assert_eq!(spec.mac.unwrap().to_string(), "0a:00:00:00:00:09");
        assert_eq!(spec.interface, None);
    }

    /// What is shown of a pod becomes a reservation when somebody changes the label.
    #[test]
    fn what_the_network_fills_in_is_read_and_means_nothing() {
        let mut shown = full();
        for (field, value) in [
            ("nodeName", json!("n1")),
            ("containerID", json!("c")),
            ("ipAddress", json!("10.1.0.9,fd00:1::9")),
            ("attachIps", json!([])),
            ("podType", json!("StatefulSet")),
            ("attachMacs", Value::Null),
        ] {
            shown[field] = value;
        }
        assert_eq!(read(&ip("web-0.shop", shown)), read(&ip("web-0.shop", full())));
        let joint = json!({ "podName": "web-0", "namespace": "shop", "subnet": "blue",
                            "ipAddress": "10.1.0.9" });
        assert_eq!(read(&ip("web-0.shop", joint)).addresses.to_string(), "10.1.0.9");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (json!({}), "spec.podName: must be set"),
            (with("namespace", json!("")), "spec.namespace: must be set"),
            (with("namespace", json!("Shop")), "spec.namespace: "),
            (with("subnet", json!("")), "spec.subnet: must be set"),
            (with("subnet", json!("Blue!")), "spec.subnet: "),
            (with("podName", json!("web-1")), "the IP of pod shop/web-1 is called web-1.shop"),
            (with("v4IpAddress", json!("10.1.0")), "spec.v4IpAddress: \"10.1.0\" is no address"),
            (with("v4IpAddress", json!("fd00:1::9")), "fd00:1::9 is of the other family"),
            (with("ipAddress", json!("10.1.0.8")), "10.1.0.9 and 10.1.0.8 are of one family"),
            (with("macAddress", json!("0a:00")), "spec.macAddress: "),
            (with("attachIps", json!(["10.2.0.1"])), "spec.attachIps: 10.2.0.1 is not implemented"),
            (with("podType", json!("VirtualMachine")), "spec.podType: VirtualMachine is not"),
            (with("v4Address", json!("10.1.0.9")), "v4Address"),
        ];
        for (spec, rule) in cases {
            let error = super::super::parse(&ip("web-0.shop", spec)).unwrap_err().to_string();
            assert!(error.starts_with("IP web-0.shop: ") && error.contains(rule), "{error}");
        }
        let nothing = json!({ "podName": "web-0", "namespace": "shop", "subnet": "blue" });
        let error = parse(&ip("web-0.shop", nothing)).unwrap_err().to_string();
        assert!(error.contains("it reserves nothing; set v4IpAddress"), "{error}");
    }

    #[test]
    fn the_label_tells_a_reservation_from_what_is_only_shown() {
        let labelled = |value: &str| {
            let mut object = ip("web-0.shop", full());
            object["metadata"]["labels"] = json!({ (RESERVED_LABEL): value });
            object
        };
        assert_eq!(read(&labelled("true")), read(&ip("web-0.shop", full())));
        let error = parse(&labelled("false")).unwrap_err().to_string();
        assert!(error.contains("metadata.labels") && error.contains("say true"), "{error}");
    }
}
