//! The iptables chains: rules, jumps, the language of `iptables-restore`.

use std::net::IpAddr;

use atoll_model::AddressRange;
use ipnetwork::IpNetwork;

use super::{
    Desired, Exception, Family,
    sets::{Purpose, expressible},
};
use crate::ovs::settings::OVN0;

/// What kube-proxy marks what it translates with, unless it is configured otherwise.
const SERVICE_MARK: &str = "0x4000/0x4000";

/// How the rules of `ATOLL-EGRESS` end, before an address.
const DESIGNATE: &str = "-j SNAT --to-source ";

/// One of our chains and where it is entered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Chain {
    pub(super) table: &'static str,
    /// A chain of the kernel's; those that only our own rules enter have none.
    hook: Option<&'static str>,
    name: &'static str,
}

/// A chain as `iptables-save` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ObservedChain {
    /// Its rules in order; none if there is no such chain.
    pub(super) rules: Option<Vec<String>>,
    /// How often it is jumped to from where it should be entered: once, if it is from a hook.
    pub(super) jumps: usize,
}

const POSTROUTING: Chain =
    Chain { table: "nat", hook: Some("POSTROUTING"), name: "ATOLL-POSTROUTING" };
/// What becomes of the source of what leaves from subnets that are translated.
const OUTGOING: Chain = Chain { table: "nat", hook: None, name: "ATOLL-OUTGOING" };
/// What becomes of the source of what comes from outside to subnets that leave by chosen nodes.
const INCOMING: Chain = Chain { table: "nat", hook: None, name: "ATOLL-INCOMING" };
/// Which address those get whom another than the node's own is designated for.
const EGRESS: Chain = Chain { table: "nat", hook: None, name: "ATOLL-EGRESS" };
const FORWARD: Chain = Chain { table: "filter", hook: Some("FORWARD"), name: "ATOLL-FORWARD" };
/// In a table of its own: what others accept in `filter` before us, they accept after this.
const BORDER: Chain = Chain { table: "mangle", hook: Some("FORWARD"), name: "ATOLL-BORDER" };
/// What may leave at all.
const LEAVE: Chain = Chain { table: "mangle", hook: Some("FORWARD"), name: "ATOLL-LEAVE" };
const FROM_PRIVATE: Chain = Chain { table: "mangle", hook: None, name: "ATOLL-FROM-PRIVATE" };
const TO_PRIVATE: Chain = Chain { table: "mangle", hook: None, name: "ATOLL-TO-PRIVATE" };

/// The lines of one table's transaction, in the order in which they have to come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lines {
    first: Vec<String>,
    then: Vec<String>,
}

impl Lines {
    /// The transaction, as `iptables-restore --noflush` reads it; nothing if there is nothing to do.
    pub(super) fn transaction(self, table: &str) -> String {
        let lines: Vec<_> = self.first.into_iter().chain(self.then).collect();
        match lines.is_empty() {
            true => String::new(),
            false => format!("*{table}\n{}\nCOMMIT\n", lines.join("\n")),
        }
    }
}

impl ObservedChain {
    /// The sources that its rules let go as they are.
    pub(super) fn forwarded(&self) -> impl Iterator<Item = AddressRange> + '_ {
        let rules = self.rules.iter().flatten().filter_map(|rule| rule.strip_suffix(" -j RETURN"));
        let sources = rules.filter_map(|rule| rule.strip_prefix("-m iprange --src-range "));
        sources.filter_map(|rule| {
            let (first, last) = rule.split(' ').next()?.split_once('-')?;
            AddressRange::new(first.parse().ok()?, last.parse().ok()?).ok()
        })
    }

    /// The addresses that its rules designate.
    pub(super) fn designated(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let rules = self.rules.iter().flatten();
        rules.filter_map(|rule| rule.split_once(DESIGNATE)?.1.trim().parse().ok())
    }
}

impl Chain {
    /// All of them.
    pub(super) const ALL: [Self; 9] =
        [POSTROUTING, OUTGOING, INCOMING, EGRESS, FORWARD, BORDER, LEAVE, FROM_PRIVATE, TO_PRIVATE];

    /// The tables that they are in: first what forbids.
    pub(super) const TABLES: [&str; 3] = [BORDER.table, FORWARD.table, POSTROUTING.table];

    /// Its rules, in the very words in which `iptables-save` prints them: they are compared.
    pub(super) fn rules(self, desired: &Desired, family: Family) -> Vec<String> {
        let subnets = Purpose::Subnets.set(family);
        let inside = format!("-m set --match-set {subnets} src -m set --match-set {subnets} dst");
        let outside = format!("-m set ! --match-set {subnets} dst");
        let [nat, plain, central] =
            [Purpose::Nat, Purpose::Plain, Purpose::Central].map(|purpose| purpose.set(family));
        let leaves = format!("-m set --match-set {nat} src {outside}");
        match self {
            POSTROUTING => vec![
                format!("{leaves} -j {}", OUTGOING.name),
                // kube-proxy's mark: it translates the source itself, and clears its mark.
                format!("-m mark --mark {SERVICE_MARK} -j RETURN"),
                format!("{inside} -m conntrack --ctstate DNAT -j MASQUERADE"),
                format!(
                    "-m set ! --match-set {subnets} src -m set --match-set {central} dst -j {}",
                    INCOMING.name
                ),
            ],
            OUTGOING => outgoing(desired, family),
            INCOMING => incoming(desired, family),
            EGRESS => {
                let is_of_family = |network: &IpNetwork| Family::of(network) == family;
                let designated = desired.egress.iter().filter(|(network, _)| is_of_family(network));
                let rules = designated.flat_map(|(network, address)| {
                    let parts = expressible(network).into_iter();
                    parts.map(move |part| format!("-s {part} {DESIGNATE}{address}"))
                });
                rules.collect()
            }
            LEAVE => {
                let incoming =
                    format!("-m set ! --match-set {subnets} src -m set --match-set {nat} dst");
                let unknown = format!(
                    "-i {OVN0} -m set ! --match-set {nat} src -m set ! --match-set {plain} src \
                     {outside} -j DROP"
                );
                let all = whole_connections(&leaves, &incoming);
                // Of a subnet that this node does not know yet.
                excepted(desired, family).into_iter().chain(all).chain([unknown]).collect()
            }
            BORDER => vec![
                format!("{inside} -j {}", FROM_PRIVATE.name),
                // Whoever comes in through a Service has the address of its node there.
                format!("-m set --match-set {subnets} dst -j {}", TO_PRIVATE.name),
            ],
            FORWARD => vec![
                format!("-m set --match-set {subnets} src -j ACCEPT"),
                format!("-m set --match-set {subnets} dst -j ACCEPT"),
            ],
            // `-s` comes before `-d` when they are printed.
            FROM_PRIVATE => {
                border(desired, family, "-s", |one, other| format!("-s {one} -d {other}"))
            }
            _ => {
                let answers = "-m conntrack --ctdir REPLY -j RETURN".to_owned();
                let rules =
                    border(desired, family, "-d", |one, other| format!("-s {other} -d {one}"));
                // Without private networks nobody need be asked.
                let first = (!rules.is_empty()).then_some(answers);
                first.into_iter().chain(rules).collect()
            }
        }
    }

    /// What it is called, for people.
    pub(super) fn named(self, family: Family) -> String {
        format!("chain {} of table {} ({})", self.name, self.table, family.suffix())
    }

    fn jump(self) -> Option<String> {
        self.hook.map(|hook| format!("{hook} -j {}", self.name))
    }

    /// Adds what is needed so that this chain is as it should be; nothing if it is. A chain that is
    /// right keeps its counters, also when its jump has to be put back.
    pub(super) fn render(self, rules: &[String], observed: &ObservedChain, lines: &mut Lines) {
        if observed.rules.as_deref() != Some(rules) {
            // Naming a chain of ours makes it, or empties it, within the same transaction.
            lines.first.push(format!(":{} - [0:0]", self.name));
            lines.then.extend(rules.iter().map(|rule| format!("-A {} {rule}", self.name)));
        }
        let (Some(hook), Some(jump)) = (self.hook, self.jump()) else { return };
        match observed.jumps {
            // First, because chains of others end with a verdict for everything.
            0 => lines.then.push(format!("-I {hook} 1 -j {}", self.name)),
            jumps => lines.then.extend((1..jumps).map(|_| format!("-D {jump}"))),
        }
    }

    /// Adds what is needed so that nothing of this chain is left.
    pub(super) fn render_removal(self, observed: &ObservedChain, lines: &mut Lines) {
        let jump = self.jump().into_iter();
        lines.first.extend(jump.flat_map(|jump| vec![format!("-D {jump}"); observed.jumps]));
        if observed.rules.is_some() {
            // Empty first: our chains name each other.
            lines.first.push(format!("-F {}", self.name));
            lines.then.push(format!("-X {}", self.name));
        }
    }

    /// Finds this chain in what `iptables-save -t` printed for its table.
    pub(super) fn parse(self, saved: &str) -> ObservedChain {
        let declared = format!(":{} ", self.name);
        let appended = format!("-A {} ", self.name);
        let jump = self.jump().map(|jump| format!("-A {jump}"));
        let mut observed = ObservedChain::default();
        for line in saved.lines().map(str::trim_end) {
            if line.starts_with(&declared) {
                observed.rules.get_or_insert_default();
            } else if let Some(rule) = line.strip_prefix(&appended) {
                observed.rules.get_or_insert_default().push(rule.to_owned());
            } else if jump.as_deref() == Some(line) {
                observed.jumps += 1;
            }
        }
        observed
    }
}

/// Which way a packet goes between a pod and the outside.
#[derive(Debug, Clone, Copy)]
enum Way {
    Out,
    Back,
}

impl Exception {
    /// What matches its packets that go this way.
    fn pair(&self, way: Way) -> String {
        let (source, destination) = match way {
            Way::Out => (Some(self.source), self.destination),
            Way::Back => (self.destination, Some(self.source)),
        };
        let side = |name: &str, range: Option<AddressRange>| {
            let text = |it: AddressRange| format!(" --{name}-range {}-{}", it.first(), it.last());
            range.map_or(String::new(), text)
        };
        format!("-m iprange{}{}", side("src", source), side("dst", destination))
    }
}

fn exceptions(desired: &Desired, family: Family) -> impl Iterator<Item = &Exception> {
    desired.exceptions.iter().filter(move |it| Family::of_range(&it.source) == family)
}

/// What becomes of the source of what leaves from subnets that are translated.
fn outgoing(desired: &Desired, family: Family) -> Vec<String> {
    let translated = |it: &str| [EGRESS.name, "MASQUERADE"].map(|to| format!("{it}-j {to}"));
    let rules = exceptions(desired, family).flat_map(|it| {
        let pair = it.pair(Way::Out);
        match it.is_translated {
            true => translated(&format!("{pair} ")).to_vec(),
            false => vec![format!("{pair} -j RETURN")],
        }
    });
    rules.chain(translated("")).collect()
}

/// The same of what comes to such that leave by chosen nodes. What answers those that appear as
/// themselves may come by any node.
fn incoming(desired: &Desired, family: Family) -> Vec<String> {
    let rules = exceptions(desired, family).map(|it| {
        let verdict = if it.is_translated { "MASQUERADE" } else { "RETURN" };
        format!("{} -j {verdict}", it.pair(Way::Back))
    });
    rules.chain(["-j MASQUERADE".into()]).collect()
}

/// The same of what may leave: what keeps its own address may pass as it is, both ways.
fn excepted(desired: &Desired, family: Family) -> Vec<String> {
    let rules = exceptions(desired, family).flat_map(|it| {
        let (out, back) = (it.pair(Way::Out), it.pair(Way::Back));
        match it.is_translated {
            true => whole_connections(&out, &back),
            false => [out, back].map(|pair| format!("{pair} -j RETURN")),
        }
    });
    rules.collect()
}

/// Nothing of what is translated goes past its connection.
fn whole_connections(out: &str, back: &str) -> [String; 2] {
    [
        // The kernel translates nothing of what it takes for no connection.
        format!("{out} -m conntrack --ctstate INVALID -j DROP"),
        // Late words to pods that appeared as themselves are no connection from outside.
        format!(
            "-p tcp {back} -m conntrack --ctstate NEW -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN \
             -j DROP"
        ),
    ]
}

/// Who may pass between private networks and others, in one direction: first whom they are allowed to
/// talk to, then nobody. `side` is where the private one is.
fn border(
    desired: &Desired,
    family: Family,
    side: &str,
    pair: impl Fn(IpNetwork, IpNetwork) -> String,
) -> Vec<String> {
    let is_of_family = |network: &IpNetwork| Family::of(network) == family;
    let allowed = desired.allowed.iter().filter(|(one, _)| is_of_family(one));
    let pass = allowed.flat_map(|(one, other)| {
        let pairs = expressible(one).into_iter().flat_map(|one| {
            let others = expressible(other).into_iter();
            others.map(move |other| (one, other))
        });
        pairs.map(|(one, other)| format!("{} -j RETURN", pair(one, other))).collect::<Vec<_>>()
    });
    let private = desired.private.iter().filter(|network| is_of_family(network));
    let stop = private.flat_map(expressible).map(|network| format!("{side} {network} -j DROP"));
    pass.chain(stop).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(chain: Chain, desired: &Desired, observed: &ObservedChain) -> String {
        let mut lines = Lines::default();
        chain.render(&chain.rules(desired, Family::V4), observed, &mut lines);
        lines.transaction(chain.table)
    }

    #[test]
    fn the_border_of_private_networks_is_drawn_for_both_directions() {
        let network = |text: &str| text.parse().unwrap();
        let (one, friend) = (network("10.1.0.0/16"), network("10.2.3.4/32"));
        let desired = Desired {
            private: [one, network("fd00:1::/64")].into(),
            allowed: [(one, one), (one, friend), (network("fd00:1::/64"), network("::/0"))].into(),
            ..Desired::default()
        };
        assert_eq!(
            FROM_PRIVATE.rules(&desired, Family::V4),
            [
                "-s 10.1.0.0/16 -d 10.1.0.0/16 -j RETURN",
                "-s 10.1.0.0/16 -d 10.2.3.4/32 -j RETURN",
                "-s 10.1.0.0/16 -j DROP",
            ]
        );
        assert_eq!(
            TO_PRIVATE.rules(&desired, Family::V6),
            [
                "-m conntrack --ctdir REPLY -j RETURN",
                "-s ::/1 -d fd00:1::/64 -j RETURN",
                "-s 8000::/1 -d fd00:1::/64 -j RETURN",
                "-d fd00:1::/64 -j DROP",
            ]
        );
    }

    #[test]
    fn a_designated_address_is_given_to_its_own_network() {
        let egress = [("10.1.0.0/16", "172.31.0.9"), ("fd00:1::/64", "fd31::9")];
        let egress = egress.map(|(net, to)| (net.parse().unwrap(), to.parse().unwrap())).into();
        let desired = Desired { egress, ..Desired::default() };
        let expected = ["-s 10.1.0.0/16 -j SNAT --to-source 172.31.0.9"];
        assert_eq!(EGRESS.rules(&desired, Family::V4), expected);
        let expected = ["-s fd00:1::/64 -j SNAT --to-source fd31::9"];
        assert_eq!(EGRESS.rules(&desired, Family::V6), expected);
        let rules = Some(EGRESS.rules(&desired, Family::V6));
        let observed = ObservedChain { rules, jumps: 0 };
        let address: IpAddr = "fd31::9".parse().unwrap();
        assert_eq!(observed.designated().collect::<Vec<_>>(), [address]);
    }

    #[test]
    fn what_is_excepted_leaves_before_the_others_are_translated() {
        let range = |text: &str| text.parse().unwrap();
        let exception = |source: &str, destination: Option<&str>, is_translated| Exception {
            source: range(source),
            destination: destination.map(range),
            is_translated,
        };
        let exceptions = vec![
            exception("10.1.0.7", Some("192.0.2.0/24"), true),
            exception("10.1.0.0/29", None, false),
            exception("fd00:1::/64", Some("fd09::1"), false),
        ];
        let desired = Desired { exceptions, ..Desired::default() };
        let seventh = "--src-range 10.1.0.7-10.1.0.7 --dst-range 192.0.2.0-192.0.2.255";
        assert_eq!(
            OUTGOING.rules(&desired, Family::V4),
            [
                format!("-m iprange {seventh} -j ATOLL-EGRESS"),
                format!("-m iprange {seventh} -j MASQUERADE"),
                "-m iprange --src-range 10.1.0.0-10.1.0.7 -j RETURN".into(),
                "-j ATOLL-EGRESS".into(),
                "-j MASQUERADE".into(),
            ]
        );
        assert_eq!(
            INCOMING.rules(&desired, Family::V4),
            [
                "-m iprange --src-range 192.0.2.0-192.0.2.255 --dst-range 10.1.0.7-10.1.0.7 \
                 -j MASQUERADE",
                "-m iprange --dst-range 10.1.0.0-10.1.0.7 -j RETURN",
                "-j MASQUERADE",
            ]
        );
        let leave = LEAVE.rules(&desired, Family::V6);
        assert_eq!(
            leave[..2],
            [
                "-m iprange --src-range fd00:1::-fd00:1::ffff:ffff:ffff:ffff \
                 --dst-range fd09::1-fd09::1 -j RETURN",
                "-m iprange --src-range fd09::1-fd09::1 \
                 --dst-range fd00:1::-fd00:1::ffff:ffff:ffff:ffff -j RETURN",
            ]
        );
        assert_eq!(leave.len(), 2 + LEAVE.rules(&Desired::default(), Family::V6).len());
        let rules = Some(OUTGOING.rules(&desired, Family::V4));
        let observed = ObservedChain { rules, jumps: 0 };
        assert_eq!(observed.forwarded().collect::<Vec<_>>(), [range("10.1.0.0/29")]);
    }

    #[test]
    fn an_empty_node_gets_the_chain_and_the_jump_in_one_transaction() {
        let expected = "\
            *nat\n\
            :ATOLL-POSTROUTING - [0:0]\n\
            -A ATOLL-POSTROUTING -m set --match-set atoll-nat-v6 src \
            -m set ! --match-set atoll-subnets-v6 dst -j ATOLL-OUTGOING\n\
            -A ATOLL-POSTROUTING -m mark --mark 0x4000/0x4000 -j RETURN\n\
            -A ATOLL-POSTROUTING -m set --match-set atoll-subnets-v6 src \
            -m set --match-set atoll-subnets-v6 dst -m conntrack --ctstate DNAT -j MASQUERADE\n\
            -A ATOLL-POSTROUTING -m set ! --match-set atoll-subnets-v6 src \
            -m set --match-set atoll-central-v6 dst -j ATOLL-INCOMING\n\
            -I POSTROUTING 1 -j ATOLL-POSTROUTING\n\
            COMMIT\n";
        let mut lines = Lines::default();
        let rules = POSTROUTING.rules(&Desired::default(), Family::V6);
        POSTROUTING.render(&rules, &ObservedChain::default(), &mut lines);
        assert_eq!(lines.transaction(POSTROUTING.table), expected);
    }

    #[test]
    fn only_what_is_wrong_is_put_right() {
        let desired = Desired::default();
        let rules = Some(FORWARD.rules(&desired, Family::V4));
        let right = ObservedChain { rules, jumps: 1 };
        assert_eq!(rendered(FORWARD, &desired, &right), "");

        let no_jump = ObservedChain { jumps: 0, ..right.clone() };
        let expected = "*filter\n-I FORWARD 1 -j ATOLL-FORWARD\nCOMMIT\n";
        assert_eq!(rendered(FORWARD, &desired, &no_jump), expected);

        let two_jumps = ObservedChain { jumps: 2, ..right };
        let expected = "*filter\n-D FORWARD -j ATOLL-FORWARD\nCOMMIT\n";
        assert_eq!(rendered(FORWARD, &desired, &two_jumps), expected);
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
        let mut lines = Lines::default();
        FORWARD.render_removal(&observed, &mut lines);
        assert_eq!(lines.transaction(FORWARD.table), expected);
        let mut lines = Lines::default();
        FORWARD.render_removal(&ObservedChain::default(), &mut lines);
        assert_eq!(lines, Lines::default());
    }
}
