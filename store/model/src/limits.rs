//! Everything has a maximum. Over it: a refusal that names it.

/// Kubernetes' limit for a DNS label; subnets' and namespaces' names become OVN names.
pub const NAME_BYTES_MAX: usize = 63;

/// Kubernetes' limit for a DNS subdomain (pod and node names).
pub const LONG_NAME_BYTES_MAX: usize = 253;

/// A port's name is a pod's name (253), its namespace (63) and an interface's name (63), with two
/// dots, rounded up.
pub const PORT_NAME_BYTES_MAX: usize = 384;

/// Uids are 36 bytes, container ids 64; twice the larger.
pub const TOKEN_BYTES_MAX: usize = 128;

/// Subnets: each is a datapath and a router port. OVN's logical router numbers ports in 15 bits.
pub const SUBNETS_MAX: usize = 30_000;

/// OVN numbers the ports of a datapath in 15 bits; the last ones are its own.
pub const PORTS_PER_SUBNET_MAX: usize = 32_000;

/// One port of the join switch per node, so OVN's limit of ports per datapath.
pub const NODES_MAX: usize = 32_000;

/// 32,000 nodes × 110 pods would be 3.5 million; one million is what is measured.
pub const PODS_MAX: usize = 1_000_000;

/// Namespaces of a cluster; Kubernetes' own tested limit is 10,000.
pub const NAMESPACES_MAX: usize = 100_000;

/// Workloads: each pod's could be its own, but a cluster has tens of pods for each.
pub const WORKLOADS_MAX: usize = 200_000;

/// Reservations: as many as there are addresses in two subnets as large as they can be.
pub const RESERVATIONS_MAX: usize = 65_536;

/// Interfaces of one pod beyond the first. Chosen in one decision, each costs what a pod costs.
pub const INTERFACES_PER_POD_MAX: usize = 15;

/// Pods of one inventory: four times as many as a node runs by default at most (250). At about 300
/// bytes each, 800 of them stay under [`TXN_BYTES_MAX`], which binds first.
pub const INVENTORY_MAX: usize = 1_000;

/// Conflicts that a node's inventory names; the next one names the rest when these are solved.
pub const CONFLICTS_MAX: usize = 16;

/// Absent pods that one operation names: as many as a transaction has operations.
pub const ABSENT_MAX: usize = 1_000;

/// How much later the second list has to begin that proves a pod's absence, ms: longer than an
/// apiserver's cache lags behind and than an event is on its way.
pub const ABSENCE_GAP_MS: u64 = 60_000;

/// Addresses of one list: a choice looks at each of them.
pub const LIST_MAX: usize = 1_024;

/// Operations of one transaction: 1,000 pods of 200 bytes stay under [`TXN_BYTES_MAX`].
pub const OPERATIONS_PER_TXN_MAX: usize = 1_000;

/// Bytes of one encoded transaction: a log entry is read, checked and sent whole.
pub const TXN_BYTES_MAX: usize = 256 * 1024;

/// Outcomes remembered for retries: at 10,000 requests/s a client has 26 s to retry.
pub const OUTCOMES_MAX: usize = 262_144;

/// Excluded ranges of one subnet: more would be another subnet.
pub const EXCLUDED_RANGES_MAX: usize = 1_000;

/// Namespaces that one subnet may list by name.
pub const NAMESPACES_PER_SUBNET_MAX: usize = 1_000;

/// Nodes through which one subnet may leave: OVN's ECMP groups stay small.
pub const GATEWAY_NODES_MAX: usize = 32;

/// OVN's highest priority of an ACL.
pub const ACL_PRIORITY_MAX: u16 = 32_767;

/// ACLs of one subnet; each is matched for every packet.
pub const ACLS_PER_SUBNET_MAX: usize = 1_000;

/// Ranges that may reach a private subnet.
pub const ALLOW_SUBNETS_MAX: usize = 1_000;

/// Bytes of an ACL's match: longer ones belong into an address set.
pub const ACL_MATCH_BYTES_MAX: usize = 4_096;

/// Pairs of a source and a destination in the NAT rules of one subnet: each is a rule in the packet
/// filter of every node.
pub const NAT_PAIRS_MAX: usize = 256;

/// DHCP options of one family of a subnet: OVN knows 37.
pub const DHCP_OPTIONS_MAX: usize = 64;

/// Bytes of a DHCP option's value: as many addresses as its 255 bytes on the wire hold.
pub const DHCP_VALUE_BYTES_MAX: usize = 1_024;

/// QoS specs of a cluster; those with selectors are all looked at for a pod.
pub const QOS_SPECS_MAX: usize = 1_000;

/// Pods, namespaces and subnets that one QoS spec may name.
pub const QOS_TARGETS_MAX: usize = 1_000;

/// 1 Tbit/s: more than an interface has.
pub const RATE_MBIT_MAX: u32 = 1_000_000;

/// Mirrored nodes and pods.
pub const MIRRORS_MAX: usize = 10_000;

/// Selectors of one subnet or one QoS spec: more would be another subnet.
pub const SELECTORS_MAX: usize = 64;

/// Labels and expressions of one selector: as in practice, with room.
pub const SELECTOR_PARTS_MAX: usize = 32;

/// Values of one expression of a selector.
pub const SELECTOR_VALUES_MAX: usize = 256;

/// A label's key: a DNS subdomain (253), a slash and a name (63).
pub const LABEL_KEY_BYTES_MAX: usize = 317;

/// Kubernetes' limit for a label's value.
pub const LABEL_VALUE_BYTES_MAX: usize = 63;

/// Labels of one object, as many as Kubernetes shows to be in use, with room.
pub const LABELS_MAX: usize = 128;

/// First tunnel key that we give to a datapath; OVN's own go from 1 upwards without pinning.
pub const DATAPATH_KEY_FIRST: u32 = 1_000;

/// OVN's datapath keys have 24 bits; the top bit range is kept for OVN's own use.
pub const DATAPATH_KEY_LAST: u32 = (1 << 23) - 1;

/// First port key that we give; below it are router and management ports of the switch.
pub const PORT_KEY_FIRST: u32 = 16;

/// OVN's port keys have 15 bits for ports; multicast groups lie above.
pub const PORT_KEY_LAST: u32 = 32_767;
