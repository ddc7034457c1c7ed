//! What is printed: lines for people, one JSON object for programs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{Write as _, stdout};

use anyhow::Result;
use atoll_tests::lab::{FaultTarget, FaultVerb, LabName, Pod, Removed, Status};
use serde::Serialize;
use serde_json::json;

use crate::args::Output;

/// Prints `text`, or `value` if a program asked.
fn answer(output: Output, text: impl Display, value: &impl Serialize) -> Result<()> {
    let mut stdout = stdout().lock();
    match output {
        Output::Text => writeln!(stdout, "{text}")?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut stdout, value)?;
            writeln!(stdout)?;
        }
    }
    Ok(())
}

pub(crate) fn up(output: Output, status: &Status) -> Result<()> {
    let Status { name, dir, members, nodes, .. } = status;
    let text = format!(
        "lab '{name}' is up: {} members, {} nodes, files in {dir}\n\
         eval \"$(atoll-lab env --name {name})\"",
        members.len(),
        nodes.len(),
    );
    answer(output, text, status)
}

pub(crate) fn removed(output: Output, name: &LabName, removed: &Removed) -> Result<()> {
    let text = if removed.is_nothing() {
        format!("there is no lab '{name}'")
    } else {
        let (processes, namespaces) = (removed.processes, removed.namespaces.len());
        format!("lab '{name}' is gone: {processes} processes, {namespaces} namespaces")
    };
    answer(output, text, removed)
}

pub(crate) fn status(output: Output, status: &Status) -> Result<()> {
    answer(output, status_text(status), status)
}

fn status_text(status: &Status) -> String {
    let mut lines = vec![format!("lab '{}', files in {}", status.name, status.dir)];
    for member in &status.members {
        let pid = member.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        lines
            .push(format!("member {}  {}  pid {pid}  {}", member.id, member.role, member.endpoint));
    }
    match &status.central {
        Some(central) => lines.push(format!(
            "central {}  {}  since revision {}",
            central.member, central.mode, central.since
        )),
        None => lines.push("central unknown".to_owned()),
    }
    for node in &status.nodes {
        let join: Vec<_> = node.join.iter().map(ToString::to_string).collect();
        let system_id = node.system_id.as_deref().unwrap_or("-");
        let join = dash_if_empty(join.join(" "));
        lines.push(format!("node {}  {}  join {join}  system-id {system_id}", node.name, node.ip));
    }
    for pod in &status.pods {
        let addresses = dash_if_empty(pod.addresses.join(" "));
        lines.push(format!("pod {}  on {}  {addresses}", pod.name, pod.node));
    }
    let outside: Vec<_> = status.outside.addresses.iter().map(ToString::to_string).collect();
    lines.push(format!("outside  {}", outside.join(" ")));
    lines.join("\n")
}

pub(crate) fn env(output: Output, variables: &[(&'static str, OsString)]) -> Result<()> {
    let text = |value: &OsString| value.to_string_lossy().into_owned();
    let lines: Vec<_> = variables
        .iter()
        .map(|(name, value)| format!("export {name}={}", quote(&text(value))))
        .collect();
    let value: BTreeMap<_, _> =
        variables.iter().map(|(name, value)| (*name, text(value))).collect();
    answer(output, lines.join("\n"), &value)
}

/// Makes one word of it for a POSIX shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

pub(crate) fn namespace(
    output: Output,
    name: &str,
    labels: &BTreeMap<String, String>,
) -> Result<()> {
    answer(output, format!("namespace {name}"), &json!({ "name": name, "labels": labels }))
}

pub(crate) fn pod(output: Output, pod: &Pod) -> Result<()> {
    let addresses = dash_if_empty(pod.addresses.join(" "));
    let mac = pod.mac.as_deref().unwrap_or("-");
    let text = format!("pod {} on n{}: {addresses} {mac}", pod.name, pod.node);
    answer(output, text, &pod_value(pod))
}

pub(crate) fn deleted(output: Output, pod: &Pod) -> Result<()> {
    answer(output, format!("pod {} is gone", pod.name), &pod_value(pod))
}

fn pod_value(pod: &Pod) -> serde_json::Value {
    json!({
        "name": pod.name,
        "node": format!("n{}", pod.node),
        "uid": pod.uid,
        "containerId": pod.container_id,
        "ifname": pod.ifname,
        "addresses": pod.addresses,
        "mac": pod.mac,
    })
}

pub(crate) fn fault(output: Output, verb: FaultVerb, target: FaultTarget) -> Result<()> {
    let value = json!({ "verb": verb, "target": target.to_string() });
    answer(output, format!("{target}: {verb}: done"), &value)
}

fn dash_if_empty(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_value_is_one_word_whatever_is_in_it() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
