//! What important pods send leaves the node first, where its tunnel interface has no room for all.
//!
//! OVN marks their packets, tunnels take the mark over (`ovn-encap-tos`), and the interface serves
//! marked packets first. All of it only if the configuration names that interface: it is not ours.
//! It goes on while no agent runs.

use std::sync::Arc;
use std::time::Duration;

use atoll_model::IMPORTANT_DSCP;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::grievance::Grievance;
use crate::link::{self, Namespace, Shares};
use crate::metrics::Meter;
use crate::pause::Pause;

/// What somebody takes away is put back after this long.
const PERIOD: Duration = Duration::from_secs(10);

/// Packets that wait in each queue where Open vSwitch sends from userspace. It does so for all
/// pods by one socket, which holds about 90 packets of 1,500 bytes until they have left
/// (`wmem_default`): more in a queue, and that of unimportant packets would keep important ones
/// out of the socket.
const QUEUE_OF_USERSPACE: u32 = 32;

/// Keeps it so until `cancel`; then it stays as it is, and while it is paused.
pub async fn keep(config: Arc<Config>, mut pause: Pause, meter: Meter, cancel: CancellationToken) {
    let mut grievance = Grievance::of("priority", &meter);
    loop {
        if !pause.is_over(&cancel).await {
            return;
        }
        match pass(&config).await {
            // Whoever asks for it says so in the file, which is read at the start.
            Ok(()) if config.tunnel.is_none() => return,
            Ok(()) => grievance.clear(),
            Err(error) => grievance.tell("important pods do not go first", &error),
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = cancel.cancelled() => return,
        }
    }
}

async fn pass(config: &Config) -> anyhow::Result<()> {
    let tunnel = config.tunnel.as_ref();
    let interface = tunnel.map(|tunnel| tunnel.interface.as_str());
    for name in link::unshare(&Namespace::Own, interface).await? {
        tracing::info!("important pods do not go first on {name} any more");
    }
    let Some(tunnel) = tunnel else { return Ok(()) };
    let shares = Shares {
        rate_mbit: tunnel.rate_mbit,
        dscp: IMPORTANT_DSCP,
        queue: config.is_userspace().then_some(QUEUE_OF_USERSPACE),
    };
    if link::share(&Namespace::Own, &tunnel.interface, &shares).await? {
        tracing::info!(?tunnel, "important pods go first");
    }
    Ok(())
}
