//! The report `bench-southbound`: a thousand nodes that go to another southbound at once, with and
//! without an `ovsdb-server relay:` on every member.
//!
//! A southbound is filled by a real northd, from the northbound that our own projection writes, and
//! has a backup, as the warm members have. Clients ask for what `ovn-controller` asks for and read
//! all of it. Then the serving one is killed, the backup is made a database of its own, and all
//! clients go there: straight, or through three relays that were started for it, until all have all
//! contents or the time is over. No northd runs meanwhile. Behind the relays the server is exchanged
//! once more, which their clients may or may not notice.
//!
//! A client reads and counts; it understands nothing. It is as patient as `ovn-controller`: with a
//! connection for one to eight seconds, and with TLS, as nodes have it, that includes the server's
//! part of the handshake; with silence for two minutes. One machine plays all members and all nodes, so
//! the wall clock says what these cores can do; processor time and memory are each process's own.
//!
//! `ATOLL_SOUTHBOUND_CLIENTS`, `ATOLL_SOUTHBOUND_PORTS=1000,10000`, `ATOLL_SOUTHBOUND_SECONDS`
//! (of a move) for other numbers, `ATOLL_SOUTHBOUND_WAYS=direct,relays,stay` for some of the moves,
//! `ATOLL_SOUTHBOUND_TLS=off` for plaintext.
#![allow(clippy::float_arithmetic, reason = "figures of measurements; no replica computes here")]

mod client;
mod crowd;
mod figures;
mod fill;
mod moves;
mod secured;
mod server;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::bench::machine;
use atoll_tests::report::Report;

use crate::moves::Way;
use crate::secured::Secured;

/// All of it ends by itself: what fills the southbounds and the like in this time, and the moves in
/// theirs.
const AT_MOST: Duration = Duration::from_secs(8 * 60);

/// What is measured.
#[derive(Debug)]
struct Options {
    clients: usize,
    /// Ports of pods, one run for each.
    ports: Vec<usize>,
    /// For clients to have everything; with 10,000 ports they would need half an hour.
    time: Duration,
    /// Moves for each number of ports.
    ways: Vec<Way>,
    tls: bool,
}

impl Options {
    fn from_env() -> Result<Self> {
        let text =
            |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.into());
        let number = |text: &str| {
            text.trim().parse::<usize>().with_context(|| format!("{text} is no number"))
        };
        let clients = number(&text("ATOLL_SOUTHBOUND_CLIENTS", "1000"))?;
        ensure!((1..=5_000).contains(&clients), "1 to 5000 clients, not {clients}");
        let time =
            Duration::from_secs(number(&text("ATOLL_SOUTHBOUND_SECONDS", "40"))?.try_into()?);
        let ports = text("ATOLL_SOUTHBOUND_PORTS", "1000");
        let ways = text("ATOLL_SOUTHBOUND_WAYS", "direct,relays,stay");
        Ok(Self {
            clients,
            ports: ports.split(',').map(number).collect::<Result<_>>()?,
            time,
            ways: ways.split(',').map(str::parse).collect::<Result<_>>()?,
            tls: text("ATOLL_SOUTHBOUND_TLS", "on") != "off",
        })
    }
}

async fn run(options: &Options, report: &mut Report) -> Result<()> {
    for &ports in &options.ports {
        let dir = machine::scratch()?;
        let filled = fill::southbound(dir.path(), options.clients, ports).await?;
        let secured = options.tls.then(|| Secured::new(dir.path())).transpose()?;
        for &way in &options.ways {
            moves::measure(&filled, way, secured.as_ref(), options, report).await?;
        }
    }
    Ok(())
}

fn main() -> Result<ExitCode> {
    let options = Options::from_env()?;
    // One thread: the others of this machine are the servers'.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::new("bench-southbound", "make bench-southbound");
    let outcome = runtime.block_on(async {
        let moves = u32::try_from(options.ways.len() * options.ports.len())?;
        let at_most = AT_MOST + options.time * moves;
        let ended = tokio::time::timeout(at_most, run(&options, &mut report)).await;
        ended.with_context(|| format!("not done after {at_most:?}"))?
    });
    writeln!(std::io::stdout(), "\n{}", report.table())?;
    report.save()?;
    outcome?;
    let failures = report.failures();
    failures.iter().try_for_each(|it| writeln!(std::io::stdout(), "missed: {it}"))?;
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
