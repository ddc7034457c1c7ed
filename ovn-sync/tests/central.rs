//! The supervisor with real `ovsdb-server` and `ovn-northd`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "central/copies.rs"]
mod copies;
#[path = "central/foreign.rs"]
mod foreign;
#[path = "central/lost.rs"]
mod lost;
#[path = "central/orders.rs"]
mod orders;
#[path = "central/secured.rs"]
mod secured;
#[path = "central/silence.rs"]
mod silence;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use atoll_ovn_plan::Table;
use atoll_ovn_sync::{Central, CentralOptions, CentralRole, CentralStatus, CentralTls, Projector};
use atoll_ovsdb::Endpoint;
use common::{
    DEADLINE, Store, become_rows, delete_pod, eventually, is_listening, own_port, put_pod_as,
    put_subnet, rows_at, run, sbctl,
};

/// A supervised central and the projection into it, as a member has them.
struct Member {
    central: Central,
    projector: Option<Projector>,
    options: CentralOptions,
    dir: tempfile::TempDir,
}

fn options(dir: &Path, address: &str) -> CentralOptions {
    CentralOptions {
        run_dir: dir.join("ovn"),
        runtime_file: dir.join("southbound.json"),
        address: address.parse().unwrap(),
        share_dir: "/usr/share/ovn".into(),
        nb_port: own_port(),
        sb_port: own_port(),
        tls: None,
    }
}

impl Member {
    fn without_projection() -> Self {
        Self::at("127.0.0.1")
    }

    fn at(address: &str) -> Self {
        Self::with(address, None)
    }

    fn with(address: &str, tls: Option<CentralTls>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = CentralOptions { tls, ..options(dir.path(), address) };
        let central = Central::start(options.clone()).unwrap();
        Self { central, projector: None, options, dir }
    }

    fn project(&mut self, store: &Store) {
        self.projector = Some(Projector::start(store.follow(), self.nb()).unwrap());
    }

    /// Serves the given state.
    async fn serving(store: &Store) -> Self {
        let member = Self::without_projection();
        member.serves(store).await
    }

    async fn serves(mut self, store: &Store) -> Self {
        self.project(store);
        self.central.set_role(CentralRole::Active);
        self.reaches("serving and healthy", |status| status.serving && status.healthy).await;
        self
    }

    fn nb(&self) -> Endpoint {
        self.options.nb_socket().parse().unwrap()
    }

    /// The southbound database as the member itself reaches it.
    fn sb(&self) -> Endpoint {
        Endpoint::Unix(self.file("sb.sock"))
    }

    /// As the nodes reach it.
    fn sb_address(&self) -> SocketAddr {
        SocketAddr::new(self.options.address, self.options.sb_port)
    }

    fn nb_address(&self) -> SocketAddr {
        SocketAddr::new(self.options.address, self.options.nb_port)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.options.run_dir.join(name)
    }

    async fn reaches(&self, what: &str, is: impl Fn(&CentralStatus) -> bool) -> CentralStatus {
        let mut status = self.central.status();
        let found = tokio::time::timeout(DEADLINE, status.wait_for(is)).await;
        let found = found.map(|found| found.unwrap().clone());
        found.unwrap_or_else(|_elapsed| panic!("never {what}: {:?}", status.borrow()))
    }

    /// Kills one process and waits for the next.
    async fn kill(&self, name: &str) -> i32 {
        let killed = pid(&self.file(&format!("{name}.pid"))).expect("it runs");
        signal(killed, "KILL");
        eventually(&format!("a new {name}"), async || {
            pid(&self.file(&format!("{name}.pid"))).filter(|pid| *pid != killed && is_alive(*pid))
        })
        .await
    }

    async fn end(self) {
        self.central.shutdown().await;
        if let Some(projector) = self.projector {
            projector.shutdown().await;
        }
        drop(self.dir);
    }
}

fn pid(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn signal(pid: i32, name: &str) {
    run(Command::new("kill").args([format!("-{name}"), pid.to_string()]));
}

/// A process that was killed may stay as a zombie until its parent looks.
fn is_alive(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.is_some_and(|state| !state.trim_start().starts_with(['Z', 'X']))
}

fn column(sb: &Endpoint, table: &str, columns: &str) -> Vec<String> {
    let arguments =
        ["--format=csv", "--no-headings", &format!("--columns={columns}"), "list", table];
    let mut lines: Vec<String> = sbctl(sb, &arguments).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn the_southbound_opens_only_after_northd_has_seen_the_projection() {
    let store = Store::with_pods();
    let mut member = Member::without_projection();
    let up = |status: &CentralStatus| status.healthy && !status.active;
    member.reaches("up without a role", up).await;
    member.central.set_role(CentralRole::Active);
    member.reaches("active", |status| status.active).await;

    // Many rounds of the supervisor: an active member without a projection does nothing.
    for _ in 0..100 {
        let status = member.central.status().borrow().clone();
        assert!(!status.northd_running && !status.serving && !status.healthy, "{status:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(!is_listening(member.sb_address()));
    assert!(!member.file("northd.pid").exists());

    member.project(&store);
    let status = member.reaches("serving", |status| status.serving).await;
    assert_eq!(status.sb_endpoint, format!("tcp:127.0.0.1:{}", member.options.sb_port));
    let sb: Endpoint = status.sb_endpoint.parse().unwrap();
    let ports = column(&sb, "Port_Binding", "logical_port");
    assert!(ports.contains(&"a.default".to_owned()), "{ports:?}");
    assert!(is_listening(member.nb_address()));
    member.end().await;
}

#[tokio::test]
async fn the_keys_of_the_southbound_are_those_of_the_store() {
    let store = Store::with_pods();
    let member = Member::serving(&store).await;
    let mut datapaths = Vec::new();
    let mut ports = Vec::new();
    for ((table, _), row) in store.rows() {
        let map = row.get("other_config").or(row.get("options"));
        let key = map.and_then(|map| map.get("requested-tnl-key"));
        let name = row.get("name").and_then(|name| name.as_str());
        let list = match table {
            Table::LogicalRouter | Table::LogicalSwitch => &mut datapaths,
            Table::LogicalRouterPort | Table::LogicalSwitchPort => &mut ports,
            _ => continue,
        };
        list.push((name.unwrap().to_owned(), key.unwrap().to_owned()));
    }
    for (name, key) in ports {
        let find = format!("logical_port={name}");
        let found = ["--bare", "--columns=tunnel_key", "find", "Port_Binding", &find];
        assert_eq!(sbctl(&member.sb(), &found), key, "{name}");
    }
    for (name, key) in datapaths {
        let find = format!("external_ids:name={name}");
        let found = ["--bare", "--columns=tunnel_key", "find", "Datapath_Binding", &find];
        assert_eq!(sbctl(&member.sb(), &found), key, "{name}");
    }
    member.end().await;
}

/// northd takes an empty northbound database for an empty network.
#[tokio::test]
async fn a_wiped_northbound_is_rebuilt_while_the_southbound_stays_as_it_is() {
    let store = Store::with_pods();
    let mut member = Member::serving(&store).await;
    let bindings = || column(&member.sb(), "Port_Binding", "_uuid,logical_port,tunnel_key");
    let before = bindings();
    assert!(before.len() > 8, "{before:?}");
    for _ in 0..3 {
        fs::remove_file(member.file("nb.db")).unwrap();
        member.kill("nb").await;
        become_rows(&member.nb(), &store.rows()).await;
        member.reaches("healthy", |status| status.healthy).await;
        common::nbctl(&member.nb(), &["--wait=sb", "--timeout=20", "sync"]);
        assert_eq!(bindings(), before);
    }

    // However long the projection takes.
    member.projector.take().unwrap().shutdown().await;
    fs::remove_file(member.file("nb.db")).unwrap();
    member.kill("nb").await;
    let up = |status: &CentralStatus| status.nb_running && !status.northd_running;
    member.reaches("up and empty", up).await;
    for _ in 0..100 {
        assert!(!member.central.status().borrow().northd_running);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(column(&member.sb(), "Port_Binding", "_uuid,logical_port,tunnel_key"), before);
    assert!(is_listening(member.sb_address()), "the nodes keep what they have");
    member.project(&store);
    let status = member.reaches("healthy", |status| status.healthy).await;
    assert!(status.serving && status.northd_running);
    member.end().await;
}

#[tokio::test]
async fn a_wiped_southbound_is_filled_before_it_is_opened_again() {
    let store = Store::with_pods();
    let member = Member::serving(&store).await;
    let keys = || column(&member.sb(), "Port_Binding", "logical_port,tunnel_key");
    let before = keys();
    fs::remove_file(member.file("sb.db")).unwrap();
    member.kill("sb").await;
    // From the first moment that it takes a connection it is complete.
    let sb: Endpoint = format!("tcp:{}", member.sb_address()).parse().unwrap();
    eventually("open again", async || is_listening(member.sb_address()).then_some(())).await;
    assert_eq!(column(&sb, "Port_Binding", "logical_port,tunnel_key"), before);
    member.reaches("healthy", |status| status.healthy).await;
    member.end().await;
}

#[tokio::test]
async fn both_databases_and_their_files_may_go_at_once() {
    let mut store = Store::with_pods();
    let member = Member::serving(&store).await;
    let keys = || column(&member.sb(), "Port_Binding", "logical_port,tunnel_key");
    let before = keys();
    for name in ["nb.db", "sb.db"] {
        fs::remove_file(member.file(name)).unwrap();
    }
    let northd = pid(&member.file("northd.pid")).unwrap();
    signal(northd, "KILL");
    tokio::join!(member.kill("nb"), member.kill("sb"));
    member.reaches("healthy", |status| status.healthy && status.serving).await;
    assert_eq!(keys(), before);
    store.apply(vec![delete_pod("default/a")]);
    become_rows(&member.nb(), &store.rows()).await;
    member.end().await;
}

#[tokio::test]
async fn the_role_comes_and_goes() {
    let store = Store::with_pods();
    let member = Member::serving(&store).await;
    for _ in 0..3 {
        let northd = pid(&member.file("northd.pid")).unwrap();
        member.central.set_role(CentralRole::Idle);
        let retired = |status: &CentralStatus| !status.active && !status.serving && status.healthy;
        let status = member.reaches("passive", retired).await;
        assert!(status.nb_running && status.sb_running && !status.northd_running);
        assert!(!is_alive(northd));
        assert!(!is_listening(member.sb_address()) && !is_listening(member.nb_address()));

        member.central.set_role(CentralRole::Active);
        member.reaches("serving again", |status| status.serving && status.healthy).await;
        assert!(is_listening(member.sb_address()) && is_listening(member.nb_address()));
    }
    member.end().await;
}

#[tokio::test]
async fn an_ipv6_address_serves_as_well() {
    let store = Store::with_pods();
    let mut member = Member::at("::1");
    member.project(&store);
    member.central.set_role(CentralRole::Active);
    let status = member.reaches("serving", |status| status.serving).await;
    assert_eq!(status.sb_endpoint, format!("tcp:[::1]:{}", member.options.sb_port));
    assert!(is_listening(member.sb_address()));
    member.end().await;
}

#[tokio::test]
async fn a_database_that_cannot_be_read_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path(), "127.0.0.1");
    fs::create_dir_all(&options.run_dir).unwrap();
    fs::write(options.run_dir.join("nb.db"), "this is not a database\n").unwrap();
    fs::write(options.run_dir.join("sb.db"), "").unwrap();
    let central = Central::start(options.clone()).unwrap();
    let mut status = central.status();
    tokio::time::timeout(DEADLINE, status.wait_for(|status| status.healthy))
        .await
        .unwrap()
        .unwrap();
    let names: Vec<String> = fs::read_dir(&options.run_dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in ["nb.db.damaged-", "sb.db.damaged-"] {
        assert!(names.iter().any(|found| found.starts_with(name)), "{names:?}");
    }
    central.shutdown().await;
}

/// Whoever holds the port: the member says so and does not claim to serve.
#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_passes() {
    let store = Store::with_pods();
    let mut member = Member::without_projection();
    // It takes connections and is no database.
    let taken = std::net::TcpListener::bind(member.sb_address()).unwrap();
    member.project(&store);
    member.central.set_role(CentralRole::Active);
    let failed = |status: &CentralStatus| {
        status.last_error.as_ref().is_some_and(|error| error.contains("does not listen"))
    };
    let status = member.reaches("an error", failed).await;
    assert!(!status.serving && !status.healthy, "{status:?}");
    drop(taken);
    member.reaches("serving", |status| status.serving && status.healthy).await;
    member.end().await;
}

/// northd 23.03 recomputes everything for each change that it sees.
#[tokio::test]
async fn an_idle_member_writes_nothing_and_leaves_northd_asleep() {
    let store = Store::with_pods();
    let member = Member::serving(&store).await;
    // The server writes it when it has listened for a while, and northd looks at every change.
    let connection = ["get", "Connection", ".", "status"];
    eventually("the server says that it listens", async || {
        sbctl(&member.sb(), &connection).contains("bound_port").then_some(())
    })
    .await;
    common::nbctl(&member.nb(), &["--wait=sb", "--timeout=20", "sync"]);
    let recomputes = || {
        let control = member.file("northd.ctl");
        let all =
            run(Command::new("ovs-appctl").arg("-t").arg(control).arg("inc-engine/show-stats"));
        let (_, northd) = all.split_once("Node: northd\n- recompute:").expect("northd's own node");
        northd.lines().next().unwrap().trim().to_owned()
    };
    let sizes = || ["nb.db", "sb.db"].map(|name| fs::metadata(member.file(name)).unwrap().len());
    let before = (recomputes(), sizes());
    // Nothing is waited for here: several probes of both databases have to leave no trace.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((recomputes(), sizes()), before);
    member.end().await;
}

/// A pod that is made again under its name may come from another subnet: one transaction moves its
/// port to another switch.
#[tokio::test]
async fn a_port_that_moves_to_another_switch_moves_in_the_southbound() {
    let mut store = Store::with_pods();
    let member = Member::serving(&store).await;
    store.apply(vec![delete_pod("tenant/a"), put_subnet("other", "10.30.0.0/24")]);
    let mut elsewhere = put_pod_as("tenant/a", "n2", "another-uid");
    if let atoll_model::Operation::PutPod(spec) = &mut elsewhere {
        spec.request.subnet = Some("other".parse().unwrap());
    }
    store.apply(vec![elsewhere]);
    become_rows(&member.nb(), &store.rows()).await;
    let other = store.state.subnet(&"other".parse().unwrap()).unwrap().datapath_key.to_string();
    eventually("the binding is in the other datapath", async || {
        let find =
            ["--bare", "--columns=datapath", "find", "Port_Binding", "logical_port=a.tenant"];
        let datapath = sbctl(&member.sb(), &find);
        let get = ["get", "Datapath_Binding", &datapath, "tunnel_key"];
        (!datapath.is_empty() && sbctl(&member.sb(), &get) == other).then_some(())
    })
    .await;
    assert_eq!(rows_at(&member.nb()).await, store.rows());
    member.end().await;
}

const HELPER: &str = "ATOLL_TEST_RUN_DIR";

/// Also `kill -9` leaves nothing running. The test runs itself as the process to kill.
#[tokio::test]
async fn no_child_outlives_a_member_that_is_killed() {
    if let Some(dir) = std::env::var_os(HELPER) {
        let store = Store::with_pods();
        let options = options(Path::new(&dir), "127.0.0.1");
        let _projector =
            Projector::start(store.follow(), options.nb_socket().parse::<Endpoint>().unwrap())
                .unwrap();
        let central = Central::start(options).unwrap();
        central.set_role(CentralRole::Active);
        std::future::pending::<()>().await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "no_child_outlives_a_member_that_is_killed"])
        .env(HELPER, dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut children = Vec::new();
    for name in ["nb", "sb", "northd"] {
        let file = dir.path().join(format!("ovn/{name}.pid"));
        children.push(eventually(name, async || pid(&file).filter(|pid| is_alive(*pid))).await);
    }
    parent.kill().unwrap();
    parent.wait().unwrap();
    for child in children {
        eventually("the child is gone", async || (!is_alive(child)).then_some(())).await;
    }
}
