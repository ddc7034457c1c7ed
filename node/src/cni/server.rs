//! Accepting connections.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use atoll_cni_wire::{CniError, Code};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::metrics::Meter;

use super::{Attachments, BindError, bind, connection, turns::Turns};

/// How long to wait when no connection can be accepted (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one agent does at a time, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// `ADD`s at a time. A node starts at most a few hundred pods, each of which mostly waits.
    pub adds_max: usize,
    /// `DEL`s at a time, counted apart so that pods can go while others wait to come.
    pub dels_max: usize,
    /// `CHECK`s at a time.
    pub checks_max: usize,
    /// Longest time for one request, whatever its plugin allows.
    pub request_time_max: Duration,
    /// The user that may ask: root. Another one only in tests.
    pub uid: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 512,
            adds_max: 64,
            dels_max: 64,
            checks_max: 16,
            request_time_max: Duration::from_secs(120),
            uid: 0,
        }
    }
}

/// A socket that is listened on and not yet served.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    limits: Limits,
    meter: Meter,
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared<A> {
    pub(super) attachments: A,
    pub(super) limits: Limits,
    pub(super) meter: Meter,
    pub(super) adds: Arc<Semaphore>,
    pub(super) dels: Arc<Semaphore>,
    pub(super) checks: Arc<Semaphore>,
    pub(super) turns: Turns,
    pub(super) running: TaskTracker,
}

impl Server {
    /// Listens on `path`. Plugins that connect from now on wait until [`serve`](Self::serve).
    ///
    /// A socket that a dead agent left is replaced; the directory is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`BindError`]; a live agent and what is not a socket are left alone.
    pub async fn bind(path: &Path, limits: Limits) -> Result<Self, BindError> {
        let listener = bind::listen(path).await?;
        Ok(Self { listener, path: path.to_owned(), limits, meter: Meter::default() })
    }

    /// Counts there what is asked for, and how it ends.
    #[must_use]
    pub fn counted(self, meter: Meter) -> Self {
        Self { meter, ..self }
    }

    /// Serves until `shutdown`, then waits for the work that has begun.
    ///
    /// The socket's file stays: to a plugin it is as absent as none, and a successor may have put
    /// its own there already.
    pub async fn serve(self, attachments: impl Attachments, shutdown: CancellationToken) {
        let Self { listener, path, limits, meter } = self;
        let connections = Arc::new(Semaphore::new(limits.connections_max));
        let shared = Arc::new(Shared {
            attachments,
            adds: Arc::new(Semaphore::new(limits.adds_max)),
            dels: Arc::new(Semaphore::new(limits.dels_max)),
            checks: Arc::new(Semaphore::new(limits.checks_max)),
            limits,
            meter,
            turns: Turns::default(),
            running: TaskTracker::new(),
        });
        info!(path = %path.display(), "serving CNI plugins");
        let accepting = async {
            loop {
                let permit = Arc::clone(&connections).acquire_owned().await;
                let Ok(permit) = permit else { return };
                let Some(stream) = accept(&listener).await else { continue };
                let of_connection = Arc::clone(&shared);
                shared.running.spawn(async move {
                    connection::serve(stream, of_connection).await;
                    drop(permit);
                });
            }
        };
        shutdown.run_until_cancelled(accepting).await;
        drop(listener);
        shared.running.close();
        shared.running.wait().await;
        info!(path = %path.display(), "no longer serving CNI plugins");
    }
}

async fn accept(listener: &UnixListener) -> Option<UnixStream> {
    match listener.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            warn!(%error, "cannot accept a connection of a CNI plugin");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Whether the peer is the user that may ask. The socket's mode says the same; this holds also if
/// somebody changed it.
pub(super) fn check_peer(stream: &UnixStream, uid: u32) -> Result<(), CniError> {
    let refused = |why: String| Err(CniError::new(Code::IO_FAILURE, why));
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == uid => Ok(()),
        Ok(peer) => {
            error!(uid = peer.uid(), pid = ?peer.pid(), "refused a CNI request: not from root");
            let uid = peer.uid();
            refused(format!("the node agent takes requests from root only, not from user {uid}"))
        }
        Err(error) => {
            error!(%error, "refused a CNI request: its sender cannot be told");
            refused("the node agent cannot tell who asks; it takes requests from root only".into())
        }
    }
}
