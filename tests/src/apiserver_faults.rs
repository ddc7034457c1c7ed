//! What can be done to what passes between members and an apiserver, and how to order it.
//!
//! The program `atoll-apiserver-faults` stands between them ([`crate::lab::Kubernetes::put_between`])
//! and passes everything on until it is told otherwise on its socket: one line with [`Faults`], which
//! replace the earlier ones, is answered by one line with [`Passed`].

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// Objects of a page, while lists are hurt: so a small network has lists of several pages.
pub const PAGE: u32 = 3;

/// What is done to what passes. The default is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Each answer comes so much later, ms.
    pub delay_ms: u64,
    /// Each watch is cut so long after it began, ms, in the middle of a line if there is one; also
    /// those that are under way when the order comes.
    pub cut_watches_ms: Option<u64>,
    /// Each watch is answered with 410, and those that are under way are cut.
    pub watches_gone: bool,
    /// What is done to lists.
    pub lists: Option<ListFault>,
    /// Every request is answered so, and nothing is passed on.
    pub status: Option<u16>,
}

/// What is done to a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListFault {
    /// The connection ends in the middle of the body.
    Cut,
    /// Each page says that there is another one, which is the first one again.
    Endless,
    /// The second page is refused: its token has expired.
    RefusedHalfWay,
    /// Every other object is missing, and nothing says so.
    Half,
}

/// What has passed since the program was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// All requests.
    pub requests: u64,
    /// Of them, pages of lists.
    pub lists: u64,
    /// Of them, watches.
    pub watches: u64,
    /// Of them, what was answered otherwise than the apiserver would have.
    pub hurt: u64,
}

/// The socket of a running `atoll-apiserver-faults`.
#[derive(Debug, Clone)]
pub struct Orders {
    socket: PathBuf,
}

impl Orders {
    /// Nothing is sent yet.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// From now on this is done, and nothing else.
    ///
    /// # Errors
    ///
    /// The program is not there, or does not understand.
    pub async fn give(&self, faults: Faults) -> Result<Passed> {
        let what = || format!("no answer on {}", self.socket.display());
        let mut stream = UnixStream::connect(&self.socket).await.with_context(what)?;
        stream.write_all(format!("{}\n", serde_json::to_string(&faults)?).as_bytes()).await?;
        let mut line = String::new();
        if BufReader::new(stream).read_line(&mut line).await.with_context(what)? == 0 {
            bail!("the order was not understood: {faults:?}");
        }
        Ok(serde_json::from_str(&line)?)
    }
}
