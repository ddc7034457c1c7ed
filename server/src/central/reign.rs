//! What the raft leader does about who serves: it asks all members, and moves the role.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use atoll_api::proto::cluster_client::ClusterClient;
use atoll_api::{Credentials, Endpoint};
use atoll_model::{
    Actor, Central as Role, MemberId, MemberName, Operation, Outcome, Revision, Txn,
};
use atoll_raft::{MemberInfo, Published, Store};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::ask::{Answer, ask_member};
use super::{HandOver, HandOverError, LocalCentral};
use crate::role::{Healths, Report};

/// How often the raft leader asks the members for their central's health: four answers fit into
/// [`crate::role::UNHEARD`].
pub(super) const ASK_EVERY: Duration = Duration::from_millis(500);

/// How long the serving member keeps its answer back unless nodes lose its southbound: the leader
/// hears of that at once, and asks no more often.
const LISTEN: Duration = Duration::from_millis(450);

/// A dead member is noticed by its silence; this only frees its connection.
const KEEPALIVE: Duration = Duration::from_secs(5);

impl LocalCentral {
    /// While this member leads: asks every member for its central's health, and moves the role.
    pub(super) async fn lead(
        self,
        store: Store,
        credentials: Credentials,
        mut hand_overs: mpsc::Receiver<HandOver>,
        cancel: CancellationToken,
    ) {
        let mut leadership = store.leadership();
        let mut reign: Option<Reign> = None;
        let mut tick = tokio::time::interval(ASK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if leadership.borrow_and_update().is_leader {
                let reign = reign.get_or_insert_with(|| Reign::new(credentials.clone()));
                let ordered = tokio::select! {
                    heard = self.ask(&store, reign, LISTEN) => {
                        reign.take_in(heard);
                        move_role(&store, &mut reign.healths).await;
                        tokio::select! {
                            _ = tick.tick() => None,
                            ordered = hand_overs.recv() => ordered,
                            () = cancel.cancelled() => return,
                        }
                    }
                    ordered = hand_overs.recv() => ordered,
                    () = cancel.cancelled() => return,
                };
                if let Some(HandOver { to, done }) = ordered {
                    // Who ordered it may have seen more than was heard here last.
                    let heard = self.ask(&store, reign, Duration::ZERO).await;
                    reign.take_in(heard);
                    // Who asked may have gone.
                    let _ = done.send(hand_over(&store, &mut reign.healths, to).await);
                }
            } else {
                reign = None;
                tokio::select! {
                    changed = leadership.changed() => if changed.is_err() { return },
                    Some(HandOver { done, .. }) = hand_overs.recv() => {
                        let _ = done.send(Err(HandOverError::NotLeader));
                    }
                    () = cancel.cancelled() => return,
                }
            }
        }
    }

    /// Asks every voter for its central's health. Who serves has up to `listen` to tell that nodes
    /// have lost it. Cancel safe.
    async fn ask(
        &self,
        store: &Store,
        reign: &mut Reign,
        listen: Duration,
    ) -> Vec<(MemberId, Answer)> {
        let status = store.status();
        let serving = store.published().borrow().state.central().map(|it| it.member);
        let listen = |member| if serving == Some(member) { listen } else { Duration::ZERO };
        reign.clients.retain(&status.members);
        // A learner may be far behind: only who counts may serve.
        let others = status.members.iter().filter(|it| it.id != status.id && it.voter);
        let calls: Vec<_> = others
            .filter_map(|member| {
                let client = reign.clients.client(&member.address)?;
                Some(ask_member(member.id, member.address.clone(), client, listen(member.id)))
            })
            .collect();
        let own = async {
            self.listen(listen(status.id)).await;
            (status.id, Answer::Report(self.report(status.id, &status.name)))
        };
        let (own, mut answers) = tokio::join!(own, futures::future::join_all(calls));
        answers.push(own);
        answers
    }

    /// What this member would answer.
    fn report(&self, member: MemberId, name: &MemberName) -> Report {
        let own = self.processes();
        Report {
            member,
            name: name.clone(),
            nb: own.nb_endpoint,
            sb: own.sb_endpoint,
            healthy: own.healthy,
            serving: own.serving,
            interrupted: own.interrupted,
            copying: own.copying,
        }
    }
}

/// What this member knows while it leads.
struct Reign {
    healths: Healths,
    clients: Clients,
}

/// One connection to each member: connecting anew for each question costs more than asking.
pub(super) struct Clients {
    credentials: Credentials,
    by_address: BTreeMap<String, ClusterClient<Channel>>,
}

impl Reign {
    fn new(credentials: Credentials) -> Self {
        Self { healths: Healths::default(), clients: Clients::new(credentials) }
    }

    fn take_in(&mut self, answers: Vec<(MemberId, Answer)>) {
        for (member, answer) in answers {
            match answer {
                Answer::Report(report) => self.healths.heard(Instant::now(), report),
                Answer::Refused => self.healths.refused(Instant::now(), member),
                Answer::Nothing => {}
            }
        }
    }
}

impl Clients {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, by_address: BTreeMap::new() }
    }

    /// Lets go of who is no member any more.
    pub(super) fn retain(&mut self, members: &[MemberInfo]) {
        self.by_address.retain(|address, _| members.iter().any(|it| it.address == *address));
    }

    pub(super) fn client(&mut self, address: &str) -> Option<ClusterClient<Channel>> {
        if let Some(client) = self.by_address.get(address) {
            return Some(client.clone());
        }
        let endpoint: Endpoint = address.parse().ok()?;
        let client = ClusterClient::new(endpoint.connect_lazy(&self.credentials, KEEPALIVE));
        self.by_address.insert(address.to_owned(), client.clone());
        Some(client)
    }
}

async fn move_role(store: &Store, healths: &mut Healths) {
    let choose = |healths: &Healths, now: &Published| {
        let serving = now.state.central().map(AsRef::as_ref);
        healths.choose(Instant::now(), serving).map(|(report, why)| (report.clone(), why))
    };
    if choose(healths, &store.published().borrow()).is_none() {
        return;
    }
    // A fresh leader may not have applied the last choice yet: it is asked for only now, because
    // it costs a round.
    let now = match store.linearizable().await {
        Ok(now) => now,
        Err(error) => {
            tracing::debug!(%error, "the central role is not looked at");
            return;
        }
    };
    if let Some((next, why)) = choose(healths, &now) {
        tracing::info!(member = %next.name, sb = %next.sb, %why, "the central role moves");
        healths.appointed(Instant::now(), next.member);
        // Level-triggered: whatever became of it, the next round looks again.
        if let Err(error) = appoint(store, &next).await {
            tracing::warn!(%error, "the central role could not be moved yet");
        }
    }
}

/// As [`move_role`], but to whom an operator names.
async fn hand_over(
    store: &Store,
    healths: &mut Healths,
    to: MemberId,
) -> Result<(), HandOverError> {
    let now = store.linearizable().await.map_err(|_error| HandOverError::NotLeader)?;
    let serving = now.state.central().map(AsRef::as_ref);
    let next = healths.successor(Instant::now(), to, serving)?.clone();
    drop(now);
    tracing::info!(member = %next.name, sb = %next.sb, "the central role is handed over");
    healths.appointed(Instant::now(), next.member);
    appoint(store, &next).await
}

async fn appoint(store: &Store, report: &Report) -> Result<(), HandOverError> {
    let role = Role {
        member: report.member,
        name: report.name.clone(),
        nb: report.nb.clone(),
        sb: report.sb.clone(),
        since: Revision(0),
    };
    propose(store, role).await
}

pub(super) async fn propose(store: &Store, role: Role) -> Result<(), HandOverError> {
    let txn = Txn {
        request: None,
        actor: Actor::Leader,
        preconditions: Vec::new(),
        operations: vec![Operation::SetCentral(role)],
        clock_ms: 0,
        wall_ms: 0,
    };
    match store.propose(txn).await {
        Ok(Outcome::Applied { .. }) => Ok(()),
        Ok(Outcome::Refused { refusal, .. }) => {
            Err(HandOverError::NotConfirmed(refusal.to_string()))
        }
        Err(error) => Err(HandOverError::NotConfirmed(error.to_string())),
    }
}
