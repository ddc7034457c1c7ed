//! `GET /metrics` beside the gRPC services, on the same ports, for whoever has a certificate.
//!
//! The text is OpenMetrics. HTTP/2 only, as everything on these ports:
//! `curl --http2-prior-knowledge --unix-socket api.sock http://member/metrics`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use atoll_api::identity::Caller;
use atoll_raft::{Phase, Role, Store};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tonic::service::Routes;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A number that is read when somebody asks.
type Reading = (&'static str, &'static str, fn(&Store) -> u64);

const READINGS: [Reading; 8] = [
    ("atoll_term", "The term; it grows with every election", |it| it.status().term),
    ("atoll_is_leader", "1: leads, and a quorum confirms it", |it| {
        u64::from(it.status().role == Role::Leader)
    }),
    ("atoll_is_member", "1: a voter that serves; 0: `atollctl status` says why not", |it| {
        u64::from(it.status().phase == Phase::Member)
    }),
    ("atoll_voters", "Voters of the cluster, as far as this member knows", |it| {
        it.status().members.iter().filter(|member| member.voter).count() as u64
    }),
    ("atoll_last_log", "Index of the last entry in the log", |it| it.status().last_log),
    ("atoll_committed", "Index of the last entry known to be committed", |it| {
        it.status().committed
    }),
    ("atoll_applied", "Index of the last entry in the state", |it| it.status().applied),
    ("atoll_revision", "The last revision that changed something", |it| {
        it.published().borrow().state.revision().0
    }),
];

struct Metrics {
    store: Store,
    registry: Registry,
    gauges: Vec<Gauge<u64, AtomicU64>>,
}

/// Adds the route.
pub(crate) fn add(routes: Routes, store: Store) -> Routes {
    let mut registry = Registry::default();
    store.stages().register(&mut registry);
    let gauges = READINGS.map(|(name, help, _)| {
        let gauge = Gauge::default();
        registry.register(name, help, gauge.clone());
        gauge
    });
    let metrics = Arc::new(Metrics { store, registry, gauges: gauges.into() });
    routes.into_axum_router().route("/metrics", get(answer).with_state(metrics)).into()
}

async fn answer(State(metrics): State<Arc<Metrics>>, request: Request) -> Response {
    if request.extensions().get::<Caller>().is_none() {
        return (StatusCode::FORBIDDEN, "nobody knows who calls\n").into_response();
    }
    for (gauge, (_, _, read)) in metrics.gauges.iter().zip(READINGS) {
        gauge.set(read(&metrics.store));
    }
    let mut body = String::new();
    match text::encode(&mut body, &metrics.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
