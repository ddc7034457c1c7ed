//! One child process.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::backoff::Backoff;

/// Between starts of a process that keeps ending.
const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_MOST: Duration = Duration::from_secs(5);

/// Having run this long, it did not end because it was started.
const SETTLED: Duration = Duration::from_secs(10);

/// From the request to end to being killed.
const GRACE: Duration = Duration::from_secs(2);

/// A program that is started again whenever it should run and does not.
#[derive(Debug)]
pub(super) struct Process {
    /// `nb`, `sb` or `northd`: the names of its files.
    pub(super) name: &'static str,
    program: &'static str,
    arguments: Vec<OsString>,
    run_dir: PathBuf,
    child: Option<Child>,
    started: Instant,
    backoff: Backoff,
    not_before: Instant,
}

impl Process {
    pub(super) fn new(
        name: &'static str,
        program: &'static str,
        arguments: Vec<OsString>,
        run_dir: PathBuf,
    ) -> Self {
        let now = Instant::now();
        let backoff = Backoff::new(RESTART_FIRST, RESTART_MOST);
        Self {
            name,
            program,
            arguments,
            run_dir,
            child: None,
            started: now,
            backoff,
            not_before: now,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Its process id, while it runs.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.as_ref()?.id()
    }

    /// Whether it does not run and may be started now.
    pub(super) fn is_due(&self) -> bool {
        self.child.is_none() && Instant::now() >= self.not_before
    }

    /// Starts it, in the foreground, as a child that the kernel kills when this thread ends.
    pub(super) fn start(&mut self) -> io::Result<()> {
        self.started = Instant::now();
        // Also if the start fails: there is no point in trying at once again.
        self.not_before = self.started + self.backoff.next();
        let path = self.run_dir.join(format!("{}.log", self.name));
        let log = OpenOptions::new().create(true).append(true).open(path)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", self.program]).args(&self.arguments);
        for variable in ["RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR"] {
            command.env(format!("OVS_{variable}"), &self.run_dir);
            command.env(format!("OVN_{variable}"), &self.run_dir);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// Waits for its end; for ever while it does not run. Cancel safe.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let Some(child) = &mut self.child else { return std::future::pending().await };
        let status = child.wait().await;
        self.child = None;
        let now = Instant::now();
        if now.duration_since(self.started) >= SETTLED {
            self.backoff.reset();
            self.not_before = now;
        }
        status
    }

    /// Ends it: asks, and after a while insists.
    pub(super) async fn stop(&mut self) {
        let Some(child) = &mut self.child else { return };
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id {
            // An error says that it has ended by itself.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            tracing::warn!(process = self.name, "does not end when asked; killed");
            self.kill().await;
        }
        self.child = None;
        self.backoff.reset();
        self.not_before = Instant::now();
    }

    /// Ends it at once.
    pub(super) async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error says that it has ended by itself.
            let _ = child.kill().await;
        }
        self.backoff.reset();
        self.not_before = Instant::now();
    }
}
