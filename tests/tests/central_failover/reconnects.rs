//! To which southbounds the nodes connect, from what `ovn-controller` writes into its log.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::Lab;

/// OVN's port of southbounds, in the lab too.
const PORT: &str = ":6642";

/// How far each node's log was read.
#[derive(Debug)]
pub(crate) struct Reconnects(BTreeMap<String, usize>);

impl Reconnects {
    /// From now on.
    pub(crate) fn begin(lab: &Lab) -> Result<Self> {
        let lengths = logs(lab)?.into_iter().map(|(node, log)| (node, log.len()));
        Ok(Self(lengths.collect()))
    }

    /// The southbounds that each node has connected to since, in order.
    pub(crate) fn seen(&self, lab: &Lab) -> Result<BTreeMap<String, Vec<String>>> {
        let since = |(node, log): (String, String)| {
            let begin = self.0.get(&node).copied().unwrap_or_default();
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
