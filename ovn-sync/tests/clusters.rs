//! Real OVSDB clusters of three members, and a projection that follows the server that leads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "clusters/cost.rs"]
mod cost;
#[path = "clusters/recovered.rs"]
mod recovered;
#[path = "clusters/secured.rs"]
mod secured;

use std::path::Path;

use atoll_ovn_sync::{
    CentralOptions, CentralTls, ClusterCentral, ClusterOptions, ClusterStatus, Form, Part,
    Projector, Remotes, ServerRole, ServerStatus,
};
use atoll_ovsdb::Endpoint;
use common::pki::Pki;
use common::{DEADLINE, Store, become_rows, own_port, put_pod};
use tokio::sync::watch;

/// One member's part; started again it has the same addresses and files.
struct Member {
    options: CentralOptions,
    cluster: ClusterOptions,
    running: Option<ClusterCentral>,
}

impl Member {
    fn new(dir: &Path, name: &str, tls: Option<CentralTls>) -> Self {
        let options = CentralOptions {
            runtime_file: dir.join(name).with_extension("json"),
            tls,
            run_dir: dir.join(name),
            address: "127.0.0.1".parse().unwrap(),
            share_dir: "/usr/share/ovn".into(),
            nb_port: own_port(),
            sb_port: own_port(),
        };
        let cluster = ClusterOptions {
            nb_raft_port: own_port(),
            sb_raft_port: own_port(),
            sb_member_port: own_port(),
            election_timer_ms: 300,
        };
        let mut member = Self { options, cluster, running: None };
        member.start();
        member
    }

    fn start(&mut self) {
        let central = ClusterCentral::start(self.options.clone(), self.cluster.clone());
        self.running = Some(central.unwrap());
    }

    async fn stop(&mut self) {
        self.running.take().unwrap().shutdown().await;
    }

    fn nb(&self) -> Endpoint {
        self.options.nb_socket().parse().unwrap()
    }

    fn set_part(&self, part: Part) {
        self.running.as_ref().unwrap().set_part(part);
    }

    async fn becomes(&self, what: &str, is: impl Fn(&ClusterStatus) -> bool) -> ClusterStatus {
        let mut status = self.running.as_ref().unwrap().status();
        let found = tokio::time::timeout(DEADLINE, status.wait_for(is)).await;
        let found = found.map(|found| found.unwrap().clone());
        found.unwrap_or_else(|_elapsed| panic!("never {what}: {:?}", status.borrow()))
    }

    /// What is told of its two servers.
    fn servers(&self) -> [ServerStatus; 2] {
        let status = self.running.as_ref().unwrap().status().borrow().clone();
        [status.nb, status.sb]
    }

    /// Its servers are among three, and know a leader.
    async fn takes_part(&self) -> ClusterStatus {
        let whole = |it: &ClusterStatus| {
            let servers = [&it.nb, &it.sb];
            servers.iter().all(|it| it.connected && it.servers.len() == 3)
        };
        self.becomes("one of three", whole).await
    }
}

fn joining(through: &[&Member]) -> Part {
    let at = |which: usize| through.iter().map(|it| it.servers()[which].address.clone()).collect();
    Part { form: Form::Join([at(0), at(1)]), ..Part::default() }
}

#[tokio::test]
async fn members_join_outlive_their_leader_and_join_again_with_a_damaged_file() {
    outlive(None).await;
}

#[tokio::test]
async fn members_that_show_certificates_do_too() {
    outlive(Some(&Pki::new())).await;
}

/// A leader asked one that was just started, heard of no address, and removed its server.
#[tokio::test]
async fn where_servers_are_is_told_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let member = Member::new(dir.path(), "1", None);
    let at = |port| format!("tcp:127.0.0.1:{port}");
    let told = member.servers().map(|it| it.address);
    let cluster = &member.cluster;
    assert_eq!(told, [at(cluster.nb_raft_port), at(cluster.sb_raft_port)]);
}

async fn outlive(pki: Option<&Pki>) {
    let dir = tempfile::tempdir().unwrap();
    let member = |name: &str| Member::new(dir.path(), name, pki.map(|pki| pki.central(name)));
    let [mut first, second, mut third] = ["1", "2", "3"].map(member);
    first.set_part(Part { form: Form::Create, ..Part::default() });
    first.becomes("a leader", |it| it.nb.connected && it.sb.connected).await;
    // Nobody has told them to do anything yet.
    assert!(!second.options.run_dir.join("nb.db").exists());
    second.set_part(joining(&[&first]));
    third.set_part(joining(&[&first]));
    let before = third.takes_part().await;
    assert_eq!(first.takes_part().await.nb.role, ServerRole::Leader);

    let mut store = Store::with_pods();
    let servers = [&first, &second, &third].map(|it| it.servers()[0].endpoint.parse().unwrap());
    let servers = watch::channel(Remotes::from(servers.to_vec())).1;
    let tls = pki.map(|pki| pki.client("member/2"));
    let _projector = Projector::following(store.follow(), servers, tls).unwrap();
    become_rows(&third.nb(), &store.rows()).await;
    // The server that led has gone; another one leads.
    first.stop().await;
    store.apply(vec![put_pod("default/c", "n2")]);
    become_rows(&third.nb(), &store.rows()).await;
    first.start();
    first.takes_part().await;
    become_rows(&first.nb(), &store.rows()).await;

    third.stop().await;
    std::fs::write(third.options.run_dir.join("nb.db"), "OVSDB CLUSTER of no use").unwrap();
    third.start();
    third.set_part(joining(&[&first, &second]));
    let is_new = |it: &ClusterStatus| it.nb.connected && it.nb.sid != before.nb.sid;
    third.becomes("another server", is_new).await;
    let old = before.nb.sid.clone().unwrap()[..4].to_owned();
    for member in [&first, &second, &third] {
        member.set_part(Part { remove: [vec![old.clone()], Vec::new()], ..Part::default() });
    }
    for member in [&first, &second, &third] {
        let is_gone = |it: &ClusterStatus| it.nb.servers.iter().all(|it| it.sid != old);
        let is_whole = |it: &ClusterStatus| it.nb.connected && it.nb.servers.len() == 3;
        member.becomes("three without the old one", |it| is_gone(it) && is_whole(it)).await;
    }
    become_rows(&third.nb(), &store.rows()).await;
    assert_eq!(third.takes_part().await.sb.sid, before.sb.sid, "what was whole stayed");
}
