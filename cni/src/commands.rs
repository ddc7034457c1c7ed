//! The commands of the specification.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use atoll_cni_wire::{Command, NO_ATTACHMENT, Request, Response, Tombstone, VERSION};
use serde::Serialize;

use crate::{
    agent::{self, Deadline},
    call::{Attachment, Call, Pod},
    config::{self, AskedVersion, Config, SUPPORTED_VERSIONS, ToCheck, ToCollect, supported},
    error::PluginError,
    result::{AddResult, ErrorResult, VersionResult},
};

/// How long `ADD` waits for an agent that is being restarted or updated, which takes about a
/// second. Longer than that a person should see why pods do not start.
const RESTART_PATIENCE: Duration = Duration::from_secs(5);

/// How long `STATUS` may take: it is asked every few seconds, and only to know about now.
const STATUS_TIME_MAX: Duration = Duration::from_secs(1);

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
        Some("CHECK") => check(call, config),
        Some("GC") => collect(config),
        Some("STATUS") => status(config),
        Some("VERSION") => Ok(version(asked)),
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
        _ => Err(PluginError::UnexpectedAnswer),
    }
}

fn check(call: &Call, config: &[u8]) -> Result<Printed, PluginError> {
    let text = config;
    let config = since("CHECK", "0.4.0", text)?;
    let attachment = call.to_add()?;
    let missing = |problem| PluginError::NoPreviousResult { problem };
    let previous = config::part::<ToCheck>(text)?.previous.ok_or_else(|| missing("is missing"))?;
    let previous = previous.of(&attachment.ifname);
    let previous = previous.ok_or_else(|| missing("does not name the interface in the pod"))?;
    let request = request(Command::Check, attachment, &config);
    let request = Request { previous: Some(previous), ..request };
    let deadline = Deadline::after(config.timeout);
    finish(Response::Checked, agent::ask(&config.socket, request, deadline, RESTART_PATIENCE)?)
}

/// Without an agent this fails, and the runtime tries again: nobody else knows what is attached.
fn collect(config: &[u8]) -> Result<Printed, PluginError> {
    let text = config;
    let config = since("GC", "1.1.0", text)?;
    let valid = config::part::<ToCollect>(text)?.valid.ok_or(PluginError::NoValidAttachments)?;
    let valid = Some(valid.into_iter().map(Into::into).collect());
    let request = Request { valid, ..request(Command::Gc, no_attachment(), &config) };
    let deadline = Deadline::after(config.timeout);
    finish(Response::Collected, agent::ask(&config.socket, request, deadline, RESTART_PATIENCE)?)
}

fn status(config: &[u8]) -> Result<Printed, PluginError> {
    let config = since("STATUS", "1.1.0", config)?;
    let request = request(Command::Status, no_attachment(), &config);
    let deadline = Deadline::after(config.timeout.min(STATUS_TIME_MAX));
    match agent::ask(&config.socket, request, deadline, Duration::ZERO) {
        Ok(answer) => finish(Response::Ready, answer),
        Err(error) => Err(PluginError::Agent(error.to_status())),
    }
}

/// The configuration, if its version has the command.
fn since(command: &'static str, since: &'static str, config: &[u8]) -> Result<Config, PluginError> {
    let config = Config::parse(config)?;
    let place = |version: &str| SUPPORTED_VERSIONS.iter().position(|it| *it == version);
    if place(config.cni_version) < place(since) {
        return Err(PluginError::NotInVersion { command, since, asked: config.cni_version });
    }
    Ok(config)
}

/// Of a command that prints nothing when it succeeds.
fn finish(expected: Response, answer: Response) -> Result<Printed, PluginError> {
    match answer {
        Response::Error(error) => Err(PluginError::Agent(error)),
        answer if answer == expected => Ok(Printed::nothing()),
        _ => Err(PluginError::UnexpectedAnswer),
    }
}

fn delete(call: &Call, config: &[u8]) -> Result<Printed, PluginError> {
    let config = Config::parse(config)?;
    let deadline = Deadline::after(config.timeout);
    let request = request(Command::Del, call.to_delete()?, &config);
    match agent::ask(&config.socket, request.clone(), deadline, Duration::ZERO) {
        Ok(answer) => finish(Response::Deleted, answer),
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
        network: config.name.clone(),
        previous: None,
        valid: None,
    }
}

/// For commands that are about none.
fn no_attachment() -> Attachment {
    let name = || NO_ATTACHMENT.to_owned();
    Attachment { container_id: name(), ifname: name(), netns: None, pod: Pod::default() }
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
            name: "atoll".into(),
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
