//! Whom members alone believe: an authority of one run, and everybody's certificates.

use std::path::{Path, PathBuf};

use anyhow::Result;
use atoll_api::{CertificateFiles, Credentials, pki};

/// Days that certificates are valid.
const DAYS: u32 = 1;

/// An authority that keeps what it issues in a directory.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    authority: pki::Authority,
}

impl Authority {
    /// Makes one; what it issues is below `dir`.
    ///
    /// # Errors
    ///
    /// No key can be made.
    pub fn new(dir: &Path) -> Result<Self> {
        let authority = pki::Authority::open(&pki::Authority::create("tests")?)?;
        Ok(Self { dir: dir.join("pki"), authority })
    }

    /// A certificate for `identity` (`member/m1`); `hosts` are for programs that compare host names.
    ///
    /// # Errors
    ///
    /// It is no identity, or the files cannot be written.
    pub fn issue(&self, identity: &str, hosts: &[String]) -> Result<CertificateFiles> {
        let pair = self.authority.issue(&identity.parse()?, hosts, DAYS)?;
        let dir = self.dir.join(identity);
        std::fs::create_dir_all(&dir)?;
        Ok(pki::write_pair(&dir, self.authority.cert(), &pair)?)
    }

    /// Of somebody who may do everything.
    ///
    /// # Errors
    ///
    /// As [`Self::issue`].
    pub fn operator(&self) -> Result<Credentials> {
        Ok(Credentials::load(&self.issue("operator/tests", &[])?)?)
    }
}
