//! Subscribers: as many watches as there are nodes, over a bounded number of connections.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use atoll_api::client::Watch;
use atoll_api::{Client, WatchEvent};
use atoll_model::{NodeName, Revision};
use atoll_tests::bare::BareMember;
use atoll_tests::wait::wait_until;
use tokio::task::JoinHandle;

use crate::verdict::Told;

/// Watches per connection.
const PER_CONNECTION: usize = 50;

/// The name of a subscriber's node.
pub(crate) fn node_name(number: usize) -> NodeName {
    NodeName::new(&format!("node-{number:05}")).expect("a node's name")
}

/// Where a reader stands.
pub(crate) type Position = (String, Revision);

/// What a subscriber has heard; it goes on hearing.
#[derive(Debug, Default)]
struct Heard {
    told: Told,
    /// A message came: it stands in the fan-out.
    alive: bool,
    interrupted: u32,
    resynced: u32,
}

/// One subscriber.
#[derive(Debug)]
pub(crate) struct Reader {
    client: Client,
    heard: Arc<Mutex<Heard>>,
    task: Option<JoinHandle<()>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    pub(crate) readers: Vec<Reader>,
    connection: Option<Client>,
}

async fn listen(mut watch: Watch, heard: Arc<Mutex<Heard>>) {
    loop {
        let event = watch.next().await;
        let now = Instant::now();
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            WatchEvent::Changes(set) => heard.told.changes.push((set.revision, now)),
            WatchEvent::Resync(..) => heard.resynced += 1,
            WatchEvent::Interrupted(_) => heard.interrupted += 1,
            WatchEvent::Bookmark(_) => {}
        }
        heard.alive = true;
    }
}

impl Reader {
    fn heard<T>(&self, what: impl FnOnce(&mut Heard) -> T) -> T {
        what(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&mut self, position: Position) {
        let watch = self.client.watch(Some(position));
        self.task = Some(tokio::spawn(listen(watch, self.heard.clone())));
    }

    /// Goes away.
    pub(crate) fn leave(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// Comes back, at the last revision that it was told.
    pub(crate) fn resume(&mut self, cluster: &str) {
        let last = self.heard(|it| it.told.changes.last().map_or(it.told.from, |(at, _)| *at));
        self.begin((cluster.to_owned(), last));
    }

    pub(crate) fn told(&self) -> Told {
        self.heard(|it| it.told.clone())
    }

    pub(crate) fn interruptions(&self) -> u32 {
        self.heard(|it| it.interrupted + it.resynced)
    }
}

impl Readers {
    /// Grows to `count` subscribers at `member`, each from `position` on; waits until all of them
    /// have been told something.
    pub(crate) async fn grow(
        &mut self,
        member: &BareMember,
        position: &Position,
        count: usize,
    ) -> Result<()> {
        for node in self.readers.len()..count {
            if node % PER_CONNECTION == 0 {
                self.connection = None;
            }
            let client = match &self.connection {
                Some(client) => client.clone(),
                None => member.client(Duration::from_secs(10))?,
            };
            self.connection = Some(client.clone());
            let told = Told { node, from: position.1, changes: Vec::new() };
            let heard = Arc::new(Mutex::new(Heard { told, ..Heard::default() }));
            let client = client.for_node(node_name(node));
            let mut reader = Reader { client, heard, task: None };
            reader.begin(position.clone());
            self.readers.push(reader);
        }
        wait_until(Duration::from_secs(60), "every subscriber's first message", async || {
            let silent = self.readers.iter().filter(|it| !it.heard(|heard| heard.alive)).count();
            ensure!(silent == 0, "{silent} heard nothing yet");
            Ok(())
        })
        .await
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.readers.iter_mut().for_each(Reader::leave);
    }
}
