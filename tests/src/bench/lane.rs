//! One connection to one member, and a write over it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use atoll_api::answer::{Verdict, verdict};
use atoll_api::proto::store_client::StoreClient;
use atoll_api::{Client, ClientError, Credentials, Endpoint, Session};
use atoll_model::{Outcome, Reply, RequestId, Revision};
use tonic::Status;
use tonic::transport::Channel;

use super::etcd_proto::kv_client::KvClient;
use super::workload;

const KEEPALIVE: Duration = Duration::from_secs(3);

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// A call of its own for each transaction.
    Unary,
    /// All transactions of a connection on one stream.
    Stream,
}

/// What became of a write that was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was done.
    NothingDone(String),
    /// It may have been done.
    Unknown(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NothingDone(why) => write!(f, "nothing done: {why}"),
            Self::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

/// One connection; clones share it.
#[derive(Debug, Clone)]
pub struct Lane {
    kind: Kind,
    family: Arc<Family>,
}

/// What lanes to one cluster have in common, so that a request may be tried on another lane.
#[derive(Debug)]
pub struct Family {
    /// The newest revision seen: the next requests were born then.
    seen: AtomicU64,
    /// The upper half of request ids: no two runs share them.
    run: u64,
    next: AtomicU64,
}

impl Family {
    /// A family for a cluster that has come to `revision`.
    #[must_use]
    pub fn new(revision: u64) -> Arc<Self> {
        let run = uuid::Uuid::new_v4().as_u64_pair().0;
        Arc::new(Self { seen: AtomicU64::new(revision), run, next: AtomicU64::new(0) })
    }

    /// Names a request that was not sent yet.
    #[must_use]
    pub fn request(&self) -> RequestId {
        let low = self.next.fetch_add(1, Ordering::Relaxed);
        let id = (u128::from(self.run) << 64) | u128::from(low);
        RequestId { id, born: Revision(self.seen.load(Ordering::Relaxed)) }
    }

    fn saw(&self, revision: Revision) {
        self.seen.fetch_max(revision.0, Ordering::Relaxed);
    }
}

/// What is written: all of it or none.
#[derive(Debug, Clone)]
pub enum Write {
    /// The pods, or the keys, with these numbers.
    Put(Range<u64>),
    /// The pod, or the key, with this number goes.
    Delete(u64),
}

#[derive(Debug, Clone)]
enum Kind {
    Unary(StoreClient<Channel>),
    Stream(Session),
    Etcd(KvClient<Channel>),
}

impl Lane {
    /// A connection to one of our members.
    ///
    /// # Errors
    ///
    /// Plaintext would leave this machine.
    pub fn to_atoll(
        api: Api,
        endpoint: &Endpoint,
        credentials: &Credentials,
        family: &Arc<Family>,
    ) -> anyhow::Result<Self> {
        let kind = match api {
            Api::Unary => {
                Kind::Unary(StoreClient::new(endpoint.connect_lazy(credentials, KEEPALIVE)))
            }
            Api::Stream => {
                Kind::Stream(Client::new(vec![endpoint.clone()], credentials)?.session())
            }
        };
        Ok(Self { kind, family: family.clone() })
    }

    /// A connection to a member of etcd.
    #[must_use]
    pub fn to_etcd(endpoint: &Endpoint, credentials: &Credentials, family: &Arc<Family>) -> Self {
        let client = KvClient::new(endpoint.connect_lazy(credentials, KEEPALIVE));
        Self { kind: Kind::Etcd(client), family: family.clone() }
    }

    /// A name for a request that was not sent yet.
    #[must_use]
    pub fn request(&self) -> RequestId {
        self.family.request()
    }

    /// Sends a write, for the first time or again.
    ///
    /// # Errors
    ///
    /// [`Failure`]: it was not acknowledged.
    pub async fn send(&mut self, request: RequestId, write: Write) -> Result<(), Failure> {
        let puts = matches!(write, Write::Put(_));
        let outcome = match &mut self.kind {
            Kind::Unary(client) => {
                let message = workload::message(&workload::operations(&write), request);
                let answer = client.txn(message).await.map_err(|status| failure(&status))?;
                let outcome = answer.into_inner().outcome.unwrap_or_default();
                Outcome::try_from(outcome).map_err(|error| Failure::Unknown(error.to_string()))?
            }
            // A session names its requests by itself.
            Kind::Stream(session) => {
                let done = session.txn(Vec::new(), workload::operations(&write)).await;
                done.map_err(|error| match error {
                    ClientError::Unknown(..) => Failure::Unknown(error.to_string()),
                    error => Failure::NothingDone(error.to_string()),
                })?
            }
            Kind::Etcd(client) => {
                let done = match write {
                    Write::Put(numbers) if numbers.end - numbers.start == 1 => {
                        client.put(workload::put(numbers.start)).await.map(drop)
                    }
                    Write::Put(numbers) => client.txn(workload::puts(numbers)).await.map(drop),
                    Write::Delete(number) => {
                        client.delete_range(workload::delete(number)).await.map(drop)
                    }
                };
                return done.map_err(|status| failure(&status));
            }
        };
        let Outcome::Applied { revision, replies } = outcome else {
            return Err(Failure::NothingDone(format!("{outcome:?}")));
        };
        self.family.saw(revision);
        match replies.iter().find(|reply| puts && !matches!(reply, Reply::Allocated(_))) {
            None => Ok(()),
            Some(reply) => Err(Failure::Unknown(format!("no address: {reply:?}"))),
        }
    }
}

fn failure(status: &Status) -> Failure {
    match verdict(status) {
        Verdict::Unknown(why) => Failure::Unknown(why),
        Verdict::NotLeader(leader) => Failure::NothingDone(format!("{leader:?} leads")),
        Verdict::NothingDone(why) | Verdict::Invalid(why) => Failure::NothingDone(why),
    }
}
