//! What a person types: `atollctl` and `atoll-lab` as processes, with their words and exit status.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use atoll_api::CertificateFiles;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::lab::{Lab, OPERATOR};

/// What a program said, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its exit status.
    pub status: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// A program of this workspace, built beside the one that runs, or one folder above it, where that
/// is a test.
///
/// # Panics
///
/// If the running program cannot be found.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    // target/debug/NAME, target/debug/deps/NAME-HASH
    let mut places = own.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    places.find(|path| path.exists()).unwrap_or_else(|| own.with_file_name(name))
}

/// Runs a program with standard input.
///
/// # Errors
///
/// It cannot be started; a status other than 0 is no error here.
pub async fn say(command: &mut Command, input: &str) -> Result<Said> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().with_context(|| format!("{command:?}"))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    // A program that does not read may have closed it already.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await?;
    Ok(Said {
        status: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs `atollctl` against a lab, as its operator.
///
/// # Errors
///
/// It cannot be started.
pub async fn atollctl(lab: &Lab, arguments: &[&str], input: &str) -> Result<Said> {
    atollctl_as(lab, &lab.certificate(OPERATOR), arguments, input).await
}

/// Runs `atollctl` against a lab, as whoever the certificate says.
///
/// # Errors
///
/// It cannot be started.
pub async fn atollctl_as(
    lab: &Lab,
    files: &CertificateFiles,
    arguments: &[&str],
    input: &str,
) -> Result<Said> {
    let endpoints: Vec<String> = lab.members().map(|member| member.endpoint()).collect();
    let mut command = Command::new(program("atollctl"));
    command.args(arguments).env("ATOLL_ENDPOINTS", endpoints.join(","));
    command.env("ATOLL_CA", &files.ca).env("ATOLL_CERT", &files.cert).env("ATOLL_KEY", &files.key);
    say(&mut command, input).await
}

/// Creates subnets: (name, cidrBlock, namespace).
///
/// # Errors
///
/// Whatever `atollctl create` refused.
pub async fn create_subnets(lab: &Lab, subnets: &[(&str, &str, &str)]) -> Result<()> {
    let manifest = |(name, cidr, namespace): &(&str, &str, &str)| {
        format!(
            "apiVersion: kubeovn.io/v1\nkind: Subnet\nmetadata: {{ name: {name} }}\n\
             spec:\n  cidrBlock: {cidr}\n  namespaces: [{namespace}]\n  natOutgoing: true\n"
        )
    };
    let manifests: Vec<String> = subnets.iter().map(manifest).collect();
    let said = atollctl(lab, &["create", "-f", "-"], &manifests.join("---\n")).await?;
    ensure!(said.status == 0, "atollctl create: {}", said.err);
    Ok(())
}

/// `atollctl get KIND -o json`'s items.
///
/// # Errors
///
/// The command failed or printed no list.
pub async fn get(lab: &Lab, kind: &str) -> Result<Vec<Value>> {
    let said = atollctl(lab, &["get", kind, "-o", "json"], "").await?;
    ensure!(said.status == 0, "atollctl get {kind}: {}", said.err);
    let list: Value = serde_json::from_str(&said.out)?;
    list["items"].as_array().cloned().context("no items")
}
