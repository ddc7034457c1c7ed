//! A container runtime and a node agent, as far as the plugin can see them.

use std::{
    io::Write,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use atoll_cni_wire::{Added, Address, Interface, Request, Response, Route};
use serde_json::Value;
use tempfile::TempDir;

/// Calls the plugin with the variables of one pod.
pub(crate) struct Runtime {
    directory: TempDir,
}

/// A call that has ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) took: Duration,
}

/// A call that is running.
pub(crate) struct Calling {
    child: Child,
    started: Instant,
}

impl Runtime {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("cni.sock")
    }

    pub(crate) fn tombstones(&self) -> PathBuf {
        self.directory.path().join("tombstones")
    }

    pub(crate) fn config(&self, version: &str) -> String {
        serde_json::json!({
            "cniVersion": version,
            "name": "atoll",
            "type": "atoll-cni",
            "socket": self.socket(),
            "tombstones": self.tombstones(),
            "timeout_ms": 2000,
            "prevResult": {"cniVersion": version, "ips": []},
        })
        .to_string()
    }

    pub(crate) fn call(&self, command: &str, config: &str) -> Ended {
        self.call_with(command, &[], config)
    }

    pub(crate) fn call_with(
        &self,
        command: &str,
        variables: &[(&str, &str)],
        config: &str,
    ) -> Ended {
        self.start(command, variables, config).end()
    }

    pub(crate) fn start(&self, command: &str, variables: &[(&str, &str)], config: &str) -> Calling {
        let started = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_atoll-cni"))
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", "cafe0123")
            .env("CNI_NETNS", "/run/netns/x")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-0;K8S_POD_UID=uid-1")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
        Calling { child, started }
    }

    /// Waits until the plugin has started the thread that looks for the agent: from then on it
    /// has had its first try, or is about to.
    pub(crate) fn wait_for_looking(&self, calling: &Calling) {
        let tasks = PathBuf::from(format!("/proc/{}/task", calling.child.id()));
        let until = Instant::now() + Duration::from_secs(5);
        while std::fs::read_dir(&tasks).unwrap().count() < 2 {
            assert!(Instant::now() < until, "the plugin never looked for its agent");
            thread::yield_now();
        }
    }
}

impl Calling {
    pub(crate) fn end(self) -> Ended {
        let output = self.child.wait_with_output().unwrap();
        Ended {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            took: self.started.elapsed(),
        }
    }
}

/// Listens like the agent and treats every request alike.
pub(crate) struct FakeAgent {
    requests: Receiver<Request>,
}

impl FakeAgent {
    pub(crate) fn answering(socket: PathBuf, response: Response) -> Self {
        Self::listening(&socket, move |mut stream| {
            let request: Request = atoll_cni_wire::read(&mut stream).unwrap();
            atoll_cni_wire::write(&mut stream, &response).unwrap();
            Some(request)
        })
    }

    pub(crate) fn silent(socket: PathBuf) -> Self {
        let mut held = Vec::new();
        Self::listening(&socket, move |stream| {
            held.push(stream);
            None
        })
    }

    pub(crate) fn hanging_up(socket: PathBuf) -> Self {
        Self::listening(&socket, |mut stream| atoll_cni_wire::read(&mut stream).ok())
    }

    pub(crate) fn request(&self) -> Request {
        self.requests.recv_timeout(Duration::from_secs(5)).unwrap()
    }

    fn listening(
        socket: &Path,
        mut treat: impl FnMut(UnixStream) -> Option<Request> + Send + 'static,
    ) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if let Some(request) = treat(stream.unwrap()) {
                    let _ = sender.send(request);
                }
            }
        });
        Self { requests }
    }
}

/// A dual-stack attachment.
pub(crate) fn added() -> Added {
    let interface = |name: &str, mac: &str, sandbox: Option<&str>| Interface {
        name: name.into(),
        mac: mac.into(),
        mtu: Some(1400),
        sandbox: sandbox.map(Into::into),
    };
    let ip = |address: &str, gateway: &str| Address {
        address: address.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
        interface: Some(1),
    };
    let route = |destination: &str, gateway: Option<&str>| Route {
        destination: destination.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
    };
    Added {
        interfaces: vec![
            interface("cafe0123_h", "0a:00:00:00:00:01", None),
            interface("eth0", "0a:00:00:00:00:02", Some("/run/netns/x")),
        ],
        ips: vec![ip("10.16.0.5/16", "10.16.0.1"), ip("fd00:10:16::5/64", "fd00:10:16::1")],
        routes: vec![
            route("0.0.0.0/0", Some("10.16.0.1")),
            route("::/0", Some("fd00:10:16::1")),
            route("169.254.1.1/32", None),
        ],
    }
}

pub(crate) fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}
