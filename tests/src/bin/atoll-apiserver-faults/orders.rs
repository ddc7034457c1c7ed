//! What is ordered now, and what has passed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use atoll_tests::apiserver_faults::{Faults, Passed};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// Shared by all connections.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    faults: Arc<watch::Sender<Faults>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicU64,
    pub(crate) lists: AtomicU64,
    pub(crate) watches: AtomicU64,
    pub(crate) hurt: AtomicU64,
}

impl Default for Desk {
    fn default() -> Self {
        let (faults, _) = watch::channel(Faults::default());
        Self { faults: Arc::new(faults), counts: Arc::default() }
    }
}

impl Desk {
    /// What is ordered now.
    pub(crate) fn faults(&self) -> Faults {
        *self.faults.borrow()
    }

    /// What is ordered, for who has to notice a change.
    pub(crate) fn follow(&self) -> watch::Receiver<Faults> {
        self.faults.subscribe()
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// One more was answered otherwise than the apiserver would have.
    pub(crate) fn hurt(&self) {
        self.counts.hurt.fetch_add(1, Ordering::Relaxed);
    }

    fn passed(&self) -> Passed {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { requests, lists, watches, hurt } = &*self.counts;
        Passed {
            requests: read(requests),
            lists: read(lists),
            watches: read(watches),
            hurt: read(hurt),
        }
    }
}

/// Takes orders, one a connection.
pub(crate) async fn listen(desk: Desk, socket: PathBuf) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    loop {
        let (stream, _) = listener.accept().await?;
        // Whoever gives an order that cannot be read gets no answer.
        take(&desk, stream).await.ok();
    }
}

async fn take(desk: &Desk, stream: UnixStream) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    desk.faults.send_replace(serde_json::from_str(&line)?);
    let passed = serde_json::to_string(&desk.passed())?;
    stream.get_mut().write_all(format!("{passed}\n").as_bytes()).await?;
    Ok(())
}
