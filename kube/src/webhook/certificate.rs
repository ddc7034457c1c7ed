//! What the webhook shows to the apiserver: an authority of its own, for nothing else, and a
//! certificate of that.
//!
//! The cluster's authority cannot be used: its key is not on members, and what it has signed may
//! sign nothing. So each process makes one when it starts, and the leader tells the apiserver of
//! it, as whom the apiserver knows anyway. Its key is nowhere but in this process.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use atoll_api::Identity;
use atoll_api::pki::{Authority, Pair, PkiError};
use atoll_model::MemberName;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};

/// HTTP/1: an apiserver has a question or two at a time.
const ALPN: &[u8] = b"http/1.1";

/// How long a certificate is valid, in days.
const DAYS: u32 = 30;

/// When the next one is made: whoever has an older clock than this machine still takes it.
const RENEWED_AFTER: Duration = Duration::from_secs(20 * 24 * 3600);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It cannot be made.
    #[error("cannot make a certificate for the webhook")]
    Make(#[from] PkiError),
    /// It cannot be read back.
    #[error("cannot read the certificate that was made for the webhook")]
    Read(#[from] pem::Error),
    /// It cannot be shown.
    #[error("cannot use the certificate that was made for the webhook")]
    Use(#[from] rustls::Error),
}

/// The authority, and the certificate that is shown now.
pub(super) struct Certificates {
    authority: Authority,
    identity: Identity,
    host: String,
    shown: Arc<ServerConfig>,
    renew_at: SystemTime,
}

impl Certificates {
    /// For a member that is asked at `host`, an address or a name.
    pub(super) fn new(
        member: &MemberName,
        host: String,
        now: SystemTime,
    ) -> Result<Self, CertificateError> {
        let identity = Identity::Member(member.clone());
        let authority = Authority::open(&Authority::create(&format!("atoll webhook {member}"))?)?;
        let shown = made(&authority, &identity, &host, now)?;
        Ok(Self { authority, identity, host, shown, renew_at: now + RENEWED_AFTER })
    }

    /// Whom the apiserver has to trust, PEM.
    pub(super) fn authority(&self) -> &str {
        self.authority.cert()
    }

    /// How the next connection is taken. A certificate that is old is made anew, at no other time:
    /// nobody sees it before.
    pub(super) fn config(&mut self, now: SystemTime) -> Arc<ServerConfig> {
        if now >= self.renew_at {
            match made(&self.authority, &self.identity, &self.host, now) {
                Ok(made) => (self.shown, self.renew_at) = (made, now + RENEWED_AFTER),
                Err(error) => tracing::warn!(%error, "the webhook keeps its old certificate"),
            }
        }
        self.shown.clone()
    }
}

fn made(
    authority: &Authority,
    identity: &Identity,
    host: &str,
    now: SystemTime,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let Pair { cert, key } = authority.issue_at(now, identity, &[host.to_owned()], DAYS)?;
    let cert = CertificateDer::from_pem_slice(cert.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}
