//! The lab's authority, and everybody's certificates: made with `atolld pki`, as an operator does.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use atoll_api::{CertificateFiles, Credentials};
use futures::future::try_join_all;
use serde::Serialize;

use super::Lab;
use super::shell::{command, run};
use super::state::State;

/// Who the lab is to the store: it acts as an operator does.
pub const OPERATOR: &str = "operator/atoll-lab";

/// Somebody who may only look.
pub const VIEWER: &str = "viewer/atoll-lab";

/// Where a lab keeps its certificates, below its directory.
const PKI: &str = "pki";

/// The files of the certificate for `identity` (`member/m1`).
pub(super) fn files(lab_dir: &Path, identity: &str) -> CertificateFiles {
    CertificateFiles::in_dir(&lab_dir.join(PKI).join(identity))
}

/// Makes the authority and a certificate for each process and each kind of person.
pub(super) async fn set_up(state: &State) -> Result<()> {
    let authority = state.dir.join(PKI).join("authority");
    pki(state, &["init".as_ref(), "--dir".as_ref(), authority.as_os_str()]).await?;
    let members = (1..=state.members).map(|index| format!("member/m{index}"));
    let nodes = (1..=state.nodes).map(|index| format!("node/n{index}"));
    let people = [OPERATOR, VIEWER].map(ToOwned::to_owned);
    try_join_all(members.chain(nodes).chain(people).map(|who| issue(state, who))).await.map(drop)
}

async fn issue(state: &State, identity: String) -> Result<()> {
    let (role, name) = identity.split_once('/').context("an identity is ROLE/NAME")?;
    let authority = state.dir.join(PKI).join("authority");
    let out = state.dir.join(PKI).join(&identity);
    let words: [&OsStr; 9] = [
        "issue".as_ref(),
        "--dir".as_ref(),
        authority.as_os_str(),
        "--role".as_ref(),
        role.as_ref(),
        "--name".as_ref(),
        name.as_ref(),
        "--out".as_ref(),
        out.as_os_str(),
    ];
    pki(state, &words).await
}

async fn pki(state: &State, words: &[&OsStr]) -> Result<()> {
    let mut atolld = command(state.binaries.join("atolld"));
    run(atolld.arg("pki").args(words)).await.map(drop)
}

/// How a config file names the certificate.
#[derive(Serialize)]
pub(crate) struct TlsConfig {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl From<CertificateFiles> for TlsConfig {
    fn from(files: CertificateFiles) -> Self {
        Self { ca: files.ca, cert: files.cert, key: files.key }
    }
}

impl Lab {
    /// The files of a certificate that the lab has made: of a member (`member/m1`), of a node
    /// (`node/n1`), of [`OPERATOR`] or [`VIEWER`].
    pub fn certificate(&self, identity: &str) -> CertificateFiles {
        files(self.dir(), identity)
    }

    /// The operator's, for the lab's own calls.
    pub(super) fn credentials(&self) -> Result<Credentials> {
        Credentials::load(&self.certificate(OPERATOR)).context("the lab's own certificate")
    }
}
