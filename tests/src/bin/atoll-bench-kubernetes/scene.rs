//! The lab as it is measured: objects that have to be there, and who looks.

use std::time::Duration;

use anyhow::{Context as _, Result};
use atoll_tests::bench::machine::processor_time;
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab, LabName};
use atoll_tests::wait::wait_until;
use hyper::Method;
use kube::Client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::Options;
use crate::apiserver::{NAMESPACE, NODES, ask, ask_all, client};
use crate::seen::Seen;

/// How long members may take until the store is ready.
const READY: Duration = Duration::from_secs(60);

pub(crate) struct Scene {
    pub(crate) lab: Lab,
    pub(crate) client: Client,
    pub(crate) clients: usize,
    pub(crate) pods: u32,
    pub(crate) seen: Seen,
    watching: Vec<JoinHandle<Result<()>>>,
}

impl Scene {
    /// Nodes, a namespace and its subnet; members do not run.
    pub(crate) async fn set(name: &LabName, options: Options) -> Result<Self> {
        let lab = Lab::open(name)?;
        let kubernetes = lab.kubernetes().context("a lab with Kubernetes")?;
        let client = client(&kubernetes.admin()).await?;
        let Options { pods, clients } = options;
        let (seen, watching) = (Seen::default(), Vec::new());
        let scene = Self { lab, client, clients, pods, seen, watching };
        let nodes = (0..NODES).map(|index| ("/api/v1/nodes".to_owned(), node(index)));
        ask_all(&scene.client, clients, &Method::POST, nodes).await?;
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace",
                                "metadata": { "name": NAMESPACE } });
        ask(&scene.client, Method::POST, "/api/v1/namespaces", &namespace).await?;
        let subnet = json!({
            "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": { "name": NAMESPACE },
            "spec": { "cidrBlock": "10.64.0.0/16", "namespaces": [NAMESPACE] },
        });
        ask(&scene.client, Method::POST, "/apis/kubeovn.io/v1/subnets", &subnet).await?;
        wait_until(READY, "the subnet and a service account", async || {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default");
            ask(&scene.client, Method::GET, &path, &Value::Null).await?;
            let path = format!("/apis/kubeovn.io/v1/subnets/{NAMESPACE}");
            let subnet = ask(&scene.client, Method::GET, &path, &Value::Null).await?;
            let ready = &subnet["status"]["conditions"][0]["status"];
            anyhow::ensure!(ready == "True", "{}", subnet["status"]);
            Ok(())
        })
        .await?;
        for member in 1..=3 {
            scene.lab.fault(FaultVerb::Kill, FaultTarget::Member(member)).await?;
        }
        Ok(scene)
    }

    /// Starts the members, and looks at what becomes of pods.
    pub(crate) async fn follow(&mut self) -> Result<()> {
        for member in 1..=3 {
            self.lab.fault(FaultVerb::Restart, FaultTarget::Member(member)).await?;
        }
        self.lab.store()?.wait_ready(READY).await?;
        self.watching.push(tokio::spawn(self.seen.clone().pods(self.client.clone())));
        self.watching.push(tokio::spawn(self.seen.clone().ips(self.client.clone())));
        self.monitor().await
    }

    /// Follows the northbound that serves now.
    pub(crate) async fn monitor(&mut self) -> Result<()> {
        let serving = wait_until(READY, "a serving northbound", async || {
            let status = self.lab.store()?.status().await?;
            let name = status.central.context("none is chosen")?.member;
            let number: u8 = name.trim_start_matches('m').parse()?;
            self.lab.member(number)
        })
        .await?;
        let (nb, _) = serving.databases();
        self.watching.push(tokio::spawn(self.seen.clone().ports(nb)));
        Ok(())
    }

    /// The number of the member that leads.
    pub(crate) async fn leader(&self) -> Result<u8> {
        let status = self.lab.store()?.status().await?;
        let name = status.leader.context("nobody leads")?;
        Ok(name.trim_start_matches('m').parse()?)
    }

    /// Processor time and memory (MiB) of the leader's `atolld` until now.
    pub(crate) async fn cost(&self) -> Result<(Duration, f64)> {
        let member = self.lab.member(self.leader().await?)?;
        let pid = u32::try_from(member.atolld().pid().context("the leader runs")?)?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|it| it.split_whitespace().next()).context("no VmRSS")?;
        Ok((processor_time(&[pid])?, kib.parse::<f64>()? / 1024.0))
    }
}

fn node(index: u32) -> Value {
    let room = json!({ "cpu": "64", "memory": "256Gi", "pods": "2000" });
    let name = format!("fake-{index}");
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": format!("172.31.1.{}", index + 1) }],
            "capacity": room, "allocatable": room,
        },
    })
}
