//! Applying and checking.

use std::{collections::BTreeSet, path::Path, time::Duration};

use ipnetwork::IpNetwork;
use tokio::time::Instant;

use super::{
    Desired, Family, FirewallError, Observed,
    chains::Chain,
    command::run,
    plan::{self, Plan},
    sets,
    tracked::{self, Before},
};

/// Seconds to wait for the lock of other users of iptables.
const LOCK_WAIT_SECONDS: &str = "10";

/// How long sets may stay referenced after the last rule that names them is gone: the kernel
/// frees rules of the nft backend behind the caller's back.
const RELEASE_TIME_MAX: Duration = Duration::from_secs(5);
const RELEASE_LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How long an answer may be under way.
const STRAY: Duration = Duration::from_secs(1);

/// Keeps the packet filter of the namespace that the process is in.
#[derive(Debug, Default)]
pub struct Firewall {
    applied: Option<Desired>,
    /// The networks whose connections this node has forgotten since they left by others.
    elsewhere: BTreeSet<IpNetwork>,
    /// No connection goes on by older rules.
    is_swept: bool,
    /// What connections may still go by.
    before: Before,
}

impl Firewall {
    /// Knows nothing about what is there: the first [`apply`](Self::apply) looks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the packet filter as `desired`. True if something was changed.
    ///
    /// Runs no program if the same was applied before; otherwise looks first and changes only
    /// what differs. Idempotent.
    ///
    /// # Errors
    ///
    /// [`FirewallError`]; the next call looks again.
    pub async fn apply(&mut self, desired: &Desired) -> Result<bool, FirewallError> {
        if self.applied.as_ref() == Some(desired) {
            return Ok(false);
        }
        // Until the end of a pass nothing is known, whatever becomes of it.
        self.applied = None;
        let observed = observe().await?;
        self.before.designated.extend(observed.designated());
        self.before.plain.extend(observed.turned(desired));
        self.before.translated.extend(observed.returned(desired));
        self.before.forwarded.extend(observed.unexcepted(desired));
        let is_changed = enforce(desired, &observed).await?;
        self.is_swept &= !is_changed && desired.elsewhere == self.elsewhere;
        if !self.is_swept {
            self.sweep(desired).await?;
        }
        self.elsewhere = desired.elsewhere.clone();
        self.applied = Some(desired.clone());
        Ok(is_changed)
    }

    /// Ends what goes on by older rules; twice if there may be answers under way to pods that appeared
    /// as themselves: each would be taken for a connection from outside, which is answered as it was
    /// opened.
    async fn sweep(&mut self, desired: &Desired) -> Result<(), FirewallError> {
        let mut forgotten = self.forget(desired).await?;
        if !self.before.plain.is_empty() || !self.before.forwarded.is_empty() {
            tokio::time::sleep(STRAY).await;
            forgotten += self.forget(desired).await?;
        }
        if forgotten > 0 {
            tracing::info!(forgotten, "connections begin anew, with the source they should have");
        }
        (self.is_swept, self.before) = (true, Before::default());
        Ok(())
    }

    async fn forget(&self, desired: &Desired) -> Result<usize, FirewallError> {
        tracked::forget(desired, &self.before).await.map_err(FirewallError::Tracked)
    }

    /// Like [`apply`](Self::apply), and looks in any case: puts back what somebody else changed.
    /// To be called by a timer. True if something was changed.
    ///
    /// # Errors
    ///
    /// [`FirewallError`]; the next call looks again.
    pub async fn verify(&mut self, desired: &Desired) -> Result<bool, FirewallError> {
        self.applied = None;
        // What was still under way when they had left made connections of its own.
        self.elsewhere.clear();
        self.apply(desired).await
    }

    /// Removes all sets, chains and jumps of ours. Idempotent.
    ///
    /// # Errors
    ///
    /// [`FirewallError`]; what could be removed is.
    pub async fn cleanup(&mut self) -> Result<(), FirewallError> {
        self.applied = None;
        restore_chains(&plan::removal(&observe().await?)).await?;
        let until = Instant::now() + RELEASE_TIME_MAX;
        loop {
            match destroy_sets().await {
                Err(FirewallError::Refused { .. }) if Instant::now() < until => {
                    tokio::time::sleep(RELEASE_LOOK_INTERVAL).await;
                }
                done => return done,
            }
        }
    }
}

/// Destroys each set by itself: one that is still in use must not keep the others.
async fn destroy_sets() -> Result<(), FirewallError> {
    let mut result = Ok(());
    for name in observe_sets().await?.keys() {
        if let Err(error) = run("ipset", &["destroy", name], "").await {
            result = Err(error);
        }
    }
    result
}

/// Reads our sets and chains.
///
/// # Errors
///
/// [`FirewallError`].
pub async fn observe() -> Result<Observed, FirewallError> {
    let mut observed = Observed { sets: observe_sets().await?, ..Observed::default() };
    for family in Family::ALL.into_iter().filter(|family| has(*family)) {
        for chain in Chain::ALL {
            let saved = run(family.save_program(), &["-t", chain.table], "").await?;
            observed.chains.insert((family, chain), chain.parse(&saved));
        }
    }
    Ok(observed)
}

async fn observe_sets() -> Result<sets::Sets, FirewallError> {
    Ok(sets::parse(&run("ipset", &["save"], "").await?))
}

/// Whether the kernel has a family: without IPv6 its tables do not exist.
fn has(family: Family) -> bool {
    match family {
        Family::V4 => true,
        Family::V6 => Path::new("/proc/sys/net/ipv6").exists(),
    }
}

/// What is not as `desired`, as lines for the restore programs. Changes nothing.
///
/// # Errors
///
/// [`FirewallError`].
pub async fn differences(desired: &Desired) -> Result<Vec<String>, FirewallError> {
    let plan = Plan::new(desired, &observe().await?);
    let chains = plan.chains.iter().map(|(_, text)| text);
    let lines = std::iter::once(&plan.sets).chain(chains).flat_map(|text| text.lines());
    Ok(lines.map(ToOwned::to_owned).collect())
}

async fn enforce(desired: &Desired, observed: &Observed) -> Result<bool, FirewallError> {
    let plan = Plan::new(desired, observed);
    if plan.is_empty() {
        return Ok(false);
    }
    restore_sets(&plan.sets).await?;
    restore_chains(&plan.chains).await?;
    let rest = Plan::new(desired, &observe().await?);
    if rest.is_empty() {
        return Ok(true);
    }
    let texts = rest.chains.into_iter().map(|(_, text)| text);
    Err(FirewallError::Unsettled { remaining: std::iter::once(rest.sets).chain(texts).collect() })
}

async fn restore_sets(text: &str) -> Result<(), FirewallError> {
    if !text.is_empty() {
        run("ipset", &["-exist", "restore"], text).await?;
    }
    Ok(())
}

async fn restore_chains(texts: &[(Family, String)]) -> Result<(), FirewallError> {
    for (family, text) in texts {
        let arguments = ["--noflush", "-w", LOCK_WAIT_SECONDS];
        run(family.restore_program(), &arguments, text).await?;
    }
    Ok(())
}
