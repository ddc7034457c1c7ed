//! A cluster that grows and shrinks while it is written to.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

mod lab;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_model::{ClusterSize, Operation, Outcome, Settings};
use atoll_raft::{Phase, ProposeError, Store};
use lab::{Lab, namespace, put_namespace, txn, until};

/// Writes until it is told to stop; says how many namespaces were acknowledged.
struct Load {
    stores: Arc<Mutex<Vec<Store>>>,
    stop: Arc<AtomicBool>,
    writing: tokio::task::JoinHandle<usize>,
}

impl Load {
    fn start(first: Store) -> Self {
        let stores = Arc::new(Mutex::new(vec![first]));
        let stop = Arc::new(AtomicBool::new(false));
        let (all, stopped) = (stores.clone(), stop.clone());
        let writing = tokio::spawn(async move {
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                let members = all.lock().unwrap().clone();
                let leads = |store: &&Store| store.leadership().borrow().is_leader;
                let Some(leader) = members.iter().find(leads) else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                };
                match leader.propose(txn(put_namespace(number))).await {
                    Ok(Outcome::Applied { .. }) => number += 1,
                    // The same namespace again is no other one.
                    Ok(Outcome::Refused { refusal, .. }) => panic!("{refusal}"),
                    Err(ProposeError::TooLarge { .. }) => panic!("a namespace is not large"),
                    Err(_) => {}
                }
            }
            number
        });
        Self { stores, stop, writing }
    }

    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.writing.await.unwrap()
    }
}

fn voters(store: &Store) -> Vec<String> {
    let members = store.status().members.into_iter().filter(|member| member.voter);
    let mut names: Vec<String> = members.map(|member| member.name.to_string()).collect();
    names.sort();
    names
}

/// Says how many members there shall be.
async fn resize(lab: &Lab, members: u32) {
    let leader = lab.leader().await;
    let state = lab.store(leader).published().borrow().state.clone();
    let settings = (**state.settings().unwrap()).clone();
    let members = ClusterSize::new(members).ok();
    lab.write(Operation::PutSettings(Settings { members, ..settings })).await;
}

/// Every member that stays has exactly these voters.
async fn settles(lab: &Lab, names: &[&str]) {
    for at in 0..names.len() {
        until("the voters", || async { (voters(lab.store(at)) == names).then_some(()) }).await;
    }
}

/// 1 → 3 → 5 → 3 → 5: nothing acknowledged is lost, who left says why and may come back.
#[tokio::test]
async fn a_cluster_grows_and_shrinks_under_load() {
    let mut lab = Lab::new(5);
    lab.members[0].options.expected_members = 1;
    lab.members[0].options.peers.truncate(1);
    lab.members[0].start().await;
    lab.settled().await;
    let mut published = lab.store(0).published();
    published.wait_for(|now| now.state.settings().is_some()).await.unwrap();
    let load = Load::start(lab.store(0).clone());

    // Who is not expected stays outside, and says so.
    for at in [1, 2] {
        lab.members[at].start().await;
        lab.members[at].waits_because("the cluster has its 1 members (m1)").await;
    }
    resize(&lab, 3).await;
    settles(&lab, &["m1", "m2", "m3"]).await;
    let started = [lab.store(1).clone(), lab.store(2).clone()];
    load.stores.lock().unwrap().extend(started);

    resize(&lab, 5).await;
    for at in [3, 4] {
        lab.members[at].start().await;
    }
    settles(&lab, &["m1", "m2", "m3", "m4", "m5"]).await;
    let started = [lab.store(3).clone(), lab.store(4).clone()];
    load.stores.lock().unwrap().extend(started);

    // The leader is one of those that have to go.
    let leader = lab.leader().await;
    lab.store(leader).transfer_leadership(Some(lab.store(4).status().id)).await;
    until("m5 leads", || async { (lab.leader().await == 4).then_some(()) }).await;
    resize(&lab, 3).await;
    settles(&lab, &["m1", "m2", "m3"]).await;
    for at in [3, 4] {
        lab.members[at].waits_because("has its 3 members (m1, m2, m3)").await;
    }

    // Their disks are welcome again.
    resize(&lab, 5).await;
    settles(&lab, &["m1", "m2", "m3", "m4", "m5"]).await;
    for at in [3, 4] {
        lab.members[at].phase("a member", |phase| *phase == Phase::Member).await;
    }
    let acknowledged = load.stop().await;
    assert!(acknowledged > 100, "only {acknowledged} writes were acknowledged");
    for at in 0..5 {
        let published = lab.store(at).published();
        until("every acknowledged namespace", || async {
            let state = published.borrow().state.clone();
            (0..acknowledged).all(|n| state.namespace(&namespace(n)).is_some()).then_some(())
        })
        .await;
    }
}
