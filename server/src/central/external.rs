//! An ovn-central that somebody else runs: nothing is supervised, the leader projects.

use std::sync::{Arc, Mutex};

use atoll_ovn_sync::{CentralStatus, PassStatus, Projector};
use atoll_raft::Store;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::shared::{LeaderSource, announce};
use super::{LocalCentral, Mode, Running};
use crate::config::ExternalConfig;

impl LocalCentral {
    /// Starts the projection into somebody else's ovn-central, and tells the nodes where it is.
    ///
    /// # Errors
    ///
    /// A thread cannot be made.
    pub fn attach(
        config: &ExternalConfig,
        store: &Store,
        cancel: &CancellationToken,
    ) -> std::io::Result<Self> {
        let projector = Projector::start(LeaderSource::new(store), config.nb.clone())?;
        let remotes = (config.nb.clone(), config.sb.clone());
        tokio::spawn(announce(store.clone(), remotes, cancel.clone()));
        Ok(Self {
            mode: Mode::External(Arc::new(config.clone())),
            // Of nobody: there are no processes and no rows to carry.
            processes: watch::channel(CentralStatus::default()).1,
            foreign: watch::channel(Default::default()).1,
            projection: projector.status(),
            is_behind: Arc::default(),
            asker: projector.asker(),
            orders: None,
            hand_overs: mpsc::channel(1).0,
            running: Arc::new(Mutex::new(Some(Running {
                central: None,
                cluster: None,
                projector,
                carrier: None,
            }))),
        })
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
