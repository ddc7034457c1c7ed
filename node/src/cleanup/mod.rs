//! `atoll-node cleanup`: nothing of ours is left on the node.
//!
//! ```text
//! routes ─► rows of Open vSwitch (ports, ovn0, settings) ─► links ─► chains, sets ─► files
//! ```
//!
//! Files go last, so that a cleanup that was interrupted can be begun again: they say which links
//! are ours. What `ovn-controller` made because of our settings (tunnels, notes on the bridge) goes
//! as well, which it has to be stopped for: it would put it back. What was changed and not made
//! stays: forwarding of packets, which others may need by now. The plugin and its network list
//! belong to whoever installed them, and the node's entry in the store to the store.

mod files;
mod ovs;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attached::Attached;
use crate::config::Config;
use crate::firewall::{self, Firewall};
use crate::link::{self, Namespace, host_ends};
use crate::ovs::settings::OVN0;
use crate::ovs::{Ovs, Session, port, transact};
pub(crate) use files::Files;

/// How long to wait for Open vSwitch's database.
const OVS: Duration = Duration::from_secs(5);

/// How long Open vSwitch may take to take a link away, and `ovn-controller` to stop adding rows.
const SETTLE: Duration = Duration::from_secs(5);

/// How long nothing may come back before it counts as gone.
const QUIET: Duration = Duration::from_millis(500);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// How it is to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Also while pods are plugged in, who lose their network, or something is left to be told to
    /// the store, which then never hears of it.
    pub force: bool,
}

/// Removes whatever is ours. Idempotent; says each thing, in the order in which it goes.
///
/// # Errors
///
/// An agent runs, pods are plugged in (unless `force`), or something cannot be removed: then it can
/// be called again.
pub async fn run(
    config: &Config,
    options: Options,
    mut say: impl FnMut(&str),
) -> anyhow::Result<()> {
    if UnixStream::connect(&config.cni_socket).await.is_ok() {
        let socket = config.cni_socket.display();
        bail!("the agent runs ({socket} answers), and would put everything back; stop it first");
    }
    let cancel = CancellationToken::new();
    let _ends = cancel.clone().drop_guard();
    let session = Ovs::start(&config.ovs_db, cancel).session(OVS).await?;
    let files = Files::of(config)?;
    let found = Found::look(config, &session, &files).await?;
    found.say(&mut say);
    if options.dry_run {
        return Ok(());
    }
    if !options.force {
        found.check()?;
    }
    found.remove(config, &session).await
}

/// What there is of ours.
struct Found {
    /// Containers that are plugged in, or of which something is left.
    sandboxes: BTreeSet<String>,
    /// Reports and deletions that the store was not told of.
    untold: usize,
    /// Our routes through `ovn0`, if there is one.
    routes: Option<u32>,
    rows: Vec<String>,
    /// Each with its hardware address, unless the port says that it is ours.
    links: Vec<(String, Option<link::Mac>)>,
    filter: Vec<String>,
    /// Interfaces on which important pods go first.
    shared: Vec<String>,
    files: Files,
}

impl Found {
    async fn look(config: &Config, session: &Session, files: &Files) -> anyhow::Result<Self> {
        let replica = session.monitor.replica();
        let plugged = port::all_plugged(&replica);
        let recorded = match Attached::sandboxes_in(&files.attached) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            recorded => recorded.context("cannot read the records of what is plugged in")?,
        };
        let ends: BTreeSet<_> = recorded.iter().flat_map(|sandbox| host_ends(sandbox)).collect();
        let present = link::list(&Namespace::Own).await?;
        let links = present.iter().filter_map(|link| {
            let is_plugged = plugged.iter().any(|it| it.interface == link.name);
            let is_recorded = link.mac.is_some_and(|mac| ends.contains(&(link.name.clone(), mac)));
            (is_plugged || is_recorded)
                .then(|| (link.name.clone(), link.mac.filter(|_| !is_plugged)))
        });
        let on_bridge = plugged.iter().map(|it| it.sandbox.clone());
        Ok(Self {
            links: links.collect(),
            sandboxes: on_bridge.chain(recorded).collect(),
            untold: files.untold(),
            routes: present.iter().find(|link| link.name == OVN0).map(|link| link.index),
            rows: ovs::plan(config.node.as_str(), &replica).into_iter().map(|it| it.0).collect(),
            filter: firewall::observe().await?.names(),
            shared: link::shared(&Namespace::Own).await?,
            files: files.clone(),
        })
    }

    fn say(&self, say: &mut impl FnMut(&str)) {
        if self.routes.is_some() {
            say(&format!("routes with protocol {} through {OVN0}", link::ROUTE_PROTOCOL));
        }
        self.rows.iter().for_each(|row| say(row));
        self.links.iter().for_each(|(name, _)| say(&format!("link {name}")));
        self.filter.iter().for_each(|name| say(name));
        self.shared.iter().for_each(|name| say(&format!("queueing discipline of {name}")));
        self.files.all().for_each(|path| say(&format!("file {}", path.display())));
    }

    /// Whether nobody loses anything.
    fn check(&self) -> anyhow::Result<()> {
        let named: Vec<_> = self.sandboxes.iter().take(3).map(String::as_str).collect();
        ensure!(
            self.sandboxes.is_empty(),
            "{} pods are plugged in (containers {}, ...), and would lose their network; drain the \
             node first, or say --force",
            self.sandboxes.len(),
            named.join(", ")
        );
        ensure!(
            self.untold == 0,
            "the store was not told yet of {} pods that were plugged in or out; let the agent run \
             until a member has answered, or say --force",
            self.untold
        );
        Ok(())
    }

    async fn remove(self, config: &Config, session: &Session) -> anyhow::Result<()> {
        if let Some(ovn0) = self.routes {
            link::reconcile_routes(&Namespace::Own, ovn0, &[]).await?;
        }
        until_no_rows(config.node.as_str(), session).await?;
        for (name, mac) in &self.links {
            link::detach(name, *mac).await?;
        }
        until_no_leg().await?;
        Firewall::new().cleanup().await?;
        link::unshare(&Namespace::Own, None).await?;
        self.files.remove()
    }
}

/// An `ovn-controller` that runs puts its notes back, and may be in the middle of more.
async fn until_no_rows(node: &str, session: &Session) -> anyhow::Result<()> {
    let until = Instant::now() + SETTLE;
    let mut clean_since = Instant::now();
    while clean_since.elapsed() < QUIET {
        let plan = ovs::plan(node, &session.monitor.replica());
        if !plan.is_empty() {
            clean_since = Instant::now();
            let named: Vec<_> = plan.iter().map(|it| it.0.clone()).collect();
            ensure!(
                Instant::now() < until,
                "it comes back: {}; is ovn-controller still running? Stop it, and call this again",
                named.join(", ")
            );
            let operations: Vec<_> = plan.into_iter().map(|it| it.1).collect();
            transact(session, &operations).await?;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn until_no_leg() -> anyhow::Result<()> {
    let until = Instant::now() + SETTLE;
    while link::find(&Namespace::Own, OVN0).await?.is_some() {
        ensure!(
            Instant::now() < until,
            "{OVN0} is still there although its row is gone; is ovs-vswitchd running?"
        );
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Runs it as the command does: each thing on a line of standard output.
///
/// # Errors
///
/// As [`run`].
pub async fn command(config: &Config, options: Options) -> anyhow::Result<()> {
    use std::io::Write as _;
    let verb = if options.dry_run { "would remove" } else { "removing" };
    let mut out = std::io::stdout();
    // Without a reader there is nobody to tell; the exit status still says it.
    let say = |what: &str| drop(writeln!(out, "{verb} {what}"));
    run(config, options, say).await.context("not everything of ours was removed")
}
