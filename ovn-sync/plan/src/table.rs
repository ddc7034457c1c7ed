//! The tables and columns of `OVN_Northbound` that we write.

use std::fmt;

/// A column, by its name in the schema.
pub type Column = &'static str;

/// A table of the northbound database. In this order they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// One row; shared with OVN and whoever else writes there.
    NbGlobal,
    /// The cluster router.
    LogicalRouter,
    /// Its leg in each subnet.
    LogicalRouterPort,
    /// What is routed locally, and by which node the rest leaves.
    LogicalRouterPolicy,
    /// The default routes.
    LogicalRouterStaticRoute,
    /// One per subnet.
    LogicalSwitch,
    /// What pods of a subnet are answered by DHCP, one per family.
    DhcpOptions,
    /// One per pod and node, and the router's leg.
    LogicalSwitchPort,
    /// One per node, and one per subnet with rules about who may reach its pods.
    PortGroup,
    /// Those rules.
    Acl,
    /// What limits a direction of a pod, and which packets are important.
    Qos,
    /// The ranges of all subnets, one set per family.
    AddressSet,
}

/// A column that holds references to rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct References {
    /// The column.
    pub(crate) column: Column,
    /// What it refers to.
    pub(crate) table: Table,
    /// The referring row keeps the others in being: those that nobody refers to vanish.
    pub(crate) strong: bool,
}

const ROUTER: &[References] = &[
    References { column: "ports", table: Table::LogicalRouterPort, strong: true },
    References { column: "policies", table: Table::LogicalRouterPolicy, strong: true },
    References { column: "static_routes", table: Table::LogicalRouterStaticRoute, strong: true },
];
const SWITCH: &[References] = &[
    References { column: "ports", table: Table::LogicalSwitchPort, strong: true },
    References { column: "qos_rules", table: Table::Qos, strong: true },
];
const GROUP: &[References] = &[
    References { column: "ports", table: Table::LogicalSwitchPort, strong: false },
    References { column: "acls", table: Table::Acl, strong: true },
];

impl Table {
    /// All tables, in the order in which they are written.
    pub const ALL: [Self; 12] = [
        Self::NbGlobal,
        Self::LogicalRouter,
        Self::LogicalRouterPort,
        Self::LogicalRouterPolicy,
        Self::LogicalRouterStaticRoute,
        Self::LogicalSwitch,
        Self::DhcpOptions,
        Self::LogicalSwitchPort,
        Self::PortGroup,
        Self::Acl,
        Self::Qos,
        Self::AddressSet,
    ];

    /// The name in the schema.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NbGlobal => "NB_Global",
            Self::LogicalRouter => "Logical_Router",
            Self::LogicalRouterPort => "Logical_Router_Port",
            Self::LogicalRouterPolicy => "Logical_Router_Policy",
            Self::LogicalRouterStaticRoute => "Logical_Router_Static_Route",
            Self::LogicalSwitch => "Logical_Switch",
            Self::DhcpOptions => "DHCP_Options",
            Self::LogicalSwitchPort => "Logical_Switch_Port",
            Self::PortGroup => "Port_Group",
            Self::Acl => "ACL",
            Self::Qos => "QoS",
            Self::AddressSet => "Address_Set",
        }
    }

    /// The columns that we write and compare; a projection has to observe exactly these.
    ///
    /// `enabled` is among them although it always has its default: a port or router switched off
    /// by hand is damage that has to be healed.
    #[must_use]
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::NbGlobal => &["nb_cfg", "options", "external_ids"],
            Self::LogicalRouter => &[
                "name",
                "enabled",
                "options",
                "ports",
                "policies",
                "static_routes",
                "external_ids",
            ],
            Self::LogicalRouterPort => {
                &["name", "enabled", "mac", "networks", "options", "external_ids"]
            }
            Self::LogicalRouterPolicy => {
                &["priority", "match", "action", "nexthops", "external_ids"]
            }
            Self::LogicalRouterStaticRoute => &["ip_prefix", "nexthop", "external_ids"],
            Self::LogicalSwitch => &["name", "other_config", "ports", "qos_rules", "external_ids"],
            Self::DhcpOptions => &["cidr", "options", "external_ids"],
            Self::LogicalSwitchPort => &[
                "name",
                "type",
                "enabled",
                "addresses",
                "port_security",
                "dhcpv4_options",
                "dhcpv6_options",
                "options",
                "external_ids",
            ],
            Self::PortGroup => &["name", "ports", "acls", "external_ids"],
            Self::Acl => &["direction", "priority", "match", "action", "external_ids"],
            Self::Qos => &["direction", "priority", "match", "action", "bandwidth", "external_ids"],
            Self::AddressSet => &["name", "addresses", "external_ids"],
        }
    }

    /// Columns whose members we share with others: only our own members are added and removed.
    pub(crate) const fn references(self) -> &'static [References] {
        match self {
            Self::LogicalRouter => ROUTER,
            Self::LogicalSwitch => SWITCH,
            Self::PortGroup => GROUP,
            Self::NbGlobal
            | Self::LogicalRouterPort
            | Self::LogicalRouterPolicy
            | Self::LogicalRouterStaticRoute
            | Self::DhcpOptions
            | Self::LogicalSwitchPort
            | Self::Acl
            | Self::Qos
            | Self::AddressSet => &[],
        }
    }

    /// Those columns, each with the table that it refers to.
    pub fn shared_columns(self) -> impl Iterator<Item = (Column, Self)> {
        self.references().iter().map(|references| (references.column, references.table))
    }

    /// Columns that lead to one row or none, and are ours alone; the server empties them when that
    /// row goes.
    #[cfg(test)]
    pub(crate) const fn pointers(self) -> &'static [(Column, Self)] {
        match self {
            Self::LogicalSwitchPort => {
                &[("dhcpv4_options", Self::DhcpOptions), ("dhcpv6_options", Self::DhcpOptions)]
            }
            _ => &[],
        }
    }

    /// Rows stay without being referred to, and go only when they are deleted. The others are
    /// deleted by taking away the references to them.
    pub(crate) const fn is_root(self) -> bool {
        match self {
            Self::NbGlobal
            | Self::LogicalRouter
            | Self::LogicalSwitch
            | Self::DhcpOptions
            | Self::PortGroup
            | Self::AddressSet => true,
            Self::LogicalRouterPort
            | Self::LogicalRouterPolicy
            | Self::LogicalRouterStaticRoute
            | Self::LogicalSwitchPort
            | Self::Acl
            | Self::Qos => false,
        }
    }

    /// Rows have a name that means something to OVN.
    pub(crate) const fn is_named(self) -> bool {
        self.is_root() && !matches!(self, Self::NbGlobal | Self::DhcpOptions)
            || self.has_unique_names()
    }

    /// The database refuses a second row of the same name.
    pub(crate) const fn has_unique_names(self) -> bool {
        matches!(
            self,
            Self::LogicalRouterPort | Self::LogicalSwitchPort | Self::PortGroup | Self::AddressSet
        )
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_columns_are_among_the_compared_ones() {
        for table in Table::ALL {
            for references in table.references() {
                assert!(table.columns().contains(&references.column), "{table} {references:?}");
            }
            assert_eq!(table.is_named(), table.columns().contains(&"name"), "{table}");
        }
    }
}
