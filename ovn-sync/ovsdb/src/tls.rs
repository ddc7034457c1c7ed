//! Sessions over the network: with TLS, or plainly with a server that does the same.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::message;

/// rustls wants a name; whether it is compared is for the configuration's verifier.
const NAME: &str = "ovsdb.local";

/// Every message of OVSDB is an object.
const OBJECT: u8 = b'{';

/// Who we are and whom we believe: a configuration of rustls. Cheap to clone.
///
/// Two are equal if they are the same configuration.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Uses `config`: its certificate is shown, and its verifier decides whether a server's is
    /// taken.
    #[must_use]
    pub fn new(config: Arc<ClientConfig>) -> Self {
        Self(config)
    }

    /// Our side of a handshake. Whether the server takes our certificate shows only when it says
    /// something: [`Client`](crate::Client) has it do so, this is for other protocols.
    ///
    /// # Errors
    ///
    /// The server's certificate is not taken, or it speaks no TLS.
    pub async fn handshake(
        &self,
        stream: TcpStream,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        TlsConnector::from(self.0.clone()).connect(name, stream).await
    }

    /// A session that the server has answered over, and so has taken our certificate.
    pub(crate) async fn secure(
        &self,
        stream: TcpStream,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + 'static, SessionError> {
        let stream = self.handshake(stream).await.map_err(unsecured)?;
        let (stream, first) = greet(stream).await.map_err(turned_away)?;
        // What comes over it was protected: it is the server's, whatever it means.
        first.map(|_| stream).ok_or(SessionError::TurnedAway)
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    /// Never shows a key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tls")
    }
}

/// Why there is no session with whoever answers at an endpoint. No call was sent.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// We have nothing to show.
    #[error("it wants a certificate, and none was given to show to it")]
    NoCertificate,
    /// It speaks plaintext, or not at all.
    #[error(
        "it does not speak TLS: it listens in plaintext (ptcp:), so its endpoint begins with tcp:, \
         or it is no OVSDB server"
    )]
    Plaintext,
    /// It does not speak plaintext.
    #[error(
        "it does not speak OVSDB in plaintext: if it listens with TLS (pssl:), its endpoint begins \
         with ssl: and needs a certificate"
    )]
    NotPlaintext,
    /// Its certificate is not taken.
    #[error("its certificate is not taken: {0}")]
    Theirs(String),
    /// Our certificate is not taken.
    #[error("it does not take our certificate: {0}")]
    Ours(String),
    /// It went after the handshake without saying why.
    #[error("it closed the connection when it had seen our certificate")]
    TurnedAway,
    /// Anything else.
    #[error("no TLS session")]
    Other(#[source] io::Error),
}

/// A plain stream on which the server has answered.
pub(crate) async fn plain(
    stream: TcpStream,
) -> Result<impl AsyncRead + AsyncWrite + Send + 'static, SessionError> {
    // A server that speaks TLS takes our greeting for a broken handshake and hangs up.
    match greet(stream).await {
        Ok((stream, Some(OBJECT))) => Ok(stream),
        Ok(_) | Err(_) => Err(SessionError::NotPlaintext),
    }
}

/// Asks the server for a sign of life and waits for its first byte, which stays to be read.
///
/// TLS 1.3 lets a client write before it learns that it is turned away, and an OVSDB server speaks
/// only when spoken to: without this, "refused" would look like "lost".
async fn greet<S>(stream: S) -> io::Result<(BufReader<S>, Option<u8>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = BufReader::new(stream);
    // One that hangs up may have said why before: that is what counts.
    let written = stream.write_all(&message::probe()).await;
    let written = written.and(stream.flush().await);
    let first = stream.fill_buf().await?.first().copied();
    written.map(|()| (stream, first))
}

/// A handshake that failed.
fn unsecured(error: io::Error) -> SessionError {
    use rustls::Error as E;
    match tls_error(&error) {
        Some(E::InvalidCertificate(theirs)) => SessionError::Theirs(complaint(theirs)),
        Some(E::InvalidMessage(_)) => SessionError::Plaintext,
        Some(_) => turned_away(error),
        // It did not understand our first message.
        None if is_hang_up(&error) => SessionError::Plaintext,
        None => SessionError::Other(error),
    }
}

/// What came after our side of the handshake.
fn turned_away(error: io::Error) -> SessionError {
    match tls_error(&error) {
        Some(rustls::Error::AlertReceived(alert)) => SessionError::Ours(verdict(*alert)),
        None if is_hang_up(&error) => SessionError::TurnedAway,
        _ => SessionError::Other(error),
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::UnexpectedEof | K::ConnectionReset | K::BrokenPipe)
}

fn complaint(error: &CertificateError) -> String {
    use CertificateError as E;
    match error {
        E::UnknownIssuer | E::BadSignature => "another authority signed it".to_owned(),
        E::Expired | E::ExpiredContext { .. } => "it has expired".to_owned(),
        E::NotValidYet | E::NotValidYetContext { .. } => "it is not valid yet".to_owned(),
        E::Other(other) => other.0.to_string(),
        other => other.to_string(),
    }
}

fn verdict(alert: AlertDescription) -> String {
    use AlertDescription as A;
    match alert {
        A::UnknownCA | A::DecryptError => "another authority signed it".to_owned(),
        A::CertificateExpired => "it has expired".to_owned(),
        A::CertificateRequired => "none was shown".to_owned(),
        A::CertificateUnknown => "it is nobody's who may come in there".to_owned(),
        other => format!("{other:?}"),
    }
}
