//! What is wanted is proposed, once for each object, and what became of it is remembered.

use std::time::Instant;

use atoll_api::proto::Kind;
use atoll_model::{ObjectKey, Operation};
use futures::FutureExt as _;

use super::Intake;
use crate::absence::ASK_AGAIN;
use crate::known;
use crate::store::{Proposed, Store};
use crate::translate::Wanted;

/// Proposals under way: enough for batches of the log, few enough that a change of the leader loses
/// little work.
const PROPOSALS: usize = 128;

/// A proposal and what became of it.
pub(crate) type Answered = (ObjectKey, Vec<Operation>, Proposed);

impl<S: Store> Intake<S> {
    /// Proposes what is due and not done already.
    pub(crate) fn propose(&mut self) {
        let now = Instant::now();
        while let Some((key, operations)) = self.pending.take(now, PROPOSALS) {
            let is_unreadable = operations.is_empty();
            let known = self.store.get(&key);
            let is_news =
                |it: &Operation| self.is_doubted(it) || !known::is_done(it, known.as_ref());
            let news: Vec<Operation> = operations.into_iter().filter(is_news).collect();
            if news.is_empty() {
                self.pending.done(&key);
                if !is_unreadable {
                    self.accept(&key);
                }
                continue;
            }
            let proposed = self.store.propose(self.term, news.clone());
            self.proposals.push(async move { (key, news, proposed.await) }.boxed_local());
        }
    }

    /// Whether an earlier list did not hold a pod that is there: it was no complete one, and the
    /// store must not wait for a second one, which may come in a month, to end the pod.
    fn is_doubted(&self, operation: &Operation) -> bool {
        match operation {
            Operation::PutPod(spec) => {
                self.store.get(&ObjectKey::Sighting(spec.uid.clone())).is_some()
            }
            _ => false,
        }
    }

    /// A proposal was answered.
    pub(crate) fn answered(&mut self, (key, operations, proposed): Answered) {
        match proposed {
            Proposed::Applied => {
                self.pending.done(&key);
                self.accept(&key);
                if key == ObjectKey::Janitor {
                    self.want_rest();
                } else if !matches!(key, ObjectKey::Pod(_)) {
                    self.pending.hasten();
                }
            }
            // Of an old list; the next one will do.
            _ if key == ObjectKey::Janitor => {
                self.pending.done(&key);
                self.rest.clear();
                self.ask_again(Kind::Pod, Instant::now() + ASK_AGAIN);
                if let Proposed::Refused(refusal) = proposed {
                    self.complain(key, &refusal.to_string());
                }
            }
            Proposed::Refused(refusal) => {
                self.pending.failed(Instant::now(), key.clone(), operations);
                if !known::is_of_order(&refusal) {
                    self.refuse(key, &refusal.to_string());
                }
            }
            Proposed::NotDone(why) => {
                tracing::debug!(%key, why, "not proposed yet");
                self.pending.failed(Instant::now(), key, operations);
            }
        }
    }

    /// What else the last list did not hold.
    fn want_rest(&mut self) {
        if let Some(operations) = self.rest.pop_front() {
            self.want(Wanted { key: ObjectKey::Janitor, operations });
        }
    }

    fn accept(&mut self, key: &ObjectKey) {
        if self.complaints.remove(key).is_some() && has_status(key) {
            self.verdicts.push((key.clone(), None));
        }
    }

    pub(super) fn refuse(&mut self, key: ObjectKey, why: &str) {
        if has_status(&key) {
            self.verdicts.push((key.clone(), Some(why.to_owned())));
        }
        self.complain(key, why);
    }

    pub(super) fn complain(&mut self, key: ObjectKey, why: &str) {
        if self.complaints.get(&key).is_none_or(|known| known != why) {
            tracing::warn!(%key, why, "what Kubernetes asks for is refused");
            self.warnings.push((key.clone(), why.to_owned()));
            self.complaints.insert(key, why.to_owned());
        }
    }
}

fn has_status(key: &ObjectKey) -> bool {
    matches!(key, ObjectKey::Subnet(_) | ObjectKey::Qos(_) | ObjectKey::Reservation(_))
}
