//! The committed log, gathered from copies of the members' disks while they run: a member purges
//! what is behind its snapshots, so it is copied in time.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use atoll_model::{MemberName, Revision, Txn};
use atoll_raft::inspect_log;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::check::Entry;
use crate::audit::copy_tree;
use crate::bare::BareMember;

/// A process that stands still as long as this lives.
struct Still(Pid);

impl Still {
    fn hold(member: &BareMember) -> Result<Self> {
        let pid = Pid::from_raw(i32::try_from(member.pid().context("it does not run")?)?);
        kill(pid, Signal::SIGSTOP)?;
        Ok(Self(pid))
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        // It may have been killed.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// What all members agree on so far.
#[derive(Debug, Default)]
pub struct Collected {
    entries: BTreeMap<Revision, Option<Txn>>,
    /// Entries that two members hold differently: each is one too many.
    pub differing: Vec<String>,
    /// Entries that a second member has confirmed.
    pub confirmed: usize,
    /// Up to where a copied log was purged: only a snapshot takes its member's followers over that.
    pub purged: Revision,
}

impl Collected {
    /// Takes in what `member` has applied.
    ///
    /// # Errors
    ///
    /// It does not answer, or its disk cannot be read.
    pub async fn take(&mut self, member: &BareMember) -> Result<()> {
        // What it has applied before the copy is made is committed, and in the copy.
        let status = member.status().await?;
        let (phase, why) = (&status.phase, &status.why);
        ensure!(phase == "member", "{} is no member: {phase}, {why}", member.name());
        let copy = tempfile::tempdir()?;
        let data = member.data_dir();
        std::fs::copy(data.join("identity"), copy.path().join("identity"))?;
        {
            // It stands still meanwhile: of a log that grows, a copy may have the end and not what
            // is before it.
            let _still = Still::hold(member)?;
            copy_tree(&data.join("wal"), &copy.path().join("wal"))?;
        }
        self.take_copy(copy.path(), &MemberName::new(member.name())?, Revision(status.applied))
    }

    fn take_copy(&mut self, copy: &Path, name: &MemberName, applied: Revision) -> Result<()> {
        let log = inspect_log(copy, name).with_context(|| name.to_string())?;
        self.purged = self.purged.max(log.purged.unwrap_or_default());
        self.merge(name, log.entries.into_iter().filter(|(at, _)| *at <= applied));
        Ok(())
    }

    fn merge(&mut self, name: &MemberName, entries: impl Iterator<Item = Entry>) {
        for (at, txn) in entries {
            match self.entries.get(&at) {
                Some(known) if *known == txn => self.confirmed += 1,
                Some(known) => {
                    self.differing.push(format!("{at}: {name} has {txn:?}, another has {known:?}"));
                }
                None => {
                    self.entries.insert(at, txn);
                }
            }
        }
    }

    /// The log up to now.
    #[must_use]
    pub fn log(&self) -> Vec<Entry> {
        self.entries.iter().map(|(at, txn)| (*at, txn.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_model::Actor;

    fn txn(clock_ms: u64) -> Option<Txn> {
        let (preconditions, operations) = (Vec::new(), Vec::new());
        Some(Txn {
            request: None,
            actor: Actor::Leader,
            preconditions,
            operations,
            clock_ms,
            wall_ms: 0,
        })
    }

    #[test]
    fn what_two_members_hold_differently_is_told() {
        let (name, mut all) = (MemberName::new("m1").unwrap(), Collected::default());
        all.merge(&name, [(Revision(1), txn(1)), (Revision(2), None)].into_iter());
        all.merge(&name, [(Revision(2), None), (Revision(3), txn(3))].into_iter());
        assert_eq!((all.differing.len(), all.confirmed, all.log().len()), (0, 1, 3));
        all.merge(&name, [(Revision(3), txn(4))].into_iter());
        assert_eq!(all.differing.len(), 1);
    }
}
