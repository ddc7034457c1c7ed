//! The certificate that `ovn-controller` shows to the southbound: the node's own, as the agent's.
//!
//! Open vSwitch has one row for it, which its own daemons use as well. A row that somebody else made
//! is left alone: it may be what another program needs, and `ovn-controller` may have been started
//! with files of its own.

use std::io;
use std::path::{Path, absolute};

use atoll_api::CertificateFiles;
use atoll_ovsdb::{Condition, Datum, Mutation, Operation, Replica, Row};
use uuid::Uuid;

use super::VENDOR;
use super::settings::{insert, row};

const TABLE: &str = "SSL";

/// The files, as programs on this node find them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    private_key: String,
    certificate: String,
    ca: String,
}

/// Somebody else said which certificate Open vSwitch shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Open vSwitch shows somebody else's certificate ({0}), which the southbound will hardly take, and \
     nothing of theirs is changed: if nobody needs it, run ovs-vsctl del-ssl; else start ovn-controller \
     with --private-key, --certificate and --ca-cert of this node"
)]
pub struct Occupied(String);

impl Certificate {
    /// Those of the agent's configuration.
    ///
    /// # Errors
    ///
    /// This process has no directory that a relative path could begin at.
    pub fn new(files: &CertificateFiles) -> io::Result<Self> {
        let text = |path: &Path| absolute(path).map(|path| path.display().to_string());
        Ok(Self {
            private_key: text(&files.key)?,
            certificate: text(&files.cert)?,
            ca: text(&files.ca)?,
        })
    }

    /// The operations that make Open vSwitch name these files; none if it does.
    ///
    /// # Errors
    ///
    /// [`Occupied`]; nothing is to be done.
    pub fn plan(&self, replica: &Replica) -> Result<Vec<Operation>, Occupied> {
        let root = replica.rows("Open_vSwitch").next();
        let Some((root, _)) = root else { return Ok(Vec::new()) };
        self.plan_for(root, replica.rows(TABLE).next())
    }

    fn plan_for(
        &self,
        root: Uuid,
        found: Option<(Uuid, &Row)>,
    ) -> Result<Vec<Operation>, Occupied> {
        let mut wanted = self.columns();
        let Some((uuid, there)) = found else {
            wanted.insert("external_ids".to_owned(), Datum::map([("vendor", VENDOR)]));
            let refer = vec![Mutation::insert("ssl", Datum::named_uuid("ssl"))];
            let refer = Operation::mutate("Open_vSwitch", vec![Condition::uuid(root)], refer);
            return Ok(vec![insert(TABLE, "ssl", wanted), refer]);
        };
        wanted.retain(|column, value| there.get(column) != Some(value));
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let vendor = there.get("external_ids").and_then(|ids| ids.get("vendor"));
        if vendor != Some(VENDOR) {
            let shown = there.get("certificate").and_then(Datum::as_str).unwrap_or_default();
            return Err(Occupied(shown.to_owned()));
        }
        Ok(vec![Operation::update(TABLE, vec![Condition::uuid(uuid)], wanted)])
    }

    fn columns(&self) -> Row {
        row([
            ("private_key", Datum::from(self.private_key.as_str())),
            ("certificate", Datum::from(self.certificate.as_str())),
            ("ca_cert", Datum::from(self.ca.as_str())),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Uuid = Uuid::from_u128(1);
    const SSL: Uuid = Uuid::from_u128(2);

    fn certificate() -> Certificate {
        Certificate::new(&CertificateFiles::in_dir(Path::new("/etc/atoll/tls"))).unwrap()
    }

    fn made_by(vendor: Option<&str>, certificate: &Certificate) -> Row {
        let mut row = certificate.columns();
        let ids = Datum::map(vendor.map(|vendor| ("vendor", vendor)));
        row.insert("external_ids".to_owned(), ids);
        row
    }

    #[test]
    fn a_node_without_certificates_gets_its_own_and_keeps_it() {
        let certificate = certificate();
        let plan = certificate.plan_for(ROOT, None).unwrap();
        let [Operation::Insert { table, row, .. }, Operation::Mutate { .. }] = &plan[..] else {
            panic!("{plan:?}")
        };
        assert_eq!((table.as_str(), row), (TABLE, &made_by(Some(VENDOR), &certificate)));
        assert_eq!(row["private_key"].as_str(), Some("/etc/atoll/tls/tls.key"));
        assert_eq!(row["ca_cert"].as_str(), Some("/etc/atoll/tls/ca.crt"));
        assert_eq!(certificate.plan_for(ROOT, Some((SSL, row))), Ok(Vec::new()));
    }

    #[test]
    fn files_that_moved_are_followed() {
        let before = Certificate { certificate: "/old/tls.crt".to_owned(), ..certificate() };
        let before = made_by(Some(VENDOR), &before);
        let plan = certificate().plan_for(ROOT, Some((SSL, &before))).unwrap();
        let moved = row([("certificate", Datum::from("/etc/atoll/tls/tls.crt"))]);
        assert_eq!(plan, [Operation::update(TABLE, vec![Condition::uuid(SSL)], moved)]);
    }

    #[test]
    fn what_somebody_else_set_stays() {
        let same = made_by(None, &certificate());
        assert_eq!(certificate().plan_for(ROOT, Some((SSL, &same))), Ok(Vec::new()));
        let other = Certificate { certificate: "/theirs.crt".to_owned(), ..certificate() };
        for vendor in [None, Some("them")] {
            let row = made_by(vendor, &other);
            let said = certificate().plan_for(ROOT, Some((SSL, &row))).unwrap_err().to_string();
            assert!(said.contains("(/theirs.crt)") && said.contains("ovs-vsctl del-ssl"), "{said}");
        }
    }
}
