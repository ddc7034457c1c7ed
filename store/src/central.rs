//! Whose ovn-central serves.

use std::sync::Arc;

use atoll_model::{Central, Object, Reply};

use crate::transaction::Transaction;

impl Transaction {
    /// Chooses the serving central. Choosing the same one again changes nothing, so that agents,
    /// who follow the highest `since`, do not reconnect for nothing.
    pub(crate) fn set_central(&mut self, central: &Central) -> Reply {
        let same = |known: &Arc<Central>| {
            known.member == central.member && known.nb == central.nb && known.sb == central.sb
        };
        if !self.state.central.as_ref().is_some_and(same) {
            let chosen = Central { since: self.revision, ..central.clone() };
            self.put(Object::Central(Arc::new(chosen)));
        }
        Reply::Done
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::{MemberId, MemberName, Operation, Revision};

    use super::*;
    use crate::scenario::Scenario;

    fn central(member: u64, nb: &str) -> Operation {
        Operation::SetCentral(Central {
            member: MemberId(member),
            name: MemberName::new("m1").unwrap(),
            nb: nb.into(),
            sb: "tcp:172.31.0.11:6642".into(),
            since: Revision(999),
        })
    }

    #[test]
    fn the_central_is_dated_by_the_entry_that_chose_it() {
        let mut it = Scenario::new();
        it.apply(central(1, "tcp:172.31.0.11:6641")).done();
        assert_eq!(it.state.central().unwrap().since, it.state.applied());
    }

    #[test]
    fn choosing_the_same_central_again_is_no_event_and_another_address_is() {
        let mut it = Scenario::new();
        it.apply(central(1, "tcp:172.31.0.11:6641")).done();
        let since = it.state.central().unwrap().since;
        it.apply(central(1, "tcp:172.31.0.11:6641")).done().unchanged();
        assert_eq!(it.state.central().unwrap().since, since);
        it.apply(central(1, "tcp:172.31.0.99:6641")).done().changed("central");
        it.apply(central(2, "tcp:172.31.0.99:6641")).done().changed("central");
    }
}
