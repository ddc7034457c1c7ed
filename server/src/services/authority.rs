//! Who may ask what. A node touches only itself and its own pods.

use atoll_model::{Actor, Inventory, Operation};

/// May `actor` ask for `operation`? The reason if not.
///
/// # Errors
///
/// A sentence that names the actor and the rule.
pub(super) fn authorize(actor: &Actor, operation: &Operation) -> Result<(), String> {
    match (actor, operation) {
        (Actor::Leader, _) => Ok(()),
        (_, Operation::SetCentral(_) | Operation::PutSettings(_)) => {
            Err(format!("{actor} may not do this; only the store's leader does"))
        }
        (Actor::Operator(_), _) => Ok(()),
        (Actor::Node(me), Operation::RegisterNode { node, .. })
        | (Actor::Node(me), Operation::Inventory(Inventory { node, .. }))
        | (Actor::Node(me), Operation::Bind { node, .. } | Operation::Unbind { node, .. }) => {
            match node == me {
                true => Ok(()),
                false => Err(format!("{actor} may not act for node {node}")),
            }
        }
        (Actor::Node(_), _) => {
            Err(format!("{actor} may only register itself and bind its own pods"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_model::{ChassisName, NodeName, Revision, SubnetName};

    #[test]
    fn a_node_speaks_only_for_itself() {
        let node = |name: &str| NodeName::new(name).unwrap();
        let register = |name: &str| Operation::RegisterNode {
            node: node(name),
            chassis: ChassisName::new("c").unwrap(),
            encap: "10.0.0.1".parse().unwrap(),
        };
        let me = Actor::Node(node("n1"));
        assert_eq!(authorize(&me, &register("n1")), Ok(()));
        assert!(authorize(&me, &register("n2")).unwrap_err().contains("n2"));
        let inventory = |name: &str| {
            let (node_epoch, seen, pods) = (1, Revision(1), Vec::new());
            Operation::Inventory(Inventory { node: node(name), node_epoch, seen, pods })
        };
        assert_eq!(authorize(&me, &inventory("n1")), Ok(()));
        assert!(authorize(&me, &inventory("n2")).unwrap_err().contains("n2"));
        let delete = Operation::DeleteSubnet(SubnetName::new("x").unwrap());
        assert!(authorize(&me, &delete).is_err());
        assert_eq!(authorize(&Actor::Operator("a".into()), &delete), Ok(()));
    }
}
