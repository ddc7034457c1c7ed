//! Everything that can go wrong, and what the runtime is told about it.

use std::{error::Error, io, path::PathBuf, time::Duration};

use atoll_cni_wire::{CniError, Code, FrameError, InvalidName, TombstoneError};

use crate::config::SUPPORTED_VERSIONS;

/// Why a call of the plugin did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginError {
    #[error("the environment lacks {}; the runtime must set them for this command", names.join(", "))]
    MissingVariables { names: Vec<&'static str> },
    #[error("CNI_ARGS lacks {}; only a runtime of Kubernetes can attach pods", names.join(", "))]
    PodNotNamed { names: Vec<&'static str> },
    #[error("{name} cannot be used: {problem}")]
    InvalidVariable { name: &'static str, problem: InvalidName },
    #[error("CNI_ARGS holds {pair:?}, which is not KEY=VALUE")]
    MalformedArgs { pair: String },
    #[error("CNI_COMMAND is {command:?}; known are ADD, CHECK, DEL, GC, STATUS and VERSION")]
    UnknownCommand { command: String },
    #[error(
        "{command} exists since cniVersion {since}, and the network configuration asks for \
         {asked}; a runtime that calls it needs {since} or newer there"
    )]
    NotInVersion { command: &'static str, since: &'static str, asked: &'static str },
    #[error("the network configuration cannot be read from standard input")]
    ReadConfig { source: io::Error },
    #[error("the network configuration is larger than {limit_bytes} bytes")]
    ConfigTooLarge { limit_bytes: u64 },
    #[error("the network configuration on standard input is not usable JSON: {problem}")]
    DecodeConfig { problem: serde_json::Error },
    #[error("{field} in the network configuration {problem}")]
    InvalidConfig { field: &'static str, problem: &'static str },
    #[error(
        "prevResult {problem}, so that there is nothing to compare with; the runtime must hand \
         back what ADD of this very container and interface said"
    )]
    NoPreviousResult { problem: &'static str },
    #[error(
        "the network configuration lacks cni.dev/valid-attachments, and nothing was taken down: an \
         empty list must be there to mean that nothing is to stay"
    )]
    NoValidAttachments,
    #[error("cniVersion {asked:?} is not supported; use one of {}", SUPPORTED_VERSIONS.join(", "))]
    UnsupportedVersion { asked: String },
    #[error(
        "the node agent does not listen on {socket}; check that the atoll-node pod of this node \
         is running: the runtime tries again by itself"
    )]
    AgentAbsent { socket: PathBuf, source: io::Error },
    #[error("the node agent's socket {socket} cannot be used; the plugin must run as root")]
    Connect { socket: PathBuf, source: io::Error },
    #[error(
        "the node agent on {socket} did not answer within {} ms, outcome unknown; its log says \
         what it waits for: the runtime tries again by itself",
        waited.as_millis()
    )]
    AgentSilent { socket: PathBuf, waited: Duration },
    #[error(
        "the connection to the node agent on {socket} broke before its answer, outcome unknown: \
         the runtime tries again by itself"
    )]
    AgentBroke { socket: PathBuf, source: FrameError },
    #[error("the node agent answered something else than was asked; update plugin and agent alike")]
    UnexpectedAnswer,
    #[error("{0}")]
    Agent(CniError),
    #[error(
        "the node agent is away and the request cannot be kept for it on disk: the runtime tries \
         again by itself"
    )]
    Tombstone { source: TombstoneError },
    #[error("a thread cannot be started")]
    Thread { source: io::Error },
}

impl PluginError {
    /// The CNI error that the runtime gets: the only place where codes are chosen.
    pub(crate) fn to_cni(&self) -> CniError {
        let code = match self {
            Self::MissingVariables { .. }
            | Self::PodNotNamed { .. }
            | Self::InvalidVariable { .. }
            | Self::MalformedArgs { .. }
            | Self::UnknownCommand { .. } => Code::INVALID_ENVIRONMENT,
            Self::ReadConfig { .. } | Self::Tombstone { .. } => Code::IO_FAILURE,
            Self::DecodeConfig { .. } => Code::DECODE_FAILURE,
            Self::ConfigTooLarge { .. }
            | Self::InvalidConfig { .. }
            | Self::NoPreviousResult { .. }
            | Self::NoValidAttachments => Code::INVALID_CONFIG,
            Self::UnsupportedVersion { .. } | Self::NotInVersion { .. } => {
                Code::INCOMPATIBLE_VERSION
            }
            Self::AgentAbsent { .. }
            | Self::AgentSilent { .. }
            | Self::AgentBroke { .. }
            | Self::Thread { .. } => Code::TRY_AGAIN_LATER,
            Self::Connect { .. } => Code::IO_FAILURE,
            Self::UnexpectedAnswer => Code::WIRE_MISMATCH,
            Self::Agent(error) => return error.clone(),
        };
        CniError::new(code, self.to_string()).with_details(causes(self))
    }

    /// The same for a `STATUS`: whatever keeps the plugin from its agent keeps pods from being
    /// attached. Those that are attached do not need it.
    pub(crate) fn to_status(&self) -> CniError {
        let error = self.to_cni();
        let is_passing = matches!(error.code, Code::TRY_AGAIN_LATER | Code::IO_FAILURE);
        let code = if is_passing { Code::NOT_AVAILABLE } else { error.code };
        CniError { code, ..error }
    }
}

/// The chain of causes below an error, outermost first.
fn causes(error: &dyn Error) -> String {
    let mut below = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        below.push(error.to_string());
        cause = error.source();
    }
    below.join(": ")
}
