//! Clusters that are open with TLS: whom they let in, and what they let nodes do.

use std::net::SocketAddr;

use atoll_ovsdb::{Client, Options, SessionError};
use tokio::io::AsyncReadExt as _;

use crate::common::secured::{allowed, prohibited, refusal, sbctl_as};
use crate::common::{eventually, is_listening, nbctl, rows_at};
use crate::recovered::recover;
use crate::*;

/// Two members, the second of which projects and runs northd, while the first has the leading servers.
struct Pair {
    pki: Pki,
    first: Member,
    second: Member,
    store: Store,
    _projector: Projector,
    _dir: tempfile::TempDir,
}

impl Pair {
    async fn start() -> Self {
        let (dir, pki) = (tempfile::tempdir().unwrap(), Pki::new());
        let member = |name: &str| Member::new(dir.path(), name, Some(pki.central(name)));
        let (first, second) = (member("1"), member("2"));
        first.set_part(Part { form: Form::Create, ..Part::default() });
        first.becomes("a leader", |it| it.nb.connected && it.sb.connected).await;
        let store = Store::with_pods();
        let remotes = |endpoint: fn(&ServerStatus) -> &String, which: usize| {
            let of = |it: &Member| endpoint(&it.servers()[which]).parse::<Endpoint>().unwrap();
            Remotes::from(vec![of(&first), of(&second)])
        };
        let nb = remotes(|it| &it.member_endpoint, 0);
        let sb = remotes(|it| &it.member_endpoint, 1);
        let servers = watch::channel(remotes(|it| &it.endpoint, 0)).1;
        let tls = Some(pki.client("member/2"));
        let projector = Projector::following(store.follow(), servers, tls).unwrap();
        second.set_part(Part { remotes: Some((nb, sb)), ..joining(&[&first]) });
        second.becomes("complete", |it| it.complete && it.northd_running).await;
        let leads = first.servers().map(|it| it.role);
        assert_eq!(leads, [ServerRole::Leader; 2], "northd writes over the network");
        Self { pki, first, second, store, _projector: projector, _dir: dir }
    }

    fn sb(&self, which: &Member) -> String {
        which.servers()[1].endpoint.clone()
    }
}

/// On the server that leads and on the other one.
#[tokio::test]
async fn a_node_writes_its_own_rows_of_a_cluster_and_nobody_elses() {
    let pair = Pair::start().await;
    let [n1, n2] = ["node/n1", "node/n2"].map(|identity| pair.pki.files(identity));
    let servers = [&pair.first, &pair.second].map(|it| pair.sb(it));
    for (name, ip, files) in [("n1", "172.30.0.101", &n1), ("n2", "172.30.0.102", &n2)] {
        allowed(&sbctl_as(files, &servers[0], &["chassis-add", name, "geneve", ip]));
    }
    for sb in &servers {
        allowed(&sbctl_as(&n1, sb, &["set", "Chassis", "n1", "external_ids:a=b"]));
        for theirs in [
            &["set", "Chassis", "n2", "external_ids:a=b"][..],
            &["chassis-del", "n2"],
            &["--all", "destroy", "Logical_Flow"],
            &["--all", "destroy", "RBAC_Role"],
            &["set", "SB_Global", ".", "options:a=b"],
        ] {
            prohibited(&theirs.join(" "), &sbctl_as(&n1, sb, theirs));
        }
        // Where the server listens is in a database beside it, which has no roles of its own.
        let options = Options { tls: Some(pair.pki.client("node/n1")), ..Options::default() };
        let client = Client::connect_with(&sb.parse().unwrap(), &options).await.unwrap();
        let open = [("target", "ptcp:1".into())].map(|(column, value)| (column.to_owned(), value));
        let open = atoll_ovsdb::Operation::insert("Connection", open.into());
        let said = client.transact("Atoll_Local", &[open]).await.unwrap_err().to_string();
        assert!(said.contains("permission error"), "{said}");
    }
    // With the same certificate there is nothing behind the ways of members.
    let status = pair.second.servers();
    for endpoint in [&status[0].endpoint, &status[1].member_endpoint] {
        for identity in ["node/n1", "viewer/v"] {
            let why = refusal(endpoint, Some(pair.pki.client(identity))).await.to_string();
            assert!(why.ends_with("it is nobody's who may come in there"), "{identity}: {why}");
        }
        let alice = Options { tls: Some(pair.pki.client("operator/alice")), ..Options::default() };
        Client::connect_with(&endpoint.parse().unwrap(), &alice).await.unwrap();
    }
}

/// Over the way on which servers speak to each other, everything could be written.
#[tokio::test]
async fn a_node_is_no_server_of_the_cluster() {
    let pair = Pair::start().await;
    for port in [pair.first.cluster.nb_raft_port, pair.first.cluster.sb_raft_port] {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let knock = async |identity| {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let session = pair.pki.client(identity).handshake(stream).await;
            let mut session = Box::pin(session.unwrap());
            let mut first = [0; 1];
            session.read(&mut first).await
        };
        let said = knock("node/n1").await.unwrap_err().to_string();
        assert!(said.contains("CertificateUnknown"), "{said}");
        // A server says hello to a member.
        assert_eq!(knock("member/1").await.unwrap(), 1);
        let plain = refusal(&format!("tcp:{address}"), None).await;
        assert!(matches!(plain, SessionError::NotPlaintext));
    }
}

#[tokio::test]
async fn who_is_of_another_authority_changes_nothing() {
    let (pair, strangers) = (Pair::start().await, Pki::new());
    let before = rows_at(&pair.first.nb()).await;
    let [nb, sb] = pair.first.servers();
    for endpoint in [&nb.endpoint, &sb.endpoint, &sb.member_endpoint] {
        let stranger = Some(strangers.client("member/1"));
        assert!(matches!(refusal(endpoint, stranger).await, SessionError::Theirs(_)));
        let plain = endpoint.replace("ssl:", "tcp:");
        assert!(matches!(refusal(&plain, None).await, SessionError::NotPlaintext));
        let other = sbctl_as(&strangers.files("node/n1"), endpoint, &["show"]);
        assert!(!other.status.success(), "{other:?}");
    }
    // A projection that believes another authority has no server to write into.
    let servers = watch::channel(Remotes::from(nb.endpoint.parse::<Endpoint>().unwrap())).1;
    let empty = Store::with_pods();
    let tls = Some(strangers.client("member/1"));
    let projector = Projector::following(empty.follow(), servers, tls).unwrap();
    let mut status = projector.status();
    let refused = status.wait_for(|status| status.error.is_some());
    let refused = tokio::time::timeout(DEADLINE, refused).await.unwrap().unwrap().clone();
    assert!(refused.error.as_ref().unwrap().contains("another authority signed it"), "{refused:?}");
    assert_eq!(refused.transactions, 0);
    // Nor does one become a server.
    let dir = tempfile::tempdir().unwrap();
    let stranger = Member::new(dir.path(), "1", Some(strangers.central("1")));
    stranger.set_part(joining(&[&pair.first]));
    let has_file = |it: &ClusterStatus| it.nb.sid.is_some() && it.sb.sid.is_some();
    let status = stranger.becomes("about to join", has_file).await;
    let listed = async || {
        let log = std::fs::read_to_string(stranger.options.run_dir.join("nb.log")).ok()?;
        log.contains("connection").then_some(())
    };
    eventually("it tried", listed).await;
    assert!(!status.nb.connected && !status.sb.connected, "{status:?}");
    let servers = pair.first.servers().map(|it| it.servers.len());
    assert_eq!(servers, [2, 2]);
    assert_eq!(rows_at(&pair.first.nb()).await, before);
    assert_eq!(before, pair.store.rows());
}

/// OVSDB would go on as the file says: without certificates, where others listen with them.
#[tokio::test]
async fn a_cluster_that_was_made_without_certificates_waits_for_a_person() {
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::new(dir.path(), "1", None);
    member.set_part(Part { form: Form::Create, ..Part::default() });
    member.becomes("a leader", |it| it.nb.connected && it.sb.connected).await;
    nbctl(&member.nb(), &["--no-leader-only", "ls-add", "kept"]);
    member.stop().await;
    let pki = Pki::new();
    member.options.tls = Some(pki.central("1"));
    member.start();
    let is_told = |it: &ClusterStatus| {
        let said = it.last_error.as_deref().unwrap_or_default();
        said.contains("certificates came or went since it was made")
    };
    let status = member.becomes("refused", is_told).await;
    assert!(!status.nb.connected && !status.sb.connected, "{status:?}");
    let raft = SocketAddr::from(([127, 0, 0, 1], member.cluster.nb_raft_port));
    assert!(!is_listening(raft));
    let is_there = |member: &Member| {
        let get = ["--no-leader-only", "get", "logical_switch", "kept", "name"];
        nbctl(&member.nb(), &get)
    };
    let tls = member.options.tls.take();
    member.stop().await;
    member.start();
    member.becomes("as it was", |it| it.nb.connected && it.sb.connected).await;
    assert_eq!(is_there(&member), "kept");
    // What the README says to do about it.
    member.stop().await;
    member.options.tls = tls;
    for (database, server) in ["nb", "sb"].into_iter().zip([status.nb, status.sb]) {
        assert!(server.address.starts_with("unix:"), "{server:?}");
        recover(&member, database, &server.address);
    }
    member.start();
    member.becomes("with certificates", |it| it.nb.connected && it.sb.connected).await;
    assert_eq!(is_there(&member), "kept");
}
