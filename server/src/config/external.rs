//! `[central]` with `mode = "external"`: an ovn-central that somebody else runs.

use atoll_ovn_sync::Remotes;

use super::{ConfigError, RawCentral, value};

/// Where somebody else's ovn-central is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalConfig {
    /// The northbound database's servers.
    pub nb: Remotes,
    /// The southbound database's servers, as nodes are told them.
    pub sb: Remotes,
}

const WHAT: &str = "OVSDB remotes (tcp:HOST:PORT) with commas between them, all of a cluster's";

pub(super) fn external(raw: &RawCentral) -> Result<ExternalConfig, ConfigError> {
    let remotes = |key, text: Option<&String>| {
        let missing = || value(key, format!("is missing: {WHAT}"));
        let remotes = text.ok_or_else(missing)?.parse::<Remotes>();
        remotes.map_err(|error| value(key, format!("{error}; {WHAT}")))
    };
    let sb = remotes("central.sb", raw.sb.as_ref())?;
    if sb.iter().any(|it| matches!(it, atoll_ovsdb::Endpoint::Unix(_))) {
        return Err(value("central.sb", "a unix socket cannot be reached by nodes"));
    }
    for (key, given) in [
        ("central.run_dir", raw.run_dir.is_some()),
        ("central.address", raw.address.is_some()),
        ("central.election_timer_ms", raw.election_timer_ms.is_some()),
    ] {
        if given {
            return Err(value(key, "is for modes in which the member runs ovn-central itself"));
        }
    }
    Ok(ExternalConfig { nb: remotes("central.nb", raw.nb.as_ref())?, sb })
}
