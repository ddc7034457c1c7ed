//! An authority and certificates for members alone, made with `atolld pki` as an operator does.

use std::path::{Path, PathBuf};

use anyhow::Result;
use atoll_api::CertificateFiles;
use tokio::process::Command;

use crate::lab::run;
use crate::people::program;

/// An authority in a directory.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
}

impl Authority {
    /// Makes one below `dir`.
    ///
    /// # Errors
    ///
    /// What `atolld pki init` says.
    pub async fn new(dir: &Path) -> Result<Self> {
        let made = Self { dir: dir.to_owned() };
        run(Command::new(program("atolld")).args(["pki", "init", "--dir"]).arg(made.own())).await?;
        Ok(made)
    }

    fn own(&self) -> PathBuf {
        self.dir.join("authority")
    }

    /// A certificate for `role`, `name`.
    ///
    /// # Errors
    ///
    /// What `atolld pki issue` says.
    pub async fn issue(&self, role: &str, name: &str) -> Result<CertificateFiles> {
        let out = self.dir.join(format!("{role}-{name}"));
        let mut atolld = Command::new(program("atolld"));
        atolld.args(["pki", "issue", "--dir"]).arg(self.own());
        atolld.args(["--role", role, "--name", name, "--out"]).arg(&out);
        run(&mut atolld).await?;
        Ok(CertificateFiles::in_dir(&out))
    }
}
