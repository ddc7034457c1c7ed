//! What the suites share: a state to project, and a database server to project it into.

#![allow(dead_code, reason = "each suite uses a part of it")]

pub(crate) mod pki;
pub(crate) mod secured;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_model::{
    Actor, ChangeSet, Cidr, ClusterId, Lineage, NodeSpec, Operation, Origin, PodKey, PodSpec,
    Revision, SubnetNet, SubnetSpec, Txn,
};
use atoll_ovn_plan::{Rows, Table};
use atoll_ovn_sync::{Desired, Source, SourceGone, monitored, observe};
use atoll_ovsdb::{Client, Endpoint};
use atoll_store::{State, setup};
use tokio::sync::watch;

pub(crate) const CLUSTER: ClusterId = ClusterId(0xa7011);

/// How long anything may take on a busy machine before it counts as not happening.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A store of one process: a state, and who follows it.
pub(crate) struct Store {
    pub(crate) state: State,
    sender: watch::Sender<Option<Desired>>,
    changes: Arc<Mutex<Vec<Arc<ChangeSet>>>>,
}

/// What a projector follows. It tells what changed, as a member does.
#[derive(Clone)]
pub(crate) struct Follower {
    receiver: watch::Receiver<Option<Desired>>,
    changes: Arc<Mutex<Vec<Arc<ChangeSet>>>>,
}

impl Source for Follower {
    fn read(&mut self) -> Option<Desired> {
        self.receiver.read()
    }

    fn changes(&mut self, since: Revision) -> Option<Vec<Arc<ChangeSet>>> {
        let changes = self.changes.lock().unwrap();
        Some(changes.iter().filter(|set| set.revision > since).cloned().collect())
    }

    async fn changed(&mut self) -> Result<(), SourceGone> {
        Source::changed(&mut self.receiver).await
    }
}

impl Store {
    /// Nothing was ever decided; nobody follows anything yet.
    pub(crate) fn empty() -> Self {
        let (sender, changes) = (watch::channel(None).0, Arc::default());
        Self { state: State::default(), sender, changes }
    }

    /// As a first leader sets it up, with nodes n1 and n2 and three pods.
    pub(crate) fn with_pods() -> Self {
        let mut store = Self::empty();
        store.apply(setup::defaults());
        store.apply(vec![put_node("n1")]);
        store.apply(vec![put_node("n2")]);
        store.apply(vec![answering(put_subnet("tenant", "10.20.0.0/24"))]);
        for (pod, node) in [("default/a", "n1"), ("default/b", "n2"), ("tenant/a", "n1")] {
            store.apply(vec![put_pod(pod, node)]);
        }
        store
    }

    pub(crate) fn apply(&mut self, operations: Vec<Operation>) {
        let actor = Actor::Operator("test".into());
        let preconditions = Vec::new();
        let txn = Txn { request: None, actor, preconditions, operations, clock_ms: 0, wall_ms: 0 };
        let index = Revision(self.state.applied().0 + 1);
        let applied = self.state.apply(index, &txn);
        let Some(changes) = applied.changes else { panic!("{:?}", applied.outcome) };
        self.changes.lock().unwrap().push(Arc::new(changes));
        if self.sender.borrow().is_some() {
            self.publish();
        }
    }

    pub(crate) fn publish(&self) {
        let lineage = self.lineage();
        self.sender.send_replace(Some(Desired { state: self.state.clone(), lineage }));
    }

    pub(crate) fn lineage(&self) -> Lineage {
        let revision = self.state.revision();
        Lineage::new(CLUSTER, revision)
    }

    /// What a projector follows; from now on every entry is published.
    pub(crate) fn follow(&self) -> Follower {
        self.publish();
        Follower { receiver: self.sender.subscribe(), changes: self.changes.clone() }
    }

    pub(crate) fn rows(&self) -> Rows {
        without_global(atoll_ovn_plan::desired(CLUSTER, &self.state).unwrap())
    }
}

/// `NB_Global` is shared: it holds what others wrote as well.
pub(crate) fn without_global(mut rows: Rows) -> Rows {
    rows.retain(|(table, _), _| *table != Table::NbGlobal);
    rows
}

pub(crate) fn put_node(name: &str) -> Operation {
    Operation::PutNode(NodeSpec {
        name: name.parse().unwrap(),
        uid: format!("uid-of-{name}").parse().unwrap(),
        addresses: Vec::new(),
        labels: Default::default(),
    })
}

pub(crate) fn put_pod(key: &str, node: &str) -> Operation {
    put_pod_as(key, node, &format!("uid-of-{key}"))
}

pub(crate) fn put_pod_as(key: &str, node: &str, uid: &str) -> Operation {
    Operation::PutPod(PodSpec::new(
        PodKey::parse(key).unwrap(),
        uid.parse().unwrap(),
        node.parse().unwrap(),
    ))
}

pub(crate) fn delete_pod(key: &str) -> Operation {
    let uid = format!("uid-of-{key}").parse().unwrap();
    Operation::DeletePod(PodKey::parse(key).unwrap(), uid)
}

/// A subnet for the namespace of its name.
pub(crate) fn put_subnet(name: &str, cidr: &str) -> Operation {
    let cidr: Cidr = cidr.parse().unwrap();
    let nets = vec![SubnetNet { cidr, gateway: cidr.assignable().first() }];
    let mut spec = SubnetSpec::new(name.parse().unwrap(), nets);
    spec.namespaces = vec![name.parse().unwrap()];
    Operation::PutSubnet(spec, Origin::Api)
}

/// The same, whose pods are answered by DHCP.
pub(crate) fn answering(put: Operation) -> Operation {
    let Operation::PutSubnet(mut spec, origin) = put else { return put };
    spec.dhcp.enabled = true;
    Operation::PutSubnet(spec, origin)
}

/// A northbound `ovsdb-server` without anything behind it. Ends with this.
pub(crate) struct Northbound {
    dir: tempfile::TempDir,
    child: Option<Child>,
    /// More options of the server.
    options: Vec<String>,
    /// Bytes that its file may have.
    file_bytes: Option<u64>,
}

impl Northbound {
    pub(crate) fn start() -> Self {
        let mut server = Self::prepared();
        server.restart();
        server
    }

    /// Not started.
    pub(crate) fn prepared() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, child: None, options: Vec::new(), file_bytes: None }
    }

    /// Starts on a database of another schema.
    pub(crate) fn of_schema(schema: &str) -> Self {
        let mut server = Self::prepared();
        let path = server.dir.path().join("schema");
        std::fs::write(&path, schema).unwrap();
        run(Command::new("ovsdb-tool").arg("create").arg(server.file()).arg(path));
        server.restart();
        server
    }

    /// Starts it again, with these options too.
    pub(crate) fn restart_with(&mut self, options: &[&str]) {
        self.options = options.iter().map(|it| (*it).to_owned()).collect();
        self.restart();
    }

    /// Starts it again, on a disk that has room for so many bytes of its file.
    pub(crate) fn restart_on_a_disk_with(&mut self, bytes: Option<u64>) {
        self.file_bytes = bytes;
        self.restart();
    }

    pub(crate) fn appctl(&self, arguments: &[&str]) -> String {
        let socket = self.dir.path().join("nb.ctl");
        run(Command::new("ovs-appctl").arg("-t").arg(socket).args(arguments))
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("nb.db")
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.dir.path().join("nb.sock"))
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it on what is in its file; makes one if there is none.
    pub(crate) fn restart(&mut self) {
        self.kill();
        if !self.file().exists() {
            let schema = Path::new("/usr/share/ovn/ovn-nb.ovsschema");
            run(Command::new("ovsdb-tool").arg("create").arg(self.file()).arg(schema));
        }
        let in_dir = |name: &str| self.dir.path().join(name).display().to_string();
        let mut server = Command::new("setpriv");
        server.args(["--pdeathsig", "KILL"]);
        if let Some(bytes) = self.file_bytes {
            // Beyond it writes fail, as on a full disk; without the trap the signal would kill it.
            server.args(["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh", "prlimit"]);
            server.arg(format!("--fsize={bytes}"));
        }
        server
            .args(["ovsdb-server", "-vconsole:off"])
            .arg(format!("--remote=p{}", self.endpoint()))
            .arg(format!("--unixctl={}", in_dir("nb.ctl")))
            .args(&self.options)
            .arg(self.file())
            .env("OVS_RUNDIR", self.dir.path())
            .stdin(Stdio::null());
        self.child = Some(server.spawn().unwrap());
    }

    pub(crate) async fn rows(&self) -> Rows {
        rows_at(&self.endpoint()).await
    }

    /// Waits until the database holds exactly `expected`, apart from `NB_Global`.
    pub(crate) async fn becomes(&self, expected: &Rows) {
        become_rows(&self.endpoint(), expected).await;
    }

    pub(crate) fn nbctl(&self, arguments: &[&str]) -> String {
        nbctl(&self.endpoint(), arguments)
    }
}

impl Drop for Northbound {
    fn drop(&mut self) {
        self.kill();
    }
}

/// All rows of a northbound database, but `NB_Global`.
pub(crate) async fn rows_at(nb: &Endpoint) -> Rows {
    let client = connect(nb).await;
    let monitor = client.monitor("OVN_Northbound", &monitored()).await.unwrap();
    without_global(observe(&monitor.replica()))
}

pub(crate) async fn become_rows(nb: &Endpoint, expected: &Rows) {
    let client = connect(nb).await;
    let monitor = client.monitor("OVN_Northbound", &monitored()).await.unwrap();
    let equal = |replica: &_| without_global(observe(replica)) == *expected;
    if let Err(error) = monitor.wait_until(equal, DEADLINE).await {
        let observed = without_global(observe(&monitor.replica()));
        panic!("{error}\nobserved {observed:#?}\nexpected {expected:#?}");
    }
}

pub(crate) async fn connect(endpoint: &Endpoint) -> Client {
    eventually(&format!("{endpoint} takes connections"), async || {
        Client::connect(endpoint).await.ok()
    })
    .await
}

/// Asks until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn nbctl(nb: &Endpoint, arguments: &[&str]) -> String {
    run(Command::new("ovn-nbctl").arg(format!("--db={nb}")).args(arguments))
}

pub(crate) fn sbctl(sb: &Endpoint, arguments: &[&str]) -> String {
    run(Command::new("ovn-sbctl").arg(format!("--db={sb}")).args(arguments))
}

/// Runs a program that has to succeed, and returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A TCP port of this test's own: below those that the system gives to outgoing connections.
pub(crate) fn own_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let of_process = u16::try_from(std::process::id() % 100).unwrap() * 200;
    10_000 + of_process + NEXT.fetch_add(1, Ordering::Relaxed) % 200
}

pub(crate) fn is_listening(address: SocketAddr) -> bool {
    std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}
