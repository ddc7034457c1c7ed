//! The calling side.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::{CertificateFiles, Credentials, Duplex, Tls, complaint, remedy};
use crate::client::Endpoint;

/// rustls wants a name; nobody compares it ([`super::verify`]).
const NAME: &str = "atoll.local";

/// How long a plaintext server may take until it speaks; one that waits for TLS says nothing.
const SPEAKS_WITHIN: Duration = Duration::from_millis(500);

/// Why no connection was made: nothing was sent over it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConnectFailure(String);

impl Credentials {
    /// A connection to `endpoint` whose server has taken our certificate.
    pub(crate) async fn connect(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Box<dyn Duplex>, ConnectFailure> {
        self.check(endpoint).map_err(|error| ConnectFailure(error.to_string()))?;
        let stream = open(endpoint).await.map_err(|error| ConnectFailure(error.to_string()))?;
        match &self.tls {
            Some(tls) => {
                let secured = tls.secure(stream).await;
                secured.map_err(|error| ConnectFailure(explain(&error, &tls.files)))
            }
            None => plain(stream).await,
        }
    }
}

/// A stream on which the server has begun to speak, as an HTTP/2 server does.
async fn plain(stream: Box<dyn Duplex>) -> Result<Box<dyn Duplex>, ConnectFailure> {
    let mut stream = BufReader::new(stream);
    match tokio::time::timeout(SPEAKS_WITHIN, stream.fill_buf()).await {
        Ok(Ok(bytes)) if !bytes.is_empty() => Ok(Box::new(stream)),
        Ok(Ok(_)) => Err(ConnectFailure("it closed the connection".to_owned())),
        Ok(Err(error)) => Err(ConnectFailure(error.to_string())),
        Err(_) => Err(ConnectFailure(format!(
            "it said nothing for {SPEAKS_WITHIN:?}: if it speaks TLS, give --ca, --cert and --key \
             instead of --insecure-dev"
        ))),
    }
}

async fn open(endpoint: &Endpoint) -> io::Result<Box<dyn Duplex>> {
    Ok(match endpoint {
        Endpoint::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        Endpoint::Unix(path) => Box::new(UnixStream::connect(path).await?),
    })
}

impl Tls {
    async fn secure(&self, stream: Box<dyn Duplex>) -> io::Result<Box<dyn Duplex>> {
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let connector = TlsConnector::from(self.client.clone());
        let mut stream = connector.connect(name, stream).await?;
        // An HTTP/2 server speaks first, and only to whom it has verified; one that turns us away
        // says why here.
        if stream.fill_buf().await?.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        Ok(Box::new(stream))
    }
}

/// A failed handshake, for people.
fn explain(error: &io::Error, files: &CertificateFiles) -> String {
    use rustls::Error as E;
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<E>());
    match tls {
        Some(E::InvalidCertificate(theirs)) => their_certificate(theirs, &files.ca),
        Some(E::AlertReceived(alert)) => our_certificate(*alert, &files.cert),
        Some(E::InvalidMessage(_)) => {
            "it does not speak TLS: it runs with --insecure-dev, or is no member of Atoll"
                .to_owned()
        }
        Some(other) => format!("no TLS session: {other}"),
        None => format!("it closed the connection before a TLS session was there: {error}"),
    }
}

fn their_certificate(error: &CertificateError, ca: &Path) -> String {
    format!("its certificate is not taken: {}; {}", complaint(error, ca), remedy(error))
}

fn our_certificate(alert: AlertDescription, cert: &Path) -> String {
    use AlertDescription as A;
    let why = match alert {
        A::UnknownCA | A::DecryptError => {
            "another authority signed it; take one of the member's cluster (atolld pki issue)"
        }
        A::CertificateExpired => "it has expired; issue a new one: atolld pki issue",
        A::CertificateUnknown => "it names no role; issue one: atolld pki issue",
        _ => return format!("it refuses a TLS session: {alert:?}"),
    };
    format!("it does not take the certificate in {}: {why}", cert.display())
}
