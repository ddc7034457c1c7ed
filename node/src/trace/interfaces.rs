//! The switch's interfaces, looked at once for a trace.

use atoll_ovsdb::{Datum, Operation, OperationResult, Row, TransactError};

use crate::ovs::{DATABASE, Session};

const TABLE: &str = "Interface";
const COLUMNS: [&str; 5] = ["name", "type", "ofport", "options", "external_ids"];

/// What is known of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    /// Its OpenFlow port; none while the switch does not use it.
    pub(super) ofport: Option<u16>,
    /// The logical switch port behind it.
    pub(super) port: Option<String>,
    /// `ovn-controller` has installed that port's flows.
    pub(super) installed: bool,
    /// Of a tunnel: where it leads.
    pub(super) remote: Option<String>,
}

/// All interfaces of the switch.
pub(super) async fn all(session: &Session) -> Result<Vec<Interface>, TransactError> {
    let select = Operation::select(TABLE, Vec::new(), COLUMNS);
    let results = session.client.transact(DATABASE, &[select]).await?;
    let rows = results.into_iter().flat_map(|result| match result {
        OperationResult::Rows(rows) => rows,
        _ => Vec::new(),
    });
    Ok(rows.filter_map(|row| interface(&row)).collect())
}

fn interface(row: &Row) -> Option<Interface> {
    let id = |key: &str| row.get("external_ids").and_then(|ids| ids.get(key));
    let is_tunnel = row.get("type").and_then(Datum::as_str).is_some_and(|it| !it.is_empty());
    let remote = row.get("options").and_then(|options| options.get("remote_ip"));
    Some(Interface {
        name: row.get("name")?.as_str()?.to_owned(),
        // -1 says that it cannot be used.
        ofport: row.get("ofport").and_then(Datum::as_i64).and_then(|it| u16::try_from(it).ok()),
        port: id("iface-id").map(ToOwned::to_owned),
        installed: id("ovn-installed") == Some("true"),
        remote: remote.filter(|_| is_tunnel).map(ToOwned::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whose_an_interface_is_and_where_a_tunnel_leads() {
        let row = |pairs: Vec<(&str, Datum)>| -> Row {
            pairs.into_iter().map(|(column, value)| (column.to_owned(), value)).collect()
        };
        let pod = row(vec![
            ("name", Datum::from("veth1")),
            ("ofport", Datum::from(7_i64)),
            ("external_ids", Datum::map([("iface-id", "a.blue"), ("ovn-installed", "true")])),
        ]);
        let (name, port) = ("veth1".to_owned(), Some("a.blue".to_owned()));
        let found = Interface { name, ofport: Some(7), port, installed: true, remote: None };
        assert_eq!(interface(&pod).unwrap(), found);
        let tunnel = row(vec![
            ("name", Datum::from("ovn-n2-0")),
            ("type", Datum::from("geneve")),
            ("ofport", Datum::from(2_i64)),
            ("options", Datum::map([("remote_ip", "172.30.0.102"), ("key", "flow")])),
        ]);
        assert_eq!(interface(&tunnel).unwrap().remote.as_deref(), Some("172.30.0.102"));
        let broken = row(vec![("name", Datum::from("veth2")), ("ofport", Datum::from(-1_i64))]);
        let found = interface(&broken).unwrap();
        assert_eq!((found.ofport, found.port, found.installed), (None, None, false));
    }
}
