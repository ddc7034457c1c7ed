//! What holds for the whole cluster.

use std::sync::Arc;

use atoll_model::{Object, Refusal, Reply, Settings, SubnetName};

use crate::setup::APPLY_VERSION;
use crate::subnet::in_use;
use crate::transaction::{Transaction, over_limit};

impl Transaction {
    /// Sets what holds for the whole cluster.
    ///
    /// Another cooldown holds for what is released or confirmed from now on; O(n) for n addresses
    /// that are not confirmed.
    pub(crate) fn put_settings(&mut self, settings: &Settings) -> Result<Reply, Refusal> {
        let before = self.state.settings.clone();
        if before.as_deref() == Some(settings) {
            return Ok(Reply::Done);
        }
        if settings.apply_version != APPLY_VERSION {
            return Err(over_limit(
                "version of the rules",
                APPLY_VERSION.into(),
                "upgrade every member first",
            ));
        }
        self.check_join(&settings.join_subnet)?;
        let before_join = before.as_ref().map(|settings| &settings.join_subnet);
        if before_join != Some(&settings.join_subnet) {
            // Neither may nodes lose their addresses, nor pods find themselves among nodes. Without
            // nodes there are no pods, so none waits for what was or will be the nodes' own.
            for name in before_join.into_iter().chain([&settings.join_subnet]) {
                in_use(name, self.pools(name))?;
            }
        }
        self.put(Object::Settings(Arc::new(settings.clone())));
        if before.is_some_and(|before| before.cooldown_ms != settings.cooldown_ms) {
            let drainings = self.state.drainings.clone();
            for draining in drainings.values() {
                for (subnet, addresses) in draining.held() {
                    self.pools_mut(subnet).set_cooldown(subnet, addresses, settings.cooldown_ms);
                }
            }
        }
        Ok(Reply::Done)
    }

    /// The join subnet exists and is for nodes only.
    fn check_join(&self, name: &SubnetName) -> Result<(), Refusal> {
        let Some(subnet) = self.state.subnets.get(name) else {
            return Err(Refusal::SubnetUnknown(name.clone()));
        };
        if subnet.spec.takes_pods() {
            let rule = "the nodes' own subnet can neither be the default nor list namespaces";
            return Err(Refusal::SubnetInvalid { name: name.clone(), rule: rule.into() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::Operation;

    use super::*;
    use crate::scenario::{Scenario, pod, subnet, subnet_spec, uid};

    fn put(change: impl FnOnce(&mut Settings), it: &Scenario) -> Operation {
        let mut settings = (**it.state.settings().unwrap()).clone();
        change(&mut settings);
        Operation::PutSettings(settings)
    }

    #[test]
    fn the_same_settings_again_are_no_event() {
        let mut it = Scenario::new();
        let same = put(|_| {}, &it);
        it.apply(same).done().unchanged();
    }

    #[test]
    fn rules_that_this_program_does_not_know_are_refused() {
        let mut it = Scenario::new();
        let newer = put(|settings| settings.apply_version = 2, &it);
        it.apply(newer).refused("version of the rules: at most 1");
    }

    #[test]
    fn the_join_subnet_has_to_exist_and_be_for_nodes_only() {
        let mut it = Scenario::new();
        let other = put(|settings| settings.join_subnet = subnet("other"), &it);
        it.apply(other.clone()).refused("subnet other does not exist");
        let mut spec = subnet_spec("other", &["10.99.0.0/24"]);
        spec.namespaces = vec!["a".parse().unwrap()];
        it.put_subnet(spec).done();
        it.apply(other).refused("can neither be the default nor list namespaces");
    }

    #[test]
    fn the_join_subnet_changes_only_while_nobody_uses_either() {
        let mut it = Scenario::new();
        it.put_subnet(subnet_spec("other", &["10.99.0.0/24"])).done();
        let other = put(|settings| settings.join_subnet = subnet("other"), &it);
        it.apply(other.clone()).refused("subnet join is in use by 3: node-n1, node-n2, node-n3");
        for name in ["n1", "n2", "n3"] {
            it.apply(Operation::DeleteNode(name.parse().unwrap())).done();
        }
        it.apply(other).done().changed("settings");
    }

    #[test]
    fn another_cooldown_holds_for_what_is_confirmed_from_now_on() {
        let mut it = Scenario::new();
        it.put_pod("a/p", "u1").allocated();
        it.bind("a/p", "u1", "n1", "s1").bound();
        it.apply(Operation::DeletePod(pod("a/p"), uid("u1"))).done();
        let longer = put(|settings| settings.cooldown_ms = 90_000, &it);
        it.apply(longer).done();
        it.clock_ms += 5;
        it.unbind("a/p", "u1", "n1", "s1").done();
        let cooling = it.state.dump().cooling;
        assert!(cooling.iter().all(|row| row.free_at_ms == Some(it.clock_ms + 90_000)));
        assert_eq!(cooling.len(), 2);
    }
}
