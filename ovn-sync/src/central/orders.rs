//! What an operator may have done to the databases.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};

use super::server::{Kind, NORTHBOUND, SOUTHBOUND};

/// Bytes of a backup in one piece.
const PIECE: usize = 256 << 10;

/// An order to the supervisor.
#[derive(Debug)]
pub(super) enum Order {
    /// Both databases anew.
    Rebuild(oneshot::Sender<Result<(), String>>),
}

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// `OVN_Northbound`.
    Northbound,
    /// `OVN_Southbound`.
    Southbound,
}

impl Database {
    fn kind(self) -> Kind {
        match self {
            Self::Northbound => NORTHBOUND,
            Self::Southbound => SOUTHBOUND,
        }
    }
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The supervisor has ended.
    #[error("ovn-central has ended")]
    Ended,
    /// It failed on the way; the supervisor goes on and brings back what is missing.
    #[error("{0}")]
    Failed(String),
    /// `ovsdb-client` cannot be run.
    #[error("cannot run ovsdb-client")]
    Run(#[from] io::Error),
}

/// Orders to a [`Central`](super::Central); cheap to clone.
#[derive(Debug, Clone)]
pub struct Orders {
    pub(super) sender: mpsc::Sender<Order>,
    pub(super) run_dir: PathBuf,
}

impl Orders {
    /// Puts both databases aside, as `nb.db.replaced` and `sb.db.replaced`, and makes them anew.
    ///
    /// Returns when they are gone. The northbound one is filled by the projection; the southbound
    /// one becomes a copy again or, on the member that serves, is made by northd: without the
    /// chassis and neighbours that nodes have written there, until they write them again.
    ///
    /// # Errors
    ///
    /// [`OrderError`].
    pub async fn rebuild(&self) -> Result<(), OrderError> {
        let (sender, done) = oneshot::channel();
        self.sender.send(Order::Rebuild(sender)).await.map_err(|_closed| OrderError::Ended)?;
        done.await.map_err(|_dropped| OrderError::Ended)?.map_err(OrderError::Failed)
    }

    /// Begins a backup: a file that `ovsdb-server` serves, of one moment.
    ///
    /// # Errors
    ///
    /// [`OrderError::Run`].
    pub fn backup(&self, database: Database) -> Result<Backup, OrderError> {
        let kind = database.kind();
        let socket = self.run_dir.join(format!("{}.sock", kind.name));
        let mut child = Command::new("ovsdb-client")
            .args(["--timeout=60", "backup"])
            .arg(format!("unix:{}", socket.display()))
            .arg(kind.database)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let contents =
            child.stdout.take().ok_or(io::ErrorKind::BrokenPipe).map_err(io::Error::from);
        Ok(Backup { contents: contents?, child })
    }
}

/// A backup on its way; ended when dropped.
#[derive(Debug)]
pub struct Backup {
    contents: ChildStdout,
    child: Child,
}

impl Backup {
    /// The next bytes; `None` after the last, if it is whole.
    ///
    /// # Errors
    ///
    /// It broke off: what came before is of no use.
    pub async fn next(&mut self) -> Result<Option<Bytes>, OrderError> {
        let mut piece = bytes::BytesMut::with_capacity(PIECE);
        if self.contents.read_buf(&mut piece).await? > 0 {
            return Ok(Some(piece.freeze()));
        }
        let mut said = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            errors.read_to_string(&mut said).await?;
        }
        match self.child.wait().await?.success() {
            true => Ok(None),
            false => Err(OrderError::Failed(said.trim().to_owned())),
        }
    }
}
