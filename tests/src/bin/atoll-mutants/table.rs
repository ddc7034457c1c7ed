//! The mutants. Each text has to be found exactly once, so a mutant cannot silently become none.

/// A crate and the full name of one of its tests.
pub(crate) type Named = (&'static str, &'static str);

/// A text of a file, and what stands there instead.
pub(crate) struct Edit {
    pub(crate) file: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
}

/// A bug, and the tests that have to see it.
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    pub(crate) bug: &'static str,
    pub(crate) edits: &'static [Edit],
    pub(crate) tests: &'static [Named],
}

/// The random sequences, against all models.
const SEQUENCES: Named =
    ("atoll-store", "tests::sequences::many_sequences_of_all_operations_keep_the_network_sound");

const fn store(name: &'static str) -> Named {
    ("atoll-store", name)
}

const fn edit(file: &'static str, from: &'static str, to: &'static str) -> Edit {
    Edit { file, from, to }
}

pub(crate) const MUTANTS: &[Mutant] = &[
    // What reviewers of allocators ask for first.
    Mutant {
        name: "ignore bound_at",
        bug: "a late DEL of an earlier binding unplugs the present one",
        edits: &[edit(
            "store/src/binding.rs",
            "let at = self.bound_at.is_none_or(|bound_at| bound_at == binding.bound_at);",
            "let at = true;",
        )],
        tests: &[
            SEQUENCES,
            store("tests::field::c3_a_late_del_does_not_hit_the_next_sandbox_of_the_same_pod"),
        ],
    },
    Mutant {
        name: "release by name",
        bug: "the end of an earlier pod of the name ends the present one",
        edits: &[edit(
            "store/src/pod.rs",
            "let pod = self.state.pods.get(key).filter(|pod| pod.spec.uid == *uid).cloned();",
            "let _ = uid;\n        let pod = self.state.pods.get(key).cloned();",
        )],
        tests: &[
            SEQUENCES,
            store("tests::field::c2_what_is_said_of_another_life_frees_nothing_that_lives"),
        ],
    },
    Mutant {
        name: "choose before propose",
        bug: "addresses are chosen from the state as it was when the entry was proposed",
        edits: &[
            edit(
                "store/src/transaction.rs",
                "    pub(crate) state: State,\n",
                "    pub(crate) state: State,\n    pub(crate) proposed: State,\n",
            ),
            edit(
                "store/src/transaction.rs",
                "        Self {\n            state,\n",
                "        Self {\n            proposed: state.clone(),\n            state,\n",
            ),
            edit(
                "store/src/transaction.rs",
                "let Self { mut state, touched, pools_before, .. } = self;",
                "let Self { mut state, touched, pools_before, proposed: _, .. } = self;",
            ),
            edit(
                "store/src/pod.rs",
                "match choose(&self.state, &pod.spec) {",
                "match choose(&self.proposed, &pod.spec) {",
            ),
        ],
        tests: &[SEQUENCES, store("apply::tests::the_replies_are_in_the_order_of_the_operations")],
    },
    Mutant {
        name: "hand out unconfirmed",
        bug: "an address is free although its last pod may still be plugged in",
        edits: &[edit(
            "store/src/pools.rs",
            "let confirmed = !self.drains(address);",
            "let confirmed = true;",
        )],
        tests: &[SEQUENCES, store("tests::field::c3_a_late_del_does_not_hit_the_next_owner")],
    },
    Mutant {
        name: "half dual-stack",
        bug: "a pod of a dual-stack subnet gets one family if the other is full",
        edits: &[edit(
            "store/src/choose.rs",
            "addresses.set(pools.next(family).ok_or(Missing::Address(family))?);",
            "if let Some(address) = pools.next(family) { addresses.set(address); }",
        )],
        tests: &[SEQUENCES],
    },
    Mutant {
        name: "non-atomic multi-interface",
        bug: "a pod gets its first interface although there is nothing for the second",
        edits: &[edit(
            "store/src/interfaces.rs",
            "                    false => blocked,\n                })?;",
            "                    false => blocked,\n                });\n                \
             let choice = match choice {\n                    \
             Err(_) if interface.is_some() => continue,\n                    \
             other => other?,\n                };",
        )],
        tests: &[SEQUENCES],
    },
    Mutant {
        name: "recount lag",
        bug: "the count of what is left does not follow what is taken",
        edits: &[edit(
            "ipam/src/pool/step.rs",
            "        self.using.insert(Span::one(number));\n        self.available -= u128::from(open);",
            "        self.using.insert(Span::one(number));",
        )],
        tests: &[
            SEQUENCES,
            ("atoll-ipam", "pool::model_tests::a_pool_does_what_a_list_of_all_its_addresses_does"),
        ],
    },
    Mutant {
        name: "drop born",
        bug: "a request that is too old to be remembered is carried out again",
        edits: &[edit(
            "store/src/outcomes.rs",
            "if request.born < self.forgotten_to {",
            "if request.born < Revision(0) {",
        )],
        tests: &[
            SEQUENCES,
            store("tests::a_request_that_is_too_old_to_tell_is_refused_and_not_remembered"),
        ],
    },
    Mutant {
        name: "free on one sighting",
        bug: "a pod ends because one list does not hold it and it is not plugged in",
        edits: &[edit(
            "store/model/src/janitor.rs",
            "self.twice && self.unplugged",
            "self.unplugged",
        )],
        tests: &[SEQUENCES],
    },
    Mutant {
        name: "janitor without inventory",
        bug: "a pod ends because two lists do not hold it, whatever its node says",
        edits: &[edit("store/model/src/janitor.rs", "self.twice && self.unplugged", "self.twice")],
        tests: &[SEQUENCES],
    },
    Mutant {
        name: "wall clock in a rule",
        bug: "the cooldown begins at the time of the member that applies",
        edits: &[edit(
            "store/src/interfaces.rs",
            "Release { clock_ms: self.clock_ms, cooldown_ms }",
            "let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);\n        \
             let now_ms = since.map_or(0, |it| it.as_millis());\n        \
             Release { clock_ms: u64::try_from(now_ms).unwrap_or(0), cooldown_ms }",
        )],
        tests: &[SEQUENCES],
    },
    Mutant {
        name: "the leader's wall clock in a rule",
        bug: "the cluster's clock follows the leader's",
        edits: &[edit(
            "store/src/apply.rs",
            "self.clock_ms = self.clock_ms.max(txn.clock_ms);",
            "self.clock_ms = self.clock_ms.max(txn.wall_ms);",
        )],
        tests: &[SEQUENCES, store("apply::tests::the_clock_never_goes_back")],
    },
    Mutant {
        name: "allocator cursor missing from the snapshot",
        bug: "a restored member takes released addresses for never used ones",
        edits: &[edit(
            "store/src/dump.rs",
            "all.extend(pool.cooling().map(|(address, cooling)| CoolingAddress {",
            "let cools = pool.cooling().filter(|(_, it)| !it.confirmed);\n                \
             all.extend(cools.map(|(address, cooling)| CoolingAddress {",
        )],
        tests: &[SEQUENCES, store("tests::field::c1_a_restart_at_any_point_changes_no_answer")],
    },
    Mutant {
        name: "retention dependent on order",
        bug: "nothing is kept for a set that is told later than the end of its pod",
        edits: &[edit(
            "store/src/workload.rs",
            "            None => true,\n            Some(row) => match row.gone_at_ms {",
            "            None => false,\n            Some(row) => match row.gone_at_ms {",
        )],
        tests: &[
            SEQUENCES,
            store(
                "tests::order::\
                 the_result_does_not_depend_on_the_order_in_which_kubernetes_tells_it",
            ),
        ],
    },
    // What else can go wrong.
    Mutant {
        name: "scaled away and back",
        bug: "a pod that was scaled away leaves its address to the next if its end is told late",
        edits: &[edit(
            "store/src/workload.rs",
            "ordinal.is_some_and(|ordinal| before.wants(ordinal) && !spec.wants(ordinal))",
            "ordinal.is_some_and(|_| false && before.wants(0))",
        )],
        tests: &[
            SEQUENCES,
            store(
                "tests::order::\
                 what_was_scaled_away_is_not_inherited_whenever_its_end_is_told",
            ),
        ],
    },
    Mutant {
        name: "port keys leak",
        bug: "the key of a port that is gone is not free again",
        edits: &[edit(
            "store/src/pools.rs",
            "        self.keys.release(allocation.port_key);\n",
            "",
        )],
        tests: &[
            SEQUENCES,
            store(
                "pools::tests::\
                 a_subnet_has_as_many_ports_as_a_logical_switch_and_not_one_more",
            ),
        ],
    },
    Mutant {
        name: "waiting served out of order",
        bug: "the youngest pod that waits is served first",
        edits: &[edit("store/src/waiting.rs", "heads.pop_first()", "heads.pop_last()")],
        tests: &[SEQUENCES],
    },
    Mutant {
        name: "a restored state queues who waits elsewhere",
        bug: "a restored member does not serve the pods that another one serves",
        edits: &[edit(
            "store/src/dump.rs",
            "Err(blocked) => self.waiting.enqueue(turn, blocked.blocker),",
            "Err(_) => self.waiting.enqueue(turn, Blocker::Structure(Group::Default)),",
        )],
        tests: &[SEQUENCES],
    },
    Mutant {
        name: "cooldown ignored",
        bug: "a released address has rested as soon as it is released",
        edits: &[edit(
            "ipam/src/pool/step.rs",
            "let ends_ms = clock_ms.saturating_add(cooldown_ms);",
            "let ends_ms = clock_ms.saturating_add(cooldown_ms / 1_000_000_000);",
        )],
        tests: &[
            SEQUENCES,
            ("atoll-ipam", "pool::model_tests::a_pool_does_what_a_list_of_all_its_addresses_does"),
        ],
    },
    Mutant {
        name: "gateway handed out by chance",
        bug: "the router's own address is open to chance",
        edits: &[edit("ipam/src/pool.rs", "        shape.remove(Span::one(self.gateway));\n", "")],
        tests: &[
            SEQUENCES,
            ("atoll-ipam", "pool::model_tests::a_pool_does_what_a_list_of_all_its_addresses_does"),
        ],
    },
    Mutant {
        name: "excluded range ignored",
        bug: "excluded addresses are open to chance",
        edits: &[edit(
            "ipam/src/pool.rs",
            "        self.excluded.within(assignable).for_each(|span| shape.remove(span));\n",
            "",
        )],
        tests: &[
            SEQUENCES,
            ("atoll-ipam", "pool::model_tests::a_pool_does_what_a_list_of_all_its_addresses_does"),
        ],
    },
    Mutant {
        name: "digest skips a field",
        bug: "members that differ in the key of a port have one digest",
        edits: &[edit(
            "store/src/rows.rs",
            "        self.key(*port_key);\n",
            "        let _ = port_key;\n",
        )],
        tests: &[store(
            "digest::tests::a_changed_field_of_a_pod_and_what_it_holds_changes_the_digest",
        )],
    },
    Mutant {
        name: "digest does not follow",
        bug: "the sum of the rows is not kept when addresses are released",
        edits: &[edit(
            "store/src/transaction.rs",
            "state.digest_pools(&subnet, rows);",
            "let _ = (&subnet, rows);",
        )],
        tests: &[SEQUENCES],
    },
    Mutant {
        name: "MAC uniqueness ignored",
        bug: "a MAC that another port has is given by name",
        edits: &[edit(
            "store/src/choose.rs",
            "match pools.mac_owner(mac) {\n            None => Ok(()),",
            "match pools.mac_owner(mac).filter(|_| false) {\n            None => Ok(()),",
        )],
        // Whether 400 sequences ask twice for one MAC is chance.
        tests: &[store("pod::tests::a_mac_asked_for_by_name_is_given_once_and_never_the_routers")],
    },
    Mutant {
        name: "reservation ignored",
        bug: "an address that is reserved for another is given by name",
        edits: &[edit(
            "store/src/choose.rs",
            "if let Some(name) = pools.reserved_by(address).filter(|name| !self.is_mine(name)) {",
            "if let Some(name) = pools.reserved_by(address).filter(|_| false) {",
        )],
        tests: &[
            SEQUENCES,
            store("reservation::tests::a_reserved_address_goes_to_its_owner_and_to_nobody_else"),
        ],
    },
    Mutant {
        name: "one queue for held and for reserved",
        bug: "an owner who waits behind another does not get what is reserved for him",
        edits: &[edit(
            "store/src/choose.rs",
            "return Err(self.blocked(text, Blocker::Reserved(address)));",
            "return Err(self.blocked(text, Blocker::Address(address)));",
        )],
        tests: &[store("tests::cases::what_was_found_once_stays_found")],
    },
    Mutant {
        name: "precondition ignored",
        bug: "an object that was changed since is changed all the same",
        edits: &[edit(
            "store/src/apply.rs",
            "Some(found) if found == *expected => Ok(()),",
            "Some(_) => Ok(()),",
        )],
        tests: &[
            SEQUENCES,
            store("apply::tests::a_precondition_that_does_not_hold_refuses_the_whole"),
        ],
    },
    Mutant {
        name: "refused transaction leaves something",
        bug: "what came before the refused operation stays",
        edits: &[edit(
            "store/src/apply.rs",
            "*self = fork.unwrap_or(state);",
            "drop(fork);\n                *self = state;",
        )],
        tests: &[
            SEQUENCES,
            store("tests::field::c5_nothing_is_there_of_an_entry_that_was_refused_in_its_middle"),
        ],
    },
    Mutant {
        name: "late Unbind of another node accepted",
        bug: "a node confirms what another node has plugged in",
        edits: &[edit("store/src/binding.rs", "            && draining.node == *named.node\n", "")],
        tests: &[SEQUENCES],
    },
    Mutant {
        name: "a uid comes back",
        bug: "the uid of a pod that drains is taken for a new pod's",
        edits: &[edit(
            "store/src/pod.rs",
            "if self.state.drainings.contains_key(uid) {",
            "if false {",
        )],
        tests: &[SEQUENCES],
    },
    Mutant {
        name: "gateways flap back",
        bug: "a preferred node that comes back takes the traffic from who serves",
        edits: &[edit(
            "store/src/gateway.rs",
            "kept.filter(ready).chain(able.iter().copied()).take(1).collect()",
            "able.iter().copied().take(1).collect()",
        )],
        tests: &[store(
            "gateway::tests::\
                 the_first_ready_node_serves_and_goes_on_when_a_preferred_one_comes_back",
        )],
    },
    Mutant {
        name: "a drained node is chosen",
        bug: "a subnet goes to a node that is to be emptied",
        edits: &[edit(
            "store/src/gateway.rs",
            "node.ready && !node.fenced && !node.drained;",
            "node.ready && !node.fenced;",
        )],
        tests: &[SEQUENCES],
    },
    Mutant {
        name: "list from the wrong ordinal",
        bug: "the first entry of a list is taken for ordinal 0, wherever the set begins",
        edits: &[edit(
            "store/src/choose.rs",
            "ordinal.checked_sub(row.spec.start_ordinal)",
            "Some(ordinal)",
        )],
        tests: &[store(
            "interfaces::tests::\
             a_sets_list_goes_by_ordinal_from_its_start_whichever_is_announced_first",
        )],
    },
    Mutant {
        name: "kept for any pod of the name",
        bug: "what is kept for a set's ordinal goes to a pod of no set",
        edits: &[edit(
            "store/src/interfaces.rs",
            "if sticky(&kept.sticky) != sticky(&spec.owner) || !self.keeps(kept) {",
            "if !self.keeps(kept) {",
        )],
        tests: &[SEQUENCES],
    },
    Mutant {
        name: "QoS of a namespace wins over that of a pod",
        bug: "specs are asked in another order",
        edits: &[edit(
            "store/src/qos.rs",
            "        Some(Target::Pod(key.clone())),\n        Some(Target::Namespace(key.namespace().clone())),\n",
            "        Some(Target::Namespace(key.namespace().clone())),\n        Some(Target::Pod(key.clone())),\n",
        )],
        tests: &[store("qos::tests::the_nearest_to_the_pod_wins")],
    },
    Mutant {
        name: "an agent is not told",
        bug: "what an agent hears of changes leaves out what it has yet to confirm",
        edits: &[edit(
            "store/src/view.rs",
            "(_, Object::Draining(draining)) => Self::Node(&draining.node),",
            "(_, Object::Draining(_)) => Self::Nobody,",
        )],
        tests: &[SEQUENCES],
    },
    Mutant {
        name: "a fence frees what runs",
        bug: "pods of a fenced node still count as plugged in",
        edits: &[edit(
            "store/src/inventory.rs",
            "for pod in pods.iter().filter(|pod| pod.bound.is_some()) {",
            "for pod in pods.iter().filter(|pod| pod.bound.is_none()) {",
        )],
        tests: &[SEQUENCES],
    },
];
