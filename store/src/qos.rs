//! How fast pods may send and receive, and whose traffic goes first.
//!
//! Each direction of a pod is decided for itself. The first of these that has a rate for it wins:
//!
//! 1. the pod's own rates (its annotations);
//! 2. the spec that the pod names ([`NAMES_QOS`]);
//! 3. a spec that names the pod;
//! 4. a spec that names its namespace;
//! 5. the spec that its namespace names;
//! 6. a spec that names the subnet of its address;
//! 7. a spec that selects it by its labels.
//!
//! Of two specs in the same place the higher priority wins, then the lower name. A pod is important
//! if any spec that means it says so: only specs do, which operators make, and no pod can say it of
//! itself, so a spec that is named by it or its namespace lends its rates only. A name under which
//! there is no spec decides nothing until there is. Nothing is stored of the result: it is looked
//! up.

use std::cmp::Reverse;
use std::sync::Arc;

use atoll_model::{
    AllocationState, Change, Labels, NAMES_QOS, NamespaceName, Object, ObjectKey, Pod, PodKey,
    PortName, Qos, QosName, QosSpec, Rate, Rates, Refusal, Reply, SubnetName, limits,
};
use imbl::{OrdMap, OrdSet};

use crate::index::remove_from;
use crate::state::State;
use crate::transaction::{Transaction, over_limit};

/// Whom a spec means, in the order in which it is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Pod(PodKey),
    Namespace(NamespaceName),
    Subnet(SubnetName),
    /// Whoever its selectors say.
    Selected,
}

/// Specs in the order in which they win.
pub(crate) type Ranked = OrdSet<(Reverse<u32>, QosName)>;

/// What limits one direction of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Mbit/s.
    pub mbit: u32,
    /// Mbit that may come at once.
    pub burst_mbit: u32,
    /// The spec that says so; none if the pod itself does.
    pub by: Option<QosName>,
}

/// What limits a pod, from its point of view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// What it receives.
    pub ingress: Option<Limit>,
    /// What it sends.
    pub egress: Option<Limit>,
    /// The spec by which what it sends goes first; none if it waits its turn.
    pub important: Option<QosName>,
}

/// What limits a pod; nothing if it is not known. O(log n) for each spec that means it, and
/// O(specs with selectors) while something is still open.
#[must_use]
pub fn effective_limits(state: &State, key: &PodKey) -> Limits {
    let mut limits = Limits::default();
    let Some(pod) = state.pod(key) else { return limits };
    limits.fill(&pod.spec.traffic.rates, None);
    limits.fill_named(state, &pod.spec.traffic.labels);
    let held = state.allocation(&PortName::of_pod(key));
    let held = held.filter(|it| it.state == AllocationState::Active);
    let subnet = held.map(|it| it.subnet.clone());
    let targets = [
        Some(Target::Pod(key.clone())),
        Some(Target::Namespace(key.namespace().clone())),
        subnet.map(Target::Subnet),
        Some(Target::Selected),
    ];
    for target in targets.into_iter().flatten() {
        let ranked = state.indexes.qos_by_target.get(&target).into_iter().flatten();
        for spec in ranked.filter_map(|(_, name)| state.qos(name)).map(|qos| &qos.spec) {
            if limits.is_open_to(spec) && (target != Target::Selected || selects(spec, pod)) {
                limits.fill(&spec.rates, Some(&spec.name));
                let by = spec.important.then(|| spec.name.clone());
                limits.important = limits.important.take().or(by);
            }
        }
        if let Target::Namespace(name) = &target
            && let Some(namespace) = state.namespaces.get(name)
        {
            limits.fill_named(state, &namespace.labels);
        }
    }
    limits
}

/// Whether any pod may be important.
#[must_use]
pub fn knows_important(state: &State) -> bool {
    state.qos_specs().any(|qos| qos.spec.important)
}

impl Limits {
    /// Whether the spec could decide something.
    fn is_open_to(&self, spec: &QosSpec) -> bool {
        let is_limited = self.ingress.is_some() && self.egress.is_some();
        !is_limited || (spec.important && self.important.is_none())
    }

    /// Decides what is still open by the rates of the spec that these labels name.
    fn fill_named(&mut self, state: &State, labels: &Labels) {
        let name = labels.get(NAMES_QOS).and_then(|name| QosName::new(name).ok());
        if let Some(qos) = name.and_then(|name| state.qos(&name)) {
            self.fill(&qos.spec.rates, Some(&qos.spec.name));
        }
    }

    /// Decides which rates are still open.
    fn fill(&mut self, rates: &Rates, by: Option<&QosName>) {
        let limit =
            |rate: Rate| Limit { mbit: rate.mbit, burst_mbit: rate.burst(), by: by.cloned() };
        let Self { ingress, egress, .. } = self;
        *ingress = ingress.take().or(rates.ingress.map(limit));
        *egress = egress.take().or(rates.egress.map(limit));
    }
}

/// Whether a namespace names another spec than before: what limits its pods may change with it.
#[must_use]
pub fn names_other_qos(change: &Change) -> bool {
    let named = |side: &Option<Object>| match side {
        Some(Object::Namespace(it)) => it.labels.get(NAMES_QOS).cloned(),
        _ => None,
    };
    named(&change.before) != named(&change.after)
}

fn selects(spec: &QosSpec, pod: &Pod) -> bool {
    spec.selectors.iter().any(|selector| {
        let namespace = selector.namespace.as_ref();
        namespace.is_none_or(|namespace| namespace == pod.spec.key.namespace())
            && selector.labels.matches(&pod.spec.traffic.labels)
    })
}

fn targets(spec: &QosSpec) -> impl Iterator<Item = Target> + '_ {
    let selected = (!spec.selectors.is_empty()).then_some(Target::Selected);
    let pods = spec.pods.iter().cloned().map(Target::Pod);
    let namespaces = spec.namespaces.iter().cloned().map(Target::Namespace);
    let subnets = spec.subnets.iter().cloned().map(Target::Subnet);
    pods.chain(namespaces).chain(subnets).chain(selected)
}

/// Enters a spec into the index. O(what it names).
pub(crate) fn index(by_target: &mut OrdMap<Target, Ranked>, spec: &QosSpec) {
    for target in targets(spec) {
        by_target.entry(target).or_default().insert((Reverse(spec.priority), spec.name.clone()));
    }
}

/// Undoes [`index`].
pub(crate) fn unindex(by_target: &mut OrdMap<Target, Ranked>, spec: &QosSpec) {
    let row = (Reverse(spec.priority), spec.name.clone());
    targets(spec).for_each(|target| remove_from(by_target, &target, &row));
}

impl Transaction {
    /// Creates a spec or changes it. What it names need not be there.
    pub(crate) fn put_qos(&mut self, spec: &QosSpec) -> Result<Reply, Refusal> {
        check(spec)?;
        let known = self.state.qos(&spec.name);
        if known.is_some_and(|known| known.spec == *spec) {
            return Ok(Reply::Done);
        }
        if known.is_none() && self.state.qos.len() >= limits::QOS_SPECS_MAX {
            let most = limits::QOS_SPECS_MAX as u64;
            return Err(over_limit("QoS specs", most, "let one spec name or select more pods"));
        }
        let created = known.map_or(self.revision, |known| known.created);
        let qos = Qos { spec: spec.clone(), created, changed: self.revision };
        self.put(Object::Qos(Arc::new(qos)));
        Ok(Reply::Done)
    }

    /// Deletes a spec; one that is not there is no matter.
    pub(crate) fn delete_qos(&mut self, name: &QosName) -> Reply {
        if self.state.qos.contains_key(name) {
            self.remove(ObjectKey::Qos(name.clone()));
        }
        Reply::Done
    }
}

fn check(spec: &QosSpec) -> Result<(), Refusal> {
    let invalid = |rule: String| Err(Refusal::QosInvalid { name: spec.name.clone(), rule });
    if spec.rates == Rates::default() && !spec.important {
        let rule = "it limits neither direction and makes nobody important; set a rate or \
                    `important`, or delete it";
        return invalid(rule.into());
    }
    if let Err(rule) = check_rates(&spec.rates) {
        return invalid(rule);
    }
    let named = spec.pods.len() + spec.namespaces.len() + spec.subnets.len();
    if named > limits::QOS_TARGETS_MAX {
        let most = limits::QOS_TARGETS_MAX as u64;
        return Err(over_limit("names in one QoS spec", most, "select by a label instead"));
    }
    if spec.selectors.len() > limits::SELECTORS_MAX {
        let most = limits::SELECTORS_MAX as u64;
        return Err(over_limit("selectors of one QoS spec", most, "make another spec"));
    }
    for selector in &spec.selectors {
        if let Err(rule) = selector.labels.check() {
            return invalid(format!("selector: {rule}"));
        }
    }
    Ok(())
}

/// Refuses rates of nothing, and those that nobody has.
pub(crate) fn check_rates(rates: &Rates) -> Result<(), String> {
    for rate in rates.ingress.iter().chain(&rates.egress) {
        for mbit in [Some(rate.mbit), rate.burst_mbit].into_iter().flatten() {
            if mbit == 0 || mbit > limits::RATE_MBIT_MAX {
                return Err(format!("{mbit} Mbit is not from 1 to {}", limits::RATE_MBIT_MAX));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "qos_tests.rs"]
mod tests;
