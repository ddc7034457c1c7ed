//! The agent's socket as the plugin sees it: real sockets, the plugin's own blocking functions.
#![allow(clippy::unwrap_used, reason = "in a test, a step that fails is the report")]

use std::{
    fs,
    io::Write,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use atoll_cni_wire::{
    Added, AttachmentId, CniError, Code, Command, NO_ATTACHMENT, Request, Response, VERSION,
};
use atoll_node::cni::{
    AddRequest, Attachments, BindError, CheckRequest, DelRequest, Held, Limits, Server,
};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Attaches nothing, slowly: an `ADD` ends when the test lets it.
#[derive(Clone)]
struct Fake {
    adds: Arc<Semaphore>,
    add_begun: Arc<Notify>,
    running: Arc<AtomicUsize>,
    running_max: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    /// What is attached, for a `GC`; a `DEL` takes it away.
    held: Arc<Mutex<Vec<Held>>>,
}

impl Fake {
    /// With this many `ADD`s that end at once.
    fn new(adds: usize) -> Self {
        Self {
            adds: Arc::new(Semaphore::new(adds)),
            add_begun: Arc::default(),
            running: Arc::default(),
            running_max: Arc::default(),
            ended: Arc::default(),
            held: Arc::default(),
        }
    }

    fn hold(&self, container_ids: &[&str]) {
        let held = |id: &&str| Held { container_id: (*id).into(), ifname: Some("eth0".into()) };
        *self.held.lock().unwrap() = container_ids.iter().map(held).collect();
    }

    fn holds(&self) -> Vec<String> {
        self.held.lock().unwrap().iter().map(|held| held.container_id.clone()).collect()
    }
}

impl Attachments for Fake {
    async fn known(&self, request: &AddRequest) -> Result<(), CniError> {
        if request.pod.name != "unheard-of" {
            return Ok(());
        }
        tokio::time::sleep_until(request.deadline).await;
        Err(CniError::new(Code::TRY_AGAIN_LATER, "it has not been announced"))
    }

    async fn add(&self, request: AddRequest) -> Result<Added, CniError> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.running_max.fetch_max(running, Ordering::SeqCst);
        self.add_begun.notify_one();
        self.adds.acquire().await.unwrap().forget();
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.ended.fetch_add(1, Ordering::SeqCst);
        match request.pod.name.as_str() {
            "panic" => panic!("a defect"),
            "refused" => Err(CniError::new(Code::REFUSED, "subnet is full")),
            _ => Ok(Added { interfaces: vec![], ips: vec![], routes: vec![] }),
        }
    }

    async fn del(&self, request: DelRequest) -> Result<(), CniError> {
        if request.container_id.starts_with("stuck") {
            return Err(CniError::new(Code::PLUMBING, "no way"));
        }
        self.held.lock().unwrap().retain(|held| held.container_id != request.container_id);
        Ok(())
    }

    async fn check(&self, request: CheckRequest) -> Result<(), CniError> {
        match request.previous.ips.is_empty() {
            true => Ok(()),
            false => Err(CniError::new(Code::DIFFERS, "eth0 in the pod is gone")),
        }
    }

    async fn held(&self, _: &str) -> Result<Vec<Held>, CniError> {
        Ok(self.held.lock().unwrap().clone())
    }

    async fn status(&self) -> Result<(), CniError> {
        let is_stuck = !self.held.lock().unwrap().is_empty();
        if is_stuck { std::future::pending().await } else { Ok(()) }
    }
}

struct Agent {
    socket: PathBuf,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Agent {
    async fn start(fake: &Fake, limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("made/cni.sock");
        let server = Server::bind(&socket, limits).await.unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(server.serve(fake.clone(), shutdown.clone()));
        Self { socket, shutdown, serving, _directory: directory }
    }

    /// Asks as the plugin does, on a thread of its own.
    fn ask(&self, request: Request) -> JoinHandle<Response> {
        let socket = self.socket.clone();
        tokio::task::spawn_blocking(move || {
            let mut stream = UnixStream::connect(socket).unwrap();
            atoll_cni_wire::write(&mut stream, &request).unwrap();
            atoll_cni_wire::read(&mut stream).unwrap()
        })
    }
}

fn request(command: Command, container_id: &str) -> Request {
    Request {
        version: VERSION,
        command,
        container_id: container_id.into(),
        netns: Some("/run/netns/x".into()),
        ifname: "eth0".into(),
        pod_namespace: "ns".into(),
        pod_name: "web-0".into(),
        pod_uid: None,
        cni_version: "1.0.0".into(),
        deadline_ms: 10_000,
        network: "atoll".into(),
        previous: None,
        valid: None,
    }
}

fn collection(valid: &[&str]) -> Request {
    let id = |id: &&str| AttachmentId { container_id: (*id).into(), ifname: "eth0".into() };
    let valid = Some(valid.iter().map(id).collect());
    Request {
        netns: None,
        ifname: NO_ATTACHMENT.into(),
        valid,
        ..request(Command::Gc, NO_ATTACHMENT)
    }
}

fn code(response: Response) -> Code {
    let Response::Error(error) = response else { panic!("{response:?}") };
    assert!(!error.message.is_empty());
    error.code
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < deadline, "it never happened");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn requests_are_dispatched_and_refusals_come_back() {
    let agent = Agent::start(&Fake::new(9), Limits::default()).await;
    let added = agent.ask(request(Command::Add, "c1")).await.unwrap();
    assert!(matches!(added, Response::Added(_)), "{added:?}");
    assert_eq!(agent.ask(request(Command::Del, "c1")).await.unwrap(), Response::Deleted);
    let refused = Request { pod_name: "refused".into(), ..request(Command::Add, "c1") };
    assert_eq!(code(agent.ask(refused).await.unwrap()), Code::REFUSED);
    let unnamed = Request { pod_name: String::new(), netns: None, ..request(Command::Del, "c1") };
    assert_eq!(agent.ask(unnamed).await.unwrap(), Response::Deleted);
}

/// A store that is behind must not keep those from their network that were announced.
#[tokio::test]
async fn pods_that_nobody_announced_hold_up_nobody() {
    let limits = Limits { adds_max: 1, ..Limits::default() };
    let agent = Agent::start(&Fake::new(9), limits).await;
    let unheard_of = |id: &str| Request {
        pod_name: "unheard-of".into(),
        deadline_ms: 2_000,
        ..request(Command::Add, id)
    };
    let waiting: Vec<_> = ["u1", "u2", "u3"].iter().map(|id| agent.ask(unheard_of(id))).collect();
    let began = Instant::now();
    let added = agent.ask(request(Command::Add, "c1")).await.unwrap();
    assert!(matches!(added, Response::Added(_)), "{added:?}");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    for asked in waiting {
        assert_eq!(code(asked.await.unwrap()), Code::TRY_AGAIN_LATER);
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_its_reason() {
    let agent = Agent::start(&Fake::new(9), Limits::default()).await;
    let good = || request(Command::Add, "c1");
    for (wrong, expected) in [
        (Request { version: VERSION + 1, ..good() }, Code::WIRE_MISMATCH),
        (Request { container_id: "../../etc".into(), ..good() }, Code::INVALID_ENVIRONMENT),
        (Request { ifname: "sixteencharacter".into(), ..good() }, Code::INVALID_ENVIRONMENT),
        (Request { netns: None, ..good() }, Code::INVALID_ENVIRONMENT),
        (Request { pod_namespace: String::new(), ..good() }, Code::INVALID_ENVIRONMENT),
        (request(Command::Other("MOVE".into()), "c1"), Code::NOT_PROVIDED),
        (request(Command::Check, "c1"), Code::INVALID_ENVIRONMENT),
        (Request { valid: None, ..collection(&[]) }, Code::INVALID_CONFIG),
        (Request { network: String::new(), ..collection(&[]) }, Code::INVALID_CONFIG),
    ] {
        assert_eq!(code(agent.ask(wrong.clone()).await.unwrap()), expected, "{wrong:?}");
    }
    let socket = agent.socket.clone();
    let garbage = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.write_all(b"\0\0\0\x02{]").unwrap();
        atoll_cni_wire::read(&mut stream).unwrap()
    });
    assert_eq!(code(garbage.await.unwrap()), Code::DECODE_FAILURE);
}

#[tokio::test]
async fn a_check_is_passed_on_with_what_add_said() {
    let agent = Agent::start(&Fake::new(9), Limits::default()).await;
    let mut added = Added { interfaces: vec![], ips: vec![], routes: vec![] };
    let check = |previous: &Added| {
        let previous = Some(previous.clone());
        Request { previous, ..request(Command::Check, "c1") }
    };
    assert_eq!(agent.ask(check(&added)).await.unwrap(), Response::Checked);
    let address = "10.16.0.5/16".parse().unwrap();
    added.ips.push(atoll_cni_wire::Address { address, gateway: None, interface: None });
    assert_eq!(code(agent.ask(check(&added)).await.unwrap()), Code::DIFFERS);
}

#[tokio::test]
async fn a_status_that_nobody_finds_out_is_answered_in_time() {
    let fake = Fake::new(9);
    let agent = Agent::start(&fake, Limits::default()).await;
    let status = || Request { deadline_ms: 100, ..request(Command::Status, NO_ATTACHMENT) };
    assert_eq!(agent.ask(status()).await.unwrap(), Response::Ready);
    fake.hold(&["c1"]);
    assert_eq!(code(agent.ask(status()).await.unwrap()), Code::NOT_AVAILABLE);
}

#[tokio::test]
async fn a_collection_takes_down_what_is_not_listed_and_names_what_it_cannot() {
    let fake = Fake::new(9);
    let agent = Agent::start(&fake, Limits::default()).await;
    fake.hold(&["c1", "c2", "c3"]);
    assert_eq!(agent.ask(collection(&["c2", "c9"])).await.unwrap(), Response::Collected);
    assert_eq!(fake.holds(), ["c2"]);

    fake.hold(&["stuck1", "c2", "stuck2"]);
    let Response::Error(error) = agent.ask(collection(&[])).await.unwrap() else { panic!("done") };
    assert_eq!(
        (error.code, fake.holds()),
        (Code::PLUMBING, vec!["stuck1".into(), "stuck2".into()])
    );
    for part in ["2 of 3 attachments", "container stuck1: no way", "container stuck2: no way"] {
        assert!(error.message.contains(part), "{error}");
    }
}

// The list was made before the pod came.
#[tokio::test]
async fn a_collection_leaves_alone_what_is_being_added() {
    let fake = Fake::new(0);
    let agent = Agent::start(&fake, Limits::default()).await;
    fake.hold(&["c1", "c2"]);
    let adding = agent.ask(request(Command::Add, "c1"));
    fake.add_begun.notified().await;
    assert_eq!(agent.ask(collection(&[])).await.unwrap(), Response::Collected);
    assert_eq!(fake.holds(), ["c1"]);
    fake.adds.add_permits(1);
    assert!(matches!(adding.await.unwrap(), Response::Added(_)));
    assert_eq!(agent.ask(collection(&[])).await.unwrap(), Response::Collected);
    assert_eq!(fake.holds(), Vec::<String>::new());
}

#[tokio::test]
async fn a_defect_in_one_request_does_not_end_the_others() {
    let agent = Agent::start(&Fake::new(9), Limits::default()).await;
    let broken = Request { pod_name: "panic".into(), ..request(Command::Add, "c1") };
    assert_eq!(code(agent.ask(broken).await.unwrap()), Code::INTERNAL);
    let added = agent.ask(request(Command::Add, "c1")).await.unwrap();
    assert!(matches!(added, Response::Added(_)), "{added:?}");
}

// Half a plumbed pod is worse than a late one: the answer comes in time, the work goes on.
#[tokio::test]
async fn a_request_over_its_deadline_is_answered_and_goes_on() {
    let fake = Fake::new(0);
    let agent = Agent::start(&fake, Limits::default()).await;
    let hurried = Request { deadline_ms: 50, ..request(Command::Add, "c1") };
    assert_eq!(code(agent.ask(hurried).await.unwrap()), Code::TRY_AGAIN_LATER);
    assert_eq!(fake.ended.load(Ordering::SeqCst), 0);
    fake.adds.add_permits(1);
    until(|| fake.ended.load(Ordering::SeqCst) == 1).await;
}

// kubelet gives up on an ADD and sends the DEL while the ADD is still running.
#[tokio::test]
async fn a_delete_waits_for_the_add_of_its_own_attachment_and_for_no_other() {
    let fake = Fake::new(0);
    let limits = Limits { adds_max: 1, ..Limits::default() };
    let agent = Agent::start(&fake, limits).await;
    let adding = agent.ask(request(Command::Add, "c1"));
    fake.add_begun.notified().await;

    let other = agent.ask(request(Command::Del, "c2")).await.unwrap();
    assert_eq!(other, Response::Deleted);
    let hurried = Request { deadline_ms: 100, ..request(Command::Del, "c1") };
    assert_eq!(code(agent.ask(hurried).await.unwrap()), Code::TRY_AGAIN_LATER);

    fake.adds.add_permits(1);
    assert!(matches!(adding.await.unwrap(), Response::Added(_)));
    assert_eq!(agent.ask(request(Command::Del, "c1")).await.unwrap(), Response::Deleted);
}

#[tokio::test]
async fn no_more_adds_run_at_a_time_than_allowed() {
    let fake = Fake::new(0);
    let agent = Agent::start(&fake, Limits { adds_max: 2, ..Limits::default() }).await;
    let asked: Vec<_> =
        (0..6).map(|n| agent.ask(request(Command::Add, &format!("c{n}")))).collect();
    until(|| fake.running.load(Ordering::SeqCst) == 2).await;
    fake.adds.add_permits(6);
    for response in asked {
        assert!(matches!(response.await.unwrap(), Response::Added(_)));
    }
    assert_eq!(fake.running_max.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_socket_is_roots_alone_and_others_are_told_so() {
    let limits = Limits { uid: 4711, ..Limits::default() };
    let agent = Agent::start(&Fake::new(9), limits).await;
    let mode = fs::metadata(&agent.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let socket = agent.socket.clone();
    let answered = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        // The agent may have hung up before the request is sent.
        let _ = atoll_cni_wire::write(&mut stream, &request(Command::Del, "c1"));
        atoll_cni_wire::read::<Response>(&mut stream).unwrap()
    });
    assert_eq!(code(answered.await.unwrap()), Code::IO_FAILURE);
}

async fn bind_error(path: &Path) -> BindError {
    Server::bind(path, Limits::default()).await.unwrap_err()
}

#[tokio::test]
async fn a_live_agent_is_left_alone_and_a_dead_ones_socket_is_replaced() {
    let agent = Agent::start(&Fake::new(9), Limits::default()).await;
    let refused = bind_error(&agent.socket).await;
    assert!(matches!(refused, BindError::AlreadyServed { .. }), "{refused}");
    assert_eq!(agent.ask(request(Command::Del, "c1")).await.unwrap(), Response::Deleted);

    agent.shutdown.cancel();
    agent.serving.await.unwrap();
    assert!(agent.socket.exists());
    Server::bind(&agent.socket, Limits::default()).await.unwrap();

    let stale = agent.socket.with_file_name("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    Server::bind(&stale, Limits::default()).await.unwrap();
}

#[tokio::test]
async fn a_file_in_the_place_of_the_socket_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cni.sock");
    fs::write(&path, "precious").unwrap();
    let refused = bind_error(&path).await;
    assert!(matches!(refused, BindError::NotASocket { .. }), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn shutting_down_lets_what_has_begun_end_and_takes_nothing_new() {
    let fake = Fake::new(0);
    let agent = Agent::start(&fake, Limits::default()).await;
    let adding = agent.ask(request(Command::Add, "c1"));
    fake.add_begun.notified().await;
    agent.shutdown.cancel();
    until(|| UnixStream::connect(&agent.socket).is_err()).await;
    assert!(!agent.serving.is_finished());
    fake.adds.add_permits(1);
    assert!(matches!(adding.await.unwrap(), Response::Added(_)));
    agent.serving.await.unwrap();
}
