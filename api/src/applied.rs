//! What a node has of the rules, against what it needs.

use crate::proto::Applied;

impl Applied {
    /// What is not as of the revision that it needs to be, in words, and its own revision; the first in
    /// the order in which a node gets it.
    #[must_use]
    pub fn lacks(&self, needed: &Self) -> Option<(&'static str, u64)> {
        let concerns = [
            ("its packet filter is", self.firewall, needed.firewall),
            ("the flows of its switch are", self.flows, needed.flows),
            (
                "the connections of its private pods are checked",
                self.connections,
                needed.connections,
            ),
        ];
        let behind = concerns.into_iter().find(|(_, has, needs)| has < needs);
        behind.map(|(what, has, _)| (what, has))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_first_is_named() {
        let needed = Applied { flows: 9, firewall: 7, connections: 7 };
        let lacks =
            |flows, firewall, connections| Applied { flows, firewall, connections }.lacks(&needed);
        assert_eq!(lacks(9, 7, 7), None);
        assert_eq!(lacks(8, 6, 0), Some(("its packet filter is", 6)));
        assert_eq!(lacks(8, 9, 0), Some(("the flows of its switch are", 8)));
        assert_eq!(lacks(9, 9, 6).map(|(_, has)| has), Some(6));
    }
}
