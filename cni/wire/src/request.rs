//! The plugin's question.

use serde::{Deserialize, Serialize};

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
    /// A command of a newer plugin. Kept readable so that the agent can refuse it by name.
    Other(String),
}

impl From<String> for Command {
    fn from(name: String) -> Self {
        match name.as_str() {
            "ADD" => Self::Add,
            "DEL" => Self::Del,
            _ => Self::Other(name),
        }
    }
}

impl From<Command> for String {
    fn from(command: Command) -> Self {
        match command {
            Command::Add => "ADD".to_owned(),
            Command::Del => "DEL".to_owned(),
            Command::Other(name) => name,
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
    /// The runtime's id of the sandbox; passes [`check_container_id`].
    pub container_id: String,
    /// Path of the sandbox's network namespace. Always there for `ADD`; a `DEL` may come after
    /// the namespace is gone.
    pub netns: Option<String>,
    /// Name of the interface in the pod; passes [`check_ifname`].
    pub ifname: String,
    /// The pod's namespace. Empty in a `DEL` whose runtime did not name the pod.
    pub pod_namespace: String,
    /// The pod's name. Empty in a `DEL` whose runtime did not name the pod.
    pub pod_name: String,
    /// The pod's uid as the runtime knows it (for a static pod not the mirror pod's).
    pub pod_uid: Option<String>,
    /// The `cniVersion` of the network configuration, for logs.
    pub cni_version: String,
    /// How many milliseconds from now the plugin waits for the response. After that the runtime
    /// has been told to try again, and nobody reads an answer.
    pub deadline_ms: u64,
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
        let command: Command = serde_json::from_str("\"GC\"").unwrap();
        assert_eq!(command, Command::Other("GC".into()));
        assert_eq!(serde_json::to_string(&Command::Add).unwrap(), "\"ADD\"");
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
