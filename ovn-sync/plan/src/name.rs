//! How rows are named, identified and marked.

use atoll_model::{ClusterId, NodeName, SubnetName};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{CLUSTER_KEY, Table, Value};

/// The key of our mark in `external_ids`, as kube-ovn has its own.
pub const VENDOR_KEY: &str = "vendor";

/// Our mark: rows with it are ours to change and to delete.
pub const VENDOR: &str = "atoll";

/// Says which object of the store a row stands for: `KIND/NAME`.
pub const OBJECT_KEY: &str = "atoll/object";

/// The UUID of a row: always the same for the same cluster, table and name.
///
/// `name` is the name that the row has in OVN, or where rows have none, what tells it from the
/// table's other rows.
#[must_use]
pub fn row_uuid(cluster: ClusterId, table: Table, name: &str) -> Uuid {
    let namespace = Uuid::from_u128(cluster.0);
    Uuid::new_v5(&namespace, format!("{table}/{name}").as_bytes())
}

/// The name of the port group of the pods on a node: `node_` and 12 hexadecimal digits.
#[must_use]
pub fn node_group_name(node: &NodeName) -> String {
    group_name("node_", node.as_str())
}

/// The name of the port group of the pods in a subnet: `subnet_` and 12 hexadecimal digits.
#[must_use]
pub fn subnet_group_name(subnet: &SubnetName) -> String {
    group_name("subnet_", subnet.as_str())
}

/// OVN allows letters, digits, `_` and `.` only. Replacing the others would give `a-b` and `a.b`
/// one name, so it is a hash, and whom the group is of is in `external_ids`.
fn group_name(kind: &str, of: &str) -> String {
    let digest = Sha256::digest(of.as_bytes());
    let mut name = String::from(kind);
    for byte in &digest[..6] {
        name.push_str(&format!("{byte:02x}"));
    }
    name
}

/// `external_ids` of a row of ours.
pub(crate) fn external_ids(cluster: ClusterId, object: String, more: &[(&str, &str)]) -> Value {
    let mark = [
        (VENDOR_KEY.to_owned(), VENDOR.to_owned()),
        (CLUSTER_KEY.to_owned(), cluster.to_string()),
        (OBJECT_KEY.to_owned(), object),
    ];
    let more = more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Value::map(more.chain(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_depend_on_cluster_table_and_name_and_on_nothing_else() {
        let uuid = row_uuid(ClusterId(1), Table::LogicalSwitch, "a");
        assert_eq!(uuid, row_uuid(ClusterId(1), Table::LogicalSwitch, "a"));
        assert_ne!(uuid, row_uuid(ClusterId(2), Table::LogicalSwitch, "a"));
        assert_ne!(uuid, row_uuid(ClusterId(1), Table::LogicalRouter, "a"));
        assert_ne!(uuid, row_uuid(ClusterId(1), Table::LogicalSwitch, "b"));
    }

    #[test]
    fn port_groups_of_similar_nodes_differ_and_their_names_never_change() {
        let name = |text: &str| node_group_name(&NodeName::new(text).unwrap());
        assert_ne!(name("a-b"), name("a.b"));
        // printf n1 | sha256sum
        assert_eq!(name("n1"), "node_676b8bb84ce7");
    }
}
