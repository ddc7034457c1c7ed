//! The ipsets: names, contents, the language of `ipset restore`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use ipnetwork::IpNetwork;

use super::{Desired, Family};

/// Most networks that a set takes; `ipset`'s own default, written out so that a newer `ipset`
/// with another default still finds its set to be the same.
const NETWORKS_MAX: u32 = 65_536;

/// Ends the name of the set that is filled aside.
const ASIDE: &str = "-new";

/// The contents of our sets by name.
pub(super) type Sets = BTreeMap<String, BTreeSet<IpNetwork>>;

/// Which networks a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Subnets,
    Nat,
    /// What leaves with its own address. What is in neither of the two does not leave.
    Plain,
    Central,
}

impl Purpose {
    /// In the order in which sets are filled: what is inside must be known before anything from
    /// it is given the node's address.
    const ALL: [Self; 4] = [Self::Subnets, Self::Nat, Self::Plain, Self::Central];

    /// The set's name; at most 31 characters, as the kernel demands.
    pub(super) fn set(self, family: Family) -> String {
        let purpose = match self {
            Self::Subnets => "subnets",
            Self::Nat => "nat",
            Self::Plain => "plain",
            Self::Central => "central",
        };
        format!("atoll-{purpose}-{}", family.suffix())
    }

    fn networks(self, desired: &Desired) -> BTreeSet<IpNetwork> {
        match self {
            Self::Subnets => desired.subnets.clone(),
            Self::Nat => desired.nat.clone(),
            Self::Plain => desired.subnets.difference(&desired.nat).copied().collect(),
            Self::Central => desired.central.clone(),
        }
    }
}

/// All sets that may be ours, those filled aside included.
pub(super) fn names() -> Vec<String> {
    let kinds = Purpose::ALL.into_iter().flat_map(|p| Family::ALL.map(|f| p.set(f)));
    kinds.flat_map(|name| [format!("{name}{ASIDE}"), name]).collect()
}

/// What `ipset restore -exist` needs so that the sets of these families hold what is desired.
/// Empty if they do.
pub(super) fn render(desired: &Desired, observed: &Sets, families: &[Family]) -> String {
    let mut text = String::new();
    for purpose in Purpose::ALL {
        for family in families {
            let name = purpose.set(*family);
            let networks: BTreeSet<_> = purpose
                .networks(desired)
                .iter()
                .filter(|network| Family::of(network) == *family)
                .flat_map(expressible)
                .collect();
            if observed.get(&name) != Some(&networks) {
                render_set(&mut text, &name, *family, &networks);
            }
        }
    }
    text
}

/// Fills the set aside and swaps it in. What an earlier, broken-off pass left aside is emptied.
fn render_set(text: &mut String, name: &str, family: Family, networks: &BTreeSet<IpNetwork>) {
    let aside = format!("{name}{ASIDE}");
    let mut line = |line: String| writeln!(text, "{line}").expect("a String takes everything");
    for set in [name, &aside] {
        let family = family.set_family();
        line(format!("create {set} hash:net family {family} maxelem {NETWORKS_MAX}"));
    }
    line(format!("flush {aside}"));
    for network in networks {
        line(format!("add {aside} {network}"));
    }
    line(format!("swap {aside} {name}"));
    line(format!("destroy {aside}"));
}

/// Reads `ipset save`; sets of others are passed over.
pub(super) fn parse(saved: &str) -> Sets {
    let ours = names();
    let mut sets = Sets::new();
    for line in saved.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(verb), Some(name)) = (words.next(), words.next()) else { continue };
        if !ours.iter().any(|our| our == name) {
            continue;
        }
        let networks = sets.entry(name.to_owned()).or_default();
        if let ("add", Some(network)) = (verb, words.next().and_then(|word| word.parse().ok())) {
            networks.insert(network);
        }
    }
    sets
}

/// A network as it can be said and is printed again: without an address in it, and not of length 0,
/// which a set of type `hash:net` cannot hold and a rule does not print; its two halves mean the
/// same.
pub(super) fn expressible(network: &IpNetwork) -> Vec<IpNetwork> {
    if network.prefix() > 0 {
        return IpNetwork::new(network.network(), network.prefix()).into_iter().collect();
    }
    let halves = match network {
        IpNetwork::V4(_) => ["0.0.0.0/1", "128.0.0.0/1"],
        IpNetwork::V6(_) => ["::/1", "8000::/1"],
    };
    halves.iter().filter_map(|half| half.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> BTreeSet<IpNetwork> {
        list.iter().map(|network| network.parse().unwrap()).collect()
    }

    #[test]
    fn a_set_is_filled_aside_and_swapped_in() {
        let subnets = networks(&["10.16.3.9/16", "fd00::/64"]);
        let desired = Desired { subnets, ..Desired::default() };
        let mut observed = Sets::new();
        for set in ["atoll-nat-v4", "atoll-central-v4"] {
            observed.insert(set.into(), networks(&[]));
        }
        observed.insert("atoll-plain-v4".into(), networks(&["10.16.0.0/16"]));
        let expected = "\
            create atoll-subnets-v4 hash:net family inet maxelem 65536\n\
            create atoll-subnets-v4-new hash:net family inet maxelem 65536\n\
            flush atoll-subnets-v4-new\n\
            add atoll-subnets-v4-new 10.16.0.0/16\n\
            swap atoll-subnets-v4-new atoll-subnets-v4\n\
            destroy atoll-subnets-v4-new\n";
        assert_eq!(render(&desired, &observed, &[Family::V4]), expected);
    }

    #[test]
    fn what_ipset_prints_is_read_back_and_foreign_sets_are_passed_over() {
        let saved = "\
            create KUBE-LOOP-BACK hash:ip family inet\n\
            add KUBE-LOOP-BACK 10.0.0.1\n\
            create atoll-subnets-v4 hash:net family inet hashsize 1024 maxelem 65536\n\
            add atoll-subnets-v4 10.16.0.0/16\n\
            add atoll-subnets-v4 10.9.9.9\n\
            create atoll-nat-v4 hash:net family inet hashsize 1024 maxelem 65536\n\
            create atoll-nat-v4-new hash:net family inet hashsize 1024 maxelem 65536\n\
            create atoll-private hash:net family inet\n";
        let sets = parse(saved);
        assert_eq!(
            sets.keys().collect::<Vec<_>>(),
            ["atoll-nat-v4", "atoll-nat-v4-new", "atoll-subnets-v4"]
        );
        assert_eq!(sets["atoll-subnets-v4"], networks(&["10.16.0.0/16", "10.9.9.9/32"]));

        let subnets = sets["atoll-subnets-v4"].clone();
        let mut sets = sets;
        sets.insert("atoll-plain-v4".to_owned(), subnets.clone());
        sets.insert("atoll-central-v4".to_owned(), networks(&[]));
        let desired = Desired { subnets, ..Desired::default() };
        assert_eq!(render(&desired, &sets, &[Family::V4]), "");
    }

    #[test]
    fn the_whole_address_space_is_held_as_two_halves() {
        let nat = networks(&["0.0.0.0/0", "::/0"]);
        let desired = Desired { nat, ..Desired::default() };
        let text = render(&desired, &Sets::new(), &Family::ALL);
        for half in ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"] {
            assert!(text.contains(&format!(" {half}\n")), "{half}");
        }
    }
}
