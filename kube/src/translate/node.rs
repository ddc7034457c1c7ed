//! Nodes.

use atoll_model::{NodeName, NodeSpec, ObjectKey, Operation, Uid};

use super::{Unreadable, Wanted, stored};
use crate::objects::{self, Node};

/// The kind of address by which nodes reach each other.
const INTERNAL: &str = "InternalIP";

/// A node: what it is, and whether it is ready.
pub(crate) fn node(node: &Node) -> Result<Wanted, Unreadable> {
    let name = NodeName::new(objects::name(&node.metadata)).map_err(Unreadable::new)?;
    let uid = Uid::new(objects::uid(&node.metadata)).map_err(Unreadable::new)?;
    let internal = node.status.addresses.iter().filter(|it| it.kind == INTERNAL);
    let addresses = internal.map(|it| it.address.parse());
    let addresses = addresses.collect::<Result<_, _>>().map_err(Unreadable::new)?;
    let spec = NodeSpec {
        name: name.clone(),
        uid,
        addresses,
        labels: stored(objects::labels(&node.metadata)),
    };
    // Without a word of it (no kubelet has come yet) it is not ready.
    let says_ready = node.status.conditions.iter().find(|it| it.name == "Ready");
    let ready = says_ready.is_some_and(|it| it.status == "True");
    let operations =
        vec![Operation::PutNode(spec), Operation::NodeReady { node: name.clone(), ready }];
    Ok(Wanted { key: ObjectKey::Node(name), operations })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(status: serde_json::Value) -> Result<Vec<Operation>, Unreadable> {
        let object = json!({ "metadata": { "name": "n1", "uid": "u" }, "status": status });
        node(&serde_json::from_value(object).unwrap()).map(|wanted| wanted.operations)
    }

    #[test]
    fn a_node_is_its_internal_addresses_and_whether_it_is_ready() {
        let operations = read(json!({
            "addresses": [
                { "type": "Hostname", "address": "n1" },
                { "type": "InternalIP", "address": "10.0.0.1" },
                { "type": "ExternalIP", "address": "192.0.2.1" },
                { "type": "InternalIP", "address": "fd00::1" },
            ],
            "conditions": [
                { "type": "DiskPressure", "status": "False" },
                { "type": "Ready", "status": "True" },
            ],
        }));
        let operations = operations.unwrap();
        let [Operation::PutNode(spec), ready] = operations.as_slice() else { panic!() };
        let addresses: Vec<String> = spec.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            (spec.uid.as_str(), addresses),
            ("u", vec!["10.0.0.1".into(), "fd00::1".into()])
        );
        assert_eq!(*ready, Operation::NodeReady { node: "n1".parse().unwrap(), ready: true });
    }

    #[test]
    fn a_node_of_which_nobody_says_that_it_is_ready_is_not() {
        let ready = |conditions| match read(json!({ "conditions": conditions })).unwrap().as_slice()
        {
            [_, Operation::NodeReady { ready, .. }] => *ready,
            other => panic!("{other:?}"),
        };
        assert!(!ready(json!([])));
        assert!(!ready(json!([{ "type": "Ready", "status": "Unknown" }])));
        assert!(!ready(json!([{ "type": "Ready", "status": "False" }])));
    }

    #[test]
    fn an_address_that_is_none_is_named() {
        let bad = json!({ "addresses": [{ "type": "InternalIP", "address": "n1.example" }] });
        assert!(read(bad).unwrap_err().to_string().contains("invalid IP address"));
    }
}
