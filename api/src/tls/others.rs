//! Databases of an ovn-central that somebody else runs, under an authority of his own.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;

use super::{CertificateFiles, CredentialsError, authorities, certificates, client_config, verify};

/// What is shown to databases of others, and whose certificates are taken of them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OthersTls {
    /// Certificates of their authorities.
    pub ca: PathBuf,
    /// A certificate that they take, if it is not the process' own.
    pub cert: Option<PathBuf>,
    /// The private key of `cert`.
    pub key: Option<PathBuf>,
}

/// There is no pair of certificate and key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPair {
    /// One of the two is missing.
    #[error("cert and key belong together: give both, or none to show this process' own")]
    Half,
    /// Neither is given, and the process has none.
    #[error("with --insecure-dev there is no certificate of our own to show: give cert and key")]
    None,
}

impl OthersTls {
    /// The files, with those of `own` where nothing else is said.
    ///
    /// # Errors
    ///
    /// [`NoPair`].
    pub fn files(self, own: Option<&CertificateFiles>) -> Result<CertificateFiles, NoPair> {
        let (cert, key) = match (self.cert, self.key) {
            (Some(cert), Some(key)) => (cert, key),
            (None, None) => {
                own.map(|own| (own.cert.clone(), own.key.clone())).ok_or(NoPair::None)?
            }
            _ => return Err(NoPair::Half),
        };
        Ok(CertificateFiles { ca: self.ca, cert, key })
    }
}

impl CertificateFiles {
    /// How a client reaches OVN databases that are not the members': it shows this certificate and
    /// takes every server's that these authorities have signed, as OVN's own programs do. Nobody
    /// there knows of our roles.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`] naming the file and what was found.
    pub fn for_databases_of_others(&self) -> Result<Arc<ClientConfig>, CredentialsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(authorities(&self.ca)?);
        let chain = certificates(&self.cert)?;
        let servers = verify::OfAuthority::anybody(roots, &provider);
        let config = client_config(self, &chain, &provider, servers)?;
        let mut config = ClientConfig::clone(&config);
        config.alpn_protocols.clear();
        Ok(Arc::new(config))
    }
}
