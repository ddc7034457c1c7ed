//! Ids. Names are checked once, when they enter; afterwards their type says they are sound.

use std::fmt;
use std::sync::Arc;

use crate::limits;

/// Why a text is not a name of the asked kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not valid: {rule}")]
pub struct NameError {
    /// What the text was meant to name, for instance "subnet name".
    pub kind: &'static str,
    /// The text that was given, cut to a printable length.
    pub text: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

/// Kubernetes' DNS-1123 subdomain: lower-case letters, digits, `-` and `.`, ends alphanumeric.
fn is_dns_name(text: &str) -> bool {
    let inner = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
    };
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric());
    let bytes = text.as_bytes();
    bytes.iter().all(|&byte| inner(byte)) && edge(bytes.first()) && edge(bytes.last())
}

/// Text without spaces or control characters: uids, sandbox ids, chassis names.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:ident, $max:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and makes it an id.
            ///
            /// # Errors
            ///
            /// [`NameError`] naming the rule that `text` breaks.
            pub fn new(text: &str) -> Result<Self, NameError> {
                if $check(text) && text.len() <= $max {
                    return Ok(Self(text.into()));
                }
                let text = text.chars().take(80).collect();
                Err(NameError { kind: $kind, text, rule: $rule })
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
    };
}

text_id!(
    /// Name of a subnet, and of its logical switch.
    SubnetName, "subnet name", is_dns_name, limits::NAME_BYTES_MAX,
    "1–63 lower-case letters, digits, '-' or '.', starting and ending with a letter or digit"
);
text_id!(
    /// Name of a Kubernetes namespace.
    NamespaceName, "namespace name", is_dns_name, limits::NAME_BYTES_MAX,
    "1–63 lower-case letters, digits, '-' or '.', starting and ending with a letter or digit"
);
text_id!(
    /// Name of a QoS spec.
    QosName, "QoS spec name", is_dns_name, limits::LONG_NAME_BYTES_MAX,
    "1–253 lower-case letters, digits, '-' or '.', starting and ending with a letter or digit"
);
text_id!(
    /// Name of a Kubernetes node.
    NodeName, "node name", is_dns_name, limits::LONG_NAME_BYTES_MAX,
    "1–253 lower-case letters, digits, '-' or '.', starting and ending with a letter or digit"
);
text_id!(
    /// Name of a store member: its StatefulSet pod's name.
    MemberName, "member name", is_dns_name, limits::NAME_BYTES_MAX,
    "1–63 lower-case letters, digits, '-' or '.', starting and ending with a letter or digit"
);
text_id!(
    /// Identity of a pod, a node or a workload; a name may come back, a uid never does.
    Uid, "uid", is_token, limits::TOKEN_BYTES_MAX,
    "1–128 printable characters without spaces"
);
text_id!(
    /// The container id of a pod's sandbox, as the CNI plugin is told.
    Sandbox, "sandbox id", is_token, limits::TOKEN_BYTES_MAX,
    "1–128 printable characters without spaces"
);
text_id!(
    /// Open vSwitch's `system-id`, by which OVN names a chassis.
    ChassisName, "chassis name", is_token, limits::TOKEN_BYTES_MAX,
    "1–128 printable characters without spaces"
);
text_id!(
    /// Name of a logical switch port; also the name of the `IP` object that shows it.
    PortName, "port name", is_dns_name, limits::PORT_NAME_BYTES_MAX,
    "1–384 lower-case letters, digits, '-' or '.'"
);
text_id!(
    /// Name of an interface of a pod beyond the first.
    InterfaceName, "interface name", is_dns_name, limits::NAME_BYTES_MAX,
    "1–63 lower-case letters, digits, '-' or '.', starting and ending with a letter or digit"
);
text_id!(
    /// Name of a reservation: that of the `IP` object that asks for it.
    ReservationName, "reservation name", is_dns_name, limits::PORT_NAME_BYTES_MAX,
    "1–384 lower-case letters, digits, '-' or '.', starting and ending with a letter or digit"
);

impl PortName {
    /// The port of a pod's first interface: `<pod>.<namespace>`.
    #[must_use]
    pub fn of_pod(key: &PodKey) -> Self {
        Self([key.name(), ".", key.namespace().as_str()].concat().into())
    }

    /// The port of any interface of a pod: `<pod>.<namespace>` or `<pod>.<namespace>.<interface>`.
    #[must_use]
    pub fn of_interface(key: &PodKey, interface: Option<&InterfaceName>) -> Self {
        match interface {
            None => Self::of_pod(key),
            Some(name) => Self(format!("{}.{}.{name}", key.name(), key.namespace()).into()),
        }
    }

    /// The port of a node on the join switch: `node-<node>`.
    #[must_use]
    pub fn of_node(node: &NodeName) -> Self {
        Self(format!("node-{node}").into())
    }
}

/// Namespace and name of a pod.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    namespace: NamespaceName,
    name: Arc<str>,
}

impl PodKey {
    /// Joins a namespace and a pod name.
    ///
    /// # Errors
    ///
    /// [`NameError`] if `name` is no DNS-1123 subdomain.
    pub fn new(namespace: NamespaceName, name: &str) -> Result<Self, NameError> {
        if is_dns_name(name) && name.len() <= limits::LONG_NAME_BYTES_MAX {
            return Ok(Self { namespace, name: name.into() });
        }
        let rule = "1–253 lower-case letters, digits, '-' or '.', ends with a letter or digit";
        Err(NameError { kind: "pod name", text: name.chars().take(80).collect(), rule })
    }

    /// Reads `namespace/name`.
    ///
    /// # Errors
    ///
    /// [`NameError`] if there is no `/`, or either part is not a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let Some((namespace, name)) = text.split_once('/') else {
            let rule = "written as NAMESPACE/NAME";
            return Err(NameError { kind: "pod", text: text.chars().take(80).collect(), rule });
        };
        Self::new(NamespaceName::new(namespace)?, name)
    }

    /// The same key, with a namespace that is kept only once for many pods.
    ///
    /// `namespace` is the pod's own; any other is ignored.
    #[must_use]
    pub fn sharing(&self, namespace: &NamespaceName) -> Self {
        if *namespace != self.namespace {
            return self.clone();
        }
        Self { namespace: namespace.clone(), name: Arc::clone(&self.name) }
    }

    /// The pod's namespace.
    #[must_use]
    pub fn namespace(&self) -> &NamespaceName {
        &self.namespace
    }

    /// The pod's name within its namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Log index of the entry that changed the state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// Between the numbers of two revisions there is room for what `ovn-nbctl --wait` counts: one for
    /// each time that somebody says it.
    const NB_CFG: i64 = 1_000;

    /// What OVN calls this revision: the number in `NB_Global.nb_cfg`, which each node's
    /// `ovn-controller` repeats once its switch has the flows.
    #[must_use]
    pub fn nb_cfg(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX).saturating_mul(Self::NB_CFG)
    }

    /// The revision that such a number stands for; 0 for what was never one.
    #[must_use]
    pub fn of_nb_cfg(number: i64) -> Self {
        Self(u64::try_from(number / Self::NB_CFG).unwrap_or(0))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Id of a store member: random, drawn once per disk, never derived from its name.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Id of a cluster: drawn once, when it is formed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for ClusterId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        u128::from_str_radix(text, 16).map(Self).map_err(|_| NameError {
            kind: "cluster id",
            text: text.chars().take(80).collect(),
            rule: "32 hexadecimal digits",
        })
    }
}

/// Names one request, so that a retry is known as such.
///
/// `born` is a revision that the client had seen before its first try. An unknown id whose `born`
/// is older than the oldest remembered outcome cannot be told from a forgotten one, and is
/// refused rather than executed a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// 128 random bits.
    pub id: u128,
    /// A revision that the client saw before its first try.
    pub born: Revision,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kubernetes_allows_are_taken_and_others_name_the_rule() {
        assert!(SubnetName::new("ovn-default").is_ok());
        assert!(SubnetName::new("a.b-c.9").is_ok());
        for bad in ["", "-a", "a-", "A", "a_b", "a b", "ü", &"x".repeat(64)] {
            let error = SubnetName::new(bad).unwrap_err();
            assert!(error.to_string().starts_with("subnet name"), "{error}");
        }
    }

    #[test]
    fn a_pod_key_needs_both_parts() {
        assert_eq!(PodKey::parse("ns/pod").unwrap().to_string(), "ns/pod");
        assert!(PodKey::parse("pod").is_err());
        assert!(PodKey::parse("ns/").is_err());
        assert!(PodKey::parse("/pod").is_err());
    }

    #[test]
    fn a_key_shares_no_namespace_but_its_own() {
        let key = PodKey::parse("ns/pod").unwrap();
        let [own, other] = ["ns", "other"].map(|it| NamespaceName::new(it).unwrap());
        assert_eq!(key.sharing(&own), key);
        assert!(Arc::ptr_eq(&key.sharing(&own).namespace.0, &own.0));
        assert_eq!(key.sharing(&other), key);
    }

    #[test]
    fn ports_are_named_as_kube_ovn_names_them() {
        let key = PodKey::parse("tenant/web-0").unwrap();
        assert_eq!(PortName::of_pod(&key).as_str(), "web-0.tenant");
        assert_eq!(PortName::of_node(&NodeName::new("n1").unwrap()).as_str(), "node-n1");
    }
}
