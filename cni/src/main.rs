//! The CNI plugin: what a container runtime executes to attach a pod to the network.
//!
//! It does nothing itself. It checks what the runtime said (environment and standard input), puts
//! one question to the node agent on its unix socket, and prints the answer in the shape of the
//! CNI version that was asked for. All state, all policy and all plumbing are the agent's.
//!
//! | command | what happens |
//! |---|---|
//! | `ADD` | passed to the agent; waits a few seconds for an agent that is being restarted |
//! | `DEL` | passed to the agent; without an agent: a tombstone is left, and `DEL` succeeds |
//! | `CHECK`, since 0.4.0 | passed to the agent with what `ADD` said, as `ADD` is |
//! | `GC`, since 1.1.0 | passed to the agent with the list, as `ADD` is; never left for later |
//! | `STATUS`, since 1.1.0 | passed to the agent, for a second; without an agent: code 50 |
//! | `VERSION` | answered here |
//! | others | refused, saying so |
//!
//! Invariants:
//! * it ends within `timeout_ms`, whatever the agent does;
//! * standard output holds one JSON document or, if there is nothing to say, nothing;
//! * exit code 0 means done; 1 means that the document is a CNI error.
//!
//! Deliberately absent: an async runtime, netlink, access to the store or to Kubernetes, logs.

mod agent;
mod call;
mod commands;
mod config;
mod error;
mod previous;
mod result;

use std::{
    io::{self, Read, Write},
    process::ExitCode,
};

use crate::{call::Call, commands::Printed, error::PluginError};

/// Largest network configuration that is read: libcni's own are a few kilobytes, with the result
/// of earlier plugins some more.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

fn main() -> ExitCode {
    let call = Call::from_variables(|name| std::env::var(name).ok());
    let printed = match read_config(io::stdin().lock()) {
        Ok(config) => commands::answer(&call, &config),
        Err(error) => Printed::error(&error, None),
    };
    // Without a reader there is nobody to tell; the exit code still says it.
    let written = io::stdout().lock().write_all(printed.text.as_bytes());
    if printed.done && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read_config(stdin: impl Read) -> Result<Vec<u8>, PluginError> {
    let mut config = Vec::new();
    stdin
        .take(CONFIG_BYTES_MAX + 1)
        .read_to_end(&mut config)
        .map_err(|source| PluginError::ReadConfig { source })?;
    let length = u64::try_from(config.len()).unwrap_or(u64::MAX);
    if length > CONFIG_BYTES_MAX {
        return Err(PluginError::ConfigTooLarge { limit_bytes: CONFIG_BYTES_MAX });
    }
    Ok(config)
}
