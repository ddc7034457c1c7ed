//! Who may reach the pods of a subnet, and whom they may reach.
//!
//! The rules are those of one port group, and each is about its ports alone: on the switch they
//! would also hold for the router's leg, which keeps no track of connections, so that a rule
//! against what pods receive would drop what they send.
//!
//! A private subnet's own rules, highest first; the first that matches decides:
//!
//! | direction | priority | what | becomes |
//! |---|---|---|---|
//! | from-lport | 1001 | to the subnet itself, the allowed ranges and the nodes | allowed, with its answers |
//! | from-lport | 1000 | to any other subnet of the cluster | dropped |
//! | from-lport | 900 | to anywhere else | allowed, with its answers |
//! | to-lport | 1001 | from the subnet itself, the allowed ranges and the nodes | allowed, with its answers |
//! | to-lport | 1000 | from anywhere else | dropped |
//!
//! Who is in an allowed range meets the rules of his own subnet as well: both have to allow it. A
//! user's rule counts before these if its priority is higher.

use atoll_model::{Acl, AclDirection, Cidr, Family, Subnet};
use atoll_store::State;
use uuid::Uuid;

use super::{Build, FAMILIES, protocol};
use crate::name::subnet_group_name;
use crate::{Table, Value};

pub(crate) const ALLOWED: i64 = 1_001;
pub(crate) const CROSSING: i64 = 1_000;
pub(crate) const OUTSIDE: i64 = 900;

/// The names of a private subnet's own rules, in the order of the table above.
pub(crate) const TO_FRIENDS: &str = "to-friends";
pub(crate) const TO_OTHERS: &str = "to-others";
pub(crate) const TO_OUTSIDE: &str = "to-outside";
pub(crate) const FROM_FRIENDS: &str = "from-friends";
pub(crate) const FROM_OTHERS: &str = "from-others";

/// The name of the set of all subnets' ranges of a family.
fn cluster_subnets_name(family: Family) -> String {
    format!("cluster_subnets_{}", protocol(family))
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Tells it from the group's other rules.
    pub(crate) name: String,
    pub(crate) direction: AclDirection,
    pub(crate) priority: i64,
    pub(crate) condition: String,
    pub(crate) action: String,
}

impl Build<'_> {
    /// The ranges of all subnets: what is inside of the cluster.
    pub(super) fn cluster_subnets(&mut self) {
        for family in FAMILIES {
            let nets = self.state.subnets().filter_map(|subnet| subnet.spec.net(family));
            let ranges: Vec<String> = nets.map(|net| net.cidr.to_string()).collect();
            let name = cluster_subnets_name(family);
            self.add(
                Table::AddressSet,
                &name,
                [
                    ("name", Value::one(name.as_str())),
                    ("addresses", Value::set(ranges)),
                    ("external_ids", self.ids("cluster".to_owned(), &[])),
                ],
            );
        }
    }

    /// The port group of a subnet with rules, without ports so far, and the rules.
    pub(super) fn rules(&mut self, subnet: &Subnet) {
        if !has_rules(subnet) {
            return;
        }
        let group = subnet_group_name(&subnet.spec.name);
        let rules = rules_of(self.state, subnet).into_iter();
        let acls: Vec<Uuid> = rules.map(|rule| self.acl(subnet, &group, rule)).collect();
        let name = subnet.spec.name.as_str();
        self.add(
            Table::PortGroup,
            &group,
            [
                ("name", Value::one(group.as_str())),
                ("ports", Value::none()),
                ("acls", Value::set(acls)),
                ("external_ids", self.ids(format!("subnet/{name}"), &[("subnet", name)])),
            ],
        );
    }

    fn acl(&mut self, subnet: &Subnet, group: &str, rule: Rule) -> Uuid {
        let Rule { name, direction, priority, condition, action } = rule;
        let subnet = subnet.spec.name.as_str();
        let columns = [
            ("direction", Value::one(direction.to_string())),
            ("priority", Value::one(priority)),
            ("match", Value::one(condition)),
            ("action", Value::one(action)),
            ("external_ids", self.ids(format!("subnet/{subnet}"), &[("subnet", subnet)])),
        ];
        self.add(Table::Acl, &format!("{group}/{name}"), columns)
    }
}

/// Somebody asks who may reach the subnet's pods; otherwise it has no port group.
pub(super) fn has_rules(subnet: &Subnet) -> bool {
    subnet.spec.private || !subnet.spec.acls.is_empty()
}

/// All rules of a subnet: its own if it is private, then its user's.
pub(crate) fn rules_of(state: &State, subnet: &Subnet) -> Vec<Rule> {
    let group = subnet_group_name(&subnet.spec.name);
    let own = subnet.spec.private.then(|| isolation(state, subnet, &group));
    let users = subnet.spec.acls.iter().enumerate();
    let users = users.map(|(position, acl)| user_rule(position, acl, &group));
    own.into_iter().flatten().chain(users).collect()
}

/// The rules of a private subnet.
fn isolation(state: &State, subnet: &Subnet, group: &str) -> [Rule; 5] {
    let to = any_of(&friends(state, subnet), "dst");
    let from = any_of(&friends(state, subnet), "src");
    let inside = FAMILIES
        .map(|family| format!("{}.dst == ${}", protocol(family), cluster_subnets_name(family)));
    let rule = |name: &str, direction, priority, condition: String, action: &str| {
        let condition = format!("{} && {condition}", scope(direction, group));
        Rule { name: name.to_owned(), direction, priority, condition, action: action.into() }
    };
    let (sent, received) = (AclDirection::FromPort, AclDirection::ToPort);
    let (pass, drop) = ("allow-related", "drop");
    [
        rule(TO_FRIENDS, sent, ALLOWED, format!("({to})"), pass),
        rule(TO_OTHERS, sent, CROSSING, format!("({})", inside.join(" || ")), drop),
        rule(TO_OUTSIDE, sent, OUTSIDE, "ip".to_owned(), pass),
        rule(FROM_FRIENDS, received, ALLOWED, format!("({from})"), pass),
        rule(FROM_OTHERS, received, CROSSING, "ip".to_owned(), drop),
    ]
}

/// With whom a private subnet talks: itself, the nodes, the allowed ranges.
pub(crate) fn friends(state: &State, subnet: &Subnet) -> Vec<Cidr> {
    let nets = |subnet: &Subnet| subnet.spec.nets.iter().map(|net| net.cidr).collect::<Vec<_>>();
    let mut all = nets(subnet);
    all.extend(state.join_subnet().map(|join| nets(join)).unwrap_or_default());
    all.extend(&subnet.spec.allow_subnets);
    all
}

/// The condition that one end of a packet is in any of `ranges`.
fn any_of(ranges: &[Cidr], end: &str) -> String {
    let terms = FAMILIES.into_iter().filter_map(|family| {
        let of_family = ranges.iter().filter(|cidr| cidr.family() == family);
        let of_family: Vec<String> = of_family.map(ToString::to_string).collect();
        let set = of_family.join(", ");
        (!set.is_empty()).then(|| format!("{}.{end} == {{{set}}}", protocol(family)))
    });
    terms.collect::<Vec<_>>().join(" || ")
}

/// A user's rule, for the pods of its subnet alone. By its position: two may be the same.
fn user_rule(position: usize, acl: &Acl, group: &str) -> Rule {
    let Acl { direction, priority, matches, action } = acl;
    Rule {
        name: format!("user/{position}"),
        direction: *direction,
        priority: (*priority).into(),
        condition: format!("{} && ({matches})", scope(*direction, group)),
        action: action.to_string(),
    }
}

/// The ports of a group, as the end that a direction looks at.
fn scope(direction: AclDirection, group: &str) -> String {
    match direction {
        AclDirection::FromPort => format!("inport == @{group}"),
        AclDirection::ToPort => format!("outport == @{group}"),
    }
}
