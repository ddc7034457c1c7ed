//! `[kubernetes]`: the apiserver whose pods the network is for. Without it there is none, and pods
//! are announced through the API.

use std::net::SocketAddr;
use std::path::PathBuf;

use atoll_api::Endpoint;
use atoll_kube::{Connect, WebhookOptions};
use serde::Deserialize;

use super::{ConfigError, loopback, value};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKubernetes {
    kubeconfig: Option<PathBuf>,
    #[serde(default)]
    in_cluster: bool,
    webhook: Option<RawWebhook>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWebhook {
    listen: String,
    advertise: Option<String>,
}

/// The apiserver, and what it may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// How it is reached.
    pub connect: Connect,
    /// Where it may ask whether the store would take an object; `None` if it is not to ask.
    pub webhook: Option<WebhookOptions>,
}

pub(super) fn kubernetes(
    raw: RawKubernetes,
    insecure_dev: bool,
) -> Result<KubernetesConfig, ConfigError> {
    let connect = match (raw.kubeconfig, raw.in_cluster) {
        (Some(path), false) => Connect::Kubeconfig(path),
        (None, true) => Connect::InCluster,
        (Some(_), true) => {
            return Err(value("kubernetes", "kubeconfig or in_cluster, not both"));
        }
        (None, false) => {
            let rule = "name a kubeconfig, or say in_cluster = true for a member that is a \
                        pod; leave [kubernetes] out if there is no apiserver";
            return Err(value("kubernetes", rule));
        }
    };
    let webhook = raw.webhook.map(|raw| webhook(&raw, insecure_dev)).transpose()?;
    Ok(KubernetesConfig { connect, webhook })
}

fn webhook(raw: &RawWebhook, insecure_dev: bool) -> Result<WebhookOptions, ConfigError> {
    let listen: SocketAddr = raw.listen.parse().map_err(|error| {
        value("kubernetes.webhook.listen", format!("{:?} is no ADDRESS:PORT: {error}", raw.listen))
    })?;
    if insecure_dev {
        let endpoint = Endpoint::Tcp(listen.to_string());
        loopback(&endpoint).map_err(|error| value("kubernetes.webhook.listen", error))?;
    }
    let Some(advertise) = &raw.advertise else {
        if listen.ip().is_unspecified() {
            let rule = format!(
                "is missing: the apiserver cannot ask at {listen}; say where it reaches this member"
            );
            return Err(value("kubernetes.webhook.advertise", rule));
        }
        let (host, port) = (listen.ip().to_string(), listen.port());
        return Ok(WebhookOptions { listen, host, port });
    };
    let wrong = || {
        let rule = format!("{advertise:?} is no HOST:PORT ([ADDRESS]:PORT for IPv6)");
        value("kubernetes.webhook.advertise", rule)
    };
    let (host, port) = advertise.rsplit_once(':').ok_or_else(wrong)?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?.to_string(),
        None if host.is_empty() || host.contains([':', '/', '@']) => return Err(wrong()),
        None => host.to_owned(),
    };
    let port = port.parse().map_err(|_| wrong())?;
    Ok(WebhookOptions { listen, host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<KubernetesConfig, ConfigError> {
        kubernetes(toml::from_str::<RawKubernetes>(text).unwrap(), false)
    }

    #[test]
    fn one_way_to_the_apiserver_is_named() {
        let file = Connect::Kubeconfig("/etc/atoll/kubeconfig".into());
        assert_eq!(read("kubeconfig = \"/etc/atoll/kubeconfig\"").unwrap().connect, file);
        let inside = read("in_cluster = true").unwrap();
        assert_eq!((inside.connect, inside.webhook), (Connect::InCluster, None));
        for (text, why) in
            [("", "leave [kubernetes] out"), ("kubeconfig = \"x\"\nin_cluster = true", "not both")]
        {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with("kubernetes: ") && error.contains(why), "{error}");
        }
    }

    fn webhook(lines: &str) -> Result<WebhookOptions, String> {
        let text = format!("in_cluster = true\n[webhook]\n{lines}");
        let read = read(&text).map_err(|error| error.to_string())?;
        Ok(read.webhook.unwrap())
    }

    #[test]
    fn the_apiserver_asks_where_the_member_listens_or_says() {
        let place = |lines: &str| webhook(lines).map(|it| (it.host, it.port));
        let own = |host: &str, port: u16| Ok((host.to_owned(), port));
        assert_eq!(place("listen = \"10.0.0.1:7443\""), own("10.0.0.1", 7443));
        assert_eq!(place("listen = \"[fd00::1]:7443\""), own("fd00::1", 7443));
        let all = |advertise: &str| {
            place(&format!("listen = \"0.0.0.0:7443\"\nadvertise = \"{advertise}\""))
        };
        assert_eq!(all("10.0.0.1:443"), own("10.0.0.1", 443));
        assert_eq!(all("m1.example:443"), own("m1.example", 443));
        assert_eq!(all("[fd00::1]:443"), own("fd00::1", 443));
        for bad in ["", "10.0.0.1", "fd00::1:443", "[x]:443", "m1:x", "https://m1:443", ":443"] {
            let error = all(bad).unwrap_err();
            let named = error.starts_with("kubernetes.webhook.advertise: ");
            assert!(named && error.contains("is no HOST:PORT"), "{bad}: {error}");
        }
        let error = place("listen = \"0.0.0.0:7443\"").unwrap_err();
        assert!(error.starts_with("kubernetes.webhook.advertise: is missing"), "{error}");
        let error = place("listen = \"here\"").unwrap_err();
        assert!(error.starts_with("kubernetes.webhook.listen: \"here\" is no ADDRESS"), "{error}");
    }

    #[test]
    fn with_insecure_dev_the_webhook_too_stays_on_the_machine() {
        let read = |listen: &str| {
            let text = format!("in_cluster = true\n[webhook]\nlisten = \"{listen}\"");
            kubernetes(toml::from_str(&text).unwrap(), true).map_err(|error| error.to_string())
        };
        assert!(read("127.0.0.1:7443").is_ok());
        assert!(read("10.0.0.1:7443").unwrap_err().starts_with("kubernetes.webhook.listen: "));
    }
}
