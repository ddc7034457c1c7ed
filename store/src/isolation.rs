//! Which rules about who may reach a subnet's pods are sound.

use atoll_model::{Refusal, SubnetSpec, limits};

use crate::transaction::over_limit;

/// Refuses rules that OVN would not take, as far as that can be told without OVN, and too many.
pub(crate) fn check_isolation(spec: &SubnetSpec) -> Result<(), Refusal> {
    let invalid = |rule: String| Err(Refusal::SubnetInvalid { name: spec.name.clone(), rule });
    if spec.allow_subnets.len() > limits::ALLOW_SUBNETS_MAX {
        let most = limits::ALLOW_SUBNETS_MAX as u64;
        return Err(over_limit("allowed ranges of one subnet", most, "allow larger ranges"));
    }
    if spec.acls.len() > limits::ACLS_PER_SUBNET_MAX {
        let most = limits::ACLS_PER_SUBNET_MAX as u64;
        return Err(over_limit("ACLs of one subnet", most, "join some of them"));
    }
    for (position, cidr) in spec.allow_subnets.iter().enumerate() {
        if spec.allow_subnets[..position].contains(cidr) {
            return invalid(format!("range {cidr} is allowed twice"));
        }
    }
    for acl in &spec.acls {
        if acl.priority > limits::ACL_PRIORITY_MAX {
            return invalid(format!(
                "ACL priority {} is above {}",
                acl.priority,
                limits::ACL_PRIORITY_MAX
            ));
        }
        let text = acl.matches.trim();
        if text.is_empty() || text.chars().any(char::is_control) {
            return invalid(format!("ACL match {text:?} is empty or not one printable line"));
        }
        if !is_closed(text) {
            return invalid(format!(
                "ACL match {text:?} has a parenthesis or quote without another"
            ));
        }
        if acl.matches.len() > limits::ACL_MATCH_BYTES_MAX {
            let most = limits::ACL_MATCH_BYTES_MAX as u64;
            return Err(over_limit("bytes of an ACL's match", most, "split it"));
        }
    }
    Ok(())
}

/// Whether every parenthesis and quote has its other: else a match would reach beyond the brackets
/// that keep it to its own subnet.
fn is_closed(text: &str) -> bool {
    let (mut open, mut quoted, mut escaped) = (0_usize, false, false);
    for character in text.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => open += 1,
            ')' if !quoted => match open.checked_sub(1) {
                Some(left) => open = left,
                None => return false,
            },
            _ => {}
        }
    }
    open == 0 && !quoted
}

#[cfg(test)]
mod tests {
    use atoll_model::{Acl, AclAction, AclDirection};

    use super::*;
    use crate::scenario::{Scenario, subnet_spec};

    fn acl(priority: u16, matches: &str) -> Acl {
        let (direction, action) = (AclDirection::ToPort, AclAction::Drop);
        Acl { direction, priority, matches: matches.into(), action }
    }

    #[test]
    fn sound_rules_are_stored_and_others_are_refused() {
        let mut it = Scenario::new();
        let mut spec = subnet_spec("blue", &["10.99.0.0/24"]);
        spec.private = true;
        spec.allow_subnets = vec!["10.98.0.0/24".parse().unwrap()];
        spec.acls = vec![acl(32_767, "ip4.src == 10.98.0.0/24"), acl(1, "(inport == \")\\\"\")")];
        it.put_subnet(spec.clone()).done().changed("subnet blue");
        let mut refused = |change: &dyn Fn(&mut SubnetSpec), part| {
            let mut spec = spec.clone();
            change(&mut spec);
            it.put_subnet(spec).refused(part);
        };
        refused(&|it| it.acls[0].priority = 32_768, "ACL priority 32768 is above 32767");
        refused(&|it| it.acls[0].matches = " ".into(), "is empty or not one printable line");
        refused(&|it| it.acls[0].matches = "ip\nip".into(), "not one printable line");
        for open in ["ip) || (ip", "(ip", "ip)", "inport == \"a", "inport == \"a\\\""] {
            refused(&|it| it.acls[0].matches = open.into(), "has a parenthesis or quote without");
        }
        refused(&|it| it.acls[0].matches = "x".repeat(5_000), "bytes of an ACL's match: at most");
        refused(&|it| it.acls = vec![acl(1, "ip"); 1_001], "ACLs of one subnet: at most 1000");
        refused(
            &|it| it.allow_subnets.push("10.98.0.0/24".parse().unwrap()),
            "range 10.98.0.0/24 is allowed twice",
        );
    }
}
