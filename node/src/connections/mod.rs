//! Ends connections that a private subnet's rules do not allow any more.
//!
//! Rules decide about the first packet of a connection and, in the direction in which it was opened,
//! about the others. What goes the other way passes as an answer for as long as the datapath
//! remembers the connection: a stream that a pod pushes to whom it may no longer talk to would go on
//! for ever. So, of the pods of private subnets on this node, the datapath is made to forget what
//! their subnet does not allow.
//!
//! Level-triggered: at short intervals for a while after the rules have changed, because they reach the
//! flows a little later than this agent, and at long ones always.
//!
//! Deliberately absent: subnets whose users have rules that may decide before the border does; pods
//! that are not private, whose connections with private ones end at these.

mod border;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atoll_model::{Addresses, PortName, SubnetName};
use atoll_ovsdb::unixctl::{self, ControlError};
use atoll_ovsdb::{Condition, Datum, Operation, OperationResult, TransactError};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::ovs::{BRIDGE, DATABASE, Ovs, OvsError};
use crate::view::View;
use border::{Border, borders, pods};
use table::Tracked;

/// Between looks without any sign of change.
const PERIOD: Duration = Duration::from_secs(10);

/// Between looks after the rules have changed, ...
const SOON: Duration = Duration::from_millis(200);

/// ... for as long as `ovn-controller` may take to make flows of them on a busy node.
const SETTLING: Duration = Duration::from_secs(15);

/// How long a look waits for Open vSwitch's database.
const OVS_TIMEOUT: Duration = Duration::from_secs(5);

/// A look that failed.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Absent(#[from] OvsError),
    #[error("the integration bridge does not tell its connection zones")]
    Zones(#[from] TransactError),
    #[error("ovs-vswitchd cannot be found: {}", .path.display())]
    Daemon {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("ovs-vswitchd does not tell, or does not forget, connections")]
    Control(#[from] ControlError),
}

/// Looks until `cancel`.
pub async fn keep(
    config: Arc<Config>,
    ovs: Ovs,
    mut views: watch::Receiver<View>,
    cancel: CancellationToken,
) {
    let mut last: Option<BTreeMap<SubnetName, Border>> = None;
    let (mut settled, mut due) = (Instant::now(), Instant::now());
    let mut last_error = String::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            changed = views.changed() => if changed.is_err() { return },
            () = cancel.cancelled() => return,
        }
        let view = views.borrow_and_update().clone();
        let now = borders(&view);
        if last.as_ref() != Some(&now) {
            (settled, due) = (Instant::now() + SETTLING, Instant::now());
        }
        let borders = last.insert(now);
        // Pods come and go far more often than borders move.
        if Instant::now() < due {
            continue;
        }
        let guarded = guarded(borders, pods(&view, &config.node));
        drop(view);
        let looked = tokio::select! {
            looked = look(&config.ovs_db, &ovs, &guarded) => looked,
            () = cancel.cancelled() => return,
        };
        match looked {
            Ok(()) => last_error.clear(),
            Err(error) => {
                let text = format!("{:#}", anyhow::Error::from(error));
                if text != last_error {
                    tracing::warn!(error = text, "connections across borders cannot be ended");
                    last_error = text;
                }
            }
        }
        let is_settling = !guarded.is_empty() && Instant::now() < settled;
        due = Instant::now() + if is_settling { SOON } else { PERIOD };
    }
}

/// An interface of a pod in a private subnet.
struct Guarded<'a> {
    port: PortName,
    addresses: Addresses,
    border: &'a Border,
}

fn guarded(
    borders: &BTreeMap<SubnetName, Border>,
    pods: BTreeMap<SubnetName, Vec<(PortName, Addresses)>>,
) -> Vec<Guarded<'_>> {
    let private = pods.into_iter().filter_map(|(subnet, pods)| Some((borders.get(&subnet)?, pods)));
    private
        .flat_map(|(border, pods)| {
            pods.into_iter().map(move |(port, addresses)| Guarded { port, addresses, border })
        })
        .collect()
}

/// Looks at the connections of the guarded, and ends those that are not allowed.
async fn look(ovs_db: &Path, ovs: &Ovs, guarded: &[Guarded<'_>]) -> Result<(), LookError> {
    if guarded.is_empty() {
        return Ok(());
    }
    let zones = zones(ovs).await?;
    let control = control(ovs_db).await?;
    for Guarded { port, addresses, border } in guarded {
        // A port that is not plugged in yet has no zone.
        let Some(zone) = zones.get(port.as_str()) else { continue };
        let zone = format!("zone={zone}");
        let dump = unixctl::command(&control, "dpctl/dump-conntrack", &[&zone]).await?;
        for tracked in forbidden(&dump, addresses, border) {
            let command = "dpctl/flush-conntrack";
            unixctl::command(&control, command, &[&zone, &tracked.tuple()]).await?;
            tracing::info!(%port, from = %tracked.from, to = %tracked.to, "a connection that the \
                subnet's rules do not allow any more was ended");
        }
    }
    Ok(())
}

/// The connections in a dump of a pod's zone that its subnet does not allow.
fn forbidden(dump: &str, addresses: &Addresses, border: &Border) -> BTreeSet<Tracked> {
    let own = |address| addresses.iter().any(|own| own == address);
    let is_forbidden = |tracked: &Tracked| match (own(tracked.from), own(tracked.to)) {
        (true, false) => !border.allows(tracked.to),
        (false, true) => !border.allows(tracked.from),
        // Its own, or nobody's that we know.
        _ => false,
    };
    table::parse(dump).into_iter().filter(is_forbidden).collect()
}

/// The connection zone of each port, as `ovn-controller` notes it on the bridge.
async fn zones(ovs: &Ovs) -> Result<BTreeMap<String, String>, LookError> {
    let session = ovs.session(OVS_TIMEOUT).await?;
    let bridge = Condition::equal("name", BRIDGE);
    let select = Operation::select("Bridge", vec![bridge], ["external_ids"]);
    let results = session.client.transact(DATABASE, &[select]).await?;
    let Some(OperationResult::Rows(rows)) = results.into_iter().next() else {
        return Ok(BTreeMap::new());
    };
    let ids = rows.into_iter().next().and_then(|mut row| row.remove("external_ids"));
    let ids = ids.unwrap_or_else(Datum::empty_map);
    let zones = ids.string_pairs().filter_map(|(key, zone)| {
        Some((key.strip_prefix("ct-zone-")?.to_owned(), zone.to_owned()))
    });
    Ok(zones.collect())
}

/// The control socket of `ovs-vswitchd`, beside its database's socket.
async fn control(ovs_db: &Path) -> Result<PathBuf, LookError> {
    let pid_file = ovs_db.with_file_name("ovs-vswitchd.pid");
    let read = tokio::fs::read_to_string(&pid_file).await;
    let pid = read.map_err(|source| LookError::Daemon { path: pid_file.clone(), source })?;
    Ok(ovs_db.with_file_name(format!("ovs-vswitchd.{}.ctl", pid.trim())))
}
