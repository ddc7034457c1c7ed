//! What kubelet and a container runtime do around the CNI plugin, one step at a time: for tests
//! that stop between two of them. [`Lab::run_pod`] does all of it at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use atoll_node::step::Step;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::lab::store::PodSpec;
use crate::lab::{Lab, Place, Pod, PodName, PodPhase, run};
use crate::people::say;
use crate::probe::ping_from;
use crate::wait::wait_until;

/// The CNI code of what can mend by itself: kubelet makes another sandbox and asks again.
pub const TRY_AGAIN_LATER: u64 = 11;

const PLUGIN: &str = "/opt/cni/bin/atoll-cni";

/// How long what follows an answer by itself may take.
const SOON: Duration = Duration::from_secs(30);

/// What the plugin answered: nothing, or what it printed.
#[derive(Debug)]
pub struct Answer {
    /// It ended with 0.
    pub is_done: bool,
    /// Its standard output.
    pub printed: Value,
    /// How long it took.
    pub took: Duration,
}

impl Answer {
    /// The error's code; 0 without one.
    ///
    /// # Panics
    ///
    /// If what was printed is no CNI error, although it failed.
    #[must_use]
    pub fn code(&self) -> u64 {
        let code = || self.printed["code"].as_u64().expect("an error has a code");
        if self.is_done { 0 } else { code() }
    }

    /// The error's message.
    #[must_use]
    pub fn message(&self) -> &str {
        self.printed["msg"].as_str().unwrap_or_default()
    }

    /// An error unless it succeeded.
    ///
    /// # Errors
    ///
    /// What was printed.
    pub fn done(self) -> Result<Value> {
        ensure!(self.is_done, "{}", self.printed);
        Ok(self.printed)
    }

    /// An error unless it failed with `code`, in words that hold each of `mentions`.
    ///
    /// # Errors
    ///
    /// What was printed instead.
    pub fn refused(&self, code: u64, mentions: &[&str]) -> Result<()> {
        ensure!(!self.is_done, "it succeeded: {}", self.printed);
        ensure!(self.code() == code, "not code {code}: {}", self.printed);
        let words = self.printed.to_string();
        for text in mentions {
            ensure!(words.contains(text), "nothing of '{text}': {words}");
        }
        Ok(())
    }
}

/// A call of the plugin that differs from the usual one.
#[derive(Debug)]
pub struct Call<'a> {
    /// `ADD`, `DEL`, ...
    pub verb: &'a str,
    /// Whom it is about, if anybody.
    pub pod: Option<&'a Pod>,
    /// Beside the usual ones in its configuration.
    pub fields: Value,
    /// In place of the usual variables, or beside them.
    pub variables: Vec<(&'a str, String)>,
    /// A program, with arguments, that becomes the plugin.
    pub through: &'a [&'a str],
}

impl<'a> Call<'a> {
    /// The usual one.
    #[must_use]
    pub fn new(verb: &'a str, pod: Option<&'a Pod>) -> Self {
        Self { verb, pod, fields: json!({}), variables: Vec::new(), through: &[] }
    }

    /// Calls the plugin on a node.
    ///
    /// # Errors
    ///
    /// It cannot be run, or prints what is no JSON.
    pub async fn on(self, lab: &Lab, node: u8) -> Result<Answer> {
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "atoll", "type": "atoll-cni",
            "socket": "/run/atoll/cni.sock",
        });
        let fields = self.fields.as_object().context("fields")?.clone();
        config.as_object_mut().context("an object")?.extend(fields);
        let line = [self.through, &[PLUGIN]].concat();
        let mut plugin = lab.node(node)?.space()?.command(line[0]);
        plugin.args(&line[1..]);
        plugin.env("CNI_COMMAND", self.verb).env("CNI_PATH", "/opt/cni/bin");
        if let Some(pod) = self.pod {
            let Pod { name, uid, container_id, ifname, .. } = pod;
            let args = format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={uid}",
                name.namespace, name.name
            );
            plugin.env("CNI_CONTAINERID", container_id).env("CNI_IFNAME", ifname);
            plugin.env("CNI_NETNS", netns(pod)).env("CNI_ARGS", args);
        }
        plugin.envs(self.variables);
        let began = Instant::now();
        let said = say(&mut plugin, &config.to_string()).await?;
        let took = began.elapsed();
        let is_silent = said.out.is_empty();
        let printed = if is_silent { Value::Null } else { serde_json::from_str(&said.out)? };
        Ok(Answer { is_done: said.status == 0, printed, took })
    }
}

/// Calls the plugin on a node with `fields` beside the usual ones in its configuration.
///
/// # Errors
///
/// As [`Call::on`].
pub async fn call(
    lab: &Lab,
    node: u8,
    verb: &str,
    pod: Option<&Pod>,
    fields: Value,
) -> Result<Answer> {
    Call { fields, ..Call::new(verb, pod) }.on(lab, node).await
}

/// Where a pod's network namespace is, as seen on its node.
#[must_use]
pub fn netns(pod: &Pod) -> String {
    format!("/run/netns/{}", pod.container_id)
}

/// The name of a pod's link on its node.
#[must_use]
pub fn host_end(pod: &Pod) -> String {
    format!("{}_h", &pod.container_id[..12])
}

/// Tells the store of a pod. Nothing of it is made.
///
/// # Errors
///
/// The store's.
pub async fn announce(lab: &Lab, name: &str, node: u8) -> Result<Pod> {
    announce_with(lab, name, node, Default::default()).await
}

/// Tells the store of a pod with annotations. Nothing of it is made.
///
/// # Errors
///
/// The store's, or that an annotation cannot be read.
pub async fn announce_with(
    lab: &Lab,
    name: &str,
    node: u8,
    annotations: BTreeMap<String, String>,
) -> Result<Pod> {
    let pod = unannounced(name, node)?;
    let PodName { namespace, name } = pod.name.clone();
    lab.store()?.ensure_namespace(&namespace).await?;
    let (uid, node) = (pod.uid.clone(), format!("n{node}"));
    let labels = BTreeMap::new();
    let spec = PodSpec { namespace, name, uid, node, annotations, labels };
    lab.store()?.put_pod(&spec).await?;
    Ok(pod)
}

/// A pod that the store is not told of.
///
/// # Errors
///
/// It cannot be called so.
pub fn unannounced(name: &str, node: u8) -> Result<Pod> {
    Ok(Pod {
        name: name.parse()?,
        node,
        uid: Uuid::new_v4().to_string(),
        container_id: format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()),
        ifname: "eth0".to_owned(),
        addresses: Vec::new(),
        mac: None,
        phase: PodPhase::Making,
    })
}

/// Makes a pod's network namespace.
///
/// # Errors
///
/// `ip`'s.
pub async fn make_sandbox(lab: &Lab, pod: &Pod) -> Result<()> {
    const SANDBOX: &str = r#"ip netns add "$0"; ip -n "$0" link set lo up"#;
    on_node(lab, pod.node, &["sh", "-ec", SANDBOX, &pod.container_id]).await.map(drop)
}

/// Removes a pod's network namespace, if there is one.
///
/// # Errors
///
/// `ip`'s.
pub async fn end_sandbox(lab: &Lab, pod: &Pod) -> Result<()> {
    const SANDBOX: &str = r#"[ ! -e "/run/netns/$0" ] || ip netns delete "$0""#;
    on_node(lab, pod.node, &["sh", "-ec", SANDBOX, &pod.container_id]).await.map(drop)
}

/// ADD, once.
///
/// # Errors
///
/// As [`call`].
pub async fn add(lab: &Lab, pod: &Pod) -> Result<Answer> {
    Call::new("ADD", Some(pod)).on(lab, pod.node).await
}

/// DEL, once.
///
/// # Errors
///
/// As [`call`].
pub async fn del(lab: &Lab, pod: &Pod) -> Result<Answer> {
    Call::new("DEL", Some(pod)).on(lab, pod.node).await
}

/// Announces a pod, makes its sandbox and adds it, once.
///
/// # Errors
///
/// Of any of the three; what was made stays.
pub async fn run_pod(lab: &Lab, name: &str, node: u8) -> Result<Pod> {
    let mut pod = announce(lab, name, node).await?;
    make_sandbox(lab, &pod).await?;
    let printed = add(lab, &pod).await?.done()?;
    take_in(&mut pod, &printed);
    Ok(pod)
}

/// Notes the addresses that an ADD gave.
pub fn take_in(pod: &mut Pod, added: &Value) {
    let ips = added["ips"].as_array().into_iter().flatten();
    pod.addresses = ips.filter_map(|ip| ip["address"].as_str().map(ToOwned::to_owned)).collect();
    pod.phase = PodPhase::Running;
}

/// DEL, removes the sandbox, and tells the store that the pod has ended.
///
/// # Errors
///
/// Of any of the three.
pub async fn end_pod(lab: &Lab, pod: &Pod) -> Result<()> {
    del(lab, pod).await?.done()?;
    end_sandbox(lab, pod).await?;
    lab.store()?.delete_pod(&pod.name.namespace, &pod.name.name, &pod.uid).await
}

/// Whether a pod is answered by the first address of another one.
///
/// # Errors
///
/// With ping's own words.
pub async fn pings(lab: &Lab, from: &Pod, to: &Pod) -> Result<()> {
    let address = to.addresses.first().context("it has no address")?;
    let target = address.split('/').next().unwrap_or_default();
    let mut ping = lab.node(from.node)?.space()?.command("ip");
    ping.args(["netns", "exec", &from.container_id, "ping"]);
    ping_from(ping, target, 56).await
}

/// Has the agent of node 1 die at a step of a call, which the runtime is told to try again.
///
/// # Errors
///
/// It does not die, or something else is told.
pub async fn dies(lab: &Lab, pod: &Pod, verb: &str, step: Step) -> Result<()> {
    let node = lab.node(1)?;
    node.agent_dies_at(Some(&step.name()))?;
    let pid = node.agent().pid().context("there is no agent")?;
    let answer = Call::new(verb, Some(pod)).on(lab, 1).await?;
    node.agent().wait_ended().await?;
    // The kernel takes connections for a dead process a little longer, and resets them.
    let socket = node.dir().join("run/atoll/cni.sock");
    wait_until(SOON, "the agent's socket to be nobody's", async || {
        let taken = std::os::unix::net::UnixStream::connect(&socket).is_ok();
        ensure!(!taken, "a connection was taken");
        Ok(())
    })
    .await?;
    node.agent_dies_at(None)?;
    ensure!(node.agent().pid() != Some(pid), "it did not die");
    answer.refused(TRY_AGAIN_LATER, &["the runtime tries again"])
}

/// Runs a program on a node.
///
/// # Errors
///
/// It fails.
pub async fn on_node(lab: &Lab, node: u8, line: &[&str]) -> Result<String> {
    let mut command = lab.space(&Place::Node(node))?.command(line[0]);
    run(command.args(&line[1..])).await
}

/// What there is of pods on a node, whoever it was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Links, by name.
    pub links: BTreeSet<String>,
    /// Open vSwitch's interfaces, by name.
    pub interfaces: BTreeSet<String>,
    /// Ports of the integration bridge.
    pub ports: BTreeSet<String>,
    /// Files of the agent: records, reports, tombstones, and what was half written.
    pub files: BTreeSet<String>,
}

/// What there is on a node now.
///
/// # Errors
///
/// It cannot be looked at.
pub async fn held(lab: &Lab, node: u8) -> Result<Held> {
    let words = |text: String| text.split_whitespace().map(ToOwned::to_owned).collect();
    let links = on_node(lab, node, &["ls", "/sys/class/net"]).await?;
    let columns = ["ovs-vsctl", "--bare", "--columns=name", "list", "Interface"];
    let interfaces = on_node(lab, node, &columns).await?;
    let ports = on_node(lab, node, &["ovs-vsctl", "list-ports", "br-int"]).await?;
    let state = lab.node(node)?.dir().join("lib/atoll");
    let mut files = BTreeSet::new();
    for dir in ["attached", "queue", "tombstones"] {
        files.extend(names(&state.join(dir))?.into_iter().map(|name| format!("{dir}/{name}")));
    }
    let (links, interfaces, ports) = (words(links), words(interfaces), words(ports));
    Ok(Held { links, interfaces, ports, files })
}

/// What there is on a node when the store has been told everything.
///
/// # Errors
///
/// It is not told.
pub async fn settled(lab: &Lab, node: u8) -> Result<Held> {
    wait_until(SOON, "the store to be told everything", async || {
        let now = held(lab, node).await?;
        let reports = now.files.iter().filter(|file| file.starts_with("queue/")).count();
        ensure!(reports == 0, "{reports} reports are left");
        Ok(now)
    })
    .await
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| dir.display().to_string())?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Waits until a node holds just that again, and the store has been told everything.
///
/// # Errors
///
/// What is there besides, or missing.
pub async fn until_held(lab: &Lab, node: u8, before: &Held) -> Result<()> {
    wait_until(SOON, "the node to hold what it held before", async || {
        let now = held(lab, node).await?;
        ensure!(now == *before, "it holds {now:?}, and held {before:?}");
        Ok(())
    })
    .await
}

/// Waits until the store has a pod plugged in by its sandbox, or, if not `is_bound`, by none.
///
/// # Errors
///
/// What the store says instead.
pub async fn until_bound(lab: &Lab, pod: &Pod, is_bound: bool) -> Result<()> {
    let wanted = is_bound.then_some(pod.container_id.as_str());
    wait_until(SOON, &format!("the store to know of {}", pod.name), async || {
        let PodName { namespace, name } = &pod.name;
        let Some(stored) = lab.store()?.get_pod(namespace, name).await? else {
            bail!("there is no such pod")
        };
        ensure!(stored.bound.as_deref() == wanted, "it has {:?}", stored.bound);
        Ok(())
    })
    .await
}
