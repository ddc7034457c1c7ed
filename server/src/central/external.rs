//! An ovn-central that somebody else runs: nothing is supervised, the leader projects.

use std::sync::Arc;

use atoll_ovn_sync::{CentralStatus, PassStatus, Projector};
use atoll_raft::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::shared::{LeaderSource, announce};
use super::{LocalCentral, Mode};
use crate::config::ExternalConfig;

impl LocalCentral {
    /// Starts the projection into somebody else's ovn-central, and tells the nodes where it is.
    ///
    /// # Errors
    ///
    /// A thread cannot be made, or the certificates cannot be read.
    pub fn attach(
        config: &ExternalConfig,
        store: &Store,
        cancel: &CancellationToken,
    ) -> std::io::Result<Self> {
        let tls = config.client().map_err(std::io::Error::other)?;
        let nb = watch::channel(config.nb.clone()).1;
        let projector = Projector::following(LeaderSource::new(store), nb, tls)?;
        let remotes = (config.nb.clone(), config.sb.clone());
        tokio::spawn(announce(store.clone(), remotes, cancel.clone()));
        Ok(Self::shared(Mode::External(Arc::new(config.clone())), projector, None, None))
    }
}

/// What is known of it: what the projection sees.
pub(super) fn status(config: &ExternalConfig, pass: &PassStatus) -> CentralStatus {
    let leads = pass.connected && !pass.stands_by;
    CentralStatus {
        nb_running: pass.connected,
        active: leads,
        serving: leads,
        nb_endpoint: config.nb.to_string(),
        sb_endpoint: config.sb.to_string(),
        healthy: pass.connected,
        ..CentralStatus::default()
    }
}
