//! Which exceptions from a subnet's address translation are sound.

use atoll_model::{AddressRange, Family, NatRule, Refusal, SubnetSpec, limits};

use crate::transaction::over_limit;

/// Refuses rules that could never match, that match everything, and too many.
pub(crate) fn check_nat_rules(spec: &SubnetSpec) -> Result<(), Refusal> {
    let pairs = |rule: &NatRule| rule.sources.len().max(1) * rule.destinations.len().max(1);
    if spec.nat_rules.iter().map(pairs).sum::<usize>() > limits::NAT_PAIRS_MAX {
        let most = limits::NAT_PAIRS_MAX as u64;
        return Err(over_limit(
            "pairs of source and destination in the NAT rules of one subnet",
            most,
            "join ranges",
        ));
    }
    for (position, rule) in spec.nat_rules.iter().enumerate() {
        check_rule(spec, rule).map_err(|wrong| Refusal::SubnetInvalid {
            name: spec.name.clone(),
            rule: format!("NAT rule {}: {wrong}", position + 1),
        })?;
    }
    Ok(())
}

fn check_rule(spec: &SubnetSpec, rule: &NatRule) -> Result<(), String> {
    let all: Vec<AddressRange> = rule.sources.iter().chain(&rule.destinations).copied().collect();
    let Some(family) = all.first().map(|it| it.family()) else {
        return Err("it names neither a source nor a destination; natOutgoing is for all".into());
    };
    if let Some(other) = all.iter().find(|it| it.family() != family) {
        return Err(format!("{other} is not of the family of {}; make a rule of each", all[0]));
    }
    let Some(net) = spec.net(family) else {
        let name = if family == Family::V4 { "IPv4" } else { "IPv6" };
        return Err(format!("the subnet has no {name} range"));
    };
    let is_part =
        |it: &&AddressRange| net.cidr.contains(it.first()) && net.cidr.contains(it.last());
    match rule.sources.iter().find(|it| !is_part(it)) {
        Some(source) => Err(format!("source {source} is not in {}", net.cidr)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::NatAction;

    use super::*;
    use crate::scenario::subnet_spec;

    fn rule(sources: &[&str], destinations: &[&str]) -> NatRule {
        let cidrs = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let action = NatAction::Forward;
        NatRule { sources: cidrs(sources), destinations: cidrs(destinations), action }
    }

    fn checked(rules: Vec<NatRule>) -> Result<(), String> {
        let spec = SubnetSpec { nat_rules: rules, ..subnet_spec("blue", &["10.99.0.0/24"]) };
        check_nat_rules(&spec).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn what_can_match_is_taken() {
        let rules = vec![
            rule(&["10.99.0.0/25"], &[]),
            rule(&[], &["192.0.2.0/24", "198.51.100.7/32"]),
            rule(&["10.99.0.0/24"], &["0.0.0.0/0"]),
        ];
        assert_eq!(checked(rules), Ok(()));
        let single = rule(&["10.99.0.7", "10.99.0.9..10.99.0.20"], &["192.0.2.1"]);
        assert_eq!(checked(vec![single]), Ok(()));
    }

    #[test]
    fn what_cannot_match_is_refused_with_the_rule_that_it_breaks() {
        for (bad, said) in [
            (rule(&[], &[]), "names neither a source nor a destination"),
            (rule(&["10.98.0.0/24"], &[]), "source 10.98.0.0..10.98.0.255 is not in 10.99.0.0/24"),
            (rule(&["10.0.0.0/8"], &[]), "source 10.0.0.0..10.255.255.255 is not in"),
            (
                rule(&["10.99.0.0/25"], &["fd00::/64"]),
                "is not of the family of 10.99.0.0..10.99.0.127",
            ),
            (rule(&[], &["fd00::/64"]), "the subnet has no IPv6 range"),
        ] {
            let refused = checked(vec![rule(&["10.99.0.0/25"], &[]), bad]).unwrap_err();
            assert!(refused.contains("NAT rule 2: ") && refused.contains(said), "{refused}");
        }
        let many: Vec<String> = (0..=255).map(|it| format!("192.0.2.{it}/32")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(checked(vec![rule(&["10.99.0.0/25"], &many)]), Ok(()));
        let refused = checked(vec![rule(&[], &many), rule(&[], &["0.0.0.0/0"])]).unwrap_err();
        assert!(refused.contains("at most 256"), "{refused}");
    }
}
