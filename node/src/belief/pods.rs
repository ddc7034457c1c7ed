//! Pods that the store has here, pods that are plugged in, and whether they are the same.

use std::collections::BTreeMap;

use atoll_model::{Pod, PortName};
use atoll_ovsdb::Replica;

use super::Concern;
use crate::ovs::port::{self, Plugged};
use crate::view::View;

/// How many are named.
const NAMED: usize = 20;

pub(super) fn compare(view: &View, replica: &Replica) -> Concern {
    let plugged = port::all_plugged(replica);
    let mut by_sandbox: BTreeMap<&str, Vec<&Plugged>> = BTreeMap::new();
    for it in &plugged {
        by_sandbox.entry(it.sandbox.as_str()).or_default().push(it);
    }
    let (known, count) = (view.pods().count(), by_sandbox.len());
    let whole = by_sandbox.values().filter(|all| all.iter().all(|it| it.installed));
    let believed = format!("{known} decided, {count} plugged in, {} installed", whole.count());
    let mut differs: Vec<String> = plugged.iter().filter_map(|it| wrong(view, it)).collect();
    differs.extend(view.pods().filter_map(|pod| gone(pod, &by_sandbox)));
    if differs.len() > NAMED {
        let more = differs.len() - NAMED;
        differs.truncate(NAMED);
        differs.push(format!("and {more} more"));
    }
    Concern::new("pods", believed).but(differs)
}

/// What is wrong with a port that is there.
fn wrong(view: &View, plugged: &Plugged) -> Option<String> {
    let Plugged { namespace, name, uid, sandbox, interface, .. } = plugged;
    if !plugged.installed {
        return Some(format!(
            "{namespace}/{name}: ovn-controller has not installed the flows of {interface}"
        ));
    }
    // A deletion that the store was told of and the runtime has not carried out keeps its word
    // here.
    match view.bound(sandbox) {
        Some((_, bound, _)) if bound.as_str() == uid => None,
        Some((key, bound, _)) => Some(format!(
            "{interface} is plugged in for {namespace}/{name} ({uid}), the store has it for {key} \
             ({bound})"
        )),
        None => Some(format!(
            "{namespace}/{name} ({uid}) is plugged in as {interface}, and the store does not know"
        )),
    }
}

/// A pod that the store has plugged in, and Open vSwitch has not, or not with all its interfaces.
fn gone(pod: &Pod, plugged: &BTreeMap<&str, Vec<&Plugged>>) -> Option<String> {
    let binding = pod.bound.as_ref()?;
    let (key, sandbox) = (&pod.spec.key, binding.sandbox.as_str());
    let Some(plugged) = plugged.get(sandbox) else {
        return Some(format!("{key}: the store has it plugged in by {sandbox}, and it is not"));
    };
    let mut further = pod.spec.request.interfaces.iter().map(|it| &it.name);
    let lost = further.find(|name| {
        let port = PortName::of_interface(key, Some(name));
        !plugged.iter().any(|it| it.port == port.as_str())
    })?;
    Some(format!("{key}: its interface {lost} is not plugged in"))
}
