//! Authorities and the certificates that they issue.
//!
//! One authority is one cluster: whoever holds a certificate of it may do what its role may do
//! there. Keys are ECDSA P-256. A certificate's rights are in its one `atoll:` URI
//! ([`Identity::to_uri`]); only a member's may be used by a server.
//!
//! Absent on purpose: revocation and rotation.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::{Identity, Role};
use crate::tls::CertificateFiles;

/// Certificates are valid from a little before now: clocks of machines differ.
const BACKDATED: Duration = Duration::from_secs(3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long an authority of ours is valid, in days: ten years.
pub const AUTHORITY_DAYS: u32 = 3650;

/// How long a certificate is valid unless it is asked for otherwise, in days.
pub const DAYS_DEFAULT: u32 = 365;

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The private key.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    /// Never shows the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("cert", &self.cert).finish_non_exhaustive()
    }
}

/// Why no certificate was made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A text is no certificate or no key.
    #[error("no {0} in PEM form was found")]
    Unreadable(&'static str),
    /// The certificate is no authority's.
    #[error("the certificate is no authority's: it may not sign others")]
    NoAuthority,
    /// The authority's key is another one's.
    #[error("the key is not the key of the authority's certificate")]
    KeyOfAnother,
    /// The certificate would outlive its authority.
    #[error("the authority itself is valid for {0} days only; ask for fewer, or make a new one")]
    OutlivesAuthority(u64),
    /// A name or address that certificates cannot carry.
    #[error("{0:?} is neither an address nor a host name")]
    Address(String),
    /// The library's.
    #[error("cannot make the certificate")]
    Make(#[from] rcgen::Error),
}

/// An authority that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: String,
    not_after: SystemTime,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("cert", &self.cert).finish_non_exhaustive()
    }
}

/// What a certificate says, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Whose it is; `None` for an authority's, or one that was not made here.
    pub identity: Option<Identity>,
    /// The issuer's name.
    pub issuer: String,
    /// The subject's name.
    pub subject: String,
    /// It may sign others.
    pub is_authority: bool,
    /// Host names and addresses, for tools that compare them.
    pub addresses: Vec<String>,
    /// From when it is valid.
    pub not_before: String,
    /// Until when it is valid.
    pub not_after: String,
    /// Valid at this moment.
    pub is_valid_now: bool,
}

impl Authority {
    /// Makes an authority with a key of its own; `name` tells it from others in messages.
    ///
    /// # Errors
    ///
    /// [`PkiError::Make`].
    pub fn create(name: &str) -> Result<Pair, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = params(name, AUTHORITY_DAYS, SystemTime::now());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let text = key.serialize_pem();
        let issuer = CertifiedIssuer::self_signed(params, key)?;
        Ok(Pair { cert: issuer.pem(), key: text })
    }

    /// An authority from its certificate and key, ours or somebody else's.
    ///
    /// # Errors
    ///
    /// [`PkiError`] naming which of the two is wrong.
    pub fn open(pair: &Pair) -> Result<Self, PkiError> {
        let der = der(&pair.cert)?;
        let x509 = parse(&der)?;
        if !x509.is_ca() {
            return Err(PkiError::NoAuthority);
        }
        let key = KeyPair::from_pem(&pair.key).map_err(|_| PkiError::Unreadable("private key"))?;
        // The public key is the tail of what the certificate says of it.
        if !x509.public_key().raw.ends_with(key.public_key_raw()) {
            return Err(PkiError::KeyOfAnother);
        }
        let seconds = u64::try_from(x509.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Self {
            not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            issuer: Issuer::from_ca_cert_der(&der, key)?,
            cert: pair.cert.clone(),
        })
    }

    /// The authority's certificate, PEM: what everybody has to trust.
    #[must_use]
    pub fn cert(&self) -> &str {
        &self.cert
    }

    /// Makes a key and a certificate for `identity`, valid from now for `days`.
    ///
    /// `addresses` are host names and addresses for foreign tools; Atoll's own programs compare
    /// the identity instead. Each call makes another key: nothing is remembered.
    ///
    /// # Errors
    ///
    /// [`PkiError::OutlivesAuthority`], [`PkiError::Address`], [`PkiError::Make`].
    pub fn issue(
        &self,
        identity: &Identity,
        addresses: &[String],
        days: u32,
    ) -> Result<Pair, PkiError> {
        self.issue_at(SystemTime::now(), identity, addresses, days)
    }

    /// As [`Authority::issue`], at another time: for tests of what has expired.
    ///
    /// # Errors
    ///
    /// As [`Authority::issue`].
    pub fn issue_at(
        &self,
        now: SystemTime,
        identity: &Identity,
        addresses: &[String],
        days: u32,
    ) -> Result<Pair, PkiError> {
        if now + DAY * days > self.not_after {
            let left = self.not_after.duration_since(now).unwrap_or_default();
            return Err(PkiError::OutlivesAuthority(left.as_secs() / DAY.as_secs()));
        }
        let params = leaf(now, identity, addresses, days)?;
        self.sign(&params)
    }

    /// Signs whatever it is given, with a new key.
    pub(crate) fn sign(&self, params: &CertificateParams) -> Result<Pair, PkiError> {
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { cert: cert.pem(), key: key.serialize_pem() })
    }
}

/// What a certificate of `identity` says.
pub(crate) fn leaf(
    now: SystemTime,
    identity: &Identity,
    addresses: &[String],
    days: u32,
) -> Result<CertificateParams, PkiError> {
    let mut params = params(&common_name(identity), days, now);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if identity.role() == Role::Member {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.subject_alt_names = vec![SanType::URI(identity.to_uri().try_into()?)];
    for address in addresses {
        params.subject_alt_names.push(alternative(address)?);
    }
    Ok(params)
}

/// OVN's southbound lets who connects write the rows of the chassis of this name. So it is a node's
/// name in the certificates of nodes alone: a viewer may be called as a node is.
fn common_name(identity: &Identity) -> String {
    match identity.role() {
        Role::Node => identity.name().to_owned(),
        Role::Member | Role::Operator | Role::Viewer => identity.to_string(),
    }
}

/// A file was not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub struct WriteError {
    path: PathBuf,
    source: std::io::Error,
}

impl WriteError {
    /// Something was there already; it was left as it is.
    #[must_use]
    pub fn is_there_already(&self) -> bool {
        self.source.kind() == std::io::ErrorKind::AlreadyExists
    }
}

/// Writes a pair and its authority's certificate into `dir`, as [`CertificateFiles::in_dir`] finds
/// them. The key goes first: a certificate that is there has its key.
///
/// # Errors
///
/// See [`write_new`]; what was written before stays.
pub fn write_pair(dir: &Path, ca: &str, pair: &Pair) -> Result<CertificateFiles, WriteError> {
    let files = CertificateFiles::in_dir(dir);
    write_new(&files.key, &pair.key)?;
    write_new(&files.cert, &pair.cert)?;
    write_new(&files.ca, ca)?;
    Ok(files)
}

/// Writes a file that nobody but its owner may read, durably, and never over another one.
///
/// # Errors
///
/// [`WriteError`]; [`WriteError::is_there_already`] tells whether it would have overwritten.
pub fn write_new(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), WriteError> {
    let failed = |source| WriteError { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(bytes.as_ref()).map_err(failed)?;
    file.sync_all().map_err(failed)
}

fn params(name: &str, days: u32, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + DAY * days).into();
    params
}

fn alternative(address: &str) -> Result<SanType, PkiError> {
    if let Ok(address) = address.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let wrong = || PkiError::Address(address.to_owned());
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    match address.split('.').all(is_label) {
        true => Ok(SanType::DnsName(address.try_into().map_err(|_| wrong())?)),
        false => Err(wrong()),
    }
}

/// What the first certificate of a PEM text says. Does not verify it.
///
/// # Errors
///
/// [`PkiError::Unreadable`].
pub fn describe(pem: &str) -> Result<Description, PkiError> {
    let der = der(pem)?;
    let x509 = parse(&der)?;
    let names = x509.subject_alternative_name().ok().flatten();
    let names = names.map(|found| found.value.general_names.as_slice()).unwrap_or_default();
    let identity = names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => Identity::from_uri(uri)?.ok(),
        _ => None,
    });
    let address = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            _ => Some(IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    };
    Ok(Description {
        identity,
        issuer: x509.issuer().to_string(),
        subject: x509.subject().to_string(),
        is_authority: x509.is_ca(),
        addresses: names.iter().filter_map(address).collect(),
        not_before: x509.validity().not_before.to_string(),
        not_after: x509.validity().not_after.to_string(),
        is_valid_now: x509.validity().is_valid(),
    })
}

fn der(pem: &str) -> Result<CertificateDer<'static>, PkiError> {
    let found = CertificateDer::from_pem_slice(pem.as_bytes());
    found.map_err(|_| PkiError::Unreadable("certificate"))
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, PkiError> {
    let parsed = X509Certificate::from_der(der);
    parsed.map(|(_, x509)| x509).map_err(|_| PkiError::Unreadable("certificate"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_and_its_key_must_belong_together_and_outlive_what_they_sign() {
        let pair = Authority::create("a").unwrap();
        let other = Authority::create("b").unwrap();
        let mixed = Pair { key: other.key, ..pair.clone() };
        assert!(Authority::open(&mixed).unwrap_err().to_string().contains("is not the key of"));
        let authority = Authority::open(&pair).unwrap();
        let identity: Identity = "node/n1".parse().unwrap();
        let leaf = authority.issue(&identity, &[], 1).unwrap();
        assert!(Authority::open(&leaf).unwrap_err().to_string().contains("no authority's"));
        let error = authority.issue(&identity, &[], 4000).unwrap_err().to_string();
        assert!(error.contains("valid for 3649 days only"), "{error}");
    }

    #[test]
    fn addresses_are_carried_and_nonsense_is_refused() {
        let authority = Authority::open(&Authority::create("a").unwrap()).unwrap();
        let identity: Identity = "member/m1".parse().unwrap();
        let error = authority.issue(&identity, &["a b".to_owned()], 1).unwrap_err().to_string();
        assert!(error.contains("\"a b\" is neither"), "{error}");
        let named = ["10.0.0.1", "fd00::1", "m1.example"].map(ToOwned::to_owned);
        let named = authority.issue(&identity, &named, 1).unwrap();
        let said = describe(&named.cert).unwrap();
        assert_eq!(said.identity, Some(identity));
        assert_eq!(said.addresses, ["10.0.0.1", "fd00::1", "m1.example"]);
        assert!(said.is_valid_now && !said.is_authority);
    }

    #[test]
    fn nobody_but_a_node_is_named_as_its_chassis() {
        let authority = Authority::open(&Authority::create("a").unwrap()).unwrap();
        let subject = |identity: &str| {
            let pair = authority.issue(&identity.parse().unwrap(), &[], 1).unwrap();
            describe(&pair.cert).unwrap().subject
        };
        assert_eq!(subject("node/n1"), "CN=n1");
        for other in ["viewer/n1", "operator/n1", "member/n1"] {
            assert_eq!(subject(other), format!("CN={other}"));
        }
    }

    /// Two commands at once: the second finds the files only when it writes.
    #[test]
    fn a_key_that_was_written_meanwhile_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tls.key");
        write_new(&path, "first").unwrap();
        assert!(write_new(&path, "second").unwrap_err().is_there_already());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
        let nowhere = write_new(&dir.path().join("no/tls.key"), "x").unwrap_err();
        assert!(!nowhere.is_there_already());
    }
}
