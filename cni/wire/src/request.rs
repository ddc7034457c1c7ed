//! The plugin's question.

use serde::{Deserialize, Serialize};

use crate::Added;

/// What stands for container and interface in a request that is about no attachment.
///
/// A valid name of both, so that an agent that does not know the command yet refuses it by that,
/// and not because something is empty.
pub const NO_ATTACHMENT: &str = "none";

/// Version of this protocol. Raised when an older peer would misunderstand a message; additions
/// that it may ignore do not raise it.
pub const VERSION: u32 = 1;

/// Longest name of a network interface: Linux' `IFNAMSIZ` less the terminating zero.
const IFNAME_BYTES_MAX: usize = 15;

/// Longest container id. Runtimes use 64 hex digits; the bound keeps `<id>@<ifname>.json`, the
/// name of a tombstone, under the 255 bytes that a file name may have.
const CONTAINER_ID_BYTES_MAX: usize = 200;

/// What the runtime asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum Command {
    /// Attach a pod. Idempotent for each container and interface.
    Add,
    /// Detach a pod. Idempotent; succeeds when there is nothing to detach.
    Del,
    /// Say whether an attachment is still as `ADD` said. Changes nothing.
    Check,
    /// Detach whatever is not listed.
    Gc,
    /// Say whether an `ADD` can work now. Changes nothing.
    Status,
    /// A command of a newer plugin. Kept readable so that the agent can refuse it by name.
    Other(String),
}

impl From<String> for Command {
    fn from(name: String) -> Self {
        match name.as_str() {
            "ADD" => Self::Add,
            "DEL" => Self::Del,
            "CHECK" => Self::Check,
            "GC" => Self::Gc,
            "STATUS" => Self::Status,
            _ => Self::Other(name),
        }
    }
}

impl From<Command> for String {
    fn from(command: Command) -> Self {
        match command {
            Command::Other(name) => name,
            Command::Add => "ADD".to_owned(),
            Command::Del => "DEL".to_owned(),
            Command::Check => "CHECK".to_owned(),
            Command::Gc => "GC".to_owned(),
            Command::Status => "STATUS".to_owned(),
        }
    }
}

/// One call of the runtime, as the plugin passes it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`] of the sender.
    pub version: u32,
    /// What is asked for.
    pub command: Command,
    /// The runtime's id of the sandbox; passes [`check_container_id`]. [`NO_ATTACHMENT`] in `GC`
    /// and `STATUS`.
    pub container_id: String,
    /// Path of the sandbox's network namespace. Always there for `ADD` and `CHECK`; a `DEL` may
    /// come after the namespace is gone.
    pub netns: Option<String>,
    /// Name of the interface in the pod; passes [`check_ifname`]. [`NO_ATTACHMENT`] in `GC` and
    /// `STATUS`.
    pub ifname: String,
    /// The pod's namespace. Empty where the runtime did not name the pod.
    pub pod_namespace: String,
    /// The pod's name. Empty where the runtime did not name the pod.
    pub pod_name: String,
    /// The pod's uid as the runtime knows it (for a static pod not the mirror pod's).
    pub pod_uid: Option<String>,
    /// The `cniVersion` of the network configuration, for logs.
    pub cni_version: String,
    /// How many milliseconds from now the plugin waits for the response. After that the runtime
    /// has been told to try again, and nobody reads an answer.
    pub deadline_ms: u64,
    /// Name of the network in the configuration. Empty from a plugin that does not say it yet.
    #[serde(default)]
    pub network: String,
    /// In a `CHECK`: what `ADD` said of this attachment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Added>,
    /// In a `GC`: all attachments that are to stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<Vec<AttachmentId>>,
}

/// Which interface of which sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttachmentId {
    /// The runtime's id of the sandbox.
    pub container_id: String,
    /// Name of the interface in the pod.
    pub ifname: String,
}

/// A name that must not go into a file name, an interface name or a database row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {problem}")]
pub struct InvalidName {
    /// Which name it is.
    pub what: &'static str,
    /// The name, shortened if it is very long.
    pub value: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl InvalidName {
    fn new(what: &'static str, value: &str, problem: &'static str) -> Self {
        Self { what, value: value.chars().take(256).collect(), problem }
    }
}

/// Checks a container id: the specification's alphabet, and our bound on its length.
///
/// # Errors
///
/// [`InvalidName`] says what is wrong.
pub fn check_container_id(id: &str) -> Result<(), InvalidName> {
    let invalid = |problem| Err(InvalidName::new("container id", id, problem));
    if id.is_empty() {
        return invalid("is empty");
    }
    if id.len() > CONTAINER_ID_BYTES_MAX {
        return invalid("is longer than 200 characters");
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !id.starts_with(|c: char| c.is_ascii_alphanumeric()) || !id.chars().all(allowed) {
        return invalid("must start with a letter or digit and hold only these and `_`, `.`, `-`");
    }
    Ok(())
}

/// Checks the name of a network interface by the kernel's rules and the specification's.
///
/// # Errors
///
/// [`InvalidName`] says what is wrong.
pub fn check_ifname(name: &str) -> Result<(), InvalidName> {
    let invalid = |problem| Err(InvalidName::new("interface name", name, problem));
    if name.is_empty() {
        return invalid("is empty");
    }
    if name.len() > IFNAME_BYTES_MAX {
        return invalid("is longer than 15 characters");
    }
    if name == "." || name == ".." {
        return invalid("is not allowed");
    }
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':');
    if name.contains(forbidden) {
        return invalid("holds a slash, a colon, white space or a control character");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_a_newer_plugin_stays_readable() {
        let command: Command = serde_json::from_str("\"MOVE\"").unwrap();
        assert_eq!(command, Command::Other("MOVE".into()));
        let known = [Command::Add, Command::Del, Command::Check, Command::Gc, Command::Status];
        for (command, name) in known.into_iter().zip(["ADD", "DEL", "CHECK", "GC", "STATUS"]) {
            assert_eq!(String::from(command.clone()), name);
            assert_eq!(Command::from(name.to_owned()), command);
        }
    }

    /// Agents of the first release check both names before they look at the command.
    #[test]
    fn a_request_about_no_attachment_has_names_that_every_agent_takes() {
        check_container_id(NO_ATTACHMENT).unwrap();
        check_ifname(NO_ATTACHMENT).unwrap();
    }

    #[test]
    fn a_request_of_an_older_plugin_is_read() {
        let text = concat!(
            r#"{"version":1,"command":"ADD","container_id":"c1","netns":"/run/netns/x","#,
            r#""ifname":"eth0","pod_namespace":"ns","pod_name":"web-0","pod_uid":null,"#,
            r#""cni_version":"1.0.0","deadline_ms":9000}"#,
        );
        let request: Request = serde_json::from_str(text).unwrap();
        assert_eq!((request.command, request.network.as_str()), (Command::Add, ""));
        assert_eq!((request.previous, request.valid), (None, None));
    }

    #[test]
    fn names_that_could_leave_the_tombstone_directory_are_refused() {
        for id in ["", "../../etc", "-x", "a/b", "a b", &"a".repeat(201)] {
            assert!(check_container_id(id).is_err(), "{id:?}");
        }
        for ifname in ["", ".", "..", "a/b", "a:b", "a b", "sixteencharacter"] {
            assert!(check_ifname(ifname).is_err(), "{ifname:?}");
        }
        check_container_id("0123456789abcdef_.-").unwrap();
        check_ifname("fifteencharacte").unwrap();
    }
}
