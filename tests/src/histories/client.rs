//! Sends what a [`Mind`] wants, one attempt at a time, and records what came back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use atoll_api::answer::{Verdict, verdict};
use atoll_api::proto::store_client::StoreClient;
use atoll_api::proto::{DigestRequest, Kind, ReadRequest, ReadResponse, TxnRequest};
use atoll_api::{Credentials, Endpoint};
use atoll_model::{Object, Outcome, Revision};
use tonic::transport::Channel;

use super::record::{Asked, Record, Selection, Told, Used};
use super::workload::Mind;
use crate::bare::BareMember;

/// A client does not wait longer for one attempt …
const ATTEMPT: Duration = Duration::from_millis(700);
/// … and makes no more than so many of them for one transaction.
const ATTEMPTS: u64 = 12;
/// Between two questions, at most: what limits the rate.
const THINKING_MS: u64 = 16;

/// A client's connections, one to each member.
#[derive(Debug, Clone)]
pub struct Lines {
    members: Vec<(String, StoreClient<Channel>)>,
}

impl Lines {
    /// Connects when they are needed.
    ///
    /// # Errors
    ///
    /// The path of a socket is no endpoint.
    pub fn new(members: &[BareMember], credentials: &Credentials) -> Result<Self> {
        let line = |member: &BareMember| {
            let endpoint: Endpoint = format!("unix:{}", member.socket().display()).parse()?;
            let channel = endpoint.connect_lazy(credentials, Duration::from_secs(1));
            Ok((member.address().to_owned(), StoreClient::new(channel)))
        };
        Ok(Self { members: members.iter().map(line).collect::<Result<_>>()? })
    }

    /// One attempt, and the position of the leader if the member named it.
    async fn ask(&self, member: usize, asked: &Asked) -> (Told, Option<usize>) {
        let Some((_, line)) = self.members.get(member) else {
            return (Told::NothingDone("no such member".to_owned()), None);
        };
        let mut line = line.clone();
        let answer = tokio::time::timeout(ATTEMPT, async {
            match asked {
                Asked::Txn { request, preconditions, operations } => {
                    let message = TxnRequest {
                        request: Some(request.into()),
                        preconditions: preconditions.iter().map(Into::into).collect(),
                        operations: operations.iter().map(Into::into).collect(),
                    };
                    let answer = line.txn(message).await?.into_inner();
                    Ok(Outcome::try_from(answer.outcome.unwrap_or_default()).map(Told::Outcome))
                }
                Asked::Read { selection, stale } => {
                    let answer = line.read(read_request(selection, *stale)).await?.into_inner();
                    Ok(objects(answer))
                }
            }
        });
        match answer.await {
            Ok(Ok(Ok(told))) => (told, None),
            Ok(Ok(Err(error))) => (Told::Unknown(format!("cannot be read: {error}")), None),
            Ok(Err(status)) => match verdict(&status) {
                Verdict::NotLeader(leader) => {
                    let is_leader = |it: &(String, _)| Some(&it.0) == leader.as_ref();
                    let hinted = self.members.iter().position(is_leader);
                    (Told::NothingDone("it does not lead".to_owned()), hinted)
                }
                Verdict::NothingDone(why) | Verdict::Invalid(why) => (Told::NothingDone(why), None),
                Verdict::Unknown(why) => (Told::Unknown(why), None),
            },
            Err(_) => (Told::Unknown("no answer in time".to_owned()), None),
        }
    }
}

fn read_request(selection: &Selection, stale: Option<Revision>) -> ReadRequest {
    let (mut kinds, mut key) = (Vec::new(), None);
    match selection {
        Selection::All => {}
        Selection::Subnets => kinds.push(i32::from(Kind::Subnet)),
        Selection::Key(it) => key = Some(it.into()),
    }
    let min_revision = stale.map_or(0, |it| it.0);
    ReadRequest { kinds, key, stale: stale.is_some(), min_revision }
}

fn objects(answer: ReadResponse) -> Result<Told, atoll_codec::DecodeError> {
    let objects = answer.objects.iter().map(Object::try_from);
    let mut objects = objects.collect::<Result<Vec<_>, _>>()?;
    objects.sort_by_key(Object::key);
    let used = answer.usage.into_iter().filter_map(|it| {
        let v4 = it.v4?;
        Some(Used { subnet: it.subnet, available: v4.available, using: v4.using })
    });
    let mut usage: Vec<_> = used.collect();
    usage.sort();
    Ok(Told::Objects { revision: Revision(answer.revision), objects, usage })
}

impl Lines {
    /// Asks one member after another until there is an answer; answers all attempts.
    ///
    /// # Errors
    ///
    /// There is none.
    pub async fn insist(
        &self,
        client: usize,
        epoch: Instant,
        asked: &Asked,
    ) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for attempt in 0..100 {
            let member = attempt % self.members.len();
            let sent = epoch.elapsed();
            let (told, _) = self.ask(member, asked).await;
            let answered = epoch.elapsed();
            let is_answer = matches!(told, Told::Outcome(_) | Told::Objects { .. });
            let asked = asked.clone();
            records.push(Record { client, member, asked, sent, answered, told });
            if is_answer {
                return Ok(records);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("no answer: {:?}", records.last())
    }

    /// What each member's state hashes to, and after which entry.
    ///
    /// # Errors
    ///
    /// One of them does not answer.
    pub async fn digests(&self) -> Result<Vec<(Revision, u128)>> {
        let mut digests = Vec::new();
        for (address, line) in &self.members {
            let asked = line.clone();
            let answer = tokio::time::timeout(ATTEMPT, async move {
                let mut line = asked;
                line.digest(DigestRequest {}).await
            });
            let answer = answer.await.with_context(|| address.clone())??.into_inner();
            let digest = <[u8; 16]>::try_from(&answer.digest[..]).context("16 bytes")?;
            digests.push((Revision(answer.applied), u128::from_be_bytes(digest)));
        }
        Ok(digests)
    }
}

/// Asks until `stop`; answers all that was asked and told.
pub async fn run(
    lines: Lines,
    mut mind: Mind,
    client: usize,
    epoch: Instant,
    stop: Arc<AtomicBool>,
) -> Vec<Record> {
    let (mut records, mut preferred) = (Vec::new(), 0);
    let members = lines.members.len();
    while !stop.load(Ordering::Relaxed) {
        let asked = mind.ask();
        // Some give up early: only so do transactions stay unknown.
        let is_stale = matches!(asked, Asked::Read { stale: Some(_), .. });
        let gives_up = is_stale || mind.dice().below(3) == 0;
        let attempts = if gives_up { 1 } else { 1 + mind.dice().below(ATTEMPTS) };
        for attempt in 0..attempts {
            // Now and then somebody else: also he must not say what is wrong.
            let member = match is_stale || mind.dice().below(4) == 0 {
                true => random(&mut mind, members),
                false => preferred,
            };
            let sent = epoch.elapsed();
            let (told, hinted) = lines.ask(member, &asked).await;
            let answered = epoch.elapsed();
            mind.heard(&asked, &told);
            let is_answer = matches!(told, Told::Outcome(_) | Told::Objects { .. });
            if is_answer && !is_stale {
                preferred = member;
            } else if !is_stale {
                preferred = hinted.unwrap_or_else(|| random(&mut mind, members));
            }
            let asked = asked.clone();
            records.push(Record { client, member, asked, sent, answered, told });
            if is_answer || stop.load(Ordering::Relaxed) {
                break;
            }
            // Longer every time: whoever looks for a leader must not keep members from electing one.
            let pause = 1 + mind.dice().below(20 << attempt.min(4));
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        let pause = mind.dice().below(THINKING_MS);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    records
}

fn random(mind: &mut Mind, members: usize) -> usize {
    usize::try_from(mind.dice().below(members as u64)).unwrap_or(0)
}
