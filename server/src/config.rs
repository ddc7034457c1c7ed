//! One config file: read raw, checked once, then only the checked form exists.

mod cluster;
mod external;
mod kubernetes;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_api::tls::{CredentialsError, NotLoopback, OthersTls};
use atoll_api::{CertificateFiles, Credentials, Endpoint, Identity};
use atoll_model::{ClusterSize, MemberName};
use atoll_raft::{Retention, Timing};
use serde::Deserialize;

pub use atoll_ovn_sync::ClusterOptions;
pub use external::ExternalConfig;
pub use kubernetes::KubernetesConfig;

/// OVN's well-known ports.
const NB_PORT: u16 = 6641;
const SB_PORT: u16 = 6642;

/// Where Debian's ovn-central keeps its schemas.
const SHARE_DIR: &str = "/usr/share/ovn";

/// Below, a busy disk deposes leaders; above, nobody notices a dead one.
const ELECTION_MIN: Duration = Duration::from_millis(100);
const ELECTION_MAX: Duration = Duration::from_secs(30);

/// Less holds no day of a busy cluster.
const HISTORY_MIB_MIN: u64 = 64;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const NO_TLS: &str = "is missing: a member shows a certificate. Make an authority with `atolld pki \
                      init`, a certificate with `atolld pki issue --role member`, and name the files \
                      here (ca, cert, key); --insecure-dev does without, on loopback only";

const BOTH: &str = "and --insecure-dev exclude each other: take one away";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    data_dir: PathBuf,
    listen: String,
    advertise: Option<String>,
    api_socket: Option<PathBuf>,
    peers: Vec<String>,
    expected_members: u32,
    formation_marker: PathBuf,
    tls: Option<CertificateFiles>,
    central: Option<RawCentral>,
    kubernetes: Option<kubernetes::RawKubernetes>,
    #[serde(default)]
    raft: RawRaft,
    #[serde(default)]
    history: RawHistory,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRaft {
    heartbeat_ms: Option<u64>,
    election_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHistory {
    max_mib: Option<u64>,
    max_days: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCentral {
    mode: String,
    run_dir: Option<PathBuf>,
    address: Option<IpAddr>,
    nb: Option<String>,
    sb: Option<String>,
    nb_raft_port: Option<u16>,
    sb_raft_port: Option<u16>,
    sb_member_port: Option<u16>,
    election_timer_ms: Option<u64>,
    tls: Option<OthersTls>,
    #[serde(default = "default_share_dir")]
    share_dir: PathBuf,
    #[serde(default = "default_nb_port")]
    nb_port: u16,
    #[serde(default = "default_sb_port")]
    sb_port: u16,
}

fn default_share_dir() -> PathBuf {
    SHARE_DIR.into()
}

fn default_nb_port() -> u16 {
    NB_PORT
}

fn default_sb_port() -> u16 {
    SB_PORT
}

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The member's name: its StatefulSet pod's.
    pub name: MemberName,
    /// Log, snapshots, history and identity.
    pub data_dir: PathBuf,
    /// Where clients, agents and peers connect.
    pub listen: SocketAddr,
    /// How others reach `listen`.
    pub advertise: String,
    /// The same services on a unix socket.
    pub api_socket: Option<PathBuf>,
    /// First contacts, this member included.
    pub peers: Vec<String>,
    /// How many members form the cluster.
    pub expected_members: usize,
    /// File outside the data directories that says that the cluster was formed.
    pub formation_marker: PathBuf,
    /// This member's certificate; `None` with `--insecure-dev`, and then every address is loopback.
    pub tls: Option<CertificateFiles>,
    /// ovn-central beside this member; `None` if it is somebody else's.
    pub central: Option<CentralConfig>,
    /// Somebody else's ovn-central that is projected into; `None` if it is ours, or there is none.
    pub external: Option<ExternalConfig>,
    /// The apiserver; `None` for a cluster without Kubernetes.
    pub kubernetes: Option<KubernetesConfig>,
    /// How soon a silent leader is replaced.
    pub timing: Timing,
    /// How much history is kept.
    pub retention: Retention,
}

/// ovn-central as children of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CentralConfig {
    /// Databases, sockets, pid files and logs.
    pub run_dir: PathBuf,
    /// Where NB and SB listen for others while this member's central serves.
    pub address: IpAddr,
    /// Where OVN's schemas are.
    pub share_dir: PathBuf,
    /// TCP port of the northbound.
    pub nb_port: u16,
    /// TCP port of the southbound.
    pub sb_port: u16,
    /// If the members' databases are clusters.
    pub cluster: Option<ClusterOptions>,
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

fn value(key: &'static str, rule: impl ToString) -> ConfigError {
    ConfigError::Value { key, rule: rule.to_string() }
}

impl Config {
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

    /// Reads this member's certificates, or says that there are none. Those for databases of others are
    /// looked at as well.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Credentials`] naming the file, what was found and what to do.
    pub fn credentials(&self) -> Result<Credentials, ConfigError> {
        self.external.as_ref().map(ExternalConfig::client).transpose()?;
        match &self.tls {
            Some(files) => {
                let wanted = Identity::Member(self.name.clone());
                Ok(Credentials::load_for(files, &wanted)?)
            }
            None => Ok(Credentials::insecure_dev()),
        }
    }

    fn parse(text: &str, path: &Path, insecure_dev: bool) -> Result<Self, ConfigError> {
        let raw: Raw = toml::from_str(text)
            .map_err(|error| ConfigError::Syntax(path.into(), Box::new(error)))?;
        match (&raw.tls, insecure_dev) {
            (None, false) => return Err(value("tls", NO_TLS)),
            (Some(_), true) => return Err(value("tls", BOTH)),
            _ => {}
        }
        let size = ClusterSize::new(raw.expected_members);
        let size = size.map_err(|error| value("expected_members", error))?;
        let expected_members = usize::from(size.get());
        if raw.peers.len() < expected_members {
            let rule = format!("name at least {} addresses, this one's too", expected_members);
            return Err(value("peers", rule));
        }
        for peer in &raw.peers {
            let endpoint = peer.parse::<Endpoint>().map_err(|error| value("peers", error))?;
            if insecure_dev {
                loopback(&endpoint).map_err(|error| value("peers", error))?;
            }
            // One that counts twice would be waited for for ever.
            if raw.peers.iter().filter(|other| *other == peer).count() > 1 {
                return Err(value("peers", format!("{peer} is named twice")));
            }
        }
        let listen: SocketAddr = raw.listen.parse().map_err(|error| {
            value("listen", format!("{:?} is no ADDRESS:PORT: {error}", raw.listen))
        })?;
        if insecure_dev {
            let endpoint = Endpoint::Tcp(listen.to_string());
            loopback(&endpoint).map_err(|error| value("listen", error))?;
        }
        let advertise = raw.advertise.unwrap_or_else(|| raw.listen.clone());
        if !raw.peers.contains(&advertise) {
            let rule = format!("must contain this member's own address {advertise}");
            return Err(value("peers", rule));
        }
        if raw.formation_marker.starts_with(&raw.data_dir) {
            let rule = "must lie outside data_dir: it has to outlive the disk";
            return Err(value("formation_marker", rule));
        }
        let (central, external) = match &raw.central {
            Some(central) if central.mode == "external" => {
                (None, Some(external::external(central, raw.tls.as_ref())?))
            }
            Some(raw) => (central(raw, insecure_dev)?, None),
            None => (None, None),
        };
        Ok(Self {
            name: MemberName::new(&raw.name).map_err(|error| value("name", error))?,
            data_dir: raw.data_dir,
            listen,
            advertise,
            api_socket: raw.api_socket,
            peers: raw.peers,
            expected_members,
            formation_marker: raw.formation_marker,
            tls: raw.tls,
            central,
            external,
            kubernetes: raw
                .kubernetes
                .map(|raw| kubernetes::kubernetes(raw, insecure_dev))
                .transpose()?,
            timing: timing(&raw.raft)?,
            retention: retention(&raw.history)?,
        })
    }
}

fn timing(raw: &RawRaft) -> Result<Timing, ConfigError> {
    let default = Timing::default();
    let or = |ms: Option<u64>, otherwise| ms.map_or(otherwise, Duration::from_millis);
    let heartbeat = or(raw.heartbeat_ms, default.heartbeat);
    let election = or(raw.election_ms, default.election_min);
    if !(ELECTION_MIN..=ELECTION_MAX).contains(&election) {
        let rule = format!(
            "must be {} to {}: the time after which a silent leader is replaced at the earliest",
            ELECTION_MIN.as_millis(),
            ELECTION_MAX.as_millis()
        );
        return Err(value("raft.election_ms", rule));
    }
    if heartbeat.is_zero() || heartbeat * 3 > election {
        let rule = "must be at most a third of raft.election_ms: one late heartbeat is no death";
        return Err(value("raft.heartbeat_ms", rule));
    }
    Ok(Timing::new(heartbeat, election))
}

fn retention(raw: &RawHistory) -> Result<Retention, ConfigError> {
    let default = Retention::default();
    let bytes = match raw.max_mib {
        None => default.bytes,
        Some(mib) if mib < HISTORY_MIB_MIN => {
            let rule =
                format!("must be at least {HISTORY_MIB_MIN}: what the history has on the disk");
            return Err(value("history.max_mib", rule));
        }
        Some(mib) => mib.saturating_mul(1 << 20),
    };
    let age = match raw.max_days {
        None => default.age,
        Some(0) => {
            let rule = "must be at least 1; without it, only history.max_mib limits the history";
            return Err(value("history.max_days", rule));
        }
        Some(days) => Some(DAY.saturating_mul(u32::try_from(days).unwrap_or(u32::MAX))),
    };
    Ok(Retention { bytes, age })
}

fn loopback(endpoint: &Endpoint) -> Result<(), NotLoopback> {
    Credentials::insecure_dev().check(endpoint)
}

fn central(raw: &RawCentral, insecure_dev: bool) -> Result<Option<CentralConfig>, ConfigError> {
    match raw.mode.as_str() {
        "off" => return Ok(None),
        "warm" | "cluster" => {}
        other => {
            let rule =
                format!("{other:?} is not known; \"warm\", \"cluster\", \"external\" or \"off\"");
            return Err(value("central.mode", rule));
        }
    }
    for (key, given) in [
        ("central.nb", raw.nb.is_some()),
        ("central.sb", raw.sb.is_some()),
        ("central.tls", raw.tls.is_some()),
    ] {
        if given {
            return Err(value(key, "is for mode \"external\": the member makes its own"));
        }
    }
    let missing = |key| value(key, "is missing");
    let run_dir = raw.run_dir.clone().ok_or_else(|| missing("central.run_dir"))?;
    let address = raw.address.ok_or_else(|| missing("central.address"))?;
    if insecure_dev {
        let endpoint = Endpoint::Tcp(SocketAddr::new(address, raw.sb_port).to_string());
        loopback(&endpoint).map_err(|error| value("central.address", error))?;
    }
    let cluster = cluster::cluster(raw)?;
    // "nb.sock" and friends live there, and a unix socket's path has less than 108 bytes.
    let longest = match &cluster {
        Some(_) => run_dir.join(cluster::longest_socket(address)),
        None => run_dir.join("northd.ctl"),
    };
    if longest.as_os_str().len() > 100 {
        let rule = format!("{} is too long for unix sockets (100 bytes)", longest.display());
        return Err(value("central.run_dir", rule));
    }
    Ok(Some(CentralConfig {
        run_dir,
        address,
        share_dir: raw.share_dir.clone(),
        nb_port: raw.nb_port,
        sb_port: raw.sb_port,
        cluster,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "m1"
        data_dir = "/x/data"
        listen = "10.0.0.1:7400"
        peers = ["10.0.0.1:7400", "10.0.0.2:7400", "10.0.0.3:7400"]
        expected_members = 3
        formation_marker = "/x/marker"
        [tls]
        ca = "/x/ca.crt"
        cert = "/x/tls.crt"
        key = "/x/tls.key"
        [central]
        mode = "warm"
        run_dir = "/x/ovn"
        address = "10.0.0.1"
    "#;

    fn message(text: &str) -> String {
        let error = Config::parse(text, Path::new("atolld.toml"), false).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error} {}", source.unwrap_or_default())
    }

    #[test]
    fn a_good_file_is_taken_with_its_defaults() {
        let config = Config::parse(GOOD, Path::new("x"), false).unwrap();
        assert_eq!(config.advertise, "10.0.0.1:7400");
        assert_eq!(config.central.unwrap().sb_port, SB_PORT);
        assert_eq!(config.timing, Timing::default());
        assert_eq!(config.retention, Retention::default());
        let short = GOOD.to_owned() + "[history]\nmax_mib = 64\nmax_days = 2";
        let short = Config::parse(&short, Path::new("x"), false).unwrap().retention;
        assert_eq!((short.bytes, short.age), (64 << 20, Some(Duration::from_secs(172_800))));
        let calm = GOOD.to_owned() + "[raft]\nheartbeat_ms = 100\nelection_ms = 400";
        let calm = Config::parse(&calm, Path::new("x"), false).unwrap().timing;
        assert_eq!(calm.heartbeat, Duration::from_millis(100));
        assert_eq!(calm.election_max, Duration::from_millis(800));
    }

    #[test]
    fn each_bad_value_names_its_key() {
        let without = |what: &str, with: &str| message(&GOOD.replace(what, with));
        assert!(without("key = \"/x/tls.key\"", "").contains("missing field `key`"));
        assert!(without("[tls]", "[tsl]").contains("tsl"));
        assert!(without("= 3", "= 2").starts_with("expected_members: must be 1, 3 or 5"));
        assert!(without("10.0.0.1:7400\", ", "10.0.0.9:7400\", ").contains("own address"));
        assert!(without("10.0.0.3:7400", "10.0.0.2:7400").contains("named twice"));
        assert!(without("listen = \"10.0.0.1:7400\"", "listen = \"x\"").starts_with("listen"));
        assert!(without("\"warm\"", "\"hot\"").contains("central.mode: \"hot\""));
        assert!(without("/x/marker", "/x/data/marker").starts_with("formation_marker"));
        assert!(without("name = \"m1\"", "name = \"M 1\"").starts_with("name: member name"));
        let raft = |lines: &str| without("[central]", &format!("[raft]\n{lines}\n[central]"));
        assert!(raft("election_ms = 50").starts_with("raft.election_ms: must be 100 to 30000"));
        assert!(raft("election_ms = 120\nheartbeat_ms = 50").starts_with("raft.heartbeat_ms"));
        assert!(raft("heartbeat_ms = 0").starts_with("raft.heartbeat_ms: must be at most"));
        let history = |line: &str| without("[central]", &format!("[history]\n{line}\n[central]"));
        assert!(history("max_mib = 63").starts_with("history.max_mib: must be at least 64"));
        assert!(history("max_days = 0").starts_with("history.max_days: must be at least 1"));
        assert!(without("[tls]", "surprise = 1\n[tls]").contains("surprise"));
        assert!(without("/x/ovn", &format!("/{}", "x".repeat(100))).contains("central.run_dir"));
    }

    #[test]
    fn an_ovn_central_of_others_is_named_by_its_databases() {
        let own = GOOD.split("[central]").next().unwrap();
        let with = |lines: &str| format!("{own}[central]\nmode = \"external\"\n{lines}");
        let (nb, sb) = ("nb = \"tcp:a:6641,tcp:b:6641\"\n", "sb = \"tcp:a:6642\"\n");
        let config = Config::parse(&with(&format!("{nb}{sb}")), Path::new("x"), false).unwrap();
        assert_eq!(config.central, None);
        assert_eq!(config.external.unwrap().nb.to_string(), "tcp:a:6641,tcp:b:6641");
        assert!(message(&with(nb)).starts_with("central.sb: is missing: OVSDB remotes"));
        assert!(message(&with(&format!("nb = \"a\"\n{sb}"))).starts_with("central.nb: `a`"));
        let unix = message(&with(&format!("{nb}sb = \"unix:/x\"\n")));
        assert!(unix.starts_with("central.sb: a unix socket"), "{unix}");
        let both = message(&with(&format!("{nb}{sb}run_dir = \"/x\"")));
        assert!(both.starts_with("central.run_dir: is for modes"), "{both}");
        let theirs = |lines: &str| with(&format!("{}{sb}{lines}", nb.replace("tcp", "ssl")));
        let tls = |lines: &str| theirs(&format!("[central.tls]\nca = \"/o/ca.crt\"\n{lines}"));
        let pair = "cert = \"/o/me.crt\"\nkey = \"/o/me.key\"";
        for (lines, cert) in [("", "/x/tls.crt"), (pair, "/o/me.crt")] {
            let config = Config::parse(&tls(lines), Path::new("x"), false).unwrap();
            let files = config.external.unwrap().tls.unwrap();
            assert_eq!((files.ca, files.cert), ("/o/ca.crt".into(), cert.into()));
        }
        let missing = message(&theirs(""));
        assert!(missing.starts_with("central.tls: is missing: with ssl: remotes"), "{missing}");
        let half = message(&tls("key = \"/o/me.key\""));
        assert!(half.starts_with("central.tls: cert and key belong together"), "{half}");
        let plain = message(&tls("").replace("ssl", "tcp"));
        assert!(plain.starts_with("central.tls: is for ssl: remotes"), "{plain}");
        let warm = message(&(GOOD.to_owned() + nb));
        assert!(warm.starts_with("central.nb: is for mode \"external\""), "{warm}");
    }

    #[test]
    fn databases_in_clusters_have_times_of_their_own() {
        let cluster = GOOD.replace("\"warm\"", "\"cluster\"");
        let parse = |text: &str| Config::parse(text, Path::new("x"), false).unwrap();
        let options = parse(&cluster).central.unwrap().cluster.unwrap();
        let ports = [options.nb_raft_port, options.sb_raft_port, options.sb_member_port];
        assert_eq!((ports, options.election_timer_ms), ([6643, 6644, 6645], 1_000));
        // Sockets that stand for addresses have longer names.
        let long = message(&cluster.replace("/x/ovn", &format!("/{}", "x".repeat(80))));
        assert!(long.starts_with("central.run_dir: "), "{long}");
        let slow = format!("{cluster}\nelection_timer_ms = 10000");
        let slow = parse(&slow).central.unwrap().cluster.unwrap();
        assert_eq!(slow.election_timer_ms, 10_000);
        let short = message(&format!("{cluster}\nelection_timer_ms = 99"));
        assert!(short.starts_with("central.election_timer_ms: must be 100 to 600000"), "{short}");
        let warm = message(&format!("{GOOD}\nelection_timer_ms = 2000"));
        assert!(warm.starts_with("central.election_timer_ms: is for mode \"cluster\""), "{warm}");
    }

    /// Plaintext must be asked for, and stays on the machine.
    #[test]
    fn plaintext_is_for_loopback_only() {
        let plain = GOOD.split("[tls]").next().unwrap();
        let parse = |text: &str| Config::parse(text, Path::new("x"), true);
        let refused = |text: &str| parse(text).unwrap_err().to_string();
        assert!(refused(GOOD).contains("exclude each other"));
        assert!(message(plain).starts_with("tls: is missing: a member shows a certificate"));
        assert!(refused(plain).starts_with("peers: --insecure-dev is for one machine"));
        let near = plain.replace("10.0.0.", "127.0.0.");
        assert_eq!(parse(&near).unwrap().tls, None);
        let everywhere = near.replace(
            "listen = \"127.0.0.1:7400\"",
            "listen = \"0.0.0.0:7400\"\nadvertise = \"127.0.0.1:7400\"",
        );
        let text = refused(&everywhere);
        assert!(text.starts_with("listen: ") && text.contains("0.0.0.0:7400 is not on loopback"));
        let central = "[central]\nmode = \"warm\"\nrun_dir = \"/x/ovn\"\naddress = \"10.0.0.1\"";
        let text = refused(&format!("{near}{central}"));
        assert!(text.starts_with("central.address: ") && text.contains("10.0.0.1:6642 is not on"));
    }
}
