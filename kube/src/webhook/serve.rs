//! Connections of apiservers.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use futures::stream::{FuturesUnordered, StreamExt as _};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::Webhook;
use super::desk::Desk;
use crate::store::Store;

/// Connections at once. Others wait in the kernel's queue, and the apiserver does without them.
pub(super) const CONNECTIONS_MAX: usize = 128;

/// How long a handshake may take.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(2);

/// How long a connection may be silent: longer than a client of Go keeps one that it does not use.
const SILENCE: Duration = Duration::from_secs(100);

/// Of one request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// After the kernel could not give a connection: no descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers whoever asks.
pub(crate) async fn serve<S: Store>(mut webhook: Webhook, store: S) -> Infallible {
    let desk = Rc::new(Desk::new(store, webhook.path.clone()));
    let mut connections = FuturesUnordered::new();
    loop {
        let has_room = connections.len() < CONNECTIONS_MAX;
        tokio::select! {
            Some(()) = connections.next() => {}
            accepted = webhook.listener.accept(), if has_room => match accepted {
                Ok((stream, _)) => {
                    let shown = webhook.certificates.config(SystemTime::now());
                    connections.push(meet(stream, shown, desk.clone()).boxed_local());
                }
                Err(error) => {
                    tracing::warn!(%error, "the webhook gets no connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// One connection, until either end has enough of it.
async fn meet<S: Store>(stream: TcpStream, shown: Arc<ServerConfig>, desk: Rc<Desk<S>>) {
    if let Err(error) = answer_all(stream, shown, &desk).await {
        tracing::debug!(error, "a connection to the webhook ended");
    }
}

async fn answer_all<S: Store>(
    stream: TcpStream,
    shown: Arc<ServerConfig>,
    desk: &Desk<S>,
) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let shaken = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(shown).accept(stream));
    let shaken = shaken.await.map_err(|_| format!("no handshake within {HANDSHAKE:?}"))?;
    let stream = TokioIo::new(shaken.map_err(|error| error.to_string())?);
    let answer = service_fn(async |request| Ok::<_, Infallible>(desk.answer(request).await));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(SILENCE).max_buf_size(HEAD_BYTES_MAX);
    http.serve_connection(stream, answer).await.map_err(|error| error.to_string())
}
