//! Wrong answers that a test build can be told to give ([`Mutant`]); any other build gives the right
//! ones.

use atoll_model::{Outcome, Reply, Revision, WaitReason};
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::oneshot;

use crate::machine::Shown;
use crate::mutant::Mutant;
use crate::proposer::Answer;
use crate::types::{Command, Raft};

type Waiting = Vec<oneshot::Sender<Answer>>;

/// Who is told what becomes of the commands: each its own.
pub(crate) fn misdirect(
    raft: &Raft,
    shown: &Shown,
    commands: &[Command],
    mut waiting: Waiting,
) -> Waiting {
    if Mutant::SwappedAnswers.is_on() && waiting.len() > 1 {
        waiting.swap(0, 1);
    }
    let leads = || raft.metrics().borrow_watched().state == ServerState::Leader;
    if Mutant::AnsweredEarly.is_on() && leads() {
        waiting = answer_early(shown, commands, waiting);
    }
    waiting
}

/// The answers are a fork's; nobody waits for the real ones.
fn answer_early(shown: &Shown, commands: &[Command], waiting: Waiting) -> Waiting {
    let mut fork = shown.published.borrow().state.clone();
    let answer = |(command, answer): (&Command, oneshot::Sender<Answer>)| {
        if let Ok(txn) = atoll_codec::decode_txn(&command.bytes) {
            let next = Revision(fork.applied().0 + 1);
            let _ = answer.send(Answer::Outcome(fork.apply(next, &txn).outcome));
        }
        oneshot::channel().0
    };
    commands.iter().zip(waiting).map(answer).collect()
}

/// What became of a transaction, as it is told.
pub(crate) fn falsify(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Applied { revision, replies }
            if Mutant::FalseFull.is_on() && revision.0 % 16 == 0 =>
        {
            let lie = |reply| match reply {
                Reply::Allocated(it) => Reply::Waiting(WaitReason::Full(vec![it.subnet])),
                other => other,
            };
            Outcome::Applied { revision, replies: replies.into_iter().map(lie).collect() }
        }
        other => other,
    }
}
