//! Why a pool refuses. Every variant is definite: the pool is unchanged.

use std::net::IpAddr;

use crate::cidr::Cidr;
use crate::family::Family;

/// Why there is no pool of this CIDR with this gateway.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The gateway is of the other family, or not in the CIDR.
    #[error("gateway {gateway} is outside {cidr}")]
    GatewayOutside {
        /// The gateway given.
        gateway: IpAddr,
        /// The CIDR given.
        cidr: Cidr,
    },
    /// The gateway is the network's, the broadcast or the subnet-router anycast address.
    #[error("gateway {gateway} is not an address that an interface in {cidr} may have")]
    GatewayNotAssignable {
        /// The gateway given.
        gateway: IpAddr,
        /// The CIDR given.
        cidr: Cidr,
    },
}

/// Why an address cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StaticError {
    /// Of the other family, or not in the CIDR.
    #[error("{address} is outside {cidr}")]
    Outside {
        /// The address asked for.
        address: IpAddr,
        /// The pool's CIDR.
        cidr: Cidr,
    },
    /// The network's, the broadcast or the subnet-router anycast address.
    #[error("{address} is not an address that an interface in {cidr} may have")]
    NotAssignable {
        /// The address asked for.
        address: IpAddr,
        /// The pool's CIDR.
        cidr: Cidr,
    },
    /// The router has it.
    #[error("{address} is the gateway")]
    Gateway {
        /// The address asked for.
        address: IpAddr,
    },
    /// Somebody has it.
    #[error("{address} is in use")]
    InUse {
        /// The address asked for.
        address: IpAddr,
    },
    /// Released, but nobody has proved yet that its last binding is unplugged.
    #[error("{address} was released, but its last binding is not confirmed to be unplugged")]
    StillPlugged {
        /// The address asked for.
        address: IpAddr,
        /// When it was released, in `clock_ms`.
        released_ms: u64,
    },
}

/// Why an address was not released.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// Nobody has it.
    #[error("{address} is not in use")]
    NotInUse {
        /// The address given.
        address: IpAddr,
    },
}

/// Why a pool cannot get another CIDR, other exclusions or another gateway.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResizeError {
    /// The new CIDR and gateway do not fit together.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The new CIDR is of the other family.
    #[error("the pool is {family}, {cidr} is not")]
    OtherFamily {
        /// The pool's family.
        family: Family,
        /// The CIDR given.
        cidr: Cidr,
    },
    /// An address in use would no longer be one that an interface may have.
    #[error("{address} is in use and would be cut off by {cidr}")]
    CutsOff {
        /// The first address that is in the way.
        address: IpAddr,
        /// The CIDR given.
        cidr: Cidr,
    },
    /// The new gateway is in use.
    #[error("the new gateway {address} is in use")]
    GatewayInUse {
        /// The gateway given.
        address: IpAddr,
    },
    /// An address that would be cut off, or become the gateway, was released, but nobody has
    /// proved yet that its last binding is unplugged.
    #[error(
        "{address} would be cut off or become the gateway, \
         and its last binding is not confirmed to be unplugged"
    )]
    StillPlugged {
        /// The first address that is in the way.
        address: IpAddr,
    },
}

/// Why a pool cannot be made from its history: the history is not one of this pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The CIDR and the gateway do not fit together.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// An address in use or cooling is not one that an interface of this subnet may have.
    #[error("{address} is not an address that a pod in {cidr} may have")]
    NotAssignable {
        /// The address.
        address: IpAddr,
        /// The CIDR given.
        cidr: Cidr,
    },
    /// An address is cooling twice, or cooling and in use.
    #[error("{address} is there twice")]
    Twice {
        /// The address.
        address: IpAddr,
    },
    /// The cooling of an address ends before its release.
    #[error("cooling of {address} ends before it starts")]
    CoolsBackwards {
        /// The address.
        address: IpAddr,
    },
}
