//! Mutual TLS: the one place where connections are made and taken, and where those who make and take
//! them by themselves (OVN's databases) get their configuration.
//!
//! * Both ends show a certificate of the cluster's authority. `verify.rs` checks chain, validity and
//!   purpose with WebPKI, and then the [`Identity`] in it instead of a host name: who is called must
//!   be a *member*; who calls must be *somebody*, and the service decides what that role may do.
//! * A connection counts as made when the server has taken *our* certificate too (`connect.rs`). TLS
//!   1.3 alone would let a client send its first request before it learns that it is turned away,
//!   and then nobody could tell "refused" from "unknown".
//! * TLS 1.3 only, one provider (ring), no resumption: every connection is verified in full, so an
//!   expired certificate cannot ride on an older session. Connections are few and long-lived.
//! * Plaintext exists only as [`Credentials::insecure_dev`], and never leaves the machine.
//!
//! A connection that was taken lives on when its certificate expires. Files are read once.

mod connect;
mod listen;
mod others;
#[cfg(test)]
mod tests;
mod verify;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier as _;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig, version};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::client::Endpoint;
use crate::identity::{Identity, Role};
pub use connect::ConnectFailure;
pub use listen::{Connection, Listener};
pub use others::{NoPair, OthersTls};
pub use verify::NameError;

/// HTTP/2, and nothing else, is spoken here.
const ALPN: &[u8] = b"h2";

/// The files in which a process finds who it is and whom it trusts, all PEM.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// Certificates of the authorities that are trusted.
    pub ca: PathBuf,
    /// The process' own certificate, and those between it and an authority, if any.
    pub cert: PathBuf,
    /// The private key of `cert`.
    pub key: PathBuf,
}

/// Who this process is, and whom it trusts. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    /// `None`: plaintext, on loopback only.
    tls: Option<Arc<Tls>>,
}

struct Tls {
    identity: Identity,
    files: CertificateFiles,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    northbound: Arc<ServerConfig>,
}

impl CertificateFiles {
    /// The files of a directory as `atolld pki issue` makes it, cert-manager fills it, and a
    /// Kubernetes Secret of type `kubernetes.io/tls` shows it.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self { ca: dir.join("ca.crt"), cert: dir.join("tls.crt"), key: dir.join("tls.key") }
    }
}

/// Why the files give no credentials. Each says which file, what was found, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// A file does not hold what it should.
    #[error("{path}: no {what} in PEM form was found in it")]
    Empty {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The key is another certificate's.
    #[error("{key} is not the key of {cert}: they were made apart; give the pair of one `issue`")]
    KeyOfAnother {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate does not name a role.
    #[error("{0}: the certificate cannot be used: {1}")]
    Name(PathBuf, NameError),
    /// The certificate is not of the authority, or not valid now.
    #[error("{cert}: {why}")]
    Certificate {
        /// The certificate's file.
        cert: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The certificate is somebody else's.
    #[error(
        "{cert}: this is the certificate of {found}, and this process is {wanted}; issue one: \
         atolld pki issue --role {} --name {}", .wanted.role(), .wanted.name()
    )]
    SomebodyElse {
        /// The certificate's file.
        cert: PathBuf,
        /// Whose it is.
        found: Identity,
        /// Who the process is.
        wanted: Identity,
    },
    /// rustls does not take them, for a reason that is not told apart here.
    #[error("{0}")]
    Tls(PathBuf, #[source] rustls::Error),
}

/// Plaintext would leave this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "--insecure-dev is for one machine: {0} is not on loopback, and nobody there could tell who \
     speaks. Use 127.0.0.1 or [::1], or give certificates (atolld pki init, atolld pki issue)"
)]
pub struct NotLoopback(String);

impl Credentials {
    /// Reads the files and checks all that can be checked without the other end: that certificate
    /// and key belong together, that one of the authorities signed the certificate, that it is
    /// valid now, and that it names an identity.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`] naming the file, what was found and what to do.
    pub fn load(files: &CertificateFiles) -> Result<Self, CredentialsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(authorities(&files.ca)?);
        let chain = certificates(&files.cert)?;
        let identity = verify::identity_of(&chain[0])
            .map_err(|error| CredentialsError::Name(files.cert.clone(), error))?;
        let tls = |error| tls_error(files, error);
        let callers = callers(files, roots.clone(), &provider)?;
        // Every role's certificate is a client's; only a member's is a server's too.
        callers.verify_client_cert(&chain[0], &chain[1..], UnixTime::now()).map_err(tls)?;
        let northbound = northbound_config(files, &chain, &provider, roots.clone())?;
        let members = verify::OfAuthority::members(roots, &provider);
        let client = client_config(files, &chain, &provider, members)?;
        let server = server_config(files, &chain, provider, callers)?;
        let tls = Tls { identity, files: files.clone(), client, server, northbound };
        Ok(Self { tls: Some(Arc::new(tls)) })
    }

    /// [`Credentials::load`] for a process that is configured to be `wanted`.
    ///
    /// # Errors
    ///
    /// Also [`CredentialsError::SomebodyElse`].
    pub fn load_for(files: &CertificateFiles, wanted: &Identity) -> Result<Self, CredentialsError> {
        let credentials = Self::load(files)?;
        match credentials.identity() {
            Some(found) if found != wanted => Err(CredentialsError::SomebodyElse {
                cert: files.cert.clone(),
                found: found.clone(),
                wanted: wanted.clone(),
            }),
            _ => Ok(credentials),
        }
    }

    /// Plaintext without identities, for trying things out on one machine: connections to and
    /// listeners on addresses that are not loopback are refused.
    #[must_use]
    pub fn insecure_dev() -> Self {
        Self { tls: None }
    }

    /// Who this process is; `None` with [`Credentials::insecure_dev`].
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.tls.as_ref().map(|tls| &tls.identity)
    }

    /// The files that these credentials were read from, for programs that read them by themselves;
    /// `None` with [`Credentials::insecure_dev`].
    #[must_use]
    pub fn files(&self) -> Option<&CertificateFiles> {
        self.tls.as_ref().map(|tls| &tls.files)
    }

    /// How a client reaches the OVN databases that members open: it shows our certificate and takes
    /// a member's only, as everywhere here. `None` with [`Credentials::insecure_dev`].
    #[must_use]
    pub fn for_databases(&self) -> Option<Arc<ClientConfig>> {
        let mut config = ClientConfig::clone(&self.tls.as_ref()?.client);
        // `ovsdb-server` speaks OVSDB and knows of no ALPN.
        config.alpn_protocols.clear();
        Some(Arc::new(config))
    }

    /// How a member takes connections to its northbound database, which has no roles of its own:
    /// from members and operators only. `None` with [`Credentials::insecure_dev`].
    #[must_use]
    pub fn for_northbound(&self) -> Option<Arc<ServerConfig>> {
        self.tls.as_ref().map(|tls| tls.northbound.clone())
    }

    /// May `endpoint` be used with these credentials?
    ///
    /// # Errors
    ///
    /// [`NotLoopback`]: it would carry plaintext off this machine.
    pub fn check(&self, endpoint: &Endpoint) -> Result<(), NotLoopback> {
        match self.tls.is_some() || endpoint.is_loopback() {
            true => Ok(()),
            false => Err(NotLoopback(endpoint.to_string())),
        }
    }
}

impl fmt::Debug for Credentials {
    /// Never shows a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tls {
            Some(tls) => f.debug_tuple("Credentials").field(&tls.identity).finish(),
            None => f.write_str("Credentials(insecure-dev)"),
        }
    }
}

/// A stream of either kind.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    std::fs::read(path).map_err(|error| CredentialsError::Read(path.to_owned(), error))
}

fn empty(path: &Path, what: &'static str) -> CredentialsError {
    CredentialsError::Empty { path: path.to_owned(), what }
}

/// At least one certificate.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| empty(path, "certificate"))
}

fn authorities(path: &Path) -> Result<RootCertStore, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let add = roots.add(certificate);
        add.map_err(|error| CredentialsError::Tls(path.to_owned(), error))?;
    }
    Ok(roots)
}

/// Read anew for each use: a key cannot be copied.
fn key(path: &Path) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| empty(path, "private key"))
}

fn client_config(
    files: &CertificateFiles,
    chain: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
    servers: verify::OfAuthority,
) -> Result<Arc<ClientConfig>, CredentialsError> {
    let tls = |error| tls_error(files, error);
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(servers))
        .with_client_auth_cert(chain.to_vec(), key(&files.key)?)
        .map_err(tls)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn server_config(
    files: &CertificateFiles,
    chain: &[CertificateDer<'static>],
    provider: Arc<CryptoProvider>,
    callers: verify::AnybodyNamed,
) -> Result<Arc<ServerConfig>, CredentialsError> {
    let tls = |error| tls_error(files, error);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(tls)?
        .with_client_cert_verifier(Arc::new(callers))
        .with_single_cert(chain.to_vec(), key(&files.key)?)
        .map_err(tls)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn northbound_config(
    files: &CertificateFiles,
    chain: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
) -> Result<Arc<ServerConfig>, CredentialsError> {
    let callers = callers(files, roots, provider)?.only(&[Role::Member, Role::Operator]);
    let config = server_config(files, chain, provider.clone(), callers)?;
    let mut config = ServerConfig::clone(&config);
    config.alpn_protocols.clear();
    Ok(Arc::new(config))
}

fn callers(
    files: &CertificateFiles,
    roots: Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<verify::AnybodyNamed, CredentialsError> {
    verify::AnybodyNamed::new(roots, provider.clone())
        .map_err(|error| tls_error(files, rustls::Error::General(error.to_string())))
}

/// What rustls says of our own files.
fn tls_error(files: &CertificateFiles, error: rustls::Error) -> CredentialsError {
    let CertificateFiles { ca, cert, key } = files.clone();
    match error {
        rustls::Error::InconsistentKeys(_) => CredentialsError::KeyOfAnother { cert, key },
        rustls::Error::InvalidCertificate(error) => {
            let why = format!("{}; {}", complaint(&error, &ca), remedy(&error));
            CredentialsError::Certificate { cert, why }
        }
        other => CredentialsError::Tls(cert, other),
    }
}

/// What is wrong with a certificate, said of "it".
fn complaint(error: &CertificateError, ca: &Path) -> String {
    use CertificateError as E;
    let ca = ca.display();
    match error {
        E::UnknownIssuer | E::BadSignature => format!("it was not signed by the authority in {ca}"),
        E::Expired => "it has expired".to_owned(),
        E::ExpiredContext { time, not_after } => {
            format!(
                "it expired {} ago",
                duration(time.as_secs().saturating_sub(not_after.as_secs()))
            )
        }
        E::NotValidYet => "it is not valid yet".to_owned(),
        E::NotValidYetContext { time, not_before } => format!(
            "it will be valid in {}",
            duration(not_before.as_secs().saturating_sub(time.as_secs()))
        ),
        E::Other(other) => other.0.to_string(),
        other => format!("it cannot be used: {other:?}"),
    }
}

fn remedy(error: &CertificateError) -> &'static str {
    use CertificateError as E;
    match error {
        E::UnknownIssuer | E::BadSignature => {
            "give the authority of this cluster, and its certificate"
        }
        E::NotValidYet | E::NotValidYetContext { .. } => "correct this machine's clock",
        _ => "issue a new one: atolld pki issue",
    }
}

/// For people: the largest unit that fits.
fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
