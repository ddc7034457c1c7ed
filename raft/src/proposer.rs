//! From a transaction to its answer: one task stamps and batches what is proposed. What is meant
//! for one term only goes by itself.

use std::sync::Arc;
use std::time::Instant;

use atoll_model::{Outcome, Txn, limits};
use bytes::Bytes;
use futures::StreamExt as _;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::machine::{Shown, wall_ms};
use crate::member::MemberInfo;
use crate::planted;
use crate::stages::{Stage, Stages};
use crate::types::{Command, Raft, Reply, TypeConfig};

/// Why a proposal did not get an outcome.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// Nothing was done: another member leads, or none does at the moment.
    #[error("this member does not lead; {}", match .leader {
        Some(leader) => format!("{} at {} does", leader.name, leader.address),
        None => "nobody is known to".to_owned(),
    })]
    NotLeader {
        /// Who does, if that is known.
        leader: Option<MemberInfo>,
    },
    /// Nothing was done.
    #[error("{0}")]
    Unavailable(String),
    /// It may have been carried out, or may still be: only the same request id makes a retry safe.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// Nothing was done: it is larger than a log entry may be.
    #[error(
        "the transaction has {bytes} bytes; at most {} are allowed, split it",
        limits::TXN_BYTES_MAX
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// How the proposer is answered; the leader's id is looked up by the caller.
pub(crate) enum Answer {
    Outcome(Outcome),
    NotLeader(Option<u64>),
    Unknown(String),
    TooLarge(usize),
}

/// A transaction and who waits for it.
pub(crate) struct Proposal {
    pub(crate) txn: Txn,
    pub(crate) answer: oneshot::Sender<Answer>,
    /// Since when it waits.
    pub(crate) at: Instant,
}

/// Proposals that may wait; more are refused as unavailable.
const QUEUE: usize = 4096;

/// Commands of one batch.
const BATCH: usize = 1024;

/// Batches in flight: the next is gathered while one is on its way (measured: more gain nothing).
const IN_FLIGHT: usize = 2;

/// Starts the task; it ends with the last sender.
pub(crate) fn spawn(raft: Raft, shown: Arc<Shown>) -> mpsc::Sender<Proposal> {
    let (sender, mut proposals) = mpsc::channel::<Proposal>(QUEUE);
    tokio::spawn(async move {
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT));
        let mut batch = Vec::with_capacity(BATCH);
        while proposals.recv_many(&mut batch, BATCH).await > 0 {
            let Ok(permit) = in_flight.clone().acquire_owned().await else { return };
            let (commands, waiting) = encode(&shown, batch.drain(..));
            let waiting = planted::misdirect(&raft, &shown, &commands, waiting);
            if !commands.is_empty() {
                propose(&raft, &shown.stages, commands, waiting, permit).await;
            }
        }
    });
    sender
}

/// Stamps and encodes; answers those that are too large or whose proposer has gone.
fn encode(
    shown: &Shown,
    batch: impl Iterator<Item = Proposal>,
) -> (Vec<Command>, Vec<oneshot::Sender<Answer>>) {
    let (mut commands, mut waiting) = (Vec::new(), Vec::new());
    for Proposal { mut txn, answer, at } in batch {
        shown.stages.took(Stage::Queue, at);
        if answer.is_closed() {
            continue;
        }
        match command(shown, &mut txn) {
            Ok(command) => {
                commands.push(command);
                waiting.push(answer);
            }
            Err(too_large) => drop(answer.send(too_large)),
        }
    }
    (commands, waiting)
}

/// Stamps and encodes one.
fn command(shown: &Shown, txn: &mut Txn) -> Result<Command, Answer> {
    txn.clock_ms = shown.clock.stamp();
    txn.wall_ms = wall_ms();
    let bytes = Bytes::from(atoll_codec::encode_txn(txn));
    match bytes.len() {
        len if len > limits::TXN_BYTES_MAX => Err(Answer::TooLarge(len)),
        _ => Ok(Command { bytes }),
    }
}

/// Proposes one transaction as the leader of `term`. That is asked where entries are appended, so
/// nothing comes between.
pub(crate) async fn propose_in_term(raft: &Raft, shown: &Shown, term: u64, mut txn: Txn) -> Answer {
    let begun = Instant::now();
    let command = match command(shown, &mut txn) {
        Ok(command) => command,
        Err(too_large) => return too_large,
    };
    let (responder, written) = ProgressResponder::complete_only();
    if let Err(error) = raft.write(command).with_leader(term).responder(responder).await {
        return Answer::Unknown(error.to_string());
    }
    let answer = match written.await {
        Ok(result) => answer_of(result.map(|written| written.data)),
        Err(_) => Answer::Unknown("consensus stopped".to_owned()),
    };
    shown.stages.took(Stage::Commit, begun);
    answer
}

fn answer_of(result: Result<Reply, ClientWriteError<TypeConfig>>) -> Answer {
    match result {
        Ok(Reply(Some(outcome))) => Answer::Outcome(planted::falsify(outcome)),
        Ok(Reply(None)) => Answer::Unknown("the entry was not a transaction".to_owned()),
        Err(ClientWriteError::ForwardToLeader(forward)) => Answer::NotLeader(forward.leader_id),
        // Discarded here, but another member may have committed it.
        Err(error) => Answer::Unknown(error.to_string()),
    }
}

async fn propose(
    raft: &Raft,
    stages: &Stages,
    commands: Vec<Command>,
    waiting: Vec<oneshot::Sender<Answer>>,
    permit: OwnedSemaphorePermit,
) {
    let (stages, begun) = (stages.clone(), Instant::now());
    let mut results = match raft.client_write_many(commands).await {
        Ok(results) => results,
        Err(error) => {
            for answer in waiting {
                let _ = answer.send(Answer::Unknown(error.to_string()));
            }
            return;
        }
    };
    tokio::spawn(async move {
        let _permit = permit;
        for answer in waiting {
            let result = match results.next().await {
                Some(Ok(result)) => answer_of(result.map(|written| written.response)),
                Some(Err(error)) => Answer::Unknown(error.to_string()),
                None => Answer::Unknown("consensus stopped".to_owned()),
            };
            let _ = answer.send(result);
        }
        stages.took(Stage::Commit, begun);
    });
}
