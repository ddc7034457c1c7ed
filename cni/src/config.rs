//! The network configuration on standard input.

use std::{path::PathBuf, time::Duration};

use atoll_cni_wire::{SOCKET_DEFAULT, TOMBSTONE_DIR_DEFAULT};
use serde::Deserialize;

use crate::error::PluginError;

/// The versions of the specification that this plugin speaks, oldest first.
pub(crate) const SUPPORTED_VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// How long one call may take: kubelet gives up on a sandbox after two minutes and tries again,
/// so that there must be room for more than one attempt.
const TIMEOUT_MS_DEFAULT: u64 = 30_000;

/// Longest timeout that makes sense, for the same reason.
const TIMEOUT_MS_MAX: u64 = 120_000;

/// Only the version, from a document of which nothing else may be right.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct AskedVersion {
    #[serde(rename = "cniVersion")]
    pub(crate) cni_version: Option<String>,
}

/// The configuration as it is written. Unknown fields (`prevResult`, `runtimeConfig`, `dns`, …)
/// are the runtime's and are passed over.
#[derive(Debug, Deserialize)]
struct Raw {
    #[serde(default, rename = "cniVersion")]
    cni_version: String,
    #[serde(default)]
    name: String,
    socket: Option<PathBuf>,
    tombstones: Option<PathBuf>,
    timeout_ms: Option<u64>,
}

/// The checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) cni_version: &'static str,
    pub(crate) socket: PathBuf,
    pub(crate) tombstones: PathBuf,
    pub(crate) timeout: Duration,
}

impl Config {
    pub(crate) fn parse(text: &[u8]) -> Result<Self, PluginError> {
        let raw: Raw = serde_json::from_slice(text)
            .map_err(|problem| PluginError::DecodeConfig { problem })?;
        let cni_version = supported(&raw.cni_version)
            .ok_or(PluginError::UnsupportedVersion { asked: raw.cni_version })?;
        check_network_name(&raw.name)?;
        Ok(Self {
            cni_version,
            socket: absolute("socket", raw.socket, SOCKET_DEFAULT)?,
            tombstones: absolute("tombstones", raw.tombstones, TOMBSTONE_DIR_DEFAULT)?,
            timeout: timeout(raw.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT))?,
        })
    }
}

/// The same version as one of ours, if we speak it.
pub(crate) fn supported(asked: &str) -> Option<&'static str> {
    SUPPORTED_VERSIONS.into_iter().find(|version| *version == asked)
}

fn check_network_name(name: &str) -> Result<(), PluginError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(allowed) {
        let problem = "must start with a letter or digit and hold only these and `_`, `.`, `-`";
        return Err(PluginError::InvalidConfig { field: "name", problem });
    }
    Ok(())
}

fn absolute(
    field: &'static str,
    path: Option<PathBuf>,
    default: &str,
) -> Result<PathBuf, PluginError> {
    let path = path.unwrap_or_else(|| default.into());
    if path.is_absolute() {
        return Ok(path);
    }
    Err(PluginError::InvalidConfig { field, problem: "must be an absolute path" })
}

fn timeout(timeout_ms: u64) -> Result<Duration, PluginError> {
    if (1..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
        return Ok(Duration::from_millis(timeout_ms));
    }
    let problem = "must be between 1 and 120000 milliseconds";
    Err(PluginError::InvalidConfig { field: "timeout_ms", problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_a_default_and_what_is_foreign_is_passed_over() {
        let text = br#"{"cniVersion":"1.0.0","name":"atoll","type":"atoll-cni",
                        "prevResult":{"cniVersion":"1.0.0"},"runtimeConfig":{}}"#;
        let config = Config::parse(text).unwrap();
        assert_eq!(config.socket, PathBuf::from("/run/atoll/cni.sock"));
        assert_eq!(config.tombstones, PathBuf::from("/var/lib/atoll/tombstones"));
        assert_eq!(config.timeout, Duration::from_secs(30));
    }

    #[test]
    fn a_wrong_value_is_refused_with_the_name_of_its_field() {
        for (field, setting) in [
            ("socket", r#""socket":"cni.sock""#),
            ("tombstones", r#""tombstones":"here""#),
            ("timeout_ms", r#""timeout_ms":0"#),
            ("timeout_ms", r#""timeout_ms":600000"#),
        ] {
            let text = format!(r#"{{"cniVersion":"1.0.0","name":"atoll",{setting}}}"#);
            let error = Config::parse(text.as_bytes()).unwrap_err();
            let PluginError::InvalidConfig { field: named, .. } = error else { panic!("{error}") };
            assert_eq!(named, field);
        }
        let nameless = Config::parse(br#"{"cniVersion":"1.0.0"}"#).unwrap_err();
        assert!(matches!(nameless, PluginError::InvalidConfig { field: "name", .. }));
    }
}
