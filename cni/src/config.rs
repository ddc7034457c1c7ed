//! The network configuration on standard input.

use std::{path::PathBuf, time::Duration};

use atoll_cni_wire::{AttachmentId, SOCKET_DEFAULT, TOMBSTONE_DIR_DEFAULT};
use serde::{Deserialize, Deserializer};

use crate::{error::PluginError, previous::PreviousResult};

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

/// The configuration as it is written. Unknown fields (`runtimeConfig`, `dns`, …) are the runtime's
/// and are passed over.
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

/// What `CHECK` needs beside the configuration. Apart from it, so that nothing in a result can keep
/// a `DEL` from being done.
#[derive(Debug, Deserialize)]
pub(crate) struct ToCheck {
    #[serde(rename = "prevResult")]
    pub(crate) previous: Option<PreviousResult>,
}

/// What `GC` needs beside the configuration.
#[derive(Debug, Deserialize)]
pub(crate) struct ToCollect {
    /// Absent is something else than empty, which means that nothing is to stay.
    #[serde(default, rename = "cni.dev/valid-attachments", deserialize_with = "listed")]
    pub(crate) valid: Option<Vec<Listed>>,
}

/// One attachment that is to stay.
#[derive(Debug, Deserialize)]
pub(crate) struct Listed {
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

impl From<Listed> for AttachmentId {
    fn from(listed: Listed) -> Self {
        Self { container_id: listed.container_id, ifname: listed.ifname }
    }
}

/// A runtime in Go writes an empty list as `null`.
fn listed<'de, D: Deserializer<'de>>(list: D) -> Result<Option<Vec<Listed>>, D::Error> {
    Ok(Some(Option::deserialize(list)?.unwrap_or_default()))
}

/// The checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) cni_version: &'static str,
    /// Name of the network.
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
    pub(crate) tombstones: PathBuf,
    pub(crate) timeout: Duration,
}

impl Config {
    pub(crate) fn parse(text: &[u8]) -> Result<Self, PluginError> {
        let raw: Raw = part(text)?;
        let cni_version = supported(&raw.cni_version)
            .ok_or(PluginError::UnsupportedVersion { asked: raw.cni_version })?;
        check_network_name(&raw.name)?;
        Ok(Self {
            cni_version,
            name: raw.name,
            socket: absolute("socket", raw.socket, SOCKET_DEFAULT)?,
            tombstones: absolute("tombstones", raw.tombstones, TOMBSTONE_DIR_DEFAULT)?,
            timeout: timeout(raw.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT))?,
        })
    }
}

/// Reads what a command needs beside the [`Config`].
pub(crate) fn part<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T, PluginError> {
    serde_json::from_slice(text).map_err(|problem| PluginError::DecodeConfig { problem })
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

    // Taken for empty, a list that the runtime forgot would detach every pod of the node.
    #[test]
    fn a_list_that_is_absent_is_not_an_empty_one() {
        let listed = |text: &str| {
            let valid = part::<ToCollect>(text.as_bytes()).unwrap().valid?;
            Some(valid.into_iter().map(AttachmentId::from).collect::<Vec<_>>())
        };
        assert_eq!(listed("{}"), None);
        assert_eq!(listed(r#"{"cni.dev/valid-attachments":[]}"#), Some(vec![]));
        assert_eq!(listed(r#"{"cni.dev/valid-attachments":null}"#), Some(vec![]));
        let one = r#"{"cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]}"#;
        let expected = AttachmentId { container_id: "c1".into(), ifname: "eth0".into() };
        assert_eq!(listed(one), Some(vec![expected]));
        let nameless = r#"{"cni.dev/valid-attachments":[{"containerID":"c1"}]}"#;
        assert!(part::<ToCollect>(nameless.as_bytes()).is_err());
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
