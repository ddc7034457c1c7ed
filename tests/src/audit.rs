//! Did any address ever have two owners? Answered from the members' logs on disk, replayed here,
//! not from the running allocator's own word.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use atoll_model::{ChangeSet, MacAddress, MemberName, Object, Owner, Revision, SubnetName, Txn};
use atoll_store::State;

use crate::lab::Lab;

/// What the members' logs say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audited {
    /// Entries replayed, over all members.
    pub entries: u32,
    /// Addresses or MACs that were given while somebody else still held them.
    pub doubles: u32,
    /// Members whose log differs from the first one's where both have entries.
    pub differing: u32,
}

type Log = Vec<(Revision, Option<Txn>)>;

/// Reads a copy of each member's log and replays it.
///
/// # Errors
///
/// A log cannot be read, or was purged.
pub async fn members(lab: &Lab) -> Result<Audited> {
    let mut logs: Vec<Log> = Vec::new();
    for member in lab.members() {
        let copy = tempfile::tempdir()?;
        copy_tree(&member.data_dir(), copy.path())?;
        let name = MemberName::new(&member.name())?;
        let log = atoll_raft::inspect_log(copy.path(), &name)?;
        ensure!(log.purged.is_none(), "the log of {name} was purged; an audit needs all of it");
        logs.push(log.entries);
    }
    let first = logs.first().context("no members")?;
    let mut audited = Audited::default();
    for log in &logs {
        let common = log.len().min(first.len());
        audited.differing += u32::from(log[..common] != first[..common]);
        audited.doubles += doubles(log);
        audited.entries += u32::try_from(log.len())?;
    }
    Ok(audited)
}

/// Replays one log and counts what was given while somebody else still held it.
fn doubles(log: &Log) -> u32 {
    let (mut state, mut holders, mut doubles) = (State::default(), Holders::default(), 0);
    for (revision, txn) in log {
        match txn {
            Some(txn) => {
                let applied = state.apply(*revision, txn);
                doubles += applied.changes.as_ref().map_or(0, |set| holders.take_in(set));
            }
            // The first entry of a log is its membership, at index 0: nothing comes before it.
            None if revision.0 == 0 => {}
            None => state.skip(*revision),
        }
    }
    doubles
}

/// Who holds what, kept from change events alone.
#[derive(Debug, Default)]
struct Holders {
    addresses: BTreeMap<(SubnetName, IpAddr), Owner>,
    macs: BTreeMap<(SubnetName, MacAddress), Owner>,
}

impl Holders {
    fn take_in(&mut self, set: &ChangeSet) -> u32 {
        for change in &set.changes {
            if let Some(Object::Allocation(was)) = &change.before {
                for address in was.addresses.iter() {
                    self.addresses.remove(&(was.subnet.clone(), address));
                }
                self.macs.remove(&(was.subnet.clone(), was.mac));
            }
        }
        let mut doubles = 0;
        for change in &set.changes {
            if let Some(Object::Allocation(is)) = &change.after {
                for address in is.addresses.iter() {
                    let held =
                        self.addresses.insert((is.subnet.clone(), address), is.owner.clone());
                    doubles += u32::from(held.is_some());
                }
                let held = self.macs.insert((is.subnet.clone(), is.mac), is.owner.clone());
                doubles += u32::from(held.is_some());
            }
        }
        doubles
    }
}

pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_model::{Actor, Addresses, Allocation, Change, PodKey, PortName, Uid};

    fn given(revision: u64, pod: &str, address: &str, before: bool) -> ChangeSet {
        let key = PodKey::parse(&format!("ns/{pod}")).unwrap();
        let allocation = Object::Allocation(
            Allocation {
                port: PortName::of_pod(&key),
                subnet: SubnetName::new("s").unwrap(),
                owner: Owner::Pod(key, Uid::new(pod).unwrap()),
                addresses: [address.parse().unwrap()].into_iter().collect::<Addresses>(),
                mac: MacAddress::new([2, 0, 0, 0, 0, u8::try_from(revision).unwrap()]),
                port_key: 1,
                interface: None,
                state: Default::default(),
                sticky: None,
                created: Revision(revision),
                changed: Revision(revision),
            }
            .into(),
        );
        let key = allocation.key();
        let (before, after) =
            if before { (Some(allocation), None) } else { (None, Some(allocation)) };
        let changes = vec![Change { key, before, after }];
        ChangeSet { revision: Revision(revision), actor: Actor::Leader, wall_ms: 0, changes }
    }

    /// The audit itself must be able to find a double.
    #[test]
    fn an_address_with_two_owners_is_found_and_a_passed_on_one_is_not() {
        let mut holders = Holders::default();
        assert_eq!(holders.take_in(&given(1, "a", "10.0.0.2", false)), 0);
        assert_eq!(holders.take_in(&given(2, "b", "10.0.0.2", false)), 1);
        let mut holders = Holders::default();
        assert_eq!(holders.take_in(&given(1, "a", "10.0.0.2", false)), 0);
        assert_eq!(holders.take_in(&given(1, "a", "10.0.0.2", true)), 0);
        assert_eq!(holders.take_in(&given(3, "b", "10.0.0.2", false)), 0);
    }
}
