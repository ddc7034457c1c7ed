//! Certificates as members and nodes have them.

use std::path::Path;

use anyhow::{Context as _, Result};
use atoll_api::{CertificateFiles, Credentials};
use atoll_ovsdb::Tls;
use atoll_tests::certificates::Authority;

/// What servers show, and what clients do.
#[derive(Debug)]
pub(crate) struct Secured {
    server: CertificateFiles,
    pub(crate) client: Tls,
}

impl Secured {
    /// Makes an authority and a certificate of each kind, in files below `dir`.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let authority = Authority::new(dir)?;
        let server = authority.issue("member/m1", &[])?;
        let node = Credentials::load(&authority.issue("node/n1", &[])?)?;
        let client = Tls::new(node.for_databases().context("credentials without TLS")?);
        Ok(Self { server, client })
    }

    /// What `ovsdb-server` has to be started with.
    pub(crate) fn arguments(&self) -> [String; 3] {
        let CertificateFiles { ca, cert, key } = &self.server;
        [("private-key", key), ("certificate", cert), ("ca-cert", ca)]
            .map(|(option, file)| format!("--{option}={}", file.display()))
    }
}
