//! `[central]` with `mode = "external"`: an ovn-central that somebody else runs.

use atoll_api::CertificateFiles;
use atoll_ovn_sync::Remotes;
use atoll_ovsdb::{Endpoint, Tls};

use super::{ConfigError, RawCentral, value};

/// Where somebody else's ovn-central is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalConfig {
    /// The northbound database's servers.
    pub nb: Remotes,
    /// The southbound database's servers, as nodes are told them.
    pub sb: Remotes,
    /// What is shown to the northbound's servers, and whom they are believed to be; `None` if they are
    /// reached in plaintext.
    pub tls: Option<CertificateFiles>,
}

impl ExternalConfig {
    /// Reads the certificates for the northbound.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Credentials`] naming the file and what was found.
    pub fn client(&self) -> Result<Option<Tls>, ConfigError> {
        let config =
            self.tls.as_ref().map(CertificateFiles::for_databases_of_others).transpose()?;
        Ok(config.map(Tls::new))
    }
}

const WHAT: &str = "OVSDB remotes (ssl:HOST:PORT, tcp:HOST:PORT) with commas between them, all of a \
                    cluster's";

/// `own` are the member's certificate files.
pub(super) fn external(
    raw: &RawCentral,
    own: Option<&CertificateFiles>,
) -> Result<ExternalConfig, ConfigError> {
    let remotes = |key, text: Option<&String>| {
        let missing = || value(key, format!("is missing: {WHAT}"));
        let remotes = text.ok_or_else(missing)?.parse::<Remotes>();
        remotes.map_err(|error| value(key, format!("{error}; {WHAT}")))
    };
    let sb = remotes("central.sb", raw.sb.as_ref())?;
    if sb.iter().any(|it| matches!(it, Endpoint::Unix(_))) {
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
    let nb = remotes("central.nb", raw.nb.as_ref())?;
    let tls = tls(raw, &nb, own)?;
    Ok(ExternalConfig { nb, sb, tls })
}

/// The certificates for `ssl:` remotes. Whose they are is said, and not taken for granted: our own
/// authority has signed every node's as well.
fn tls(
    raw: &RawCentral,
    nb: &Remotes,
    own: Option<&CertificateFiles>,
) -> Result<Option<CertificateFiles>, ConfigError> {
    let is_needed = nb.iter().any(|it| matches!(it, Endpoint::Ssl { .. }));
    match &raw.tls {
        None if is_needed => {
            let rule = "is missing: with ssl: remotes say by which authority (ca) the databases are \
                        known, and with which certificate (cert, key) they know this member, if it \
                        is not its own";
            Err(value("central.tls", rule))
        }
        Some(_) if !is_needed => {
            Err(value("central.tls", "is for ssl: remotes, and central.nb has none"))
        }
        given => {
            let files = given.clone().map(|given| given.files(own)).transpose();
            files.map_err(|error| value("central.tls", error))
        }
    }
}
