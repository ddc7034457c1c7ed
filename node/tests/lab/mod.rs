//! Network namespaces of a test: made under unique names, removed at its end.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::{
    path::PathBuf,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use nix::sched::{CloneFlags, setns};
use serde_json::Value;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A network namespace that goes away with this value.
pub(crate) struct Net {
    name: String,
}

impl Net {
    pub(crate) fn new() -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("atoll-t{}-{number}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]));
        let net = Self { name };
        net.sh("ip link set lo up");
        net
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs a shell line inside and returns what it prints; it must succeed.
    pub(crate) fn sh(&self, line: &str) -> String {
        String::from_utf8(run(&mut self.command(line)).stdout).unwrap()
    }

    /// Whether a shell line inside succeeds.
    pub(crate) fn succeeds(&self, line: &str) -> bool {
        self.command(line).output().unwrap().status.success()
    }

    /// The JSON that `ip -j …` prints inside; an empty output is an empty list.
    pub(crate) fn ip(&self, arguments: &str) -> Value {
        let text = self.sh(&format!("ip -j {arguments}"));
        if text.trim().is_empty() {
            return Value::Array(Vec::new());
        }
        serde_json::from_str(&text).unwrap()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "sh", "-c", line]);
        command
    }

    /// Runs the agent's code as if this were the node: on a thread that lives in the namespace.
    pub(crate) fn as_node<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        let path = self.path();
        thread::scope(|scope| {
            let body = move || {
                let file = std::fs::File::open(path).unwrap();
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                runtime.enable_all().build().unwrap().block_on(work())
            };
            match scope.spawn(body).join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {errors}");
    output
}
