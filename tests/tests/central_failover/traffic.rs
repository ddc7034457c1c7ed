//! Pods that talk, in every way that there is.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{Lab, Place, Pod, Space};
use atoll_tests::probe::{Flow, Seen, ping};
use atoll_tests::talk::{Talker, now};
use atoll_tests::wait::wait_until;

const EVERY: Duration = Duration::from_millis(10);

const OUTSIDE: [&str; 2] = ["203.0.113.1", "fd99::1"];

/// Words come every 10 ms; a stream that was silent for so long has stopped.
const STALLED: Duration = Duration::from_secs(1);

const SOON: Duration = Duration::from_secs(10);

pub(crate) struct Traffic {
    flows: Vec<Flow>,
    pulls: Vec<Talker>,
    _pushes: Vec<Talker>,
}

/// What it saw.
pub(crate) struct Outcome {
    pub(crate) probes: Seen,
    /// Milliseconds.
    pub(crate) stream_gap: f64,
}

impl Traffic {
    /// 14 kinds of pairs and two TCP streams, when all of them run.
    pub(crate) async fn start(lab: &Lab, pods: &[Pod]) -> Result<Self> {
        let pod = |name: &str| {
            let found = pods.iter().find(|pod| pod.name.to_string() == name);
            found.with_context(|| format!("no pod {name}"))
        };
        let a = pod("one/a1")?;
        let from = lab.space(&Place::Pod(a.name.clone()))?;
        let mut pairs: Vec<(Space, String)> = Vec::new();
        // Same and another node, same and another subnet, both families.
        for to in ["one/b1", "one/a2", "two/a1", "two/b3"] {
            pairs.extend(addresses(pod(to)?)?.iter().map(|to| (from.clone(), to.to_string())));
        }
        pairs.extend(OUTSIDE.map(|to| (from.clone(), to.to_owned())));
        // A node with its own pod and with another's, in both families.
        let node = lab.node(1)?.space()?;
        for to in ["two/b1", "two/a2"] {
            pairs.extend(addresses(pod(to)?)?.iter().map(|to| (node.clone(), to.to_string())));
        }
        ensure!(pairs.len() == 14, "{} kinds of pairs", pairs.len());
        for (from, to) in &pairs {
            wait_until(SOON, "the first answer", || ping(from, to, 56)).await?;
        }
        let (mut pulls, mut pushes) = (Vec::new(), Vec::new());
        for (to, port) in [("one/b2", "7001"), ("two/a3", "7002")] {
            pushes.push(Talker::start(lab, pod(to)?, &["push", "tcp", port])?);
            let at = SocketAddr::new(address(pod(to)?)?, port.parse()?).to_string();
            pulls.push(stream(lab, a, &at).await?);
        }
        let flows = pairs.iter().map(|(from, to)| Flow::start_every(EVERY, from, to));
        Ok(Self { flows: flows.collect::<Result<_>>()?, pulls, _pushes: pushes })
    }

    /// Stops it; an error if a stream does not run any more.
    pub(crate) async fn stop(self) -> Result<Outcome> {
        let mut stream_gap = 0;
        let end = now()?;
        for pull in &self.pulls {
            let heard = pull.heard()?;
            let last = heard.last().copied().unwrap_or_default();
            ensure!(end < last + STALLED.as_millis(), "a stream has stopped {} ms ago", end - last);
            let gaps = heard.windows(2).map(|pair| pair[1] - pair[0]);
            stream_gap = stream_gap.max(gaps.max().unwrap_or_default());
        }
        let probes = Flow::stop_all(self.flows).await?;
        Ok(Outcome { probes, stream_gap: f64::from(u32::try_from(stream_gap)?) })
    }
}

async fn stream(lab: &Lab, from: &Pod, at: &str) -> Result<Talker> {
    wait_until(SOON, "a stream", || async {
        let pull = Talker::start(lab, from, &["pull", "tcp", at])?;
        wait_until(STALLED, "its first words", || async {
            ensure!(pull.heard()?.len() > 5, "{} words", pull.heard()?.len());
            Ok(())
        })
        .await?;
        Ok(pull)
    })
    .await
}

fn addresses(pod: &Pod) -> Result<Vec<IpAddr>> {
    let texts = pod.addresses.iter().map(|text| text.split('/').next().unwrap_or_default());
    texts.map(|text| Ok(text.parse()?)).collect()
}

pub(crate) fn address(pod: &Pod) -> Result<IpAddr> {
    addresses(pod)?.first().copied().context("it has no address")
}
