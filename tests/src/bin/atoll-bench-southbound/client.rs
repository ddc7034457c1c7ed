//! A node's connection to a southbound: asks as `ovn-controller` does, reads all, understands little.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_ovsdb::Tls;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// As `ovn-controller` 23.03 with `ovn-monitor-all=true` was seen to ask.
const MONITOR: &str = include_str!("monitor.json");

/// How long `ovn-controller` waits for a connection, and before the next try, the first time …
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// … and at most, doubling.
const PAUSE_MOST: Duration = Duration::from_secs(8);

/// Silence after which it leaves a server: `ovn-remote-probe-interval`, as the agent sets it, passes
/// before it asks for a sign of life, and once more without one.
const SILENCE: Duration = Duration::from_secs(120);

const BUFFER_BYTES: usize = 64 * 1024;

/// The messages that are no contents are shorter: a server asks for a sign of life.
const PROBE_BYTES_MAX: usize = 100;

const PROBE: &[u8] = br#"{"id":"echo""#;
const SIGN_OF_LIFE: &[u8] = br#"{"id":"echo","result":[],"error":null}"#;

/// How a client came to a place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived {
    /// From being told to having everything.
    pub(crate) after: Duration,
    /// Tries that failed before: no connection, or one that ended.
    pub(crate) cut: usize,
}

/// What clients tell.
#[derive(Debug)]
pub(crate) enum News {
    Arrived(Arrived),
    /// Something changed.
    Heard {
        client: usize,
        bytes: usize,
    },
    /// The connection ended although it had everything.
    Cut,
}

/// A question, and how long its answer is.
#[derive(Debug)]
pub(crate) struct Dump {
    tls: Option<Tls>,
    pub(crate) request: String,
    /// All get the same contents, so whoever has so many bytes has the whole answer.
    pub(crate) bytes: usize,
}

/// What a session goes over.
trait Session: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Session for T {}

type Stream = Box<dyn Session>;

/// As a node does: with TLS it is connected when the server has shown its certificate, and not yet
/// when the kernel has let it in.
async fn connect(address: SocketAddr, tls: Option<&Tls>) -> Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    Ok(match tls {
        Some(tls) => Box::new(tls.handshake(stream).await?),
        None => Box::new(stream),
    })
}

impl Dump {
    /// Asks at `address` and reads the answer with care.
    pub(crate) async fn probe(address: SocketAddr, tls: Option<&Tls>) -> Result<Self> {
        let tables: serde_json::Value = serde_json::from_str(MONITOR)?;
        let request = serde_json::json!({
            "method": "monitor_cond_since", "id": 1,
            "params": [
                "OVN_Southbound", ["monid", "OVN_Southbound"], tables, uuid::Uuid::nil().to_string(),
            ],
        });
        let request = request.to_string();
        let mut stream = connect(address, tls).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        loop {
            ensure!(stream.read_buf(&mut answer).await? > 0, "the server went away");
            match answer.last() {
                Some(b'}') => (),
                _ => continue,
            }
            match serde_json::from_slice::<serde::de::IgnoredAny>(&answer) {
                Ok(_) => break,
                Err(error) if error.is_eof() => (),
                Err(error) => return Err(error).context("no answer"),
            }
        }
        let head = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
        ensure!(answer.len() > 1_000, "refused: {head}");
        Ok(Self { tls: tls.cloned(), request, bytes: answer.len() })
    }

    /// One connection, until it has everything.
    async fn fetch(
        &self,
        address: SocketAddr,
        patience: Duration,
        buffer: &mut [u8],
    ) -> Result<Stream> {
        let connected = tokio::time::timeout(patience, connect(address, self.tls.as_ref())).await;
        let mut stream = connected.context("no connection")??;
        stream.write_all(self.request.as_bytes()).await?;
        stream.flush().await?;
        let mut read = 0;
        while read < self.bytes {
            let heard = tokio::time::timeout(SILENCE, stream.read(buffer)).await;
            let now = heard.context("silence")??;
            ensure!(now > 0, "ended after {read} of {} bytes", self.bytes);
            if read == 0 && now < PROBE_BYTES_MAX && buffer[..now].starts_with(PROBE) {
                live(&mut stream).await?;
                continue;
            }
            read += now;
            if read >= self.bytes {
                let end = now - (read - self.bytes);
                ensure!(buffer[end - 1] == b'}', "the answer is not {} bytes long", self.bytes);
                if end < now {
                    live(&mut stream).await?;
                }
            }
        }
        Ok(stream)
    }
}

async fn live(stream: &mut Stream) -> Result<()> {
    stream.write_all(SIGN_OF_LIFE).await?;
    Ok(stream.flush().await?)
}

/// Goes where it is told and tells when it has everything that is there, then what it hears of
/// changes.
pub(crate) async fn follow(
    client: usize,
    dump: Arc<Dump>,
    place: (SocketAddr, Instant),
    tell: mpsc::Sender<News>,
) -> Result<()> {
    let (address, told) = place;
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut cut, mut pause) = (0, PAUSE_FIRST);
    let mut stream = loop {
        match dump.fetch(address, pause, &mut buffer).await {
            Ok(stream) => break stream,
            Err(_) => cut += 1,
        }
        tokio::time::sleep(pause).await;
        pause = PAUSE_MOST.min(pause * 2);
    };
    tell.send(News::Arrived(Arrived { after: told.elapsed(), cut })).await?;
    loop {
        let bytes = stream.read(&mut buffer).await?;
        if bytes == 0 {
            tell.send(News::Cut).await?;
            return Ok(());
        }
        if buffer[..bytes].starts_with(PROBE) {
            live(&mut stream).await?;
        } else {
            tell.send(News::Heard { client, bytes }).await?;
        }
    }
}
