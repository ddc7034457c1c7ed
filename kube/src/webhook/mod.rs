//! The admission webhook: what the store would refuse is refused when it is asked for.
//!
//! ```text
//!  apiserver ──AdmissionReview──► serve ─► desk ─► review ─► judge ─► translate, Store::answer
//!      ▲                                                       │
//!      └───────────────────── allowed, warned of, or refused ──┘
//! ```
//!
//! * `judge`: a question in, a verdict out; there is no rule in it. Pure.
//! * `review`: the form of both. Pure.
//! * `desk`, `serve`: HTTP and TLS, with bounds on everything.
//! * `certificate`: shown to the apiserver; an authority of the process' own.
//! * `register`: the leader tells the apiserver where to ask, and about what.
//!
//! # Invariants
//!
//! * It is a courtesy. The store refuses whatever comes past it, so the apiserver goes on without an
//!   answer (`failurePolicy: Ignore`), and is never told to ask about pods that ask for nothing, of
//!   nodes, in `kube-system`, or about what Atoll itself writes.
//! * The leader has itself asked. A member that hears no leader gives no verdicts.
//! * Whoever asks is not known; who does not know the path, which nobody can guess and only readers
//!   of the registration see, learns nothing.

mod certificate;
mod desk;
mod judge;
pub(crate) mod register;
mod review;
mod serve;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::time::SystemTime;

use atoll_model::MemberName;
use tokio::net::TcpListener;

pub use certificate::CertificateError;
pub(crate) use register::Registration;
pub(crate) use serve::serve;

use certificate::Certificates;

/// Bytes of the path: as many as of a key that nobody guesses.
const PATH_BYTES: usize = 16;

/// Where the apiserver finds a member's webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookOptions {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The address or name by which the apiserver reaches it.
    pub host: String,
    /// The port there.
    pub port: u16,
}

/// Why there is no webhook.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The kernel's.
    #[error("the webhook cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// See [`CertificateError`].
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// No path could be chosen.
    #[error("no random bytes are to be had")]
    Random(#[from] getrandom::Error),
}

/// A webhook that listens, and answers nobody yet.
pub struct Webhook {
    listener: TcpListener,
    certificates: Certificates,
    path: String,
    url: String,
}

impl std::fmt::Debug for Webhook {
    /// Shows neither its key nor its path.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Listens, with a new authority and a new path. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`WebhookError`].
    pub fn open(member: &MemberName, options: WebhookOptions) -> Result<Self, WebhookError> {
        let WebhookOptions { listen, host, port } = options;
        let listener = listening(listen).map_err(|error| WebhookError::Listen(listen, error))?;
        let mut secret = [0; PATH_BYTES];
        getrandom::fill(&mut secret)?;
        let path = format!("/{:032x}", u128::from_ne_bytes(secret));
        let place = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let url = format!("https://{place}{path}");
        let certificates = Certificates::new(member, host, SystemTime::now())?;
        Ok(Self { listener, certificates, path, url })
    }

    /// What the apiserver has to know to ask it.
    pub(crate) fn registration(&self) -> Registration {
        let (url, authority) = (self.url.clone(), self.certificates.authority().to_owned());
        Registration { url, authority }
    }
}

fn listening(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
