//! An authority for one cluster, and everybody's certificates.

use std::path::Path;

use anyhow::Result;
use atoll_api::pki::{Authority, write_pair};
use atoll_api::{CertificateFiles, Credentials};

/// Days that certificates are valid.
const DAYS: u32 = 1;

pub(super) struct Pki {
    authority: Authority,
}

impl Pki {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { authority: Authority::open(&Authority::create("bench")?)? })
    }

    /// A certificate in `dir/NAME`; `hosts` are for programs that compare host names.
    pub(super) fn issue(
        &self,
        dir: &Path,
        identity: &str,
        hosts: &[String],
    ) -> Result<CertificateFiles> {
        let pair = self.authority.issue(&identity.parse()?, hosts, DAYS)?;
        let dir = dir.join("pki").join(identity);
        std::fs::create_dir_all(&dir)?;
        Ok(write_pair(&dir, self.authority.cert(), &pair)?)
    }

    pub(super) fn operator(&self, dir: &Path) -> Result<Credentials> {
        Ok(Credentials::load(&self.issue(dir, "operator/bench", &[])?)?)
    }
}
