//! Two Services before each pod, of both families, with a port on every node; one of them keeps the
//! address of whoever asks from outside. Their endpoints are written by hand, because pods of nodes
//! without kubelets are never ready.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::kubectl::bare;
use atoll_tests::lab::{Kubernetes, Pod, PodName, run};
use serde_json::{Value, json};

use crate::field;

/// Where Services are called.
pub(crate) const PORT: u16 = 80;

/// The nodes' ports are numbered from here on, two for each pod.
const FIRST_NODE_PORT: u16 = 30_100;

/// How one that keeps addresses is called, behind its pod's name.
const LOCAL: &str = "-local";

/// How a pod is reached through its Services.
#[derive(Debug)]
pub(crate) struct Service {
    /// One of each family.
    pub(crate) addresses: [String; 2],
    /// On each node, for both protocols.
    pub(crate) node_port: u16,
    /// That of the Service which keeps addresses.
    pub(crate) local_port: u16,
}

/// Makes them.
pub(crate) async fn before<'a>(
    kubernetes: &Kubernetes,
    pods: impl Iterator<Item = &'a Pod>,
) -> Result<BTreeMap<PodName, Service>> {
    let pods: Vec<(&Pod, u16)> = pods.zip((FIRST_NODE_PORT..).step_by(2)).collect();
    let mut services = Vec::new();
    let mut slices = Vec::new();
    for (pod, port) in &pods {
        services.push(service(pod, "", "Cluster", *port));
        services.push(service(pod, LOCAL, "Local", port + 1));
        slices.extend(["", LOCAL].into_iter().flat_map(|suffix| endpoints(pod, suffix)));
    }
    kubernetes.apply(&list(services)).await?;
    kubernetes.apply(&list(slices)).await?;
    let mut get = kubernetes.kubectl();
    get.args(["get", "services", "--all-namespaces", "-o", "json"]);
    let made: Value = serde_json::from_str(&run(&mut get).await?)?;
    let mut found = BTreeMap::new();
    for (pod, node_port) in pods {
        let mut all = made["items"].as_array().into_iter().flatten();
        let it = all.find(|it| {
            let named = &it["metadata"];
            named["namespace"] == pod.name.namespace.as_str()
                && named["name"] == pod.name.name.as_str()
        });
        let addresses: Vec<String> =
            serde_json::from_value(it.context("no such Service")?["spec"]["clusterIPs"].clone())?;
        let [v4, v6] = <[String; 2]>::try_from(addresses).ok().context("not of both families")?;
        ensure!(v4.contains('.') && v6.contains(':'), "{v4} and {v6}");
        let service = Service { addresses: [v4, v6], node_port, local_port: node_port + 1 };
        found.insert(pod.name.clone(), service);
    }
    Ok(found)
}

fn list(items: Vec<Value>) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

fn service(pod: &Pod, suffix: &str, policy: &str, node_port: u16) -> Value {
    let port = |name: &str, protocol: &str| {
        json!({
            "name": name, "protocol": protocol,
            "port": PORT, "targetPort": field::PORT, "nodePort": node_port,
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "namespace": pod.name.namespace, "name": format!("{}{suffix}", pod.name.name),
        },
        "spec": {
            "type": "NodePort", "externalTrafficPolicy": policy,
            "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
            "ports": [port("tcp", "TCP"), port("udp", "UDP")],
        },
    })
}

fn endpoints(pod: &Pod, suffix: &str) -> [Value; 2] {
    let (namespace, name) = (&pod.name.namespace, format!("{}{suffix}", pod.name.name));
    let ports = [("tcp", "TCP"), ("udp", "UDP")]
        .map(|(name, protocol)| json!({ "name": name, "protocol": protocol, "port": field::PORT }));
    let slice = |family: &str, address: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "namespace": namespace, "name": format!("{name}-{}", family.to_lowercase()),
                "labels": { "kubernetes.io/service-name": name },
            },
            "addressType": family,
            "ports": ports,
            "endpoints": [{
                "addresses": [address],
                "conditions": { "ready": true },
                "nodeName": format!("n{}", pod.node),
            }],
        })
    };
    let addresses = bare(pod);
    [slice("IPv4", addresses[0]), slice("IPv6", addresses[1])]
}
