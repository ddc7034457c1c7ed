//! What to write so that one database has of others what another one has.

use std::collections::{BTreeMap, BTreeSet};

use atoll_ovsdb::{Condition, Datum, Mutation, Operation, Row};
use uuid::Uuid;

use super::contents::{Columns, Contents, FOREIGN_KEY, GLOBAL};

/// How much of the target may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// It becomes equal.
    Exact,
    /// It gets what it lacks; what it has stays as it is.
    Missing,
}

/// The operations of one transaction that carry what is in `from` into `to`; none if that is done.
///
/// With [`Manner::Missing`], a row whose name is taken there is left out.
pub(super) fn carry(
    from: &Contents,
    to: &Contents,
    columns: &Columns,
    manner: Manner,
) -> Vec<Operation> {
    let carry = Carry { from, to, columns, manner };
    let mut operations = carry.rows();
    carry.added(&mut operations);
    carry.members(&mut operations);
    operations
}

/// Writes the token, see [`FOREIGN_KEY`].
pub(super) fn put_token(token: &str) -> Operation {
    let mutations = vec![
        Mutation::delete("external_ids", Datum::set([FOREIGN_KEY])),
        Mutation::insert("external_ids", Datum::map([(FOREIGN_KEY, token)])),
    ];
    Operation::mutate(GLOBAL, Vec::new(), mutations)
}

struct Carry<'a> {
    from: &'a Contents,
    to: &'a Contents,
    columns: &'a Columns,
    manner: Manner,
}

impl Carry<'_> {
    fn rows(&self) -> Vec<Operation> {
        let mut operations = Vec::new();
        if self.manner == Manner::Exact {
            let gone = self.to.rows.keys().filter(|key| !self.from.rows.contains_key(*key));
            operations.extend(
                gone.map(|(table, uuid)| Operation::delete(table, vec![Condition::uuid(*uuid)])),
            );
        }
        let taken = self.taken();
        for ((table, uuid), row) in &self.from.rows {
            match self.to.rows.get(&(table.clone(), *uuid)) {
                None if named(table, row).is_some_and(|name| taken.contains(&name)) => (),
                None => operations.push(Operation::insert_as(table, *uuid, row.clone())),
                Some(there) if self.manner == Manner::Exact => {
                    let differs = |(column, value): &(&String, &Datum)| {
                        there.get(*column).is_some_and(|there| there != *value)
                    };
                    let row: Row = row
                        .iter()
                        .filter(differs)
                        .map(|(column, value)| (column.clone(), value.clone()))
                        .collect();
                    push_update(&mut operations, table, *uuid, row);
                }
                Some(_) => (),
            }
        }
        operations
    }

    /// Names that rows which stay have there.
    fn taken(&self) -> BTreeSet<(&str, &str)> {
        match self.manner {
            Manner::Exact => BTreeSet::new(),
            Manner::Missing => {
                self.to.rows.iter().filter_map(|((table, _), row)| named(table, row)).collect()
            }
        }
    }

    fn added(&self, operations: &mut Vec<Operation>) {
        let nothing = Row::new();
        for key @ (table, uuid) in union(&self.from.added, &self.to.added) {
            let [from, to] =
                [self.from, self.to].map(|side| side.added.get(key).unwrap_or(&nothing));
            let mut row = Row::new();
            for column in union(from, to) {
                let (wanted, there) = (from.get(column), to.get(column));
                if wanted == there || self.manner == Manner::Missing && there.is_some() {
                    continue;
                }
                let wanted = wanted.cloned().or_else(|| self.columns.default_of(table, column));
                row.extend(wanted.map(|wanted| (column.clone(), wanted)));
            }
            push_update(operations, table, *uuid, row);
        }
    }

    fn members(&self, operations: &mut Vec<Operation>) {
        let nobody = BTreeSet::new();
        for key in union(&self.from.members, &self.to.members) {
            let ((table, uuid), column) = key;
            let [from, to] =
                [self.from, self.to].map(|side| side.members.get(key).unwrap_or(&nobody));
            let difference = |one: &BTreeSet<Uuid>, other| -> Vec<Uuid> {
                one.difference(other).copied().collect()
            };
            let leaves = match self.manner {
                Manner::Exact => difference(to, from),
                Manner::Missing => Vec::new(),
            };
            let joins = difference(from, to);
            let mut mutations = Vec::new();
            if !leaves.is_empty() {
                mutations.push(Mutation::delete(column, Datum::set(leaves)));
            }
            if !joins.is_empty() {
                mutations.push(Mutation::insert(column, Datum::set(joins)));
            }
            if !mutations.is_empty() {
                operations.push(Operation::mutate(table, vec![Condition::uuid(*uuid)], mutations));
            }
        }
    }
}

/// A row's table and name.
fn named<'a>(table: &'a str, row: &'a Row) -> Option<(&'a str, &'a str)> {
    let name = row.get("name")?.as_str().filter(|name| !name.is_empty())?;
    Some((table, name))
}

fn union<'a, K: Ord, V>(one: &'a BTreeMap<K, V>, other: &'a BTreeMap<K, V>) -> BTreeSet<&'a K> {
    one.keys().chain(other.keys()).collect()
}

fn push_update(operations: &mut Vec<Operation>, table: &str, uuid: Uuid, row: Row) {
    if !row.is_empty() {
        operations.push(Operation::update(table, vec![Condition::uuid(uuid)], row));
    }
}

/// How many rows of others there are.
pub(super) fn count(contents: &Contents) -> usize {
    contents.rows.len()
}

#[cfg(test)]
mod tests {
    use super::super::contents::Key;
    use super::*;

    fn key(table: &str, number: u128) -> Key {
        (table.to_owned(), Uuid::from_u128(number))
    }

    fn row(columns: &[(&str, &str)]) -> Row {
        columns.iter().map(|(column, value)| ((*column).to_owned(), (*value).into())).collect()
    }

    fn contents(rows: &[(Key, Row)]) -> Contents {
        Contents { rows: rows.iter().cloned().collect(), ..Contents::default() }
    }

    fn operations(from: &Contents, to: &Contents, manner: Manner) -> Vec<Operation> {
        carry(from, to, &Columns::default(), manner)
    }

    fn at(number: u128) -> Vec<Condition> {
        vec![Condition::uuid(Uuid::from_u128(number))]
    }

    #[test]
    fn equal_contents_need_nothing() {
        let same = contents(&[(key("DNS", 1), row(&[("a", "b")]))]);
        for manner in [Manner::Exact, Manner::Missing] {
            assert_eq!(operations(&same, &same, manner), []);
        }
    }

    #[test]
    fn exact_adds_corrects_and_deletes() {
        let from = contents(&[
            (key("DNS", 1), row(&[("a", "b")])),
            (key("DNS", 2), row(&[("a", "new"), ("c", "d")])),
        ]);
        let to = contents(&[
            (key("DNS", 2), row(&[("a", "old"), ("c", "d")])),
            (key("DNS", 3), row(&[])),
        ]);
        assert_eq!(
            operations(&from, &to, Manner::Exact),
            [
                Operation::delete("DNS", at(3)),
                Operation::insert_as("DNS", Uuid::from_u128(1), row(&[("a", "b")])),
                Operation::update("DNS", at(2), row(&[("a", "new")])),
            ]
        );
    }

    #[test]
    fn missing_adds_only_what_is_not_there_under_any_identity() {
        let from = contents(&[
            (key("Load_Balancer", 1), row(&[("name", "one")])),
            (key("Load_Balancer", 2), row(&[("name", "two")])),
            (key("Load_Balancer", 3), row(&[("name", "three"), ("protocol", "tcp")])),
        ]);
        let to = contents(&[
            (key("Load_Balancer", 3), row(&[("name", "three"), ("protocol", "udp")])),
            (key("Load_Balancer", 9), row(&[("name", "two")])),
        ]);
        assert_eq!(
            operations(&from, &to, Manner::Missing),
            [Operation::insert_as("Load_Balancer", Uuid::from_u128(1), row(&[("name", "one")]))]
        );
    }

    #[test]
    fn members_of_our_sets_come_and_go_one_by_one() {
        let of = |members: &[u128]| {
            let members = members.iter().copied().map(Uuid::from_u128).collect();
            let column = (key("Port_Group", 7), "acls".to_owned());
            Contents { members: [(column, members)].into(), ..Contents::default() }
        };
        let mutate = |mutations| Operation::mutate("Port_Group", at(7), mutations);
        let set = |number| Datum::set([Uuid::from_u128(number)]);
        let (insert, delete) = (Mutation::insert("acls", set(1)), Mutation::delete("acls", set(3)));
        assert_eq!(
            operations(&of(&[1, 2]), &of(&[2, 3]), Manner::Exact),
            [mutate(vec![delete, insert.clone()])]
        );
        assert_eq!(operations(&of(&[1, 2]), &of(&[2, 3]), Manner::Missing), [mutate(vec![insert])]);
    }

    #[test]
    fn what_others_wrote_into_our_rows_is_carried_and_taken_back() {
        let of = |columns: &[(&str, &str)]| Contents {
            added: [(key("Logical_Switch", 7), row(columns))].into(),
            ..Contents::default()
        };
        let update = |columns| Operation::update("Logical_Switch", at(7), row(columns));
        assert_eq!(
            operations(&of(&[("acls", "a")]), &Contents::default(), Manner::Missing),
            [update(&[("acls", "a")])]
        );
        assert_eq!(operations(&of(&[("acls", "a")]), &of(&[("acls", "b")]), Manner::Missing), []);
        assert_eq!(
            operations(&of(&[("acls", "a")]), &of(&[("acls", "b")]), Manner::Exact),
            [update(&[("acls", "a")])]
        );
    }
}
