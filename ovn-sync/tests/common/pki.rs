//! Certificates of one test: an authority, and directories for what it issues.

#![allow(dead_code, reason = "each suite uses a part of it")]

use atoll_api::pki::{Authority, write_pair};
use atoll_api::{CertificateFiles, Credentials};
use atoll_ovsdb::Tls;

pub(crate) struct Pki {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let authority = Authority::open(&Authority::create("test").unwrap()).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), authority }
    }

    pub(crate) fn files(&self, identity: &str) -> CertificateFiles {
        let pair = self.authority.issue(&identity.parse().unwrap(), &[], 1).unwrap();
        let dir = tempfile::tempdir_in(&self.dir).unwrap().keep();
        write_pair(&dir, self.authority.cert(), &pair).unwrap()
    }

    /// What somebody with a certificate for `identity` shows to databases, and takes of them.
    pub(crate) fn client(&self, identity: &str) -> Tls {
        client(&self.files(identity))
    }
}

pub(crate) fn client(files: &CertificateFiles) -> Tls {
    Tls::new(Credentials::load(files).unwrap().for_databases().unwrap())
}
