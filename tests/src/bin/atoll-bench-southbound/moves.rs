//! All clients go to the next southbound at once.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use atoll_ovsdb::{Client, Datum, Mutation, Operation, Tls};
use atoll_tests::bench::machine::processor_time;
use atoll_tests::report::Report;

use crate::Options;
use crate::client::Dump;
use crate::crowd::Crowd;
use crate::figures::{Exchange, Move};
use crate::fill::{self, Filled};
use crate::secured::Secured;
use crate::server::{Daemon, Used};

/// Members, each with a relay.
const MEMBERS: usize = 3;

/// Questions by which the cost of an answer is taken.
const PROBES: u32 = 5;

/// How clients reach the contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// All at the server that serves.
    Direct,
    /// A third each at a relay of it.
    Relays,
    /// The same, without haste, and then the server behind the relays is exchanged.
    RelaysStay,
}

impl FromStr for Way {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        Ok(match word.trim() {
            "direct" => Self::Direct,
            "relays" => Self::Relays,
            "stay" => Self::RelaysStay,
            other => bail!("{other} is no move: direct, relays, stay"),
        })
    }
}

/// A port that nobody has.
fn own_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Where clients go for the contents of the first of `servers`; relays know the others, too. They
/// let clients in as soon as they have the contents.
async fn entrance(
    dir: &Path,
    way: Way,
    secured: Option<&Secured>,
    servers: [&Daemon; 2],
) -> Result<(Vec<Daemon>, Vec<SocketAddr>)> {
    let mut addresses = vec![own_address()?];
    if way == Way::Direct {
        servers[0].open(addresses[0].port(), secured).await?;
        return Ok((Vec::new(), addresses));
    }
    let [first, second] = servers.map(Daemon::endpoint);
    let source = format!("relay:OVN_Southbound:{first},{second}");
    let mut relays = Vec::new();
    for member in 0..MEMBERS {
        relays.push(Daemon::database(dir, &format!("relay{member}"), &source, secured).await?);
    }
    addresses.clear();
    for relay in &relays {
        relay.is_relaying().await?;
        let address = own_address()?;
        relay.open(address.port(), secured).await?;
        addresses.push(address);
    }
    Ok((relays, addresses))
}

/// A backup that was promoted when its active was killed, its own backup, and the entrance.
struct Stage {
    serving: Daemon,
    backup: Daemon,
    relays: Vec<Daemon>,
    addresses: Vec<SocketAddr>,
    opened: Duration,
    dir: tempfile::TempDir,
}

async fn stage(filled: &Filled, way: Way, secured: Option<&Secured>) -> Result<Stage> {
    let dir = tempfile::tempdir_in(&filled.dir)?;
    let file = dir.path().join("a.db");
    std::fs::copy(&filled.file, &file)?;
    let first = Daemon::database(dir.path(), "a", &file.display().to_string(), secured).await?;
    let serving = backup(dir.path(), "b", &first, secured).await?;
    let begun = Instant::now();
    first.kill()?;
    serving.promote().await?;
    let next = backup(dir.path(), "c", &serving, secured).await?;
    let (relays, addresses) = entrance(dir.path(), way, secured, [&serving, &next]).await?;
    Ok(Stage { serving, backup: next, relays, addresses, opened: begun.elapsed(), dir })
}

/// Moves all clients once, and says what it cost, or exchanges the server behind their relays.
pub(crate) async fn measure(
    filled: &Filled,
    way: Way,
    secured: Option<&Secured>,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let stage = stage(filled, way, secured).await?;
    let tls = secured.map(|it| &it.client);
    let ports = filled.ports;
    if way == Way::RelaysStay {
        let (exchange, clients) = exchange(stage, tls, options.time).await?;
        exchange.say(&format!("relays stay, {ports} ports, {clients} clients"), report);
        return Ok(());
    }
    let words = if way == Way::Direct { "direct" } else { "three relays" };
    let size = format!("{words}, {ports} ports, {} clients", options.clients);
    let moved = all_at_once(&stage, tls, options).await?;
    ensure!(!moved.arrived.is_empty(), "{size}: nobody had all within {:?}", options.time);
    moved.say(&size, options.clients, report);
    drop(stage.dir);
    Ok(())
}

async fn all_at_once(stage: &Stage, tls: Option<&Tls>, options: &Options) -> Result<Move> {
    let Stage { serving, relays, addresses, .. } = stage;
    let dump = Arc::new(Dump::probe(addresses[0], tls).await?);
    let asked = relays.first().unwrap_or(serving);
    let before = asked.used()?;
    for _ in 0..PROBES {
        Dump::probe(addresses[0], tls).await?;
    }
    let each = asked.used()?.since(before).processor / PROBES;

    let own = [std::process::id()];
    let (before, own_before) = (serving.used()?, processor_time(&own)?);
    let relays_before = all_used(relays)?;
    let begun = Instant::now();
    let mut crowd = Crowd::nobody();
    crowd.send(&dump, options.clients, addresses);
    let arrived = crowd.arrived(options.clients, begun + options.time).await;
    Ok(Move {
        arrived,
        opened: stage.opened,
        took: begun.elapsed(),
        each,
        server: serving.used()?.since(before),
        relays: since(relays, &relays_before)?,
        clients: processor_time(&own)?.saturating_sub(own_before),
        dump_bytes: dump.bytes,
    })
}

/// Clients come, one at a time to each relay, for half of the time; then the server is exchanged.
async fn exchange(stage: Stage, tls: Option<&Tls>, time: Duration) -> Result<(Exchange, usize)> {
    let Stage { serving, backup: next, relays, addresses, .. } = stage;
    let dump = Arc::new(Dump::probe(addresses[0], tls).await?);
    let (mut crowd, mut there) = (Crowd::nobody(), 0);
    let begun = Instant::now();
    while begun.elapsed() < time / 2 {
        crowd.send(&dump, addresses.len(), &addresses);
        there += crowd.arrived(addresses.len(), begun + time).await.len();
    }
    ensure!(there == crowd.count(), "{there} of {} clients came", crowd.count());
    let (before, relays_before) = (next.used()?, all_used(&relays)?);
    let begun = Instant::now();
    serving.kill()?;
    next.promote().await?;
    change_something(&next).await?;
    let (heard, cut) = crowd.heard(there).await?;
    let exchange = Exchange {
        took: begun.elapsed(),
        most_bytes: heard.values().copied().max().unwrap_or(0),
        cut,
        server: next.used()?.since(before),
        relay: since(&relays, &relays_before)?
            .iter()
            .map(|it| it.processor)
            .max()
            .unwrap_or_default(),
    };
    Ok((exchange, there))
}

async fn backup(dir: &Path, name: &str, of: &Daemon, secured: Option<&Secured>) -> Result<Daemon> {
    let file = fill::create(dir, name, "/usr/share/ovn/ovn-sb.ovsschema").await?;
    let daemon = Daemon::database(dir, name, &file.display().to_string(), secured).await?;
    daemon.back_up(&of.endpoint()).await?;
    Ok(daemon)
}

fn all_used(daemons: &[Daemon]) -> Result<Vec<Used>> {
    daemons.iter().map(Daemon::used).collect()
}

fn since(daemons: &[Daemon], before: &[Used]) -> Result<Vec<Used>> {
    let now = all_used(daemons)?;
    Ok(now.into_iter().zip(before).map(|(now, before)| now.since(*before)).collect())
}

/// A change that every client hears of.
async fn change_something(server: &Daemon) -> Result<()> {
    let client = Client::connect(&server.endpoint()).await?;
    let mutate = Operation::Mutate {
        table: "SB_Global".into(),
        filter: Vec::new(),
        mutations: vec![Mutation::insert("options", Datum::map([("moved", "true")]))],
    };
    client.transact("OVN_Southbound", &[mutate]).await?;
    Ok(())
}
