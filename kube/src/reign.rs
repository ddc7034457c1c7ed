//! What a leader does, from its election to its end.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use atoll_model::{Object, ObjectKey, Operation, PodList, Uid};
use futures::future::{FutureExt as _, OptionFuture, join_all};
use futures::stream::{FuturesUnordered, StreamExt as _};
use kube::Client;
use tokio::sync::mpsc;

use crate::connect::{self, Connect};
use crate::follow::Guard;
use crate::intake::{self, Intake};
use crate::publish::Publisher;
use crate::store::{Store, StoreGone};
use crate::webhook::{Registration, Webhook, register, serve};

mod followers;
#[cfg(test)]
mod tests;

use followers::{followers, take_in};

/// Between attempts to reach an apiserver that is not there.
const RECONNECT: Duration = Duration::from_secs(1);

/// How long an apiserver may take to say who it is.
const ANSWER: Duration = Duration::from_secs(10);

/// What was seen and not yet looked at.
const QUEUE: usize = 64;

/// Brings Kubernetes and the store together whenever this member leads, and answers the apiserver's
/// questions at any time; returns when the store is gone.
///
/// Whoever leads without a webhook takes back what another one has told the apiserver of its own.
///
/// Needs a runtime of its own thread: reading a page of a list takes milliseconds.
pub async fn run<S: Store>(store: S, connect: Connect, webhook: Option<Webhook>) -> StoreGone {
    let registration = webhook.as_ref().map(Webhook::registration);
    let answers = webhook.map(|webhook| serve(webhook, store.clone()));
    tokio::select! {
        gone = reign_after_reign(store, &connect, registration.as_ref()) => gone,
        Some(never) = OptionFuture::from(answers) => match never {},
    }
}

async fn reign_after_reign<S: Store>(
    mut store: S,
    connect: &Connect,
    webhook: Option<&Registration>,
) -> StoreGone {
    loop {
        let Some(term) = store.term() else {
            match store.term_changed().await {
                Ok(()) => continue,
                Err(gone) => return gone,
            }
        };
        let own = store.clone();
        let reign = reign(own, connect, webhook, term);
        if let Err(gone) = while_leading(&mut store, term, reign).await {
            return gone;
        }
        tracing::info!(term, "Kubernetes is another member's now");
    }
}

/// Does `work` as long as this member leads in `term`; then it is dropped, and whatever was under
/// way with it, unanswered.
async fn while_leading<S: Store>(
    store: &mut S,
    term: u64,
    work: impl Future<Output = Result<Infallible, StoreGone>>,
) -> Result<(), StoreGone> {
    let deposed = async {
        while store.term() == Some(term) {
            store.term_changed().await?;
        }
        Ok(())
    };
    tokio::select! {
        biased;
        ended = deposed => ended,
        ended = work => ended.map(|never| match never {}),
    }
}

async fn reign<S: Store>(
    mut store: S,
    connect: &Connect,
    webhook: Option<&Registration>,
    term: u64,
) -> Result<Infallible, StoreGone> {
    loop {
        let (client, apiserver) = reached(&store, connect).await;
        tokio::select! {
            believed = await_belief(&mut store, term, &apiserver) => believed?,
            () = becomes_another(&client, &apiserver) => continue,
        }
        tracing::info!(term, %apiserver, "Kubernetes is this member's");
        let guard = Guard::new(client.clone(), apiserver.clone());
        let told = register::keep(client.clone(), webhook.cloned());
        tokio::select! {
            ended = rule(store.clone(), term, client, apiserver, guard.clone()) => return ended,
            never = told => match never {},
            () = guard.foreign() => tracing::error!(
                "the apiserver is another one than a moment ago: nothing of it is taken in"
            ),
        }
    }
}

/// The apiserver, as soon as it answers.
async fn reached<S: Store>(store: &S, connect: &Connect) -> (Client, Uid) {
    let mut complained = false;
    loop {
        match begin(store, connect).await {
            Ok(begun) => return begun,
            Err(error) if complained => tracing::debug!(error, "Kubernetes is not reached"),
            Err(error) => {
                complained = true;
                tracing::warn!(error, "Kubernetes is not reached; trying again");
            }
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Returns when another apiserver answers where this one was. Who waits for an operator may wait for
/// one who only puts an address right.
async fn becomes_another(client: &Client, apiserver: &Uid) {
    loop {
        tokio::time::sleep(RECONNECT).await;
        let now = tokio::time::timeout(ANSWER, connect::identity(client)).await;
        if matches!(now, Ok(Ok(now)) if now != *apiserver) {
            return;
        }
    }
}

/// A client, and whose it is; and everything that was acknowledged before is in the state.
async fn begin<S: Store>(store: &S, connect: &Connect) -> Result<(Client, Uid), String> {
    let chain = |error: connect::ConnectError| {
        let source = std::error::Error::source(&error).map(|it| format!(": {it}"));
        format!("{error}{}", source.unwrap_or_default())
    };
    let client = connect.client().await.map_err(chain)?;
    let apiserver = tokio::time::timeout(ANSWER, connect::identity(&client));
    let apiserver = apiserver.await.map_err(|_| "the apiserver does not answer in time")?;
    let apiserver = apiserver.map_err(chain)?;
    store.settle().await?;
    Ok((client, apiserver))
}

/// Returns when the store believes this apiserver: the first one that comes, or the one that an
/// operator named. The objects of a second cluster must not be taken in.
async fn await_belief<S: Store>(
    store: &mut S,
    term: u64,
    apiserver: &Uid,
) -> Result<(), StoreGone> {
    let mut told = false;
    loop {
        let known = match store.get(&ObjectKey::Janitor) {
            Some(Object::Janitor(known)) => Some(known.apiserver.clone()),
            _ => None,
        };
        match known {
            Some(known) if known == *apiserver => return Ok(()),
            Some(known) if !told => {
                told = true;
                tracing::error!(
                    %apiserver, %known,
                    "the store belongs to the apiserver of another cluster: nothing of this one is \
                     taken in. If it is the right one, `atollctl janitor resume`"
                );
                store.propose(term, vec![first_list(store, apiserver)]).await;
            }
            Some(_) => {}
            None => drop(store.propose(term, vec![first_list(store, apiserver)]).await),
        }
        // A refusal (the cluster is not set up yet) is met with another try.
        let patience = tokio::time::timeout(RECONNECT, store.changed());
        if let Ok(Err(gone)) = patience.await {
            return Err(gone);
        }
    }
}

/// Says which apiserver it is, and of no pod that it is absent.
fn first_list<S: Store>(store: &S, apiserver: &Uid) -> Operation {
    let (began, began_ms) = store.applied();
    let list = PodList { apiserver: apiserver.clone(), resource_version: 0, began, began_ms };
    Operation::ObserveAbsence { list, absent: Vec::new() }
}

async fn rule<S: Store>(
    mut store: S,
    term: u64,
    client: Client,
    apiserver: Uid,
    guard: Guard,
) -> Result<Infallible, StoreGone> {
    let (out, mut seen) = mpsc::channel(QUEUE);
    let mut intake = Intake::new(store.clone(), term, apiserver);
    let mut publisher = Publisher::new(store.clone(), client.clone());
    let mut confirming = FuturesUnordered::new();
    let mut followers = join_all(followers(&store, &client, &guard, &intake, &out)).fuse();
    loop {
        intake.ask_for_lists();
        let ask = |key| intake::ask(client.clone(), key);
        confirming.extend(intake.take_unconfirmed().into_iter().map(ask));
        intake.propose();
        for (key, refused) in std::mem::take(&mut intake.verdicts) {
            publisher.verdict(key, refused);
        }
        for (key, why) in std::mem::take(&mut intake.warnings) {
            publisher.warn(key, why);
        }
        publisher.write();
        let next = intake.next().into_iter().chain(publisher.next()).min();
        let next = next.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
        tokio::select! {
            Some(event) = seen.recv() => take_in(event, &mut intake, &mut publisher),
            Some((key, answer)) = confirming.next() => intake.confirmed(key, &answer),
            Some(answered) = intake.proposals.next() => intake.answered(answered),
            Some(written) = publisher.writes.next() => publisher.written(written),
            changed = store.changed() => {
                changed?;
                if publisher.store_changed() {
                    intake.qos_changed();
                }
            }
            _ = &mut followers => {}
            () = tokio::time::sleep_until(next.into()) => {}
        }
    }
}
