//! A database whose first contents arrive in part only: what is missing is not gone.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use atoll_ovn_sync::{PassStatus, Projector};
use atoll_ovsdb::Endpoint;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

use crate::common::{Northbound, Store, delete_pod, eventually};
use crate::{equal_at, status};

/// Bytes of the monitor's answer that come through.
const PART: usize = 3_000;

/// Between a projector and a database: ends each connection in the middle of the first contents.
#[derive(Debug, Default)]
struct Cutter {
    /// Lets everything through from now on.
    is_whole: AtomicBool,
    /// Connections that were cut.
    cut: AtomicUsize,
    /// A transaction was asked for.
    asked: AtomicBool,
}

impl Cutter {
    fn start(path: &Path, nb: &Path) -> Arc<Self> {
        let (cutter, listener) = (Arc::<Self>::default(), UnixListener::bind(path).unwrap());
        let (this, nb) = (cutter.clone(), nb.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&nb).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                let loading = Arc::new(AtomicBool::new(false));
                tokio::spawn(this.clone().requests(from_client, to_server, loading.clone()));
                tokio::spawn(this.clone().answers(from_server, to_client, loading));
            }
        });
        cutter
    }

    async fn requests(
        self: Arc<Self>,
        mut client: OwnedReadHalf,
        mut server: OwnedWriteHalf,
        loading: Arc<AtomicBool>,
    ) {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count @ 1..) = client.read(&mut bytes).await {
            let text = String::from_utf8_lossy(&bytes[..count]);
            loading.fetch_or(text.contains("\"monitor_cond_since\""), Ordering::SeqCst);
            self.asked.fetch_or(text.contains("\"transact\""), Ordering::SeqCst);
            if server.write_all(&bytes[..count]).await.is_err() {
                break;
            }
        }
    }

    async fn answers(
        self: Arc<Self>,
        mut server: OwnedReadHalf,
        mut client: OwnedWriteHalf,
        loading: Arc<AtomicBool>,
    ) {
        let (mut bytes, mut told) = (vec![0; 1 << 16], 0);
        while let Ok(count @ 1..) = server.read(&mut bytes).await {
            let is_part = loading.load(Ordering::SeqCst) && !self.is_whole.load(Ordering::SeqCst);
            let through = if is_part { count.min(PART - told) } else { count };
            if client.write_all(&bytes[..through]).await.is_err() {
                break;
            }
            told += if is_part { through } else { 0 };
            if through < count {
                self.cut.fetch_add(1, Ordering::SeqCst);
                break;
            }
        }
    }
}

#[tokio::test]
async fn contents_that_come_in_part_only_change_nothing_and_are_said() {
    let (nb, mut store) = (Northbound::start(), Store::with_pods());
    let first = Projector::start(store.follow(), nb.endpoint()).unwrap();
    nb.becomes(&store.rows()).await;
    first.shutdown().await;
    let before = store.rows();
    let size = std::fs::metadata(nb.file()).unwrap().len();
    store.apply(vec![delete_pod("default/a")]);

    let Endpoint::Unix(socket) = nb.endpoint() else { panic!("a unix socket") };
    let path = nb.file().with_file_name("cutter.sock");
    let cutter = Cutter::start(&path, &socket);
    let projector = Projector::start(store.follow(), Endpoint::Unix(path)).unwrap();
    let often = async || (cutter.cut.load(Ordering::SeqCst) >= 3).then_some(());
    eventually("three connections are cut", often).await;
    let says = |status: &PassStatus| {
        let error = status.error.as_deref().unwrap_or_default();
        error.contains("cannot be observed") && error.contains("the server closed the connection")
    };
    let stopped = status(&projector, "said", says).await;
    assert_eq!((stopped.connected, stopped.revision, stopped.passes), (false, None, 0));
    assert!(!cutter.asked.load(Ordering::SeqCst), "a transaction on half of the contents");
    assert_eq!(nb.rows().await, before);
    assert_eq!(std::fs::metadata(nb.file()).unwrap().len(), size);

    cutter.is_whole.store(true, Ordering::SeqCst);
    nb.becomes(&store.rows()).await;
    let equal = equal_at(&projector, store.state.revision()).await;
    assert_eq!((equal.transactions, equal.error), (1, None));
}
