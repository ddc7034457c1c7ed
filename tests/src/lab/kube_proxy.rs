//! kube-proxy on the nodes of a lab with Kubernetes, one in each node's namespaces: it turns
//! Services' addresses and the nodes' ports into pods' addresses, with rules of its own beside the
//! agent's.

use std::ffi::OsStr;
use std::fs;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::binaries::need;
use super::kubernetes::{self, program};
use super::kubernetes_pki::{self, PROXY};
use super::node::Node;
use super::process::Daemon;
use super::shell::run;
use crate::wait::wait_until;

/// How long it may take until it answers.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Where it answers. Its first rules may come a moment later.
const HEALTH: &str = "127.0.0.1:10256";

/// What kube-proxy writes its rules with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyMode {
    /// As most clusters have it.
    Iptables,
    /// Its successor; needs `nft`.
    Nftables,
}

impl ProxyMode {
    /// Its name in kube-proxy's configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }

    /// Refuses a machine without the program that the mode needs.
    pub(super) fn check(self) -> Result<()> {
        match self {
            Self::Iptables => need("iptables-restore", "iptables"),
            Self::Nftables => need("nft", "nftables"),
        }
    }
}

impl Node {
    /// Its kube-proxy, if the lab has them.
    pub fn kube_proxy(&self) -> Daemon {
        self.daemon("kube-proxy", "kube-proxy.pid")
    }

    /// Starts kube-proxy unless it runs or the lab has none, and waits until it answers.
    pub(super) async fn start_kube_proxy(&self) -> Result<()> {
        let Some(mode) = self.proxy_mode() else { return Ok(()) };
        let proxy = self.kube_proxy();
        let log = self.dir().join("log/kube-proxy.log");
        if proxy.pid().is_none() {
            let config = self.dir().join("kube-proxy.json");
            fs::write(&config, self.proxy_config(mode).to_string())?;
            let program = program(self.binaries());
            let words = [program.as_os_str(), OsStr::new("kube-proxy"), OsStr::new("--config")];
            let argv: Vec<_> = words.into_iter().chain([config.as_os_str()]).collect();
            proxy.write_pid(self.space()?.spawn_daemon(&argv, &Vec::new(), &log)?)?;
        }
        wait_until(START_DEADLINE, "an answer of kube-proxy", async || {
            if proxy.pid().is_none() {
                bail!("it has ended: see {}", log.display());
            }
            let mut curl = self.space()?.command("curl");
            run(curl.args(["--silent", "--fail", &format!("http://{HEALTH}/healthz")])).await
        })
        .await
        .map(drop)
    }

    /// Pods are those whose packets come in by `ovn0`, whatever their subnets are: by a range of
    /// addresses it could know one subnet of each family only. What else goes to a Service, the
    /// node's own words above all, it gives the node's address in the pod network.
    fn proxy_config(&self, mode: ProxyMode) -> Value {
        let dir = kubernetes::dir(self.lab_dir());
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": mode.name(),
            "hostnameOverride": self.name(),
            "clientConnection": { "kubeconfig": kubernetes_pki::kubeconfig(&dir, PROXY) },
            "detectLocalMode": "BridgeInterface",
            "detectLocal": { "bridgeInterface": "ovn0" },
            "healthzBindAddress": HEALTH,
            "metricsBindAddress": "127.0.0.1:10249",
            // The kernel's limits for connections are not a namespace's to set.
            "conntrack": {
                "maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
            },
        })
    }
}
