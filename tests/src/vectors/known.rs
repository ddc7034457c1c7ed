//! Where we differ on purpose, one by one.

const GATEWAY: &str = "no pod gets the gateway by chance, whether or not somebody excluded it";
const ROOM: &str = "a subnet has a gateway, and here no address is left to be it";
const WHOLE: &str = "a pod of a dual-stack subnet gets both addresses at once or none: the second \
     family is chosen with the first and not asked for later";
const ONCE: &str =
    "a pod keeps what it got: announcing it again with another request changes nothing";
const NOTHING_USED_UP: &str = "a refused request uses nothing up: the address that it would have had \
     is still the next, and no MAC is kept for it";
const ADDED_FAMILY: &str = "a subnet does not become dual-stack while pods use it that have one \
     address only";
const LAST: &str = "the last address of an IPv6 range is an address like any other: IPv6 has no \
     broadcast";
const MISTAKE: &str = "an excluded range that cannot be read or runs backwards is refused, not \
     dropped in silence";
const GATEWAY_INSIDE: &str =
    "a gateway outside the subnet's range is refused, not kept from before";

/// Cases of this repository's vectors whose answers are others here, and why.
pub const KNOWN: &[(&str, &str)] = &[
    ("ipam_test/GetStaticAddressDualStackPreserveCounters/1", ROOM),
    ("ipam_test/GetStaticAddressDualStackPreserveCounters/4", ROOM),
    ("ipam_test/GetStaticAddressDualStackPreserveCounters/2", WHOLE),
    ("ipam_test/GetStaticAddressDualStackPreserveCounters/3", WHOLE),
    ("subnet_test/GetDualStaticAddress/1", WHOLE),
    ("subnet_test/GetStaticAddressReleaseExisting/4", WHOLE),
    ("subnet_test/GetStaticAddressReleaseExisting/5", WHOLE),
    ("subnet_test/GetStaticAddressReleaseExisting/1", ONCE),
    ("subnet_test/GetStaticAddressReleaseExisting/2", ONCE),
    ("subnet_test/GetStaticAddressReleaseExisting/7", ONCE),
    ("subnet_test/GetV4RandomAddressMacConflictPreservesV6/1", ONCE),
    ("subnet_test/GetV6RandomAddressMacConflictPreservesV4/1", ONCE),
    ("subnet_test/GetV4RandomAddressMacConflictRollback/1", NOTHING_USED_UP),
    ("ipam_test/IPAMDualRandomAddressHandlesV4OnV6Exhaustion/2", ADDED_FAMILY),
    ("net_test/LastIP/4", LAST),
    ("net_test/ExpandExcludeIPs/2", MISTAKE),
    ("net_test/ExpandExcludeIPs/3", MISTAKE),
    ("suite/net/ExpandExcludeIPs", MISTAKE),
    ("ipam_test/IPAMAddOrUpdateSubnetWithIPPools/1", GATEWAY),
    ("suite/subnet/ipv4/4", GATEWAY),
    ("suite/subnet/ipv4/5", GATEWAY),
    ("suite/subnet/ipv6/4", GATEWAY),
    ("suite/subnet/ipv6/5", GATEWAY),
    ("suite/subnet/dual/4", GATEWAY),
    ("suite/subnet/dual/5", GATEWAY),
    ("suite/subnet/ipv4/3", GATEWAY_INSIDE),
    ("suite/subnet/ipv6/3", GATEWAY_INSIDE),
    ("suite/subnet/dual/3", GATEWAY_INSIDE),
    ("suite/subnet/ipv4/2", NOTHING_USED_UP),
    ("suite/subnet/ipv6/2", NOTHING_USED_UP),
    ("suite/subnet/dual/2", NOTHING_USED_UP),
];
