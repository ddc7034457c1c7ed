//! The iptables chains: rules, jumps, the language of `iptables-restore`.

use std::fmt::Write;

use super::{Family, sets::Purpose};

/// One of our chains and where it is entered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Chain {
    pub(super) table: &'static str,
    hook: &'static str,
    name: &'static str,
}

/// A chain as `iptables-save` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ObservedChain {
    /// Its rules in order; none if there is no such chain.
    pub(super) rules: Option<Vec<String>>,
    /// How often it is jumped to from where it should be entered: once.
    pub(super) jumps: usize,
}

const POSTROUTING: Chain = Chain { table: "nat", hook: "POSTROUTING", name: "ATOLL-POSTROUTING" };
const FORWARD: Chain = Chain { table: "filter", hook: "FORWARD", name: "ATOLL-FORWARD" };

impl Chain {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [POSTROUTING, FORWARD];

    /// Its rules, in the very words in which `iptables-save` prints them: they are compared.
    pub(super) fn rules(self, family: Family) -> Vec<String> {
        let subnets = Purpose::Subnets.set(family);
        let nat = Purpose::Nat.set(family);
        if self == POSTROUTING {
            return vec![format!(
                "-m set --match-set {nat} src -m set ! --match-set {subnets} dst -j MASQUERADE"
            )];
        }
        vec![
            format!("-m set --match-set {subnets} src -j ACCEPT"),
            format!("-m set --match-set {subnets} dst -j ACCEPT"),
        ]
    }

    fn jump(self) -> String {
        format!("{} -j {}", self.hook, self.name)
    }

    /// What `iptables-restore --noflush` needs so that this chain is as it should be. Empty if it
    /// is. A chain that is right keeps its counters, also when its jump has to be put back.
    pub(super) fn render(self, family: Family, observed: &ObservedChain) -> String {
        let rules = self.rules(family);
        let mut lines = Vec::new();
        if observed.rules.as_ref() != Some(&rules) {
            // Naming a chain of ours makes it, or empties it, within the same transaction.
            lines.push(format!(":{} - [0:0]", self.name));
            lines.extend(rules.iter().map(|rule| format!("-A {} {rule}", self.name)));
        }
        match observed.jumps {
            // First, because chains of others end with a verdict for everything.
            0 => lines.push(format!("-I {} 1 -j {}", self.hook, self.name)),
            jumps => lines.extend((1..jumps).map(|_| format!("-D {}", self.jump()))),
        }
        self.transaction(&lines)
    }

    /// What `iptables-restore --noflush` needs so that nothing of this chain is left.
    pub(super) fn render_removal(self, observed: &ObservedChain) -> String {
        let mut lines: Vec<_> =
            (0..observed.jumps).map(|_| format!("-D {}", self.jump())).collect();
        if observed.rules.is_some() {
            lines.push(format!("-F {}", self.name));
            lines.push(format!("-X {}", self.name));
        }
        self.transaction(&lines)
    }

    fn transaction(self, lines: &[String]) -> String {
        let mut text = String::new();
        if !lines.is_empty() {
            write!(text, "*{}\n{}\nCOMMIT\n", self.table, lines.join("\n"))
                .expect("a String takes everything");
        }
        text
    }

    /// Finds this chain in what `iptables-save -t` printed for its table.
    pub(super) fn parse(self, saved: &str) -> ObservedChain {
        let declared = format!(":{} ", self.name);
        let appended = format!("-A {} ", self.name);
        let jump = format!("-A {}", self.jump());
        let mut observed = ObservedChain::default();
        for line in saved.lines().map(str::trim_end) {
            if line.starts_with(&declared) {
                observed.rules.get_or_insert_default();
            } else if let Some(rule) = line.strip_prefix(&appended) {
                observed.rules.get_or_insert_default().push(rule.to_owned());
            } else if line == jump {
                observed.jumps += 1;
            }
        }
        observed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_node_gets_the_chain_and_the_jump_in_one_transaction() {
        let expected = "\
            *nat\n\
            :ATOLL-POSTROUTING - [0:0]\n\
            -A ATOLL-POSTROUTING -m set --match-set atoll-nat-v6 src \
            -m set ! --match-set atoll-subnets-v6 dst -j MASQUERADE\n\
            -I POSTROUTING 1 -j ATOLL-POSTROUTING\n\
            COMMIT\n";
        assert_eq!(POSTROUTING.render(Family::V6, &ObservedChain::default()), expected);
    }

    #[test]
    fn only_what_is_wrong_is_put_right() {
        let rules = Some(FORWARD.rules(Family::V4));
        let right = ObservedChain { rules, jumps: 1 };
        assert_eq!(FORWARD.render(Family::V4, &right), "");

        let no_jump = ObservedChain { jumps: 0, ..right.clone() };
        let expected = "*filter\n-I FORWARD 1 -j ATOLL-FORWARD\nCOMMIT\n";
        assert_eq!(FORWARD.render(Family::V4, &no_jump), expected);

        let two_jumps = ObservedChain { jumps: 2, ..right };
        let expected = "*filter\n-D FORWARD -j ATOLL-FORWARD\nCOMMIT\n";
        assert_eq!(FORWARD.render(Family::V4, &two_jumps), expected);
    }

    #[test]
    fn our_chain_is_found_among_those_of_others() {
        let saved = "\
            # Generated by iptables-save v1.8.9 (nf_tables)\n\
            *filter\n\
            :FORWARD DROP [3:180]\n\
            :ATOLL-FORWARD - [0:0]\n\
            :ATOLL-FORWARD-OLD - [0:0]\n\
            -A FORWARD -j KUBE-FORWARD\n\
            -A FORWARD -j ATOLL-FORWARD\n\
            -A FORWARD -s 10.0.0.0/8 -j ATOLL-FORWARD\n\
            -A ATOLL-FORWARD-OLD -j DROP\n\
            -A ATOLL-FORWARD -m set --match-set atoll-subnets-v4 src -j ACCEPT\n\
            COMMIT\n";
        let expected = ObservedChain {
            rules: Some(vec!["-m set --match-set atoll-subnets-v4 src -j ACCEPT".into()]),
            jumps: 1,
        };
        assert_eq!(FORWARD.parse(saved), expected);
        assert_eq!(POSTROUTING.parse(saved), ObservedChain::default());
    }

    #[test]
    fn removal_takes_every_jump_before_the_chain() {
        let observed = ObservedChain { rules: Some(Vec::new()), jumps: 2 };
        let expected = "\
            *filter\n\
            -D FORWARD -j ATOLL-FORWARD\n\
            -D FORWARD -j ATOLL-FORWARD\n\
            -F ATOLL-FORWARD\n\
            -X ATOLL-FORWARD\n\
            COMMIT\n";
        assert_eq!(FORWARD.render_removal(&observed), expected);
        assert_eq!(FORWARD.render_removal(&ObservedChain::default()), "");
    }
}
