//! Calling the CNI plugin as a container runtime does.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::node::{CNI_SOCKET, Node};
use super::pod::Pod;
use super::shell::output_with_input;

const PLUGIN: &str = "atoll-cni";
/// Where runtimes look for plugins and network lists, on the node.
const BIN_DIR: &str = "/opt/cni/bin";
const CONFLIST: &str = "etc-cni/net.d/10-atoll.conflist";

/// Puts the plugin and its network list where the node's container runtime would find them.
pub(super) fn install(node_dir: &Path, binaries: &Path) -> Result<()> {
    let conflist = json!({
        "cniVersion": "1.0.0",
        "name": "atoll",
        "plugins": [{ "type": PLUGIN, "socket": CNI_SOCKET }],
    });
    fs::write(node_dir.join(CONFLIST), serde_json::to_vec_pretty(&conflist)?)?;
    let link = node_dir.join("opt-cni/bin").join(PLUGIN);
    if link.symlink_metadata().is_err() {
        // A link, so that a rebuilt plugin is the one that runs next.
        symlink(binaries.join(PLUGIN), &link)
            .with_context(|| format!("cannot make {}", link.display()))?;
    }
    Ok(())
}

/// What ADD answered, as far as the lab shows it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    /// With prefix lengths, in the plugin's order.
    pub(super) addresses: Vec<String>,
    pub(super) mac: Option<String>,
}

/// CNI ADD for a pod whose network namespace exists.
pub(super) async fn add(node: &Node, pod: &Pod) -> Result<Added> {
    let answer = call(node, pod, "ADD").await?;
    read_result(&answer)
}

/// CNI DEL. Also for a pod of which nothing is left, or was ever made.
pub(super) async fn del(node: &Node, pod: &Pod) -> Result<()> {
    call(node, pod, "DEL").await.map(drop)
}

async fn call(node: &Node, pod: &Pod, verb: &str) -> Result<String> {
    let container_id = &pod.container_id;
    let args = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={};\
         K8S_POD_INFRA_CONTAINER_ID={container_id}",
        pod.name.namespace, pod.name.name, pod.uid
    );
    let mut plugin = node.space()?.command(format!("{BIN_DIR}/{PLUGIN}"));
    plugin
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", container_id)
        .env("CNI_NETNS", format!("/run/netns/{container_id}"))
        .env("CNI_IFNAME", &pod.ifname)
        .env("CNI_PATH", BIN_DIR)
        .env("CNI_ARGS", args);
    let conflist = fs::read(node.dir().join(CONFLIST)).context("cannot read the network list")?;
    let network = network_config(&serde_json::from_slice(&conflist)?)?;
    let output = output_with_input(&mut plugin, &network.to_string()).await?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    bail!("{PLUGIN} {verb}: {}", read_error(&stdout, stderr.trim()))
}

/// The one plugin's configuration out of a network list, completed as the specification says.
fn network_config(conflist: &Value) -> Result<Value> {
    let mut plugin = conflist["plugins"][0].clone();
    let object = plugin.as_object_mut().context("the network list names no plugin")?;
    for key in ["cniVersion", "name"] {
        object.insert(key.to_owned(), conflist[key].clone());
    }
    Ok(plugin)
}

fn read_result(answer: &str) -> Result<Added> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        ips: Vec<Ip>,
        #[serde(default)]
        interfaces: Vec<Interface>,
    }
    #[derive(Deserialize)]
    struct Ip {
        address: String,
    }
    #[derive(Deserialize)]
    struct Interface {
        #[serde(default)]
        mac: Option<String>,
        #[serde(default)]
        sandbox: String,
    }
    let answer: Answer = serde_json::from_str(answer)
        .with_context(|| format!("{PLUGIN} ADD answered what is no result: {answer}"))?;
    // The interface inside the pod is the one with a sandbox; the other is its end on the node.
    let inside = answer.interfaces.into_iter().find(|interface| !interface.sandbox.is_empty());
    Ok(Added {
        addresses: answer.ips.into_iter().map(|ip| ip.address).collect(),
        mac: inside.and_then(|interface| interface.mac),
    })
}

/// Makes a line of a plugin's error, or of what it said instead of one.
fn read_error(stdout: &str, stderr: &str) -> String {
    #[derive(Deserialize)]
    struct CniError {
        code: u32,
        msg: String,
        #[serde(default)]
        details: String,
    }
    match serde_json::from_str(stdout) {
        Ok(CniError { code, msg, details }) if details.is_empty() => format!("{msg} (code {code})"),
        Ok(CniError { code, msg, details }) => format!("{msg} (code {code}): {details}"),
        Err(_) => format!("failed without a CNI error: {stdout}{stderr}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugin_gets_its_part_of_the_list_with_name_and_version() {
        let conflist = json!({
            "cniVersion": "1.0.0", "name": "atoll", "plugins": [{ "type": "x", "socket": "/s" }],
        });
        let expected =
            json!({ "cniVersion": "1.0.0", "name": "atoll", "type": "x", "socket": "/s" });
        assert_eq!(network_config(&conflist).unwrap(), expected);
    }

    #[test]
    fn the_mac_of_a_result_is_that_of_the_end_inside_the_pod() {
        let answer = json!({
            "cniVersion": "1.0.0",
            "interfaces": [
                { "name": "abc_h", "mac": "02:00:00:00:00:01" },
                { "name": "eth0", "mac": "0a:00:00:10:00:02", "sandbox": "/run/netns/abc" },
            ],
            "ips": [{ "address": "10.16.0.2/16", "interface": 1 }, { "address": "fd00::2/64" }],
        });
        let added = read_result(&answer.to_string()).unwrap();
        assert_eq!(added.addresses, ["10.16.0.2/16", "fd00::2/64"]);
        assert_eq!(added.mac.as_deref(), Some("0a:00:00:10:00:02"));
    }

    #[test]
    fn an_error_is_shown_with_its_code_and_a_crash_with_what_it_said() {
        let error = r#"{"cniVersion":"1.0.0","code":11,"msg":"no southbound","details":"3 s"}"#;
        assert_eq!(read_error(error, ""), "no southbound (code 11): 3 s");
        assert_eq!(read_error("", "panicked"), "failed without a CNI error: panicked");
    }
}
