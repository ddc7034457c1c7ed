//! The nouns and verbs of the store: what it holds, what may be asked of it, and how it says no.
//!
//! * [`id`]: every id is a type of its own, so a subnet's name never passes for a node's.
//! * [`object`]: what the state holds, one file per object.
//! * [`workload`]: for whom addresses are kept.
//! * [`janitor`] and [`inventory`]: what is believed of pods of which nobody says anything.
//! * [`operation`]: one [`Txn`] = one log entry = one revision; it carries time and identity,
//!   because the state machine has neither.
//! * [`outcome`] and [`refusal`]: an operation that cannot be carried out is *data*, alike on
//!   every replica.
//! * [`limits`]: everything has a maximum, with its arithmetic.
//!
//! Absent on purpose: any rule (they live in `atoll-store`), any encoding (`atoll-codec`), any
//! Kubernetes type (`atoll-kube`).
#![warn(missing_docs)]

pub mod change;
pub mod dhcp;
pub mod dump;
pub mod gateway;
pub mod id;
pub mod inventory;
pub mod isolation;
pub mod janitor;
pub mod limits;
pub mod lineage;
pub mod nat;
pub mod object;
pub mod operation;
pub mod outcome;
pub mod qos;
pub mod refusal;
pub mod selector;
pub mod size;
pub mod workload;

pub use atoll_ipam::{AddressRange, Cidr, Family, MacAddress, Normalised, RangeSet};
pub use change::{Change, ChangeSet, Object, ObjectKey};
pub use dhcp::{Dhcp, DhcpOptions};
pub use dump::{CoolingAddress, Dump};
pub use gateway::{CentralGateway, GatewayNode, GatewayType};
pub use id::{
    ChassisName, ClusterId, InterfaceName, MemberId, MemberName, NameError, NamespaceName,
    NodeName, PodKey, PortName, QosName, RequestId, ReservationName, Revision, Sandbox, SubnetName,
    Uid,
};
pub use inventory::{Inventory, LivePod, LivePort, Reconciling};
pub use isolation::{Acl, AclAction, AclDirection};
pub use janitor::{Janitor, JanitorStop, PodList, Sighting};
pub use lineage::Lineage;
pub use nat::{NatAction, NatRule};
pub use object::{
    Addresses, Allocation, Binding, Central, Draining, Labels, Namespace, Node, NodeSpec, Origin,
    Owner, Pod, PodRequest, PodSpec, Settings, Subnet, SubnetNet, SubnetSpec, WaitReason,
};
pub use operation::{Actor, Operation, Precondition, Txn};
pub use outcome::{Outcome, Reply};
pub use qos::{
    IMPORTANT_DSCP, Mirror, MirrorTarget, NAMES_QOS, PodSelector, PodTraffic, Qos, QosSpec, Rate,
    Rates,
};
pub use refusal::Refusal;
pub use selector::{LabelRequirement, LabelSelector, LabelTest};
pub use size::{ClusterSize, ClusterSizeError};
pub use workload::{
    AllocationState, InterfaceRequest, PodOwner, PodPhase, Reservation, ReservationSpec,
    ReservedFor, Workload, WorkloadKey, WorkloadKind, WorkloadSpec,
};
