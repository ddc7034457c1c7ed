//! What goes wrong, and what became of a Subnet (`news`), is said as an event of the object that it
//! is about, for `kubectl describe`, with kube-ovn's reasons.
//!
//! An event's name is made of what it says, and of the revision if it tells of a change, so a leader
//! says nothing that an earlier one said already. The apiserver forgets events after an hour, as a
//! rule; changes are not told again after that, whoever leads.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use atoll_api::manifest::{API_VERSION, ATOLL_VERSION};
use atoll_model::{ObjectKey, Pod as StoredPod, Revision, Subnet};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

use super::write::Write;
use super::{Publisher, Target, news};
use crate::store::Store;

/// A pod that waits no longer than this is not talked about: its subnet comes a moment later.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a pod has no address, in kube-ovn's word.
const NO_ADDRESS: &str = "AcquireAddressFailed";

/// Where events are of what has no namespace.
const NAMESPACE: &str = "default";

/// Kubernetes takes no more than 1,024 bytes.
const NOTE_CHARS_MAX: usize = 250;

/// What is said of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Notice {
    reason: &'static str,
    note: String,
    /// Which change it tells of; none if something is wrong.
    at: Option<Revision>,
}

impl Notice {
    const fn warning(reason: &'static str, note: String) -> Self {
        Self { reason, note, at: None }
    }

    /// Something became of an object at a revision.
    pub(super) const fn news(reason: &'static str, note: String, at: Revision) -> Self {
        Self { reason, note, at: Some(at) }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.note)
    }
}

impl<S: Store> Publisher<S> {
    /// What an object asks for is refused.
    pub(crate) fn warn(&mut self, key: ObjectKey, note: String) {
        let reason = match key {
            ObjectKey::Pod(_) => "ValidatePodNetworkFailed",
            ObjectKey::Subnet(_) => "ValidateLogicalSwitchFailed",
            ObjectKey::Qos(_) => "ValidateQosSpecFailed",
            ObjectKey::Reservation(_) => "ValidateIPFailed",
            _ => return,
        };
        self.notice(key, Notice::warning(reason, note));
    }

    /// A Subnet was made or changed.
    pub(super) fn subnet_changed(&mut self, before: Option<&Subnet>, now: &Subnet) {
        for notice in news::of_subnet(before, now) {
            self.notice(ObjectKey::Subnet(now.spec.name.clone()), notice);
        }
    }

    fn notice(&mut self, key: ObjectKey, notice: Notice) {
        let reason = notice.reason;
        self.notices.insert((key.clone(), reason), notice);
        self.due.put(Target::Event(key, reason), ());
    }

    /// A pod waits for its addresses, or does not any more.
    pub(super) fn pod_changed(&mut self, pod: &StoredPod) {
        let Some(waiting) = &pod.waiting else { return };
        let key = ObjectKey::Pod(pod.spec.key.clone());
        let note = waiting.to_string();
        self.notices.insert((key.clone(), NO_ADDRESS), Notice::warning(NO_ADDRESS, note));
        self.due.put_later(Target::Event(key, NO_ADDRESS), (), Instant::now() + PATIENCE);
    }

    /// The event that is still to be told, if there is whom it is about, and it still is so.
    pub(super) fn needed_event(&self, key: &ObjectKey, reason: &'static str) -> Option<Write> {
        let notice = self.notices.get(&(key.clone(), reason))?.clone();
        let regarding = self.reference(key)?;
        if reason == NO_ADDRESS
            && let ObjectKey::Pod(pod) = key
        {
            self.pod(pod)?.waiting.as_ref()?;
        }
        let event = Box::new(event(&notice, regarding));
        Some(Write::Event { key: key.clone(), event, notice })
    }

    /// It was told, or need not be.
    pub(super) fn told(&mut self, key: &ObjectKey, reason: &'static str, notice: Option<&Notice>) {
        let key = (key.clone(), reason);
        let is_newer = |known: &Notice| notice.is_some_and(|told| told != known);
        if !self.notices.get(&key).is_some_and(is_newer) {
            self.notices.remove(&key);
        }
    }

    fn reference(&self, key: &ObjectKey) -> Option<ObjectReference> {
        let (api_version, kind, namespace, name, uid) = match key {
            ObjectKey::Pod(pod) => {
                let uid = self.pods.get(pod)?.uid.to_string();
                let namespace = Some(pod.namespace().to_string());
                ("v1", "Pod", namespace, pod.name().to_owned(), uid)
            }
            ObjectKey::Subnet(name) => {
                let uid = self.manifests.get(key)?.uid.clone();
                (API_VERSION, "Subnet", None, name.to_string(), uid)
            }
            ObjectKey::Qos(name) => {
                let uid = self.manifests.get(key)?.uid.clone();
                (ATOLL_VERSION, "QosSpec", None, name.to_string(), uid)
            }
            ObjectKey::Reservation(name) => {
                let uid = self.seen_reservation(name)?.uid.clone();
                (API_VERSION, "IP", None, name.to_string(), uid)
            }
            _ => return None,
        };
        Some(ObjectReference {
            api_version: Some(api_version.to_owned()),
            kind: Some(kind.to_owned()),
            namespace,
            name: Some(name),
            uid: Some(uid),
            ..ObjectReference::default()
        })
    }
}

fn event(notice: &Notice, regarding: ObjectReference) -> Event {
    let mut hasher = DefaultHasher::new();
    (notice, &regarding.uid).hash(&mut hasher);
    // With the hash it is no longer than a name may be.
    let name: String = regarding.name.iter().flat_map(|name| name.chars()).take(230).collect();
    let metadata = ObjectMeta {
        name: Some(format!("{name}.{:016x}", hasher.finish())),
        namespace: Some(regarding.namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned())),
        ..ObjectMeta::default()
    };
    Event {
        metadata,
        action: Some("Reconcile".to_owned()),
        event_time: Some(MicroTime(Timestamp::now())),
        note: Some(notice.note.chars().take(NOTE_CHARS_MAX).collect()),
        reason: Some(notice.reason.to_owned()),
        regarding: Some(regarding),
        reporting_controller: Some("atoll.io/atolld".to_owned()),
        reporting_instance: Some("atolld".to_owned()),
        type_: Some(if notice.at.is_some() { "Normal" } else { "Warning" }.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
