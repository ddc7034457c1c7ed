//! Error codes of the CNI specification, and ours.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A CNI error code: what the runtime may conclude without reading the message.
///
/// A number and not an enum, because codes of a newer agent must pass through an older plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub u32);

impl Code {
    /// The asked `cniVersion` is not one that the plugin speaks.
    pub const INCOMPATIBLE_VERSION: Self = Self(1);
    /// A field of the network configuration is known and cannot be honoured.
    pub const UNSUPPORTED_FIELD: Self = Self(2);
    /// The container is unknown, or gone: the runtime need not clean up.
    pub const UNKNOWN_CONTAINER: Self = Self(3);
    /// A `CNI_…` environment variable is missing or wrong.
    pub const INVALID_ENVIRONMENT: Self = Self(4);
    /// Reading or writing failed: a file, the socket, standard input.
    pub const IO_FAILURE: Self = Self(5);
    /// Something that should be JSON is not, or has another shape.
    pub const DECODE_FAILURE: Self = Self(6);
    /// The network configuration is well formed and wrong.
    pub const INVALID_CONFIG: Self = Self(7);
    /// A passing condition: the runtime should ask again later.
    pub const TRY_AGAIN_LATER: Self = Self(11);
    /// `STATUS`: no pod can be attached now.
    pub const NOT_AVAILABLE: Self = Self(50);
    /// `STATUS`: no pod can be attached now, and those that are may have lost connectivity.
    pub const LIMITED_CONNECTIVITY: Self = Self(51);

    /// Ours: the command exists in the specification and is not provided by this release.
    pub const NOT_PROVIDED: Self = Self(100);
    /// Ours: plugin and agent speak different versions of this protocol.
    pub const WIRE_MISMATCH: Self = Self(101);
    /// Ours: the pod cannot have an address (refused by the store, not a passing condition).
    pub const REFUSED: Self = Self(102);
    /// Ours: links, addresses or routes could not be made.
    pub const PLUMBING: Self = Self(103);
    /// Ours: `CHECK` found something else than `ADD` said, and it will not mend by itself.
    pub const DIFFERS: Self = Self(104);
    /// Ours: somebody else in the subnet answers for an address of the pod.
    pub const ADDRESS_IN_USE: Self = Self(105);
    /// Ours: a defect of the agent itself.
    pub const INTERNAL: Self = Self(199);
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
