//! The agent's one config file: read raw, checked once.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_api::tls::{CredentialsError, OthersTls};
use atoll_api::{CertificateFiles, Credentials, Endpoint, Identity};
use atoll_cni_wire::{SOCKET_DEFAULT, TOMBSTONE_DIR_DEFAULT};
use atoll_model::{NodeName, limits};
use serde::Deserialize;

/// Geneve adds 58 bytes to a 1500-byte underlay's packets; 1400 leaves room for IPv6 and IPsec.
const MTU_DEFAULT: u16 = 1400;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    node: String,
    endpoints: Vec<String>,
    #[serde(default = "default_state_dir")]
    state_dir: PathBuf,
    #[serde(default = "default_socket")]
    cni_socket: PathBuf,
    #[serde(default = "default_tombstones")]
    tombstones: PathBuf,
    #[serde(default = "default_ovs_db")]
    ovs_db: PathBuf,
    #[serde(default = "default_ovn_run_dir")]
    ovn_run_dir: PathBuf,
    encap_ip: IpAddr,
    #[serde(default = "default_datapath")]
    datapath_type: String,
    #[serde(default = "default_mtu")]
    mtu: u16,
    #[serde(default = "default_rival_wait_ms")]
    rival_wait_ms: u64,
    tunnel: Option<RawTunnel>,
    metrics_listen: Option<String>,
    tls: Option<CertificateFiles>,
    southbound_tls: Option<OthersTls>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTunnel {
    interface: String,
    rate_mbit: u32,
}

/// Nearly nothing beside what an ADD takes; on a quiet node another one's answer takes 1 ms, seldom 4.
const RIVAL_WAIT_MS_DEFAULT: u64 = 5;

/// Each ADD takes as long, and a runtime waits for half a minute.
const RIVAL_WAIT_MS_MAX: u64 = 5_000;

const NO_TLS: &str = "is missing: an agent shows its node's certificate. Make one with `atolld pki \
                      issue --role node` and name the files here (ca, cert, key); --insecure-dev \
                      does without, for members on loopback";

const BOTH: &str = "and --insecure-dev exclude each other: take one away";

fn default_state_dir() -> PathBuf {
    "/var/lib/atoll".into()
}

fn default_socket() -> PathBuf {
    SOCKET_DEFAULT.into()
}

fn default_tombstones() -> PathBuf {
    TOMBSTONE_DIR_DEFAULT.into()
}

fn default_ovs_db() -> PathBuf {
    "/run/openvswitch/db.sock".into()
}

fn default_ovn_run_dir() -> PathBuf {
    "/run/ovn".into()
}

fn default_datapath() -> String {
    "system".to_owned()
}

fn default_mtu() -> u16 {
    MTU_DEFAULT
}

fn default_rival_wait_ms() -> u64 {
    RIVAL_WAIT_MS_DEFAULT
}

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This node's name.
    pub node: NodeName,
    /// The store's members.
    pub endpoints: Vec<Endpoint>,
    /// The cache and the queue.
    pub state_dir: PathBuf,
    /// Where the CNI plugin asks.
    pub cni_socket: PathBuf,
    /// Where the plugin leaves deletions that it could not tell.
    pub tombstones: PathBuf,
    /// Open vSwitch's database socket.
    pub ovs_db: PathBuf,
    /// Where `ovn-controller` has its pid file and its control socket.
    pub ovn_run_dir: PathBuf,
    /// This node's tunnel endpoint.
    pub encap_ip: IpAddr,
    /// `system` (kernel) or `netdev` (userspace).
    pub datapath_type: String,
    /// MTU of pods in bytes, unless their subnet says otherwise.
    pub mtu: u16,
    /// How long an ADD waits at least for somebody else who answers for the pod's addresses.
    pub rival_wait: Duration,
    /// Where what important pods send leaves first; nowhere unless it is asked for.
    pub tunnel: Option<Tunnel>,
    /// Where `GET /metrics` is answered; nowhere unless it is asked for.
    pub metrics_listen: Option<SocketAddr>,
    /// This node's certificate; `None` with `--insecure-dev`, and then every endpoint is loopback.
    pub tls: Option<CertificateFiles>,
    /// What `ovn-controller` shows to the southbound, and whose certificates it takes: the same unless
    /// the southbound is of an ovn-central that somebody else runs.
    pub southbound: Option<CertificateFiles>,
}

/// The interface by which the node's tunnels leave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Its name. It is the one that frames leave by: where Open vSwitch's userspace has the node's
    /// uplink in a bridge, that port and not the bridge.
    pub interface: String,
    /// What it carries, in Mbit/s. More than leaves it in truth, and queues are somewhere else.
    pub rate_mbit: u32,
}

/// The longest name of an interface.
const INTERFACE_LEN_MAX: usize = 15;

impl Tunnel {
    fn parse(raw: RawTunnel) -> Result<Self, ConfigError> {
        let RawTunnel { interface, rate_mbit } = raw;
        let value = |key, rule: String| ConfigError::Value { key, rule };
        if interface.is_empty() || interface.len() > INTERFACE_LEN_MAX || interface.contains('/') {
            let rule = format!("{interface:?} is not the name of an interface");
            return Err(value("tunnel.interface", rule));
        }
        if rate_mbit == 0 || rate_mbit > limits::RATE_MBIT_MAX {
            let rule = format!("{rate_mbit} is not from 1 to {}", limits::RATE_MBIT_MAX);
            return Err(value("tunnel.rate_mbit", rule));
        }
        Ok(Self { interface, rate_mbit })
    }
}

impl Config {
    /// Reads this node's certificates, or says that there are none. Those for a southbound of others are
    /// looked at as well.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Credentials`] naming the file, what was found and what to do.
    pub fn credentials(&self) -> Result<Credentials, ConfigError> {
        let theirs = self.southbound.as_ref().filter(|_| self.southbound != self.tls);
        theirs.map(CertificateFiles::for_databases_of_others).transpose()?;
        match &self.tls {
            Some(files) => Ok(Credentials::load_for(files, &Identity::Node(self.node.clone()))?),
            None => Ok(Credentials::insecure_dev()),
        }
    }

    /// The datapath runs in userspace: pods must compute their checksums themselves.
    #[must_use]
    pub fn is_userspace(&self) -> bool {
        self.datapath_type == "netdev"
    }

    /// Reads and checks a file; `insecure_dev` if the command line says so.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming the key and the rule.
    pub fn load(path: &Path, insecure_dev: bool) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::Read(path.into(), error))?;
        Self::parse(&text, path, insecure_dev)
    }

    fn parse(text: &str, path: &Path, insecure_dev: bool) -> Result<Self, ConfigError> {
        let raw: Raw = toml::from_str(text)
            .map_err(|error| ConfigError::Syntax(path.into(), Box::new(error)))?;
        let value = |key, rule: String| ConfigError::Value { key, rule };
        match (&raw.tls, insecure_dev) {
            (None, false) => return Err(value("tls", NO_TLS.to_owned())),
            (Some(_), true) => return Err(value("tls", BOTH.to_owned())),
            _ => {}
        }
        let endpoints = Endpoint::parse_list(&raw.endpoints.join(","))
            .map_err(|error| value("endpoints", error.to_string()))?;
        if endpoints.is_empty() {
            return Err(value("endpoints", "name at least one member".to_owned()));
        }
        for endpoint in endpoints.iter().filter(|_| insecure_dev) {
            let near = Credentials::insecure_dev().check(endpoint);
            near.map_err(|error| value("endpoints", error.to_string()))?;
        }
        if !["system", "netdev"].contains(&raw.datapath_type.as_str()) {
            let rule = format!("{:?} is not known; \"system\" or \"netdev\"", raw.datapath_type);
            return Err(value("datapath_type", rule));
        }
        // IPv6's minimum; smaller ones would silently cut IPv6 off.
        if raw.mtu < 1280 {
            return Err(value("mtu", format!("{} is below IPv6's minimum of 1280", raw.mtu)));
        }
        let metrics_listen = match raw.metrics_listen {
            Some(text) => Some(metrics_address(&text, insecure_dev)?),
            None => None,
        };
        if raw.rival_wait_ms > RIVAL_WAIT_MS_MAX {
            let rule = format!("{} is more than {RIVAL_WAIT_MS_MAX}", raw.rival_wait_ms);
            return Err(value("rival_wait_ms", rule));
        }
        let southbound = match raw.southbound_tls {
            None => raw.tls.clone(),
            Some(theirs) => {
                let files = theirs.files(raw.tls.as_ref());
                Some(files.map_err(|error| value("southbound_tls", error.to_string()))?)
            }
        };
        Ok(Self {
            node: NodeName::new(&raw.node).map_err(|error| value("node", error.to_string()))?,
            endpoints,
            state_dir: raw.state_dir,
            cni_socket: raw.cni_socket,
            tombstones: raw.tombstones,
            ovs_db: raw.ovs_db,
            ovn_run_dir: raw.ovn_run_dir,
            encap_ip: raw.encap_ip,
            datapath_type: raw.datapath_type,
            mtu: raw.mtu,
            metrics_listen,
            rival_wait: Duration::from_millis(raw.rival_wait_ms),
            tunnel: raw.tunnel.map(Tunnel::parse).transpose()?,
            tls: raw.tls,
            southbound,
        })
    }
}

/// Where metrics are served: of plaintext on this machine only.
fn metrics_address(text: &str, insecure_dev: bool) -> Result<SocketAddr, ConfigError> {
    let value = |rule: String| ConfigError::Value { key: "metrics_listen", rule };
    let address: SocketAddr = text.parse().map_err(|_| {
        value(format!("{text:?} is no IP address with a port, such as \"10.0.0.9:7410\""))
    })?;
    if address.port() == 0 {
        return Err(value("port 0 is another one at each start: name one".to_owned()));
    }
    if insecure_dev && !address.ip().is_loopback() {
        let rule = "--insecure-dev is for one machine: this address is not on loopback";
        return Err(value(rule.to_owned()));
    }
    Ok(address)
}

#[cfg(test)]
impl Config {
    /// One for tests.
    pub(crate) fn sample() -> Self {
        Self::parse(tests::GOOD, Path::new("x"), false).unwrap()
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// The file is not the TOML that it should be.
    #[error("{0}")]
    Syntax(PathBuf, #[source] Box<toml::de::Error>),
    /// The certificates cannot be used.
    #[error("tls")]
    Credentials(#[from] CredentialsError),
    /// A value breaks a rule.
    #[error("{key}: {rule}")]
    Value {
        /// The key.
        key: &'static str,
        /// The rule, and the way out.
        rule: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const GOOD: &str = r#"
        node = "n1"
        endpoints = ["10.0.0.1:7400"]
        encap_ip = "10.0.0.9"
        [tls]
        ca = "/x/ca.crt"
        cert = "/x/tls.crt"
        key = "/x/tls.key"
    "#;

    #[test]
    fn a_short_file_is_enough() {
        let config = Config::parse(GOOD, Path::new("x"), false).unwrap();
        assert_eq!(config.mtu, MTU_DEFAULT);
        assert!(!config.is_userspace());
        assert_eq!(config.southbound, config.tls);
    }

    #[test]
    fn a_southbound_of_others_is_met_with_their_authority() {
        let with = |lines: &str| format!("{GOOD}[southbound_tls]\nca = \"/o/ca.crt\"\n{lines}");
        let parse = |text: &str| Config::parse(text, Path::new("x"), false);
        let southbound = |lines| parse(&with(lines)).unwrap().southbound.unwrap();
        let files = southbound("");
        assert_eq!((files.ca, files.cert), ("/o/ca.crt".into(), "/x/tls.crt".into()));
        let files = southbound("cert = \"/o/n1.crt\"\nkey = \"/o/n1.key\"");
        assert_eq!((files.cert, files.key), ("/o/n1.crt".into(), "/o/n1.key".into()));
        let half = parse(&with("cert = \"/o/n1.crt\"")).unwrap_err().to_string();
        assert!(half.starts_with("southbound_tls: cert and key belong together"), "{half}");
    }

    #[test]
    fn each_bad_value_names_its_key() {
        let message = |what: &str, with: &str| {
            Config::parse(&GOOD.replace(what, with), Path::new("x"), false).unwrap_err().to_string()
        };
        assert!(message("\"10.0.0.1:7400\"", "").starts_with("endpoints"));
        assert!(message("10.0.0.1:7400", "nowhere").starts_with("endpoints"));
        assert!(message("\"n1\"", "\"N 1\"").starts_with("node: node name"));
        assert!(message("node =", "mtu = 500\nnode =").starts_with("mtu"));
        let slow = message("node =", "rival_wait_ms = 6000\nnode =");
        assert!(slow.starts_with("rival_wait_ms"), "{slow}");
        assert!(message("node =", "datapath_type = \"x\"\nnode =").starts_with("datapath_type"));
        let metrics = |at: &str| message("node =", &format!("metrics_listen = {at:?}\nnode ="));
        assert!(metrics("n1:7410").starts_with("metrics_listen: \"n1:7410\" is no IP address"));
        assert!(metrics("10.0.0.9:0").starts_with("metrics_listen: port 0"));
        let tunnel = |lines: &str| message("[tls]", &format!("[tunnel]\n{lines}\n[tls]"));
        assert!(tunnel("interface = \"e/1\"\nrate_mbit = 1").starts_with("tunnel.interface"));
        assert!(tunnel("interface = \"eth1\"\nrate_mbit = 0").starts_with("tunnel.rate_mbit"));
    }

    /// Plaintext must be asked for, and stays on the machine.
    #[test]
    fn plaintext_is_for_loopback_only() {
        let plain = GOOD.split("[tls]").next().unwrap();
        let refused = |text: &str, insecure_dev: bool| {
            Config::parse(text, Path::new("x"), insecure_dev).unwrap_err().to_string()
        };
        assert!(refused(plain, false).starts_with("tls: is missing: an agent shows"));
        assert!(refused(GOOD, true).contains("exclude each other"));
        assert!(refused(plain, true).contains("10.0.0.1:7400 is not on loopback"));
        let near = plain.replace("10.0.0.1:7400", "127.0.0.1:7400");
        assert_eq!(Config::parse(&near, Path::new("x"), true).unwrap().tls, None);
        let with = |at: &str| format!("metrics_listen = {at:?}\n{near}");
        let far = refused(&with("10.0.0.9:7410"), true);
        assert!(far.starts_with("metrics_listen: --insecure-dev"), "{far}");
        let own = Config::parse(&with("[::1]:7410"), Path::new("x"), true).unwrap();
        assert_eq!(own.metrics_listen, Some("[::1]:7410".parse().unwrap()));
    }
}
