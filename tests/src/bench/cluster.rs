//! Three members, ours or etcd's, and what a benchmark asks of either.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use atoll_api::allocations::{AllocationQuery, Held};
use atoll_api::proto::Kind;
use atoll_api::{Credentials, Endpoint};
use atoll_model::{Object, Owner};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::etcd::{self, EtcdMember, EtcdOptions};
use super::lane::{Api, Family, Lane};
use super::{machine, workload};
use crate::bare::{self, BareMember};
use crate::certificates::Authority;
use crate::wait::wait_until;

const MEMBERS: usize = 3;
const READY: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Ours.
    Atoll,
    /// The anchor.
    Etcd,
}

/// How a cluster is started.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Mutual TLS between everybody, or plaintext.
    pub is_secure: bool,
    /// etcd's heartbeat and election timeout, ms.
    pub etcd_ms: (u32, u32),
}

impl Default for Setting {
    /// Plaintext; etcd's own defaults.
    fn default() -> Self {
        Self { is_secure: false, etcd_ms: (100, 1000) }
    }
}

#[derive(Debug)]
enum Members {
    Atoll(Vec<BareMember>),
    Etcd(Vec<EtcdMember>),
}

/// Three members; they are killed and their disks removed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    dir: TempDir,
    members: Members,
    credentials: Credentials,
}

/// Who leads, since which election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lead {
    /// Its position.
    pub at: usize,
    /// The term.
    pub term: u64,
}

fn number_of(owner: &Owner) -> Option<u64> {
    match owner {
        Owner::Pod(key, _) => workload::pod_number(key),
        Owner::Node(_) => None,
    }
}

fn atolld() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/atolld")
}

impl Cluster {
    /// Starts an empty cluster and waits until it takes writes.
    ///
    /// # Errors
    ///
    /// A program is not built, or the cluster does not become ready.
    pub async fn start(system: System, setting: Setting) -> Result<Self> {
        let dir = machine::scratch()?;
        let mut cluster = match system {
            System::Atoll => Self::atoll(dir, setting)?,
            System::Etcd => Self::etcd(dir, setting)?,
        };
        for at in 0..MEMBERS {
            cluster.start_member(at)?;
        }
        cluster.lead().await?;
        if let Members::Atoll(members) = &cluster.members {
            bare::ready(members).await?;
            let client = bare::client(members, READY)?;
            for operations in workload::set_up()? {
                client.txn(Vec::new(), operations).await?;
            }
        }
        Ok(cluster)
    }

    fn atoll(dir: TempDir, setting: Setting) -> Result<Self> {
        let program = atolld();
        ensure!(program.exists(), "{} is not built; make does", program.display());
        let data: Vec<PathBuf> =
            (1..=MEMBERS).map(|n| dir.path().join(format!("disk{n}"))).collect();
        let mut members = bare::members(dir.path(), &data, &program)?;
        let mut credentials = Credentials::insecure_dev();
        if setting.is_secure {
            let pki = Authority::new(dir.path())?;
            credentials = pki.operator()?;
            for member in &mut members {
                let identity = format!("member/{}", member.name());
                let files = pki.issue(&identity, &[])?;
                member.secure(files, credentials.clone());
            }
        }
        Ok(Self { dir, members: Members::Atoll(members), credentials })
    }

    fn etcd(dir: TempDir, setting: Setting) -> Result<Self> {
        let hosts = machine::hosts(MEMBERS)?;
        let (heartbeat_ms, election_ms) = setting.etcd_ms;
        let is_secure = setting.is_secure;
        let pki = is_secure.then(|| Authority::new(dir.path())).transpose()?;
        let asker = pki.as_ref().map(Authority::operator).transpose()?;
        let credentials = asker.unwrap_or_else(Credentials::insecure_dev);
        let asker = credentials.clone();
        let path = dir.path().to_owned();
        let options = EtcdOptions { dir: path, hosts, heartbeat_ms, election_ms, is_secure, asker };
        let member = |at: usize| {
            // etcd also compares where a peer calls from, and on loopback that is 127.0.0.1.
            let hosts = [options.hosts[at].clone(), "127.0.0.1".to_owned()];
            let issue = |pki: &Authority| pki.issue(&format!("member/m{}", at + 1), &hosts);
            let certificate = pki.as_ref().map(issue).transpose()?;
            Ok(EtcdMember::new(options.clone(), at, certificate))
        };
        let members = (0..MEMBERS).map(member).collect::<Result<_>>()?;
        Ok(Self { dir, members: Members::Etcd(members), credentials })
    }

    /// Our members, if they are ours.
    #[must_use]
    pub fn ours(&self) -> Option<&[BareMember]> {
        match &self.members {
            Members::Atoll(members) => Some(members),
            Members::Etcd(_) => None,
        }
    }

    /// Starts one member.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start_member(&mut self, at: usize) -> Result<()> {
        match &mut self.members {
            Members::Atoll(members) => members[at].start(),
            Members::Etcd(members) => members[at].start(),
        }
    }

    /// Kills one member with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    ///
    /// It cannot be waited for.
    pub async fn kill(&mut self, at: usize) -> Result<()> {
        match &mut self.members {
            Members::Atoll(members) => members[at].kill().await,
            Members::Etcd(members) => members[at].kill().await,
        }
    }

    /// Sends one member a signal.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn signal(&self, at: usize, signal: Signal) -> Result<()> {
        match &self.members {
            Members::Atoll(members) => members[at].signal(signal),
            Members::Etcd(members) => members[at].signal(signal),
        }
    }

    /// Waits until one member has ended by itself.
    ///
    /// # Errors
    ///
    /// It still runs at the deadline.
    pub async fn ended(&mut self, at: usize, deadline: Duration) -> Result<()> {
        match &mut self.members {
            Members::Atoll(members) => members[at].ended(deadline).await.map(drop),
            Members::Etcd(members) => members[at].ended(deadline).await,
        }
    }

    /// The disk of one of ours is gone; its next start is with an empty one.
    ///
    /// # Errors
    ///
    /// It is not ours.
    pub fn wipe(&mut self, at: usize) -> Result<()> {
        let Members::Atoll(members) = &mut self.members else { bail!("only ours are wiped") };
        let fresh = self.dir.path().join(format!("disk{}-fresh", at + 1));
        members[at].exchange_disk(fresh);
        Ok(())
    }

    /// The processes.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        match &self.members {
            Members::Atoll(members) => members.iter().filter_map(BareMember::pid).collect(),
            Members::Etcd(members) => members.iter().filter_map(EtcdMember::pid).collect(),
        }
    }

    /// Where a member listens.
    #[must_use]
    pub fn endpoint(&self, at: usize) -> Endpoint {
        match &self.members {
            Members::Atoll(members) => members[at].endpoint(),
            Members::Etcd(members) => members[at].endpoint(),
        }
    }

    /// Positions of all members.
    #[must_use]
    pub fn positions(&self) -> std::ops::Range<usize> {
        0..MEMBERS
    }

    /// Term, whether it leads, and how far it has come, as one member says.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn look(&self, at: usize) -> Result<(u64, bool, u64)> {
        Ok(match &self.members {
            Members::Atoll(members) => {
                let status = members[at].status().await?;
                (status.term, status.role == "leader", status.applied)
            }
            Members::Etcd(members) => {
                let status = members[at].status().await?;
                let me = status.header.unwrap_or_default().member_id;
                (status.raft_term, status.leader == me, status.raft_applied_index)
            }
        })
    }

    /// The revision that a member has come to.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn revision(&self, at: usize) -> Result<u64> {
        Ok(self.look(at).await?.2)
    }

    /// Waits until somebody leads.
    ///
    /// # Errors
    ///
    /// Nobody does at the deadline.
    pub async fn lead(&self) -> Result<Lead> {
        self.lead_after(0).await
    }

    /// Waits until somebody leads who was elected after a term. etcd tells of a new leader before it
    /// tells of its term.
    ///
    /// # Errors
    ///
    /// Nobody does at the deadline.
    pub async fn lead_after(&self, before: u64) -> Result<Lead> {
        let leads = wait_until(READY, "a leader", async || {
            let mut seen = Vec::new();
            for at in self.positions() {
                match self.look(at).await {
                    Ok((term, true, _)) if term > before => return Ok(Lead { at, term }),
                    other => seen.push(format!("{other:?}")),
                }
            }
            bail!("{}", seen.join("; "))
        });
        leads.await.with_context(|| self.last_lines())
    }

    /// Waits until a member has applied what the leader had when this was called.
    ///
    /// # Errors
    ///
    /// It has not at the deadline.
    pub async fn caught_up(&self, at: usize, deadline: Duration) -> Result<()> {
        let lead = self.lead().await?;
        let (_, _, goal) = self.look(lead.at).await?;
        let caught = wait_until(deadline, "a member that follows", async || {
            let (_, _, applied) = self.look(at).await?;
            ensure!(applied >= goal, "it is at {applied}, not at {goal}");
            Ok(())
        });
        caught.await.with_context(|| self.last_lines())
    }

    /// Connections to one member.
    ///
    /// # Errors
    ///
    /// Plaintext would leave this machine.
    pub fn lanes(
        &self,
        api: Api,
        at: usize,
        count: usize,
        family: &Arc<Family>,
    ) -> Result<Vec<Lane>> {
        let endpoint = self.endpoint(at);
        let lane = || match &self.members {
            Members::Atoll(_) => Lane::to_atoll(api, &endpoint, &self.credentials, family),
            Members::Etcd(_) => Ok(Lane::to_etcd(&endpoint, &self.credentials, family)),
        };
        (0..count).map(|_| lane()).collect()
    }

    /// Numbers of the pods, or keys, that come and go and are there.
    ///
    /// # Errors
    ///
    /// The store does not answer.
    pub async fn passing(&self) -> Result<BTreeSet<u64>> {
        let at = self.lead().await?.at;
        match &self.members {
            Members::Atoll(members) => {
                let subnet = Some(workload::PASSING_SUBNET.parse()?);
                let query = AllocationQuery { subnet, ..AllocationQuery::default() };
                let held = bare::client(members, READY)?.allocations(&query).await?.held;
                let number = |held: &Held| match held {
                    Held::Port(allocation, _) => number_of(&allocation.owner),
                    _ => None,
                };
                Ok(held.iter().filter_map(number).collect())
            }
            Members::Etcd(members) => members[at].numbers_from(workload::PASSING).await,
        }
    }

    /// How many pods, or keys, of the others are there, by a full read.
    ///
    /// # Errors
    ///
    /// The store does not answer.
    pub async fn staying(&self) -> Result<u64> {
        let at = self.lead().await?.at;
        match &self.members {
            Members::Atoll(members) => {
                let read = bare::client(members, READY)?.read(&[Kind::Allocation], None).await?;
                let stays = |object: &&Object| match object {
                    Object::Allocation(it) => {
                        number_of(&it.owner).is_some_and(|it| it < workload::PASSING)
                    }
                    _ => false,
                };
                Ok(read.objects.iter().filter(stays).count() as u64)
            }
            Members::Etcd(members) => {
                let all = members[at].numbers_from(0).await?;
                Ok(all.range(..workload::PASSING).count() as u64)
            }
        }
    }

    fn last_lines(&self) -> String {
        match &self.members {
            Members::Atoll(members) => {
                members.iter().map(BareMember::last_line).collect::<Vec<_>>().join("\n")
            }
            Members::Etcd(members) => {
                members.iter().map(EtcdMember::last_line).collect::<Vec<_>>().join("\n")
            }
        }
    }

    /// The program of one system, if it is there.
    #[must_use]
    pub fn program(system: System) -> PathBuf {
        match system {
            System::Atoll => atolld(),
            System::Etcd => etcd::program(),
        }
    }
}
