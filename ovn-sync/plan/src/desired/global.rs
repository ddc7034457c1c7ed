//! `NB_Global`: what `ovn-northd` would otherwise draw at random for each new database.

use atoll_model::ClusterId;

use super::Build;
use crate::name::row_uuid;
use crate::rules::{self, NB_CFG};
use crate::{Table, Value};

impl Build<'_> {
    /// The options that are ours. The row is shared, so it carries no mark of ours and only these
    /// keys are compared.
    pub(super) fn global(&mut self) {
        let [prefix, monitor] = macs(self.root);
        self.add(
            Table::NbGlobal,
            "",
            [
                (NB_CFG, rules::desired(self.state)),
                ("options", Value::map([("mac_prefix", prefix), ("svc_monitor_mac", monitor)])),
                ("external_ids", Value::map::<&str, &str>([])),
            ],
        );
    }
}

/// The prefix of MACs that OVN gives by itself, and the source of its service checks: unicast,
/// locally administered, and the same in every database of the cluster.
fn macs(cluster: ClusterId) -> [String; 2] {
    let [first, b, c, d, e, f, ..] = row_uuid(cluster, Table::NbGlobal, "mac").into_bytes();
    let prefix = format!("{:02x}:{b:02x}:{c:02x}", first & 0xfc | 0x02);
    let monitor = format!("{prefix}:{d:02x}:{e:02x}:{f:02x}");
    [prefix, monitor]
}
