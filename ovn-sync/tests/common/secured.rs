//! Databases with TLS: members that open them, and those who come.

#![allow(dead_code, reason = "each suite uses a part of it")]

use std::process::{Command, Output, Stdio};

use atoll_api::{CertificateFiles, Credentials};
use atoll_ovn_sync::{CentralTls, Guard};
use atoll_ovsdb::{Client, ConnectError, Endpoint, Options, SessionError, Tls};

use super::pki::{self, Pki};

impl Pki {
    /// What the member of that name opens its databases with.
    pub(crate) fn central(&self, name: &str) -> CentralTls {
        let files = self.files(&format!("member/{name}"));
        let credentials = Credentials::load(&files).unwrap();
        let northbound = Guard::new(credentials.for_northbound().unwrap());
        let client = pki::client(&files);
        let CertificateFiles { ca, cert: certificate, key: private_key } = files;
        CentralTls { private_key, certificate, ca, client, northbound }
    }
}

/// A tool of OVN's, of whoever has these files.
pub(crate) fn tool(files: &CertificateFiles, program: &str, arguments: &[&str]) -> Command {
    let CertificateFiles { ca, cert, key } = files;
    let mut command = Command::new(program);
    command.arg("--timeout=10");
    for (option, file) in [("ca-cert", ca), ("certificate", cert), ("private-key", key)] {
        command.arg(format!("--{option}={}", file.display()));
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// `ovn-sbctl` of whoever has these files.
pub(crate) fn sbctl_as(files: &CertificateFiles, sb: &str, arguments: &[&str]) -> Output {
    let mut command = tool(files, "ovn-sbctl", &[&format!("--db={sb}"), "--no-leader-only"]);
    command.args(arguments).output().unwrap()
}

pub(crate) fn allowed(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// By the role, and not because it makes no sense.
pub(crate) fn prohibited(what: &str, output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    let is_refused = !output.status.success() && said.contains("RBAC rules for client");
    assert!(is_refused, "{what}: {output:?}");
}

/// Why `endpoint` lets nobody in who comes with `tls`.
pub(crate) async fn refusal(endpoint: &str, tls: Option<Tls>) -> SessionError {
    let options = Options { tls, ..Options::default() };
    let endpoint: Endpoint = endpoint.parse().unwrap();
    match Client::connect_with(&endpoint, &options).await {
        Err(ConnectError::Session { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}
