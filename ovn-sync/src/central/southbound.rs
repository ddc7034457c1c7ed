//! Where the southbound database listens, and what those may do who connect.
//!
//! The address is in a row and not only in a command, because a role can be given in a row only. The
//! row comes along to copies, so whoever serves next puts its own address into it before it opens.

use atoll_ovsdb::{
    Client, Condition, Datum, Mutation, Operation, OperationResult, Row, TransactError,
};

use super::network::Network;

/// The remote that is all rows of that table: a server that has it listens where they say.
pub(super) const CONNECTIONS: &str = "db:OVN_Southbound,SB_Global,connections";

const DATABASE: &str = "OVN_Southbound";
const TABLE: &str = "Connection";

/// Our row; those of others stay as they are, and are open as well while this member serves.
const MARK: (&str, &str) = ("vendor", "atoll");

/// What nodes may do, in the words of northd, which fills `RBAC_Role` and `RBAC_Permission`. It goes by
/// the name in their certificate, so it can be given only to those who have shown one.
pub(super) const ROLE: &str = "ovn-controller";

/// After so much silence a node is asked for a sign of life, and is cut off after as much again. A
/// node with 10,000 ports was seen computing for 18 s, and a second connection costs it as much.
pub(super) const INACTIVITY_PROBE_MS: i64 = 60_000;

/// Makes the row say what `network` says; nothing is written if it does.
pub(super) async fn listen(sb: &Client, network: &Network) -> Result<(), TransactError> {
    let wanted = wanted(network);
    let ours = || vec![Condition::includes("external_ids", Datum::map([MARK]))];
    let find = Operation::select(TABLE, ours(), wanted.keys().map(String::as_str));
    let found = sb.transact(DATABASE, &[find]).await?;
    let operations = match found.into_iter().next() {
        Some(OperationResult::Rows(rows)) if rows == [wanted.clone()] => return Ok(()),
        Some(OperationResult::Rows(rows)) if !rows.is_empty() => {
            vec![Operation::update(TABLE, ours(), wanted)]
        }
        _ => added(wanted),
    };
    sb.transact(DATABASE, &operations).await.map(drop)
}

fn wanted(network: &Network) -> Row {
    let role = if network.knows_callers() { ROLE } else { "" };
    [
        ("target", Datum::from(network.listen())),
        ("role", Datum::from(role)),
        ("inactivity_probe", Datum::from(INACTIVITY_PROBE_MS)),
        ("external_ids", Datum::map([MARK])),
    ]
    .map(|(column, value)| (column.to_owned(), value))
    .into()
}

fn added(row: Row) -> Vec<Operation> {
    let name = "connection";
    vec![
        Operation::Insert {
            table: TABLE.to_owned(),
            row,
            uuid: None,
            uuid_name: Some(name.to_owned()),
        },
        Operation::mutate(
            "SB_Global",
            Vec::new(),
            vec![Mutation::insert("connections", Datum::named_uuid(name))],
        ),
    ]
}
