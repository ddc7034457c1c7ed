//! Members in one process: real disks in temporary directories, real gRPC and TLS over loopback.
//!
//! Each member has a runtime of its own. Killing one drops that runtime, and with it every task
//! and every connection, as the end of a process would.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a laboratory that cannot be set up fails the test")]

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use atoll_api::pki::{Authority, write_pair};
use atoll_api::tls::Listener;
use atoll_api::{CertificateFiles, Credentials};
use atoll_model::{Actor, MemberName, NamespaceName, Operation, Outcome, Revision, Txn};
use atoll_raft::{OpenError, Phase, ProposeError, RaftOptions, Retention, Store, Timing};
use tokio::runtime::Runtime;
use tonic::transport::Server;

/// Nothing in these tests takes longer on a healthy build.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Lab {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) authority: Authority,
    pub(crate) members: Vec<Member>,
}

pub(crate) struct Member {
    pub(crate) options: RaftOptions,
    running: Option<(Runtime, Store)>,
}

/// A loopback network per lab, so that labs of parallel tests never meet.
fn network() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    format!("127.{}.{}", 1 + process % 250, (process / 250 + number * 61) % 250)
}

/// An authority of its own.
pub(crate) fn authority() -> Authority {
    Authority::open(&Authority::create("lab").unwrap()).unwrap()
}

/// The files of a certificate for `identity`, new at each call.
pub(crate) fn certificate(
    directory: &Path,
    authority: &Authority,
    identity: &str,
) -> CertificateFiles {
    let pair = authority.issue(&identity.parse().unwrap(), &[], 1).unwrap();
    let directory = tempfile::tempdir_in(directory).unwrap().keep();
    write_pair(&directory, authority.cert(), &pair).unwrap()
}

impl Lab {
    pub(crate) fn new(count: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = authority();
        let network = network();
        let addresses: Vec<String> = (1..=count).map(|n| format!("{network}.{n}:7400")).collect();
        let options = |at: usize| RaftOptions {
            name: MemberName::new(&format!("m{}", at + 1)).unwrap(),
            data_dir: directory.path().join(format!("m{}", at + 1)),
            advertise: addresses[at].clone(),
            peers: addresses.clone(),
            expected_members: count,
            formation_marker: directory.path().join("marker"),
            credentials: {
                let identity = format!("member/m{}", at + 1);
                Credentials::load(&certificate(directory.path(), &authority, &identity)).unwrap()
            },
            timing: Timing {
                replace_after: Duration::from_secs(2),
                ..Timing::new(Duration::from_millis(100), Duration::from_millis(400))
            },
            retention: Retention::default(),
        };
        let members = (0..count).map(|at| Member { options: options(at), running: None }).collect();
        Self { directory, authority, members }
    }

    pub(crate) async fn start_all(&mut self) {
        for member in &mut self.members {
            member.start().await;
        }
    }

    /// All members run and are voters.
    pub(crate) async fn formed(count: usize) -> Self {
        let mut lab = Self::new(count);
        lab.start_all().await;
        lab.settled().await;
        lab
    }

    pub(crate) async fn settled(&self) {
        for member in self.members.iter().filter(|member| member.running.is_some()) {
            member.phase("a member", |phase| *phase == Phase::Member).await;
        }
    }

    /// The one that leads and is confirmed by a quorum.
    pub(crate) async fn leader(&self) -> usize {
        let found = || {
            self.members.iter().position(|member| {
                member.running.as_ref().is_some_and(|(_, s)| s.leadership().borrow().is_leader)
            })
        };
        until("a leader", || async { found() }).await
    }

    /// Proposes until some leader answers; retries only what certainly was not done.
    pub(crate) async fn write(&self, operation: Operation) -> Revision {
        until("an acknowledged write", || async {
            let leader = self.leader().await;
            let (_, store) = self.members[leader].running.as_ref()?;
            match store.propose(txn(operation.clone())).await {
                Ok(Outcome::Applied { revision, .. }) => Some(revision),
                Ok(Outcome::Refused { refusal, .. }) => panic!("refused: {refusal}"),
                Err(ProposeError::NotLeader { .. } | ProposeError::Unavailable(_)) => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await
    }

    /// Credentials of this lab's authority.
    pub(crate) fn credentials(&self, identity: &str) -> Credentials {
        let files = certificate(self.directory.path(), &self.authority, identity);
        Credentials::load(&files).unwrap()
    }

    pub(crate) fn store(&self, at: usize) -> &Store {
        self.members[at].store()
    }
}

impl Member {
    pub(crate) fn new(options: RaftOptions) -> Self {
        Self { options, running: None }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.running.as_ref().expect("it runs").1
    }

    pub(crate) async fn start(&mut self) {
        let options = self.options.clone();
        // The tasks of a killed member end a moment after it, each by itself.
        let address = || std::net::TcpListener::bind(&options.advertise).ok().map(drop);
        until("the address", || async { address() }).await;
        let opened = until("the data directory", || async {
            let attempt = Self::open(&options);
            match attempt {
                Ok(running) => Some(running),
                // The threads of a killed member end a moment after it.
                Err(OpenError::InUse(_) | OpenError::History(_)) => None,
                Err(error) => panic!("{error}"),
            }
        });
        self.running = Some(opened.await);
    }

    pub(crate) fn open(options: &RaftOptions) -> Result<(Runtime, Store), OpenError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let address: SocketAddr = options.advertise.parse().unwrap();
        let opening = runtime.spawn(Store::open(options.clone()));
        let opened = futures::executor::block_on(opening).unwrap();
        let (store, peers) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let credentials = options.credentials.clone();
        runtime.spawn(async move {
            let incoming = credentials.listen(Listener::tcp(address).unwrap()).unwrap();
            let service = Server::builder().add_service(peers.into_service());
            service.serve_with_incoming(incoming).await.unwrap();
        });
        Ok((runtime, store))
    }

    /// Ends it as `kill -9` would.
    pub(crate) fn kill(&mut self) {
        if let Some((runtime, store)) = self.running.take() {
            drop(store);
            runtime.shutdown_background();
        }
    }

    /// Ends it as SIGTERM does.
    pub(crate) async fn stop(&mut self) {
        if let Some((runtime, store)) = self.running.take() {
            store.transfer_leadership(None).await;
            store.shutdown().await;
            drop(store);
            runtime.shutdown_background();
        }
    }

    /// Its disk is gone.
    pub(crate) async fn wipe(&self) {
        assert!(self.running.is_none());
        let directory: PathBuf = self.options.data_dir.clone();
        until("the disk to be wiped", || async {
            let _ = std::fs::remove_dir_all(&directory);
            (!directory.exists()).then_some(())
        })
        .await;
    }

    pub(crate) async fn phase(&self, what: &str, wanted: impl Fn(&Phase) -> bool) -> Phase {
        let mut phase = self.store().phase();
        let found = tokio::time::timeout(DEADLINE, phase.wait_for(wanted)).await;
        match found {
            Ok(found) => found.unwrap().clone(),
            Err(_) => {
                panic!("{} never became {what}: {:?}", self.options.name, self.store().status())
            }
        }
    }

    /// It waits, and says why.
    pub(crate) async fn waits_because(&self, text: &str) -> String {
        let told = |phase: &Phase| matches!(phase, Phase::Waiting { why } if why.contains(text));
        match self.phase(&format!("waiting because of {text:?}"), told).await {
            Phase::Waiting { why } => why,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.members.iter_mut().for_each(Member::kill);
    }
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < DEADLINE, "no {what} in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn txn(operation: Operation) -> Txn {
    Txn {
        request: None,
        actor: Actor::Operator("test".to_owned()),
        preconditions: Vec::new(),
        operations: vec![operation],
        clock_ms: 0,
        wall_ms: 0,
    }
}

pub(crate) fn namespace(number: usize) -> NamespaceName {
    NamespaceName::new(&format!("ns-{number}")).unwrap()
}

pub(crate) fn put_namespace(number: usize) -> Operation {
    Operation::PutNamespace(namespace(number), Default::default())
}
