//! Members compare what they have, and the one that differs stands aside.
//!
//! While something changes, the leader puts a mark into the log every [`Timing::mark_interval`]. It
//! carries no value: each member notes the digest of its own state after that very entry, and asks
//! the others for theirs. Who differs from a majority has computed something else from the same
//! log, by a broken disk, broken memory or a bug. It must not answer anybody: it is *quarantined*.
//! It shows no state, gives up leadership and stands for no election; it keeps its log and votes,
//! so the others lose no quorum. A file in its data directory says so to every later start, because
//! its snapshot may hold the difference. The way out is another disk.
//!
//! Without a majority for one digest nobody can tell who is right, and nothing happens but a loud
//! word in the log.
//!
//! [`Timing::mark_interval`]: crate::Timing

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use atoll_model::{Actor, MemberId, Operation, Txn};
use futures::future::join_all;

use crate::files;
use crate::member::{Member, Phase};
use crate::network;
use crate::store::Store;

/// How often a member looks whether there is a mark to make or to compare.
const LOOK: Duration = Duration::from_millis(500);

/// A member that says nothing for this long is asked again later.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Marks that are remembered: others ask a moment later than we do.
const REMEMBERED: usize = 64;

/// A member's marks, and what came of comparing them.
#[derive(Debug)]
pub(crate) struct Marks {
    /// Index and digest, oldest first.
    noted: Mutex<VecDeque<(u64, u128)>>,
    quarantine: OnceLock<String>,
    file: PathBuf,
}

impl Marks {
    /// The marks of a data directory: none, but a quarantine lasts.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let file = directory.join("quarantine");
        let quarantine = OnceLock::new();
        if let Some(why) = files::read_if_exists(&file)? {
            let why = String::from_utf8_lossy(&why).trim_end().to_owned();
            quarantine.get_or_init(|| why);
        }
        Ok(Self { noted: Mutex::default(), quarantine, file })
    }

    /// Notes the digest after entry `index`.
    pub(crate) fn note(&self, index: u64, digest: u128) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() == REMEMBERED {
            noted.pop_front();
        }
        noted.push_back((index, digest));
    }

    /// The digest after entry `index`, if there was a mark that is still remembered.
    pub(crate) fn at(&self, index: u64) -> Option<u128> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.iter().find(|(at, _)| *at == index).map(|(_, digest)| *digest)
    }

    fn newest(&self) -> Option<(u64, u128)> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).back().copied()
    }

    /// Why this member stands aside, if it does.
    pub(crate) fn quarantine(&self) -> Option<&str> {
        self.quarantine.get().map(String::as_str)
    }

    fn set_quarantine(&self, why: &str) {
        if let Err(error) = files::replace(&self.file, why.as_bytes()) {
            // It stands aside all the same; a later start would not know and compare anew.
            tracing::error!(%error, file = %self.file.display(), "cannot write the quarantine");
        }
        self.quarantine.get_or_init(|| why.to_owned());
    }
}

/// What follows from the members' digests at one entry.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// A majority has what we have.
    Agreed,
    /// A majority has something else.
    Minority,
    /// Too few have answered, or all differ.
    Open,
}

fn judge(own: u128, others: &[Option<u128>], voters: usize) -> Verdict {
    let majority = voters / 2 + 1;
    let mut counts: BTreeMap<u128, usize> = BTreeMap::from([(own, 1)]);
    others.iter().flatten().for_each(|digest| *counts.entry(*digest).or_default() += 1);
    match counts.into_iter().find(|(_, count)| *count >= majority) {
        Some((digest, _)) if digest == own => Verdict::Agreed,
        Some(_) => Verdict::Minority,
        None => Verdict::Open,
    }
}

/// Makes and compares marks until the task is aborted.
pub(crate) async fn run(store: Store) {
    let member = store.member().clone();
    let mut made = Instant::now();
    let mut agreed = 0;
    loop {
        if let Some(why) = member.shown.marks.quarantine() {
            stand_aside(&store, &member, why.to_owned()).await;
        } else {
            if make(&store, &member, made).await {
                made = Instant::now();
            }
            if let Some((index, own)) = member.shown.marks.newest().filter(|it| it.0 > agreed) {
                match compare(&member, index, own).await {
                    Verdict::Agreed => agreed = index,
                    Verdict::Minority => quarantine(&member, index, own),
                    Verdict::Open => {}
                }
            }
        }
        tokio::time::sleep(LOOK.min(member.options.timing.mark_interval)).await;
    }
}

/// Puts a mark into the log, if this member leads and something came since the last one.
async fn make(store: &Store, member: &Member, last: Instant) -> bool {
    let marked = member.shown.marks.newest().map_or(0, |(index, _)| index);
    let applied = member.shown.published.borrow().state.applied().0;
    let due = applied > marked && last.elapsed() >= member.options.timing.mark_interval;
    if !due || !store.leadership().borrow().is_leader {
        return false;
    }
    let mark = Txn {
        request: None,
        actor: Actor::Leader,
        preconditions: Vec::new(),
        operations: vec![Operation::DigestMark],
        clock_ms: 0,
        wall_ms: 0,
    };
    match store.propose(mark).await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(%error, "could not make a digest mark");
            false
        }
    }
}

/// Asks the other voters what they have after entry `index`.
async fn compare(member: &Arc<Member>, index: u64, own: u128) -> Verdict {
    let metrics = member.metrics();
    let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
    let others = voters.iter().filter(|&&id| id != member.id());
    let asked = others.map(|&id| async move {
        let answer = network::ask_digest(member, id, index);
        tokio::time::timeout(ANSWER_WITHIN, answer).await.ok().flatten()
    });
    let others = join_all(asked).await;
    let verdict = judge(own, &others, voters.len());
    let differs = others.iter().flatten().any(|digest| *digest != own);
    if differs && verdict != Verdict::Minority {
        tracing::error!(
            index,
            ?verdict,
            "members differ: the digests after one entry are not equal"
        );
    }
    verdict
}

fn quarantine(member: &Member, index: u64, own: u128) {
    let why = format!(
        "after entry {index} this member's state has digest {own:032x}, and a majority has \
         another: its memory, its disk or its program is broken. It serves nobody any more, and \
         votes. Keep its data directory for a look, then start it with an empty one"
    );
    tracing::error!(id = %MemberId(member.id()), "{why}");
    member.shown.marks.set_quarantine(&why);
    member.shown.hide();
}

/// Does what a quarantined member still has to do, again and again.
async fn stand_aside(store: &Store, member: &Member, why: String) {
    member.set_phase(Phase::Quarantined { why });
    member.raft.runtime_config().elect(false);
    store.transfer_leadership(None).await;
}

#[cfg(test)]
#[path = "marks_test.rs"]
mod tests;
