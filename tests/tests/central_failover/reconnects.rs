//! To which southbounds the nodes connect, from what `ovn-controller` writes into its log.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::Lab;
use atoll_tests::wait::wait_until;

/// OVN's port of southbounds, in the lab too.
const PORT: &str = ":6642";

/// Behind 10,000 ports a node computes for some ten seconds before it looks at its connection.
const SETTLED: Duration = Duration::from_secs(180);

/// What each node's log said so far.
#[derive(Debug)]
pub(crate) struct Reconnects(BTreeMap<String, Known>);

#[derive(Debug, Default)]
struct Known {
    /// How far it was read.
    length: usize,
    /// The southbound that it was connected to then.
    remote: Option<String>,
}

impl Reconnects {
    /// Waits until every node is at the southbound at `address`: one with a thousand ports comes there
    /// seconds after the others.
    pub(crate) async fn settle(lab: &Lab, address: &str) -> Result<()> {
        wait_until(SETTLED, &format!("all nodes at {address}"), async || {
            let now = Self::begin(lab)?;
            let elsewhere = now.0.keys().filter(|node| !now.had(node, address));
            let elsewhere: Vec<_> = elsewhere.collect();
            ensure!(elsewhere.is_empty(), "elsewhere: {elsewhere:?}");
            Ok(())
        })
        .await
    }

    /// From now on.
    pub(crate) fn begin(lab: &Lab) -> Result<Self> {
        let known = |(node, log): (String, String)| {
            let remote = log.lines().filter_map(connected).next_back().map(str::to_owned);
            (node, Known { length: log.len(), remote })
        };
        Ok(Self(logs(lab)?.into_iter().map(known).collect()))
    }

    /// The southbounds that each node has connected to since, in order.
    pub(crate) fn seen(&self, lab: &Lab) -> Result<BTreeMap<String, Vec<String>>> {
        let since = |(node, log): (String, String)| {
            let begin = self.0.get(&node).map(|known| known.length).unwrap_or_default();
            let remotes = log[begin..].lines().filter_map(connected).map(str::to_owned).collect();
            (node, remotes)
        };
        Ok(logs(lab)?.into_iter().map(since).collect())
    }

    /// No node has left its southbound.
    pub(crate) fn none(&self, lab: &Lab) -> Result<()> {
        let seen = self.seen(lab)?;
        ensure!(seen.values().all(Vec::is_empty), "nodes have connected anew: {seen:?}");
        Ok(())
    }

    /// Whether `node` was connected to the southbound at `address`.
    pub(crate) fn had(&self, node: &str, address: &str) -> bool {
        let remote = self.0.get(node).and_then(|known| known.remote.as_ref());
        remote.is_some_and(|remote| remote.contains(address))
    }

    /// How many nodes have left a southbound other than the one at `hit`. In a cluster a server that
    /// misses a leader for longer than an election sends its clients away; all servers are as good.
    pub(crate) fn left_others(&self, lab: &Lab, hit: &str) -> Result<usize> {
        let mut seen = self.seen(lab)?;
        seen.retain(|node, remotes| !remotes.is_empty() && !self.had(node, hit));
        Ok(seen.len())
    }

    /// No node that has left the southbound at `old` came back to it.
    pub(crate) fn never_back(&self, lab: &Lab, old: &str) -> Result<()> {
        for (node, remotes) in self.seen(lab)? {
            let mut others = remotes.iter().skip_while(|remote| remote.contains(old));
            let is_back = others.any(|remote| remote.contains(old));
            ensure!(!is_back, "{node} went back to {old}: {remotes:?}");
        }
        Ok(())
    }
}

fn logs(lab: &Lab) -> Result<BTreeMap<String, String>> {
    let log = |node: atoll_tests::lab::Node| {
        let path = node.dir().join("log/ovn/ovn-controller.log");
        let text = std::fs::read_to_string(&path);
        Ok((node.name(), text.with_context(|| path.display().to_string())?))
    };
    lab.nodes().map(log).collect()
}

/// The remote of a line that says that it is connected now.
fn connected(line: &str) -> Option<&str> {
    let remote = line.split_once("|reconnect|INFO|")?.1.strip_suffix(": connected")?;
    remote.ends_with(PORT).then_some(remote)
}
