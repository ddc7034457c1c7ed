//! Starts and stops an `ovsdb-server`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use atoll_api::CertificateFiles;
use atoll_ovsdb::{Client, Endpoint, Options, unixctl};

/// A server of one test; ends with it.
pub(crate) struct Server {
    process: Child,
    directory: tempfile::TempDir,
}

impl Server {
    /// Starts a server with an empty Northbound database.
    pub(crate) fn start() -> Self {
        Self::start_on("ptcp:0:127.0.0.1", None)
    }

    /// The same, with TLS.
    pub(crate) fn secured(files: &CertificateFiles) -> Self {
        Self::start_on("pssl:0:127.0.0.1", Some(files))
    }

    fn start_on(remote: &str, files: Option<&CertificateFiles>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("nb.db");
        let created = Command::new("ovsdb-tool")
            .arg("create")
            .arg(&database)
            .arg("/usr/share/ovn/ovn-nb.ovsschema")
            .output()
            .expect("ovsdb-tool is installed");
        assert!(created.status.success(), "{created:?}");
        let mut command = Self::command(directory.path(), remote);
        if let Some(CertificateFiles { ca, cert, key }) = files {
            for (option, file) in [("ca-cert", ca), ("certificate", cert), ("private-key", key)] {
                command.arg(format!("--{option}={}", file.display()));
            }
        }
        let process = command.spawn().expect("ovsdb-server is installed");
        Self { process, directory }
    }

    fn command(directory: &Path, remote: &str) -> Command {
        let mut command = Command::new("ovsdb-server");
        command
            .arg("--no-chdir")
            .arg(format!("--unixctl={}", directory.join("nb.ctl").display()))
            .arg(format!("--remote=punix:{}", directory.join("nb.sock").display()))
            .arg(format!("--remote={remote}"))
            .arg(format!("--log-file={}", directory.join("nb.log").display()))
            .arg(directory.join("nb.db"))
            .stderr(Stdio::null());
        command
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.directory.path().join("nb.sock"))
    }

    pub(crate) async fn connect(&self) -> Client {
        self.connect_with(&Options::default()).await
    }

    /// Connects as soon as the server listens.
    pub(crate) async fn connect_with(&self, options: &Options) -> Client {
        let endpoint = self.endpoint();
        eventually(async || Client::connect_with(&endpoint, options).await.ok()).await
    }

    /// The TCP endpoint.
    pub(crate) async fn tcp(&self) -> Endpoint {
        let port = self.port().await;
        Endpoint::Tcp { host: "127.0.0.1".to_owned(), port }
    }

    /// The TLS endpoint.
    pub(crate) async fn ssl(&self) -> Endpoint {
        let port = self.port().await;
        Endpoint::Ssl { host: "127.0.0.1".to_owned(), port }
    }

    /// The system chooses it, and only the server's log tells it.
    async fn port(&self) -> u16 {
        let log = self.directory.path().join("nb.log");
        eventually(async || {
            let log = std::fs::read_to_string(&log).ok()?;
            let (_, after) = log.split_once("0:127.0.0.1: listening on port ")?;
            let (port, _) = after.split_once('\n')?;
            port.parse().ok()
        })
        .await
    }

    /// Listens in plaintext as well.
    pub(crate) async fn listen_plainly(&self, port: u16) -> Endpoint {
        let control = self.directory.path().join("nb.ctl");
        let remote = format!("ptcp:{port}:127.0.0.1");
        let (command, add) = ("ovsdb-server/add-remote", [remote.as_str()]);
        eventually(async || unixctl::command(&control, command, &add).await.ok()).await;
        Endpoint::Tcp { host: "127.0.0.1".to_owned(), port }
    }

    /// `-STOP` or `-CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Asks again and again until there is an answer; a server gives no other sign that it listens.
async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let answered = async {
        let mut retry = tokio::time::interval(Duration::from_millis(5));
        loop {
            retry.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    tokio::time::timeout(super::PATIENCE, answered).await.expect("the server is up in time")
}
