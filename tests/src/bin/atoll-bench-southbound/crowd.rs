//! All clients, on their way or there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use crate::client::{Arrived, Dump, News, follow};

/// For a change to reach all clients that are there.
const HEARD: Duration = Duration::from_secs(60);

/// News that nobody has read yet; clients wait with more.
const NEWS: usize = 1_024;

/// Clients, each a task; they end with this.
#[derive(Debug)]
pub(crate) struct Crowd {
    tasks: Vec<JoinHandle<Result<()>>>,
    tell: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
}

impl Crowd {
    pub(crate) fn nobody() -> Self {
        let (tell, news) = mpsc::channel(NEWS);
        Self { tasks: Vec::new(), tell, news }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.tasks.len()
    }

    /// Sends `count` more clients to `addresses`, in turn.
    pub(crate) fn send(&mut self, dump: &Arc<Dump>, count: usize, addresses: &[SocketAddr]) {
        let now = Instant::now();
        for client in self.tasks.len()..self.tasks.len() + count {
            let place = (addresses[client % addresses.len()], now);
            let task = follow(client, dump.clone(), place, self.tell.clone());
            self.tasks.push(tokio::spawn(task));
        }
    }

    /// The first `count` to have everything, by `deadline`.
    pub(crate) async fn arrived(&mut self, count: usize, deadline: Instant) -> Vec<Arrived> {
        let mut there = Vec::new();
        while there.len() < count {
            match timeout_at(deadline.into(), self.news.recv()).await {
                Ok(Some(News::Arrived(arrived))) => there.push(arrived),
                Ok(Some(_)) => (),
                Ok(None) | Err(_) => break,
            }
        }
        there
    }

    /// Waits until so many clients have heard of a change; answers how many bytes each was told,
    /// and how many were cut off.
    pub(crate) async fn heard(&mut self, count: usize) -> Result<(BTreeMap<usize, usize>, usize)> {
        let deadline = Instant::now() + HEARD;
        let (mut heard, mut cut) = (BTreeMap::new(), 0);
        while heard.len() + cut < count {
            let news = timeout_at(deadline.into(), self.news.recv()).await;
            match news.with_context(|| format!("{} of {count} heard of a change", heard.len()))? {
                Some(News::Heard { client, bytes }) => *heard.entry(client).or_default() += bytes,
                Some(News::Cut) => cut += 1,
                Some(News::Arrived(_)) => (),
                None => anyhow::bail!("no client is left"),
            }
        }
        Ok((heard, cut))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
