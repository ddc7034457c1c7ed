//! The packet matrix: who reaches whom, by every way, in both families, on one node and on two,
//! through a real kube-proxy's Services too, and under which address. What should come of each is
//! said by `expected`, which knows the definition alone. Needs root and `make kubernetes`.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]
#![allow(clippy::print_stdout, reason = "a table that nobody sees says nothing")]

mod askers;
mod cells;
mod expected;
mod field;
mod services;
mod table;

use anyhow::Result;
use atoll_tests::lab::{Options, ProxyMode, ScopedLab};
use atoll_tests::report::Report;
use uuid::Uuid;

use cells::Cell;
use field::Field;

/// Two for pods, and a gateway.
const NODES: u8 = 3;

#[tokio::test]
async fn every_way_with_the_iptables_of_kube_proxy_is_as_it_should_be() {
    matrix(ProxyMode::Iptables).await;
}

#[tokio::test]
async fn every_way_with_the_nftables_of_kube_proxy_is_as_it_should_be() {
    matrix(ProxyMode::Nftables).await;
}

async fn matrix(mode: ProxyMode) {
    let lab = up(mode).await.unwrap();
    let kubernetes = lab.kubernetes().unwrap();
    let field = Field::set_up(&lab, &kubernetes).await.unwrap();
    let cells = askers::observe(&lab, &field).await.unwrap();
    let differing = told(mode, &cells).unwrap();
    assert!(differing.is_empty(), "{} cells differ: {differing:#?}", differing.len());
}

async fn up(mode: ProxyMode) -> Result<ScopedLab> {
    let name = format!("x{}", &Uuid::new_v4().simple().to_string()[..8]).parse()?;
    let sizes = Options { members: 1, nodes: NODES, ..Options::new(name) };
    ScopedLab::up(Options { kubernetes: true, kube_proxy: Some(mode), ..sizes }).await
}

/// Says what was seen; the cells that are not as they should be, in words.
fn told(mode: ProxyMode, cells: &[Cell]) -> Result<Vec<String>> {
    println!("kube-proxy with {}\n{}", mode.name(), table::table(cells));
    let mut report = Report::new("packet-matrix", "make packet-matrix");
    table::report(mode.name(), cells, &mut report)?;
    report.save()?;
    Ok(cells.iter().filter(|it| !it.is_right()).map(table::words).collect())
}
