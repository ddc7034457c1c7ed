//! `[kubernetes]`: the apiserver whose pods the network is for. Without it there is none, and pods
//! are announced through the API.

use std::path::PathBuf;

use atoll_kube::Connect;
use serde::Deserialize;

use super::{ConfigError, value};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKubernetes {
    kubeconfig: Option<PathBuf>,
    #[serde(default)]
    in_cluster: bool,
}

impl TryFrom<RawKubernetes> for Connect {
    type Error = ConfigError;

    fn try_from(raw: RawKubernetes) -> Result<Self, ConfigError> {
        match (raw.kubeconfig, raw.in_cluster) {
            (Some(path), false) => Ok(Self::Kubeconfig(path)),
            (None, true) => Ok(Self::InCluster),
            (Some(_), true) => Err(value("kubernetes", "kubeconfig or in_cluster, not both")),
            (None, false) => {
                let rule = "name a kubeconfig, or say in_cluster = true for a member that is a \
                            pod; leave [kubernetes] out if there is no apiserver";
                Err(value("kubernetes", rule))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Connect, ConfigError> {
        toml::from_str::<RawKubernetes>(text).unwrap().try_into()
    }

    #[test]
    fn one_way_to_the_apiserver_is_named() {
        let file = Connect::Kubeconfig("/etc/atoll/kubeconfig".into());
        assert_eq!(read("kubeconfig = \"/etc/atoll/kubeconfig\"").unwrap(), file);
        assert_eq!(read("in_cluster = true").unwrap(), Connect::InCluster);
        for (text, why) in
            [("", "leave [kubernetes] out"), ("kubeconfig = \"x\"\nin_cluster = true", "not both")]
        {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with("kubernetes: ") && error.contains(why), "{error}");
        }
    }
}
