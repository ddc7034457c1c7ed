//! What random sequences came to: a test that never met something says nothing about it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use atoll_model::{
    AllocationState, Change, Node, Object, Operation, Outcome, Precondition, Refusal, Reply, Txn,
    WaitReason,
};

use crate::Applied;

/// Names every variant of an enum. A variant that is not listed does not compile; one that was
/// never met is in [`Counts`] with a zero.
macro_rules! kinds {
    ($name:ident, $all:ident, $type:ident: $($variant:ident)*) => {
        const $all: &[&str] = &[$(stringify!($variant)),*];

        fn $name(it: &$type) -> &'static str {
            match it {
                $($type::$variant { .. } => stringify!($variant),)*
            }
        }
    };
}

kinds!(operation, OPERATIONS, Operation: PutSubnet DeleteSubnet PutNamespace DeleteNamespace
    PutNode DeleteNode RegisterNode NodeReady PutPod DeletePod Bind Unbind Release PutQos DeleteQos
    PutMirror DeleteMirror SetCentral PutSettings PutWorkload DeleteWorkload PutReservation
    DeleteReservation Tick DigestMark DeleteSubnetWhenEmpty Inventory FenceNode DrainNode WaiveNode
    ObserveAbsence ResumeJanitor Reconcile);
kinds!(refusal, REFUSALS, Refusal: NotSetUp SubnetUnknown NodeUnknown PodUnknown PodReplaced
    PodElsewhere PodWaiting SubnetOverlaps SubnetHoldsNode SubnetInvalid QosInvalid PodInvalid
    SubnetInUse SubnetChange SubnetReserved WrongOrigin NamespaceInUse NodeInUse NodeAddress
    PortMismatch RevisionDiffers PlanStale Exists Limit TooOldToTell Empty PodOver
    ReservationInvalid OldEpoch NodeFenced InventoryInvalid JanitorStopped Reconciling);
kinds!(reply, REPLIES, Reply: Done Allocated Waiting Bound);
kinds!(reason, REASONS, WaitReason: NoSubnet UnknownSubnet Full Static Reconciling);
kinds!(precondition, PRECONDITIONS, Precondition: RevisionIs Absent EffectEquals);
kinds!(outcome, OUTCOMES, Outcome: Applied Refused);

/// What changes that are rare are called.
const RARE: &[&str] = &[
    "confirmed",
    "conflict",
    "drained",
    "fenced",
    "finished",
    "gateway moved",
    "inherited",
    "kept",
    "moved",
    "no longer kept",
    "node deleted",
    "reconciled",
    "reservation ended",
    "reserved",
    "resized or rebound",
    "second interface",
    "served",
    "set forgotten",
    "set over with pods",
    "set re-created",
    "settings changed",
    "sighted",
    "sighted twice",
    "sighted, not plugged in",
    "sighting ended",
    "subnet deleted",
    "subnet to be deleted",
    "taken in after a restore",
    "took the place of another",
];

/// Operations of refused transactions. Some are never refused themselves, so here a zero says nothing.
const REFUSED_WITH: &str = "operations refused, or with such a one";

/// What is counted, and may not be zero. All limits are one refusal, `Limit`, which the version of the
/// rules comes to; limits that need a million objects have unit tests of their own.
const TABLES: &[(&str, &[&str])] = &[
    ("operations carried out", OPERATIONS),
    (REFUSED_WITH, OPERATIONS),
    ("refusals", REFUSALS),
    ("replies", REPLIES),
    ("pods wait because", REASONS),
    ("preconditions that held", PRECONDITIONS),
    ("outcomes", OUTCOMES),
    ("rare changes", RARE),
];

/// How often each was met.
#[derive(Debug, Default)]
pub(super) struct Counts {
    met: BTreeMap<(&'static str, &'static str), u64>,
    pub(super) sequences: u64,
    pub(super) entries: u64,
    pub(super) restored: u64,
    retries: u64,
}

impl Counts {
    /// Those of a sequence that begins.
    pub(super) fn of_one() -> Self {
        Self { sequences: 1, ..Self::default() }
    }

    fn count(&mut self, table: usize, what: &'static str) {
        let (title, names) = TABLES[table];
        debug_assert!(names.contains(&what), "{what} is not in the table of {title}");
        *self.met.entry((title, what)).or_default() += 1;
    }

    /// Counts an entry that was not a retry.
    pub(super) fn see(&mut self, txn: &Txn, applied: &Applied) {
        self.count(6, outcome(&applied.outcome));
        match &applied.outcome {
            Outcome::Applied { replies, .. } => {
                txn.operations.iter().for_each(|it| self.count(0, operation(it)));
                txn.preconditions.iter().for_each(|it| self.count(5, precondition(it)));
                for it in replies {
                    self.count(3, reply(it));
                    if let Reply::Waiting(why) = it {
                        self.count(4, reason(why));
                    }
                }
            }
            Outcome::Refused { refusal: why, .. } => {
                txn.operations.iter().for_each(|it| self.count(1, operation(it)));
                self.count(2, refusal(why));
            }
        }
        for change in applied.changes.iter().flat_map(|set| &set.changes) {
            rare(change).into_iter().for_each(|it| self.count(7, it));
        }
    }

    /// Counts a retry.
    pub(super) fn see_again(&mut self, applied: &Applied) {
        self.retries += 1;
        if let Outcome::Refused { refusal: why @ Refusal::TooOldToTell { .. }, .. } =
            &applied.outcome
        {
            self.count(2, refusal(why));
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        let Self { met, sequences, entries, restored, retries } = other;
        for (what, count) in met {
            *self.met.entry(what).or_default() += count;
        }
        self.sequences += sequences;
        self.entries += entries;
        self.restored += restored;
        self.retries += retries;
    }

    /// What was never met and should have been.
    pub(super) fn zeros(&self) -> Vec<String> {
        let mut zeros = Vec::new();
        for (title, names) in TABLES.iter().filter(|(title, _)| *title != REFUSED_WITH) {
            for name in *names {
                if !self.met.contains_key(&(*title, *name)) {
                    zeros.push(format!("{title}: {name}"));
                }
            }
        }
        zeros
    }

    /// The table for people.
    pub(super) fn table(&self) -> String {
        let Self { sequences, entries, restored, retries, .. } = self;
        let mut text = format!(
            "{sequences} sequences, {entries} entries, {restored} times restored from bytes, \
             {retries} retries\n"
        );
        for (title, names) in TABLES {
            let _ = writeln!(text, "{title}:");
            for row in names.chunks(3) {
                for name in row {
                    let count = self.met.get(&(*title, *name)).copied().unwrap_or_default();
                    let _ = write!(text, "  {name:<26}{count:>9}");
                }
                text.push('\n');
            }
        }
        text
    }
}

/// What is rare in a change of a node.
fn rare_of_node(old: &Node, new: &Node) -> Option<&'static str> {
    if !old.fenced && new.fenced {
        Some("fenced")
    } else if !old.drained && new.drained {
        Some("drained")
    } else if old.conflicts.is_empty() && !new.conflicts.is_empty() {
        Some("conflict")
    } else {
        None
    }
}

/// What is rare in a change.
fn rare(change: &Change) -> Option<&'static str> {
    let Change { before, after, .. } = change;
    Some(match (before, after) {
        (Some(Object::Pod(old)), Some(Object::Pod(new))) => {
            if old.spec.uid != new.spec.uid {
                "took the place of another"
            } else if old.waiting.is_some() && new.waiting.is_none() {
                "served"
            } else if old.spec.phase < new.spec.phase {
                "finished"
            } else {
                return None;
            }
        }
        (None, Some(Object::Pod(new))) if new.bound.is_some() => "taken in after a restore",
        (Some(Object::Draining(_)), None) => "confirmed",
        (Some(Object::Allocation(old)), Some(Object::Allocation(new))) => {
            match (old.state, new.state) {
                (AllocationState::Active, AllocationState::Kept) => "kept",
                (AllocationState::Kept, AllocationState::Active) => "inherited",
                (AllocationState::Active, AllocationState::Active) => "moved",
                (AllocationState::Kept, AllocationState::Kept) => return None,
            }
        }
        (Some(Object::Allocation(old)), None) if old.state == AllocationState::Kept => {
            "no longer kept"
        }
        (None, Some(Object::Allocation(new))) if new.interface.is_some() => "second interface",
        (Some(Object::Workload(_)), None) => "set forgotten",
        (Some(Object::Workload(_)), Some(Object::Workload(new))) if new.over => {
            "set over with pods"
        }
        (Some(Object::Workload(old)), Some(Object::Workload(new)))
            if old.gone_at_ms.is_some() && new.gone_at_ms.is_none() =>
        {
            "set re-created"
        }
        (None, Some(Object::Reservation(_))) => "reserved",
        (Some(Object::Reservation(_)), None) => "reservation ended",
        (Some(Object::Subnet(old)), Some(Object::Subnet(new))) => {
            if !old.deleting && new.deleting {
                "subnet to be deleted"
            } else if old.active_gateways == new.active_gateways {
                "resized or rebound"
            } else {
                "gateway moved"
            }
        }
        (Some(Object::Subnet(_)), None) => "subnet deleted",
        (Some(Object::Node(_)), None) => "node deleted",
        (Some(Object::Node(old)), Some(Object::Node(new))) => return rare_of_node(old, new),
        (None, Some(Object::Sighting(_))) => "sighted",
        (Some(Object::Sighting(old)), Some(Object::Sighting(new))) if !old.twice && new.twice => {
            "sighted twice"
        }
        (Some(Object::Sighting(_)), Some(Object::Sighting(new))) if new.unplugged => {
            "sighted, not plugged in"
        }
        (Some(Object::Sighting(_)), None) => "sighting ended",
        (Some(Object::Reconciling(_)), None) => "reconciled",
        (Some(Object::Settings(_)), Some(_)) => "settings changed",
        _ => return None,
    })
}

#[test]
fn what_was_never_met_is_named_and_what_was_met_is_not() {
    let mut counts = Counts::default();
    let all: usize = TABLES.iter().map(|(_, names)| names.len()).sum::<usize>() - OPERATIONS.len();
    assert_eq!(counts.zeros().len(), all);
    counts.count(2, "Empty");
    assert!(!counts.zeros().contains(&"refusals: Empty".to_owned()));
    assert!(counts.zeros().contains(&"refusals: Limit".to_owned()));
    assert!(counts.table().contains("Empty                             1"), "{}", counts.table());
}
