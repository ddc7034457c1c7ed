//! What is seen of pods, and when: by watches of the apiserver and by a monitor of the northbound.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use atoll_ovsdb::{Client as Ovsdb, MonitoredTable};
use atoll_tests::wait::wait_until;
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use hyper::Request;
use kube::Client;
use serde::Deserialize;
use uuid::Uuid;

use crate::apiserver::{NAMESPACE, pods_path};

const ADDRESS: &str = "ovn.kubernetes.io/ip_address";

/// When something was first seen of a pod that is there.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// The apiserver shows its node.
    pub(crate) bound: Option<Instant>,
    /// Its port is in the northbound, with addresses.
    pub(crate) in_nb: Option<Instant>,
    /// Its annotations are there.
    pub(crate) annotated: Option<Instant>,
    /// Its `IP` object is there.
    pub(crate) shown: Option<Instant>,
}

/// All that is seen, by the pods' names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeMap<String, Times>>>);

/// What a watch tells.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
enum Event {
    Added(Object),
    Modified(Object),
    Deleted(Object),
}

/// An object, as far as it is looked at.
#[derive(Debug, Clone, Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Clone, Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
}

/// The latest of some moments, which all pods of a load have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latest {
    pub(crate) in_nb: Instant,
    pub(crate) written: Instant,
}

impl Seen {
    fn note(&self, name: &str, what: impl FnOnce(&mut Times)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        what(all.entry(name.to_owned()).or_default());
    }

    /// What was seen of the pods of a load.
    pub(crate) fn of(&self, load: &str) -> Vec<(String, Times)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_load = all.range(format!("{load}-")..).take_while(|(name, _)| {
            name.strip_prefix(load).is_some_and(|rest| rest.starts_with('-'))
        });
        of_load.map(|(name, times)| (name.clone(), *times)).collect()
    }

    /// Waits until so many pods of a load are in the northbound and written back.
    pub(crate) async fn all(&self, load: &str, count: u32, deadline: Duration) -> Result<Latest> {
        wait_until(deadline, &format!("{count} pods of {load}"), async || {
            let times = self.of(load);
            let latest = |get: fn(&Times) -> Option<Instant>| {
                let seen: Vec<Instant> = times.iter().filter_map(|(_, it)| get(it)).collect();
                (seen.len(), seen.into_iter().max())
            };
            let counts = [latest(|it| it.in_nb), latest(|it| it.annotated), latest(|it| it.shown)];
            let wanted = usize::try_from(count)?;
            let short = counts.iter().any(|(seen, _)| *seen < wanted);
            ensure!(!short, "in NB, annotated, shown: {:?}", counts.map(|(seen, _)| seen));
            let [nb, annotated, shown] = counts.map(|(_, at)| at);
            let written = annotated.max(shown).context("no pods")?;
            Ok(Latest { in_nb: nb.context("no pods")?, written })
        })
        .await
    }

    /// Waits until nothing of a load is in the northbound or shown any more.
    pub(crate) async fn none(&self, load: &str, deadline: Duration) -> Result<Instant> {
        wait_until(deadline, &format!("nothing of {load}"), async || {
            let times = self.of(load);
            let nb = times.iter().filter(|(_, it)| it.in_nb.is_some()).count();
            let shown = times.iter().filter(|(_, it)| it.shown.is_some()).count();
            ensure!(nb + shown == 0, "{nb} in NB, {shown} shown");
            Ok(Instant::now())
        })
        .await
    }

    /// Watches pods for ever.
    pub(crate) async fn pods(self, client: Client) -> Result<()> {
        self.watch(client, &pods_path(), |seen, object, is_there| {
            seen.note(&object.metadata.name, |times| {
                let now = Some(Instant::now());
                if !is_there {
                    (times.bound, times.annotated) = (None, None);
                    return;
                }
                if object.spec.node_name.is_some() {
                    times.bound = times.bound.or(now);
                }
                if object.metadata.annotations.contains_key(ADDRESS) {
                    times.annotated = times.annotated.or(now);
                }
            });
        })
        .await
    }

    /// Watches `IP` objects for ever.
    pub(crate) async fn ips(self, client: Client) -> Result<()> {
        self.watch(client, "/apis/kubeovn.io/v1/ips", |seen, object, is_there| {
            let Some(pod) = object.metadata.name.strip_suffix(&format!(".{NAMESPACE}")) else {
                return;
            };
            seen.note(pod, |times| {
                times.shown = is_there.then(|| times.shown.unwrap_or_else(Instant::now));
            });
        })
        .await
    }

    async fn watch(
        &self,
        client: Client,
        path: &str,
        take: impl Fn(&Self, &Object, bool),
    ) -> Result<()> {
        let request = Request::get(format!("{path}?watch=true&timeoutSeconds=3600"));
        let lines = client.request_stream(request.body(Vec::new())?).await?;
        let mut lines = std::pin::pin!(lines.lines());
        while let Some(line) = lines.try_next().await? {
            match serde_json::from_str(&line).with_context(|| format!("{path}: {line}"))? {
                Event::Added(it) | Event::Modified(it) => take(self, &it, true),
                Event::Deleted(it) => take(self, &it, false),
            }
        }
        bail!("the watch of {path} ended")
    }

    /// Follows the ports of a northbound until its server goes away.
    pub(crate) async fn ports(self, endpoint: String) -> Result<()> {
        let client = Ovsdb::connect(&endpoint.parse()?).await?;
        let table = MonitoredTable::new("Logical_Switch_Port", ["name", "addresses"]);
        let mut monitor = client.monitor("OVN_Northbound", &[table]).await?;
        let mut names: BTreeMap<Uuid, String> = BTreeMap::new();
        let mut mark = None;
        loop {
            let replica = monitor.replica();
            let touched: Vec<Uuid> = match mark.and_then(|mark| replica.touched_since(mark)) {
                Some(touched) => touched.map(|(_, row)| row).collect(),
                None => replica.rows("Logical_Switch_Port").map(|(row, _)| row).collect(),
            };
            mark = Some(replica.mark());
            for id in touched {
                let row = replica.row("Logical_Switch_Port", id);
                let name = row.and_then(|row| row.get("name")?.as_str());
                let Some(name) = name.map(str::to_owned).or_else(|| names.get(&id).cloned()) else {
                    continue;
                };
                let has =
                    row.is_some_and(|it| it.get("addresses").is_some_and(|it| !it.is_empty()));
                if let Some(pod) = name.strip_suffix(&format!(".{NAMESPACE}")) {
                    self.note(pod, |times| {
                        times.in_nb = has.then(|| times.in_nb.unwrap_or_else(Instant::now));
                    });
                }
                match row {
                    Some(_) => names.insert(id, name),
                    None => names.remove(&id),
                };
            }
            monitor.changed().await?;
        }
    }
}
