//! The order in which a member starts and stops.

use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use atoll_api::Credentials;
use atoll_api::proto::cluster_server::ClusterServer;
use atoll_api::proto::nodes_server::NodesServer;
use atoll_api::proto::ovn_server::OvnServer;
use atoll_api::proto::store_server::StoreServer;
use atoll_api::proto::trace_server::TraceServer;
use atoll_api::tls::Listener;
use atoll_raft::{Phase, RaftOptions, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::central::LocalCentral;
use crate::config::Config;
use crate::services::{ClusterService, NodesService, OvnService, StoreService, TraceService};
use crate::{kubernetes, metrics};

/// Requests that one connection may have under way.
pub(crate) const CONCURRENCY: usize = 256;

/// A dead client is noticed after two of these.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// How long a stopping member waits for its successor.
const HAND_OVER: Duration = Duration::from_secs(2);

/// Runs a member until `cancel`, then stops it in order: leadership, listeners, central, log.
///
/// # Errors
///
/// Whatever keeps it from starting, and a listener that fails later.
pub async fn run(
    config: Config,
    credentials: Credentials,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let (store, peers) = Store::open(RaftOptions {
        name: config.name.clone(),
        data_dir: config.data_dir.clone(),
        advertise: config.advertise.clone(),
        peers: config.peers.clone(),
        expected_members: config.expected_members,
        formation_marker: config.formation_marker.clone(),
        credentials: credentials.clone(),
        timing: config.timing.clone(),
        retention: config.retention,
    })
    .await
    .with_context(|| format!("cannot open the store in {}", config.data_dir.display()))?;

    let listeners = CancellationToken::new();
    let central = match (&config.central, &config.external) {
        (Some(central), _) => Some(
            LocalCentral::start(central, &config.data_dir, &store, &credentials, &listeners)
                .context("cannot run ovn-central")?,
        ),
        (None, Some(external)) => Some(
            LocalCentral::attach(external, &store, &listeners)
                .context("cannot project into the ovn-central of others")?,
        ),
        (None, None) => None,
    };

    if let Some(central) = central.clone() {
        tokio::spawn(leave_with_quarantine(store.phase(), central));
    }

    let nodes = NodesService::new(store.clone(), central.clone());
    tokio::spawn(nodes.clone().judge(listeners.clone()));
    if let Some(apiserver) = config.kubernetes.clone() {
        kubernetes::start(&store, &config.name, apiserver, listeners.clone())?;
    }

    let routes = Routes::new(peers.into_service())
        .add_service(StoreServer::new(StoreService::new(store.clone())))
        .add_service(ClusterServer::new(ClusterService::new(store.clone(), central.clone())))
        .add_service(TraceServer::new(TraceService::new(
            store.clone(),
            central.clone(),
            nodes.clone(),
        )))
        .add_service(NodesServer::new(nodes))
        .add_service(OvnServer::new(OvnService::new(store.clone(), central.clone())));
    let routes = metrics::add(routes, store.clone());

    let listener = Listener::tcp(config.listen);
    let incoming = listener.and_then(|listener| credentials.listen(listener));
    let incoming = incoming.with_context(|| format!("cannot listen on {}", config.listen))?;
    let tcp = server()
        .add_routes(routes.clone())
        .serve_with_incoming_shutdown(incoming, listeners.clone().cancelled_owned());
    let socket = config.api_socket.as_deref();
    let local = serve_local(socket, routes, &credentials, listeners.clone())?;
    tracing::info!(name = %config.name, listen = %config.listen, "member started");

    // A task of its own: it goes on serving while leadership is handed over, and closes the
    // listeners as soon as it is told, so that nobody waits for an answer in their queues.
    let mut serving = tokio::spawn(async {
        tokio::try_join!(async { tcp.await.context("the TCP listener failed") }, local).map(|_| ())
    });
    let outcome = tokio::select! {
        ended = &mut serving => ended.context("the listeners' task failed").flatten(),
        () = cancel.cancelled() => Ok(()),
    };
    hand_over(&store).await;
    listeners.cancel();
    if let Some(central) = central {
        central.shutdown().await;
    }
    store.shutdown().await;
    outcome
}

/// What a quarantined member would project is as wrong as its state: the role moves to another.
async fn leave_with_quarantine(mut phase: watch::Receiver<Phase>, central: LocalCentral) {
    let quarantined = |phase: &Phase| matches!(phase, Phase::Quarantined { .. });
    if phase.wait_for(quarantined).await.is_ok() {
        central.shutdown().await;
    }
}

fn server() -> Server {
    Server::builder()
        .concurrency_limit_per_connection(CONCURRENCY)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
}

/// The same services on a unix socket, for tools on this machine.
fn serve_local(
    socket: Option<&Path>,
    routes: Routes,
    credentials: &Credentials,
    stop: CancellationToken,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + use<>> {
    let incoming = match socket {
        Some(path) => {
            // A socket left by a killed process would be in the way; the data directory's lock
            // already says that no other member of ours runs.
            if let Ok(found) = std::fs::symlink_metadata(path) {
                if !found.file_type().is_socket() {
                    anyhow::bail!("api_socket: {} is in the way: no socket", path.display());
                }
                std::fs::remove_file(path)
                    .with_context(|| format!("cannot replace {}", path.display()))?;
            }
            let bound = Listener::unix(path).and_then(|listener| credentials.listen(listener));
            Some(bound.with_context(|| format!("cannot listen on {}", path.display()))?)
        }
        None => None,
    };
    Ok(async move {
        let Some(incoming) = incoming else {
            stop.cancelled().await;
            return Ok(());
        };
        let serve = server().add_routes(routes);
        serve
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
            .await
            .context("the unix socket failed")
    })
}

/// A leader that stops hands over first: a planned stop costs clients milliseconds, not an
/// election.
async fn hand_over(store: &Store) {
    if !store.leadership().borrow().is_leader {
        return;
    }
    match tokio::time::timeout(HAND_OVER, store.transfer_leadership(None)).await {
        Ok(()) => tracing::info!("leadership handed over"),
        Err(_) => tracing::info!("nobody took leadership in {HAND_OVER:?}; stopping"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mistyped `api_socket` must not cost a file.
    #[tokio::test]
    async fn a_file_at_the_sockets_path_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        std::fs::write(&path, b"precious").unwrap();
        let plain = Credentials::insecure_dev();
        let serve =
            || serve_local(Some(&path), Routes::default(), &plain, CancellationToken::new());
        let error = serve();
        assert!(error.err().unwrap().to_string().contains("is in the way"));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::remove_file(&path).unwrap();
        // What a killed process left is replaced.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(serve().is_ok());
    }
}
