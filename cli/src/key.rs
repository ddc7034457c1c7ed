//! Objects by kind and name, as people type them.

use atoll_model::{
    MirrorTarget, NameError, NamespaceName, NodeName, ObjectKey, PodKey, PortName, QosName,
    ReservationName, SubnetName, Uid, WorkloadKey, WorkloadKind,
};
use clap::ValueEnum;

use crate::Failure;

/// Everything that the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ObjectKind {
    /// NAME
    #[value(alias = "subnets")]
    Subnet,
    /// NAME
    #[value(alias = "namespaces", alias = "ns")]
    Namespace,
    /// NAME
    #[value(alias = "nodes")]
    Node,
    /// NAMESPACE/NAME
    #[value(alias = "pods")]
    Pod,
    /// PORT, such as web-0.tenant
    #[value(alias = "allocations", alias = "alloc", alias = "ip", alias = "ips")]
    Allocation,
    /// UID of a pod that is gone and was not confirmed to be unplugged
    Draining,
    /// KIND/NAMESPACE/NAME
    #[value(alias = "workloads")]
    Workload,
    /// NAME
    #[value(alias = "reservations")]
    Reservation,
    /// NAME
    Qos,
    /// node/NAME or pod/NAMESPACE/NAME
    #[value(alias = "mirrors")]
    Mirror,
    /// UID of a pod that was absent from a list
    Sighting,
    /// there is one
    Settings,
    /// there is one
    Central,
    /// there is one
    Janitor,
    /// there is one, after a restore
    Reconciling,
}

impl ObjectKind {
    /// The kind of an object.
    pub(crate) fn of(key: &ObjectKey) -> Self {
        match key {
            ObjectKey::Settings => Self::Settings,
            ObjectKey::Central => Self::Central,
            ObjectKey::Subnet(_) => Self::Subnet,
            ObjectKey::Namespace(_) => Self::Namespace,
            ObjectKey::Node(_) => Self::Node,
            ObjectKey::Pod(_) => Self::Pod,
            ObjectKey::Allocation(_) => Self::Allocation,
            ObjectKey::Draining(_) => Self::Draining,
            ObjectKey::Workload(_) => Self::Workload,
            ObjectKey::Reservation(_) => Self::Reservation,
            ObjectKey::Qos(_) => Self::Qos,
            ObjectKey::Mirror(_) => Self::Mirror,
            ObjectKey::Sighting(_) => Self::Sighting,
            ObjectKey::Janitor => Self::Janitor,
            ObjectKey::Reconciling => Self::Reconciling,
        }
    }

    /// The object of this kind and name.
    ///
    /// # Errors
    ///
    /// What of it is no name.
    pub(crate) fn key(self, name: Option<&str>) -> Result<ObjectKey, Failure> {
        let usage = |why: String| Failure::Usage(anyhow::Error::msg(why));
        let word = self.word();
        let (one, name) = match (self, name) {
            (Self::Settings, None) => return Ok(ObjectKey::Settings),
            (Self::Central, None) => return Ok(ObjectKey::Central),
            (Self::Janitor, None) => return Ok(ObjectKey::Janitor),
            (Self::Reconciling, None) => return Ok(ObjectKey::Reconciling),
            (Self::Settings | Self::Central | Self::Janitor | Self::Reconciling, Some(name)) => {
                return Err(usage(format!("there is one {word}: leave out {name}")));
            }
            (_, None) => return Err(usage(format!("which {word}? Give its name"))),
            (one, Some(name)) => (one, name),
        };
        let said = |error: NameError| error.to_string();
        let key = match one {
            Self::Subnet => SubnetName::new(name).map(ObjectKey::Subnet).map_err(said),
            Self::Namespace => NamespaceName::new(name).map(ObjectKey::Namespace).map_err(said),
            Self::Node => NodeName::new(name).map(ObjectKey::Node).map_err(said),
            Self::Pod => PodKey::parse(name).map(ObjectKey::Pod).map_err(said),
            Self::Allocation => PortName::new(name).map(ObjectKey::Allocation).map_err(said),
            Self::Draining => Uid::new(name).map(ObjectKey::Draining).map_err(said),
            Self::Sighting => Uid::new(name).map(ObjectKey::Sighting).map_err(said),
            Self::Reservation => {
                ReservationName::new(name).map(ObjectKey::Reservation).map_err(said)
            }
            Self::Qos => QosName::new(name).map(ObjectKey::Qos).map_err(said),
            Self::Workload => workload(name).map(ObjectKey::Workload),
            _ => mirror(name).map(ObjectKey::Mirror),
        };
        key.map_err(usage)
    }

    /// As it is typed.
    pub(crate) fn word(self) -> String {
        self.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default()
    }
}

/// Reads `KIND/NAMESPACE/NAME`.
pub(crate) fn workload(text: &str) -> Result<WorkloadKey, String> {
    const KINDS: [WorkloadKind; 5] = [
        WorkloadKind::StatefulSet,
        WorkloadKind::Deployment,
        WorkloadKind::ReplicaSet,
        WorkloadKind::DaemonSet,
        WorkloadKind::Job,
    ];
    let parts: Vec<&str> = text.split('/').collect();
    let [kind, namespace, name] = parts[..] else {
        return Err(format!("workload {text:?} is not written as KIND/NAMESPACE/NAME"));
    };
    let known = KINDS.into_iter().find(|it| it.to_string().eq_ignore_ascii_case(kind));
    let kind = known.ok_or_else(|| {
        let kinds = KINDS.map(|kind| kind.to_string()).join(", ");
        format!("{kind:?} is no kind of workload; there are {kinds}")
    })?;
    let namespace = NamespaceName::new(namespace).map_err(|error| error.to_string())?;
    Ok(WorkloadKey { namespace, kind, name: name.to_owned() })
}

/// Reads `node/NAME` or `pod/NAMESPACE/NAME`.
pub(crate) fn mirror(text: &str) -> Result<MirrorTarget, String> {
    match text.split_once('/') {
        Some(("node", node)) => NodeName::new(node).map(MirrorTarget::Node),
        Some(("pod", pod)) => PodKey::parse(pod).map(MirrorTarget::Pod),
        _ => return Err(format!("mirror {text:?} is neither node/NAME nor pod/NAMESPACE/NAME")),
    }
    .map_err(|error| error.to_string())
}

/// A mirror's target as it is typed.
pub(crate) fn of_mirror(target: &MirrorTarget) -> String {
    match target {
        MirrorTarget::Node(node) => format!("node/{node}"),
        MirrorTarget::Pod(pod) => format!("pod/{pod}"),
    }
}

/// The name of an object as it is typed; empty if there is only one of its kind.
pub(crate) fn name(key: &ObjectKey) -> String {
    match key {
        ObjectKey::Workload(WorkloadKey { namespace, kind, name }) => {
            format!("{kind}/{namespace}/{name}")
        }
        ObjectKey::Mirror(target) => of_mirror(target),
        ObjectKey::Subnet(name) => name.to_string(),
        ObjectKey::Namespace(name) => name.to_string(),
        ObjectKey::Node(name) => name.to_string(),
        ObjectKey::Pod(key) => key.to_string(),
        ObjectKey::Allocation(port) => port.to_string(),
        ObjectKey::Draining(uid) | ObjectKey::Sighting(uid) => uid.to_string(),
        ObjectKey::Reservation(name) => name.to_string(),
        ObjectKey::Qos(name) => name.to_string(),
        ObjectKey::Settings | ObjectKey::Central | ObjectKey::Janitor | ObjectKey::Reconciling => {
            String::new()
        }
    }
}

/// Kind and name, as they are typed.
pub(crate) fn text(key: &ObjectKey) -> String {
    format!("{} {}", ObjectKind::of(key).word(), name(key)).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_typed() {
        for (kind, name) in [
            (ObjectKind::Subnet, Some("blue")),
            (ObjectKind::Pod, Some("a/b")),
            (ObjectKind::Workload, Some("StatefulSet/a/web")),
            (ObjectKind::Mirror, Some("pod/a/b")),
            (ObjectKind::Mirror, Some("node/n1")),
            (ObjectKind::Janitor, None),
        ] {
            let key = kind.key(name).unwrap();
            assert_eq!(ObjectKind::of(&key), kind);
            let name = name.map(|name| format!(" {name}")).unwrap_or_default();
            assert_eq!(text(&key), kind.word() + &name);
        }
    }

    #[test]
    fn what_is_no_name_is_said() {
        let said = |kind: ObjectKind, name| match kind.key(name) {
            Err(Failure::Usage(error)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(said(ObjectKind::Subnet, None), "which subnet? Give its name");
        assert_eq!(said(ObjectKind::Janitor, Some("x")), "there is one janitor: leave out x");
        assert!(said(ObjectKind::Pod, Some("web")).contains("NAMESPACE/NAME"));
        assert!(said(ObjectKind::Workload, Some("Cron/a/b")).contains("StatefulSet, Deployment"));
        assert!(said(ObjectKind::Mirror, Some("web")).contains("neither node/NAME"));
    }
}
