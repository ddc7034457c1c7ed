//! What the node is called in the southbound.

use atoll_model::{ChassisName, NodeName};

/// The southbound knows this node by another name than its certificate says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Open vSwitch calls this node {chassis}, and its certificate {node}: the southbound takes nothing \
     of {chassis} from it, so no pod comes up. Drain the node, delete chassis {chassis} with \
     ovn-sbctl on the serving member, then: ovs-vsctl set Open_vSwitch . external_ids:system-id={node}"
)]
pub struct Misnamed {
    chassis: ChassisName,
    node: NodeName,
}

/// Its name, where it can be that: with certificates the southbound lets it write the rows of that
/// name only.
///
/// `set` is what Open vSwitch has already, `known` what the store has of this node, if anything. A
/// name that no store ever heard of was only made by the start script of Open vSwitch, and is
/// replaced; one under which the node has served stays, because its rows would be left behind and
/// be in the way.
#[must_use]
pub fn choose(
    own: ChassisName,
    set: Option<ChassisName>,
    known: Option<Option<&ChassisName>>,
    has_certificate: bool,
) -> ChassisName {
    match (set, known) {
        (None, _) => own,
        (Some(set), Some(known)) if has_certificate && known != Some(&set) => own,
        (Some(set), _) => set,
    }
}

/// Whether a node with a certificate, which the store knows as `known`, can do its work.
///
/// # Errors
///
/// [`Misnamed`], with the way out.
pub fn check(node: &NodeName, known: Option<&ChassisName>) -> Result<(), Misnamed> {
    match known {
        Some(chassis) if chassis.as_str() != node.as_str() => {
            Err(Misnamed { chassis: chassis.clone(), node: node.clone() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ChassisName {
        ChassisName::new(text).unwrap()
    }

    #[test]
    fn a_node_is_called_by_its_name_unless_it_has_served_under_another() {
        let (own, other, third) = (name("n1"), name("5ab1e"), name("gone"));
        let choose = |set: Option<&ChassisName>, known: Option<Option<&ChassisName>>| {
            super::choose(own.clone(), set.cloned(), known, true)
        };
        assert_eq!(choose(None, None), own);
        assert_eq!(choose(Some(&other), None), other, "nobody can tell yet");
        assert_eq!(choose(Some(&other), Some(None)), own, "the start script's");
        assert_eq!(choose(Some(&other), Some(Some(&own))), own, "the start script's, again");
        assert_eq!(choose(Some(&other), Some(Some(&third))), own, "another disk's");
        assert_eq!(choose(Some(&other), Some(Some(&other))), other, "it has served");
        let plain = super::choose(own.clone(), Some(other.clone()), Some(None), false);
        assert_eq!(plain, other, "without certificates nobody minds");
    }

    #[test]
    fn another_name_than_the_certificates_is_said_with_the_way_out() {
        let node: NodeName = "n1".parse().unwrap();
        assert_eq!(check(&node, None), Ok(()));
        assert_eq!(check(&node, Some(&name("n1"))), Ok(()));
        let said = check(&node, Some(&name("5ab1e"))).unwrap_err().to_string();
        assert!(said.contains("calls this node 5ab1e, and its certificate n1"), "{said}");
        assert!(said.ends_with("external_ids:system-id=n1"), "{said}");
    }
}
