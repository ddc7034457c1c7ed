//! The `kubeovn.io/v1` forms of Subnet and IP and the `atoll.io/v1` form of QosSpec: what a person writes, and what `kubectl` shows.
//!
//! Every field of kube-ovn's schema is known here. One that is not implemented is accepted only
//! with the value that means what Atoll does anyway, and refused by name otherwise; a field in
//! nobody's schema is refused as a typing error. So a manifest either means what it says or is
//! refused, never half obeyed.

mod acl;
mod dhcp;
mod gateway;
mod ip;
mod list;
mod nat;
mod qos;
mod reservation;
mod selector;
mod subnet;

pub use ip::ip_object;
pub use list::{list, node_object};
pub use qos::{ATOLL_VERSION, qos_object};
pub use reservation::RESERVED_LABEL;
pub use subnet::{FieldValues, fixed_subnet_fields, implemented_subnet_fields, subnet_object};

use atoll_model::{QosSpec, ReservationSpec, SubnetSpec};
use serde_json::Value;

/// Group and version of Subnet and IP.
pub const API_VERSION: &str = "kubeovn.io/v1";

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not an object with `apiVersion`, `kind` and `metadata.name`.
    #[error("not a manifest: {0}")]
    Shape(String),
    /// Some other kind of object.
    #[error(
        "{api_version} {kind} is not known here; known are {API_VERSION} Subnet and IP, and {ATOLL_VERSION} QosSpec"
    )]
    Kind {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// A field in nobody's schema.
    #[error("{object}: unknown field {field}; see `kubectl explain` for the fields there are")]
    UnknownField {
        /// The manifest.
        object: String,
        /// The field's path.
        field: String,
    },
    /// A field of kube-ovn's that Atoll does not implement.
    #[error("{object}: {field}: {value} is not implemented; leave it out")]
    NotImplemented {
        /// The manifest.
        object: String,
        /// The field's path.
        field: String,
        /// What it was set to.
        value: String,
    },
    /// A field's value breaks a rule.
    #[error("{object}: {field}: {rule}")]
    Field {
        /// The manifest.
        object: String,
        /// The field's path.
        field: &'static str,
        /// The rule, and the way out.
        rule: String,
    },
}

/// A manifest that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// A subnet, and what was adjusted in reading it (normalised host bits, chosen gateways).
    Subnet(SubnetSpec, Vec<String>),
    /// Rates of pods.
    Qos(QosSpec),
    /// Addresses that are kept for a pod.
    Reservation(ReservationSpec),
}

/// Reads one manifest.
///
/// # Errors
///
/// [`ManifestError`] naming the object, the field and the rule.
pub fn parse(value: &Value) -> Result<Manifest, ManifestError> {
    let text = |at: &str| value.pointer(at).and_then(Value::as_str).unwrap_or_default();
    if !value.is_object() {
        return Err(ManifestError::Shape("it is no object".to_owned()));
    }
    let (api_version, kind) = (text("/apiVersion"), text("/kind"));
    if api_version.is_empty() || kind.is_empty() {
        return Err(ManifestError::Shape("apiVersion and kind must be set".to_owned()));
    }
    match (api_version, kind) {
        (API_VERSION, "Subnet") => subnet::parse(value),
        (ATOLL_VERSION, "QosSpec") => qos::parse(value),
        (API_VERSION, "IP") => reservation::parse(value),
        _ => {
            Err(ManifestError::Kind { api_version: api_version.to_owned(), kind: kind.to_owned() })
        }
    }
}
