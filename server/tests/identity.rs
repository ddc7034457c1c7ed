//! A real member on loopback, and callers of every role: what each may do, what is refused, and
//! that what is refused changes nothing.
#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

use std::path::PathBuf;
use std::time::Duration;

use atoll_api::allocations::AllocationQuery;
use atoll_api::client::Watch;
use atoll_api::pki::{Authority, write_pair};
use atoll_api::proto::{Kind, TraceRequest};
use atoll_api::{Client, ClientError, Credentials, Endpoint, WatchEvent};
use atoll_model::{
    Actor, ChassisName, NodeName, NodeSpec, ObjectKey, Operation, Outcome, PodKey, PodSpec,
    Revision, Sandbox, SubnetName, Uid,
};
use atolld::config::Config;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(30);

struct Member {
    dir: tempfile::TempDir,
    authority: Authority,
    endpoint: Endpoint,
    cancel: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Member {
    /// A cluster of one that takes writes.
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(&Authority::create("test").unwrap()).unwrap();
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = probe.local_addr().unwrap();
        drop(probe);
        let cancel = CancellationToken::new();
        let config = config(dir.path(), &listen.to_string());
        let mut member = Self {
            dir,
            authority,
            endpoint: Endpoint::Tcp(listen.to_string()),
            cancel: cancel.clone(),
            running: tokio::spawn(async { Ok(()) }),
        };
        let credentials = member.credentials("member/m1");
        member.running = tokio::spawn(atolld::member::run(config, credentials, cancel));
        let operator = member.client("operator/alice").with_timeout(DEADLINE);
        let is_set_up = async {
            while operator.read(&[Kind::Settings], None).await.unwrap().objects.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, is_set_up).await.unwrap();
        member
    }

    fn credentials(&self, identity: &str) -> Credentials {
        let pair = self.authority.issue(&identity.parse().unwrap(), &[], 1).unwrap();
        let dir = tempfile::tempdir_in(&self.dir).unwrap().keep();
        Credentials::load(&write_pair(&dir, self.authority.cert(), &pair).unwrap()).unwrap()
    }

    fn client(&self, identity: &str) -> Client {
        Client::new(vec![self.endpoint.clone()], &self.credentials(identity)).unwrap()
    }

    /// Carries out as an operator what must succeed.
    async fn set_up(&self, operations: Vec<Operation>) -> Revision {
        applied(self.client("operator/alice").txn(Vec::new(), operations).await)
    }

    async fn revision(&self) -> Revision {
        self.client("viewer/v").read(&[Kind::Settings], None).await.unwrap().revision
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.running.await.unwrap().unwrap();
    }
}

fn config(dir: &std::path::Path, listen: &str) -> Config {
    Config {
        name: atoll_model::MemberName::new("m1").unwrap(),
        data_dir: dir.join("data"),
        listen: listen.parse().unwrap(),
        advertise: listen.to_owned(),
        api_socket: None::<PathBuf>,
        peers: vec![listen.to_owned()],
        expected_members: 1,
        formation_marker: dir.join("marker"),
        tls: None,
        central: None,
        external: None,
        kubernetes: None,
        timing: atoll_raft::Timing::default(),
        retention: atoll_raft::Retention::default(),
    }
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn key() -> PodKey {
    PodKey::parse("tenant/web").unwrap()
}

fn put_node(name: &str) -> Operation {
    let uid = Uid::new(name).unwrap();
    let addresses = Vec::new();
    Operation::PutNode(NodeSpec { name: node(name), uid, addresses, labels: [].into() })
}

fn bind(on: &str) -> Operation {
    let sandbox = Sandbox::new("s1").unwrap();
    Operation::Bind { key: key(), uid: Uid::new("u1").unwrap(), node: node(on), sandbox }
}

/// A question; there are no such pods.
fn trace() -> TraceRequest {
    let (from, to) = ("tenant/a".to_owned(), "tenant/b".to_owned());
    TraceRequest { from, to, ..TraceRequest::default() }
}

fn delete_subnet() -> Operation {
    Operation::DeleteSubnet(SubnetName::new("ovn-default").unwrap())
}

#[track_caller]
fn applied(outcome: Result<Outcome, ClientError>) -> Revision {
    match outcome {
        Ok(Outcome::Applied { revision, .. }) => revision,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn denied<T: std::fmt::Debug>(answer: Result<T, ClientError>, words: &[&str]) {
    let Err(ClientError::Invalid(why)) = &answer else { panic!("{answer:?}") };
    assert!(words.iter().all(|word| why.contains(word)), "{why}");
}

async fn actors(client: &Client, key: &ObjectKey) -> Vec<Actor> {
    let (changes, _) = client.changes_of(key).await.unwrap();
    changes.into_iter().map(|set| set.actor).collect()
}

/// The next event that is neither a bookmark nor a pause.
async fn event(watch: &mut Watch) -> WatchEvent {
    tokio::time::timeout(DEADLINE, watch.next()).await.unwrap()
}

#[tokio::test]
async fn a_node_does_only_what_is_its_own_and_nothing_else_is_written() {
    let member = Member::start().await;
    let pod = PodSpec::new(key(), Uid::new("u1").unwrap(), node("n2"));
    member.set_up(vec![put_node("n1"), put_node("n2")]).await;
    member.set_up(vec![Operation::PutPod(pod)]).await;
    let before = member.revision().await;

    let n1 = member.client("node/n1");
    let txn = async |operation| n1.txn(Vec::new(), vec![operation]).await;
    denied(txn(delete_subnet()).await, &["node/n1 may only", "the role operator"]);
    denied(txn(bind("n2")).await, &["node/n1 may not act for node n2"]);
    denied(txn(put_node("n3")).await, &["node/n1 may only"]);
    denied(n1.read(&[], None).await, &["node/n1 may not read", "the role viewer"]);
    denied(n1.changes_of(&ObjectKey::Pod(key())).await, &["node/n1 may not read"]);
    denied(n1.allocations(&AllocationQuery::default()).await, &["node/n1 may not read"]);
    denied(n1.check().await, &["node/n1 may not read"]);
    denied(n1.plan(&[], &[delete_subnet()]).await, &["node/n1 may only"]);
    let session = n1.session();
    denied(session.txn(Vec::new(), vec![delete_subnet()]).await, &["node/n1 may only"]);
    denied(session.txn(Vec::new(), vec![bind("n2")]).await, &["node/n1 may not act for node n2"]);
    let digests = n1.digests().await;
    assert!(digests.iter().all(|(_, digest)| digest.is_err()), "{digests:?}");
    denied(n1.transfer_leadership(None).await, &["node/n1 may not change the cluster"]);
    denied(n1.trace_state(&trace()).await, &["node/n1 may not read"]);
    denied(n1.trace_ovn(&trace()).await, &["node/n1 may not have a packet traced"]);
    denied(n1.trace_switch(&trace()).await, &["node/n1 may not have a packet traced"]);
    assert_eq!(member.revision().await, before, "something was written");
    // In its own name it comes as far as the rules of the store: the pod is another node's.
    let refused = txn(bind("n1")).await.unwrap();
    assert!(matches!(refused, Outcome::Refused { .. }), "{refused:?}");

    applied(member.client("node/n2").txn(Vec::new(), vec![bind("n2")]).await);
    let chassis = ChassisName::new("c1").unwrap();
    let encap = "10.0.0.1".parse().unwrap();
    let register = Operation::RegisterNode { node: node("n1"), chassis, encap };
    applied(session.txn(Vec::new(), vec![register]).await);
    let actors = actors(&member.client("viewer/v"), &ObjectKey::Node(node("n1"))).await;
    assert_eq!(actors[1..], [Actor::Node(node("n1"))]);
    member.stop().await;
}

/// A watch is where an agent could learn of every tenant.
#[tokio::test]
async fn a_node_is_told_its_own_even_if_it_asks_for_more() {
    let member = Member::start().await;
    member.set_up(vec![put_node("n1"), put_node("n2")]).await;
    let pod = PodSpec::new(key(), Uid::new("u1").unwrap(), node("n2"));
    member.set_up(vec![Operation::PutPod(pod)]).await;
    let has_pod = |event: &WatchEvent| match event {
        WatchEvent::Resync(_, objects) => {
            objects.iter().any(|object| object.key() == ObjectKey::Pod(key()))
        }
        other => panic!("{other:?}"),
    };
    // It does not say that it is a node, and is told as one all the same.
    assert!(!has_pod(&event(&mut member.client("node/n1").watch(None)).await));
    assert!(has_pod(&event(&mut member.client("node/n2").watch(None)).await));
    assert!(has_pod(&event(&mut member.client("viewer/v").watch(None)).await));
    let mut other = member.client("node/n1").for_node(node("n2")).watch(None);
    let WatchEvent::Interrupted(why) = event(&mut other).await else { panic!("it was told") };
    assert!(why.contains("node/n1 may not watch for node n2"), "{why}");
    member.stop().await;
}

#[tokio::test]
async fn viewers_and_members_write_nothing_and_the_history_names_the_certificate() {
    let member = Member::start().await;
    let before = member.revision().await;
    for who in ["viewer/v", "member/m2"] {
        let client = member.client(who);
        let words = [who, "may not write", "atolld pki issue --role operator"];
        denied(client.txn(Vec::new(), vec![put_node("n1")]).await, &words);
        denied(client.session().txn(Vec::new(), vec![put_node("n1")]).await, &words);
        denied(client.transfer_leadership(None).await, &[who, "may not change the cluster"]);
        // The state is read, and it knows no such pod.
        denied(client.trace_state(&trace()).await, &["pod tenant/a does not exist"]);
        denied(client.trace_ovn(&trace()).await, &[who, "may not have a packet traced"]);
        denied(client.trace_switch(&trace()).await, &[who, "atolld pki issue --role operator"]);
        assert!(client.read(&[], None).await.is_ok());
    }
    assert_eq!(member.revision().await, before, "something was written");

    let bob = member.client("operator/bob");
    applied(bob.txn(Vec::new(), vec![put_node("n1")]).await);
    let chassis = ChassisName::new("c1").unwrap();
    let encap = "10.0.0.1".parse().unwrap();
    let register = Operation::RegisterNode { node: node("n1"), chassis, encap };
    applied(member.client("node/n1").txn(Vec::new(), vec![register]).await);
    let actors = actors(&bob, &ObjectKey::Node(node("n1"))).await;
    assert_eq!(actors, [Actor::Operator("bob".to_owned()), Actor::Node(node("n1"))]);
    member.stop().await;
}

#[tokio::test]
async fn whoever_has_no_certificate_of_the_authority_reaches_nothing() {
    let member = Member::start().await;
    let patience = Duration::from_millis(1200);
    let plain = Client::new(vec![member.endpoint.clone()], &Credentials::insecure_dev()).unwrap();
    let error = plain.with_timeout(patience).read(&[], None).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable(..)), "{error}");
    assert!(error.to_string().contains("if it speaks TLS, give --ca"), "{error}");

    let theirs = Authority::open(&Authority::create("theirs").unwrap()).unwrap();
    let pair = theirs.issue(&"operator/mallory".parse().unwrap(), &[], 1).unwrap();
    let dir = tempfile::tempdir_in(&member.dir).unwrap().keep();
    let files = write_pair(&dir, theirs.cert(), &pair).unwrap();
    let mallory = Credentials::load(&files).unwrap();
    let mallory = Client::new(vec![member.endpoint.clone()], &mallory).unwrap();
    let error = mallory.with_timeout(patience).read(&[], None).await.unwrap_err();
    assert!(error.to_string().contains("it was not signed by the authority in"), "{error}");
    member.stop().await;
}
