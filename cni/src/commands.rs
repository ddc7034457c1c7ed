//! The commands of the specification.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use atoll_cni_wire::{Command, Request, Response, Tombstone, VERSION};
use serde::Serialize;

use crate::{
    agent::{self, Deadline},
    call::{Attachment, Call},
    config::{AskedVersion, Config, SUPPORTED_VERSIONS, supported},
    error::PluginError,
    result::{AddResult, ErrorResult, VersionResult},
};

/// How long `ADD` waits for an agent that is being restarted or updated, which takes about a
/// second. Longer than that a person should see why pods do not start.
const RESTART_PATIENCE: Duration = Duration::from_secs(5);

/// The version of errors when the asked one is unknown or not ours.
const VERSION_OF_LAST_RESORT: &str = "1.0.0";

/// What goes to standard output, and whether the call succeeded.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) text: String,
    pub(crate) done: bool,
}

impl Printed {
    fn result(document: &impl Serialize) -> Self {
        Self { text: to_json(document), done: true }
    }

    fn nothing() -> Self {
        Self { text: String::new(), done: true }
    }

    /// The CNI error for `error`, in the version that the configuration asks for.
    pub(crate) fn error(error: &PluginError, asked: Option<&str>) -> Self {
        let version = asked.and_then(supported).unwrap_or(VERSION_OF_LAST_RESORT);
        Self { text: to_json(&ErrorResult::new(&error.to_cni(), version)), done: false }
    }
}

fn to_json(document: &impl Serialize) -> String {
    serde_json::to_string(document).expect("plain structs of strings and numbers are JSON")
}

/// Carries out one call of the runtime.
pub(crate) fn answer(call: &Call, config: &[u8]) -> Printed {
    let asked: AskedVersion = serde_json::from_slice(config).unwrap_or_default();
    let asked = asked.cni_version.as_deref();
    let outcome = match call.command.as_deref() {
        Some("ADD") => add(call, config),
        Some("DEL") => delete(call, config),
        Some("VERSION") => Ok(version(asked)),
        Some(command @ ("CHECK" | "GC" | "STATUS")) => {
            Err(PluginError::NotProvided { command: command.to_owned() })
        }
        Some(command) => Err(PluginError::UnknownCommand { command: command.to_owned() }),
        None => Err(PluginError::MissingVariables { names: vec!["CNI_COMMAND"] }),
    };
    outcome.unwrap_or_else(|error| Printed::error(&error, asked))
}

fn version(asked: Option<&str>) -> Printed {
    let [.., newest] = SUPPORTED_VERSIONS;
    Printed::result(&VersionResult::new(asked.unwrap_or(newest)))
}

fn add(call: &Call, config: &[u8]) -> Result<Printed, PluginError> {
    let config = Config::parse(config)?;
    let deadline = Deadline::after(config.timeout);
    let request = request(Command::Add, call.to_add()?, &config);
    match agent::ask(&config.socket, request, deadline, RESTART_PATIENCE)? {
        Response::Added(added) => Ok(Printed::result(&AddResult::new(added, config.cni_version))),
        Response::Error(error) => Err(PluginError::Agent(error)),
        Response::Deleted => Err(PluginError::UnexpectedAnswer),
    }
}

fn delete(call: &Call, config: &[u8]) -> Result<Printed, PluginError> {
    let config = Config::parse(config)?;
    let deadline = Deadline::after(config.timeout);
    let request = request(Command::Del, call.to_delete()?, &config);
    match agent::ask(&config.socket, request.clone(), deadline, Duration::ZERO) {
        Ok(Response::Deleted) => Ok(Printed::nothing()),
        Ok(Response::Error(error)) => Err(PluginError::Agent(error)),
        Ok(Response::Added(_)) => Err(PluginError::UnexpectedAnswer),
        Err(PluginError::AgentAbsent { .. }) => leave_for_later(request, &config, deadline),
        Err(error) => Err(error),
    }
}

/// Keeps the deletion for the agent's next start.
///
/// The agent may have started, and drained the directory, between our first try and the file; so
/// there is a second try, whose failure does not matter (`atoll_cni_wire::Tombstone`).
fn leave_for_later(
    request: Request,
    config: &Config,
    deadline: Deadline,
) -> Result<Printed, PluginError> {
    let path = tombstone(&request)
        .write(&config.tombstones)
        .map_err(|source| PluginError::Tombstone { source })?;
    let second = agent::ask(&config.socket, request, deadline, Duration::ZERO);
    if let Ok(Response::Deleted) = second {
        // Left behind, it would only be carried out once more.
        let _ = Tombstone::remove(&path);
    }
    Ok(Printed::nothing())
}

fn request(command: Command, attachment: Attachment, config: &Config) -> Request {
    let Attachment { container_id, ifname, netns, pod } = attachment;
    Request {
        version: VERSION,
        command,
        container_id,
        netns,
        ifname,
        pod_namespace: pod.namespace.unwrap_or_default(),
        pod_name: pod.name.unwrap_or_default(),
        pod_uid: pod.uid,
        cni_version: config.cni_version.to_owned(),
        // Set when the connection is there: until then time passes.
        deadline_ms: 0,
    }
}

fn tombstone(request: &Request) -> Tombstone {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Tombstone {
        container_id: request.container_id.clone(),
        ifname: request.ifname.clone(),
        netns: request.netns.clone(),
        pod_namespace: request.pod_namespace.clone(),
        pod_name: request.pod_name.clone(),
        pod_uid: request.pod_uid.clone(),
        written_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    // The agent came up between the first try and the tombstone, and has drained the directory
    // already: without a second try the pod's address would stay bound until its next start.
    #[test]
    fn an_agent_that_came_up_meanwhile_is_told_and_no_tombstone_stays() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            cni_version: "1.0.0",
            socket: directory.path().join("cni.sock"),
            tombstones: directory.path().join("tombstones"),
            timeout: Duration::from_secs(5),
        };
        let attachment = Attachment {
            container_id: "c1".into(),
            ifname: "eth0".into(),
            netns: None,
            pod: crate::call::Pod::default(),
        };
        let listener = UnixListener::bind(&config.socket).unwrap();
        let agent = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request: Request = atoll_cni_wire::read(&mut stream).unwrap();
            atoll_cni_wire::write(&mut stream, &Response::Deleted).unwrap();
            request
        });
        let request = request(Command::Del, attachment, &config);
        let printed = leave_for_later(request, &config, Deadline::after(config.timeout)).unwrap();
        assert!(printed.done && printed.text.is_empty());
        assert_eq!(agent.join().unwrap().container_id, "c1");
        assert!(Tombstone::read_all(&config.tombstones).unwrap().is_empty());
    }
}
