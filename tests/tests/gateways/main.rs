//! Centralized gateways, with real packets and somebody outside who watches them: a gateway that dies,
//! and subnets whose gateway is switched. Needs root.
//!
//! `ATOLL_GATEWAY_ROUNDS` says how often a gateway dies in each way, `ATOLL_GATEWAY_SWITCHES` how often
//! gateways are switched; once and a few times without them.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]
#![allow(clippy::print_stdout, reason = "who waits for long wants to see how far it is")]

mod death;
mod drain;
mod field;
mod switches;

use atoll_tests::lab::{Options, ScopedLab};
use atoll_tests::report::Report;
use uuid::Uuid;

/// Gateways are on the first three; the pods that are judged are on the last, which nothing happens to.
const NODES: u8 = 4;
const GATEWAYS: [u8; 3] = [1, 2, 3];

async fn up() -> ScopedLab {
    let name = format!("g{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap();
    ScopedLab::up(Options { members: 1, nodes: NODES, ..Options::new(name) }).await.unwrap()
}

fn told(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).map_or(otherwise, |it| it.parse().unwrap())
}

#[tokio::test]
async fn a_gateway_that_dies_is_replaced_and_nobody_outside_sees_anything_wrong() {
    let lab = up().await;
    let mut report = Report::new("gateway-failover", "make gateways");
    let done = death::campaign(&lab, told("ATOLL_GATEWAY_ROUNDS", 1), &mut report).await;
    report.save().unwrap();
    done.unwrap();
    let failures = report.failures();
    assert!(failures.is_empty(), "targets missed: {failures:#?}");
}

#[tokio::test]
async fn a_gateway_that_is_drained_is_left_without_a_pause_until_it_is_undrained() {
    let lab = up().await;
    let mut report = Report::new("gateway-drained", "make gateways");
    let done = drain::campaign(&lab, &mut report).await;
    report.save().unwrap();
    done.unwrap();
    let failures = report.failures();
    assert!(failures.is_empty(), "targets missed: {failures:#?}");
}

#[tokio::test]
async fn no_pods_address_is_seen_outside_while_gateways_are_switched() {
    let lab = up().await;
    let mut report = Report::new("gateway-switches", "make gateways");
    let done = switches::campaign(&lab, told("ATOLL_GATEWAY_SWITCHES", 8), &mut report).await;
    report.save().unwrap();
    done.unwrap();
    let failures = report.failures();
    assert!(failures.is_empty(), "targets missed: {failures:#?}");
}
