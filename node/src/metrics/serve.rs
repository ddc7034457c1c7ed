//! `GET /metrics` as members answer it: OpenMetrics, HTTP/2, mutual TLS with the node's own
//! certificate, to any certificate of the cluster.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use atoll_api::tls::Listener;
use atoll_api::{Caller, Credentials};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

use super::Readings;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Until an address is tried again that cannot be listened on: pods need this agent, whoever has its
/// port.
const AGAIN: Duration = Duration::from_secs(10);

/// Requests at a time on one connection: each reads the node anew.
const CONCURRENCY: usize = 4;

/// Answers at `address` until `cancel`; nowhere if there is none.
pub(crate) async fn keep(
    address: Option<SocketAddr>,
    credentials: Credentials,
    readings: Readings,
    cancel: CancellationToken,
) {
    let Some(address) = address else { return };
    let mut registry = Registry::with_prefix("atoll_node");
    readings.meter.register(&mut registry);
    registry.register_collector(Box::new(readings));
    let registry = Arc::new(registry);
    let mut is_told = false;
    loop {
        match serve(address, &credentials, registry.clone(), cancel.clone()).await {
            Ok(()) => return,
            Err(error) if !is_told => {
                is_told = true;
                tracing::warn!(%address, error = format!("{error:#}"), "no metrics are served there");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = cancel.cancelled() => return,
        }
    }
}

async fn serve(
    address: SocketAddr,
    credentials: &Credentials,
    registry: Arc<Registry>,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let listen = || -> io::Result<_> { credentials.listen(Listener::tcp(address)?) };
    let incoming = listen()?;
    tracing::info!(%address, "metrics are served");
    let routes = axum::Router::new().route("/metrics", get(answer).with_state(registry));
    let mut server = Server::builder().concurrency_limit_per_connection(CONCURRENCY);
    let ended = cancel.cancelled_owned();
    let serving = server.add_routes(Routes::from(routes));
    Ok(serving.serve_with_incoming_shutdown(incoming, ended).await?)
}

async fn answer(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    if request.extensions().get::<Caller>().is_none() {
        return (StatusCode::FORBIDDEN, "nobody knows who calls\n").into_response();
    }
    let mut body = String::new();
    match text::encode(&mut body, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
