//! What a shell needs to know to work with a lab.

use std::env;
use std::ffi::OsString;

use anyhow::{Context, Result};
use atoll_api::CertificateFiles;

use super::Lab;
use super::options::CentralMode;
use super::pki::OPERATOR;

/// The databases of the member whose ovn-central serves, for a client on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CentralDatabases {
    /// Northbound: what `ovn-nbctl --db` takes.
    pub nb: String,
    /// Southbound: what `ovn-sbctl --db` takes.
    pub sb: String,
}

impl Lab {
    /// The databases of the active central, as the store says now.
    ///
    /// # Errors
    ///
    /// If the store does not answer, or no central is chosen.
    pub async fn central(&self) -> Result<CentralDatabases> {
        let status = self.store()?.status().await.context("whose ovn-central serves?")?;
        let central = status.central.context("no member's ovn-central has been chosen yet")?;
        self.databases_of(&central.member)
            .with_context(|| format!("the store names a '{}' as active central", central.member))
    }

    /// The databases of the member called `name`, or those that all members share.
    pub fn databases_of(&self, name: &str) -> Option<CentralDatabases> {
        if let Some(others) = self.others_central() {
            return Some(others.databases());
        }
        if self.state.central == CentralMode::Cluster {
            let (nb, sb): (Vec<_>, Vec<_>) = self.members().map(|it| it.databases()).unzip();
            return Some(CentralDatabases { nb: nb.join(","), sb: sb.join(",") });
        }
        let member = self.members().find(|member| member.name() == name)?;
        let (nb, sb) = member.databases();
        Some(CentralDatabases { nb, sb })
    }

    /// The variables with which `atollctl`, `ovn-nbctl` and `ovn-sbctl` find this lab.
    ///
    /// The databases are left out when nobody can tell whose they are.
    ///
    /// # Errors
    ///
    /// If `PATH` cannot be composed.
    pub async fn env(&self) -> Result<Vec<(&'static str, OsString)>> {
        let mut variables = Vec::new();
        let endpoints: Vec<_> = self.members().map(|member| member.endpoint()).collect();
        if !self.state.bare {
            variables.push(("ATOLL_ENDPOINTS", endpoints.join(",").into()));
            let CertificateFiles { ca, cert, key } = self.certificate(OPERATOR);
            variables.push(("ATOLL_CA", ca.into()));
            variables.push(("ATOLL_CERT", cert.into()));
            variables.push(("ATOLL_KEY", key.into()));
            if let Ok(central) = self.central().await {
                variables.push(("OVN_NB_DB", central.nb.into()));
                variables.push(("OVN_SB_DB", central.sb.into()));
            }
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let dirs = [self.state.binaries.clone()].into_iter().chain(env::split_paths(&path));
        variables.push(("PATH", env::join_paths(dirs)?));
        Ok(variables)
    }
}
