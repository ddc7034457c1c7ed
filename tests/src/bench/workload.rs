//! What is written, by number: pods with names and uids like those that Kubernetes gives, and keys.

use std::ops::Range;

use anyhow::Result;
use atoll_api::proto::TxnRequest;
use atoll_model::{
    Labels, NodeName, NodeSpec, Operation, Origin, PodKey, PodOwner, PodSpec, RequestId, Revision,
    SubnetNet, SubnetSpec, Uid, WorkloadKind,
};
use bytes::Bytes;
use prost::Message as _;

use super::etcd_proto::request_op::Request;
use super::etcd_proto::{self as etcd, PutRequest, RequestOp};
use super::lane::Write;

/// A subnet takes 32,000 ports; a million pods need 32 of them.
const SUBNETS: u64 = 64;
const NODES: u64 = 1_000;
/// Operations per transaction while the cluster is set up.
const SET_UP: usize = 100;

const VALUE_BYTES: usize = 256;

/// Subnets with a namespace each, and nodes.
///
/// # Errors
///
/// Never: the names are names.
pub fn set_up() -> Result<Vec<Vec<Operation>>> {
    let mut operations = Vec::new();
    for number in 0..SUBNETS {
        let cidr: atoll_model::Cidr = format!("10.{}.0.0/16", 32 + number).parse()?;
        let net = SubnetNet { cidr, gateway: cidr.assignable().first() };
        let namespaces = vec![format!("tenant-{number}").parse()?];
        let spec = SubnetSpec::new(format!("subnet-{number}").parse()?, vec![net]);
        let spec = SubnetSpec { namespaces, ..spec };
        operations.push(Operation::PutSubnet(spec, Origin::Api));
    }
    // Wide: an address that was released rests for a while.
    let cidr: atoll_model::Cidr = "10.128.0.0/9".parse()?;
    let net = SubnetNet { cidr, gateway: cidr.assignable().first() };
    let spec = SubnetSpec::new(PASSING_SUBNET.parse()?, vec![net]);
    let spec = SubnetSpec { namespaces: vec![PASSING_SUBNET.parse()?], ..spec };
    operations.push(Operation::PutSubnet(spec, Origin::Api));
    for number in 0..NODES {
        operations.push(Operation::PutNode(NodeSpec {
            name: NodeName::new(&format!("node-{number}"))?,
            uid: Uid::new(&format!("uid-of-node-{number}"))?,
            addresses: Vec::new(),
            labels: Labels::new(),
        }));
    }
    Ok(operations.chunks(SET_UP).map(<[Operation]>::to_vec).collect())
}

/// The first number of pods that come and go, in a subnet of their own. Those below stay.
pub const PASSING: u64 = 1_000_000;

/// Where pods that come and go are.
pub const PASSING_SUBNET: &str = "passing";

/// The name of a pod.
///
/// # Panics
///
/// Never: the name is one.
#[must_use]
pub fn pod_key(number: u64) -> PodKey {
    let namespace = match number {
        PASSING.. => PASSING_SUBNET.to_owned(),
        _ => format!("tenant-{}", number % SUBNETS),
    };
    PodKey::parse(&format!("{namespace}/checkout-7d9f8c6b5d-{number:07}")).expect("a pod's name")
}

/// The number of a pod of this workload.
#[must_use]
pub fn pod_number(key: &PodKey) -> Option<u64> {
    key.to_string().rsplit_once('-')?.1.parse().ok()
}

fn uid(head: u64, number: u64) -> Uid {
    Uid::new(&format!("{head:08x}-5e1f-4c3a-a1b2-{number:012x}")).expect("a uid")
}

fn pod(number: u64) -> Operation {
    let node = NodeName::new(&format!("node-{}", number % NODES)).expect("a node's name");
    let owner = PodOwner {
        kind: WorkloadKind::ReplicaSet,
        // As long as makes a request as long as etcd's.
        name: format!("checkout-7d9f8c6b5d-{:s<88}", "of-payment"),
        uid: uid(1, number),
        ordinal: None,
    };
    let pod = PodSpec::new(pod_key(number), uid(2, number), node);
    Operation::PutPod(PodSpec { owner: Some(owner), ..pod })
}

/// What a write asks of our store.
#[must_use]
pub(super) fn operations(write: &Write) -> Vec<Operation> {
    match write {
        Write::Put(numbers) => numbers.clone().map(pod).collect(),
        Write::Delete(number) => {
            vec![Operation::DeletePod(pod_key(*number), uid(2, *number))]
        }
    }
}

/// Operations as one request.
pub(super) fn message(operations: &[Operation], request: RequestId) -> TxnRequest {
    TxnRequest {
        request: Some((&request).into()),
        preconditions: Vec::new(),
        operations: operations.iter().map(Into::into).collect(),
    }
}

/// A key of etcd's, 15 bytes.
#[must_use]
pub fn key(number: u64) -> Bytes {
    format!("/bench/{number:08}").into()
}

pub(super) fn put(number: u64) -> PutRequest {
    // Values share their bytes: the client copies them once, into the request.
    static VALUE: [u8; VALUE_BYTES] = [b'v'; VALUE_BYTES];
    PutRequest { key: key(number), value: Bytes::from_static(&VALUE) }
}

pub(super) fn puts(numbers: Range<u64>) -> etcd::TxnRequest {
    let operation = |number| RequestOp { request: Some(Request::RequestPut(put(number))) };
    etcd::TxnRequest { success: numbers.map(operation).collect() }
}

pub(super) fn delete(number: u64) -> etcd::DeleteRangeRequest {
    etcd::DeleteRangeRequest { key: key(number) }
}

/// Bytes of a request of one pod, and of one put.
#[must_use]
pub fn request_bytes() -> (usize, usize) {
    let number = 123_456;
    let request = RequestId { id: u128::MAX, born: Revision(number) };
    let pod = message(&[pod(number)], request);
    (pod.encoded_len(), put(number).encoded_len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A comparison of stores, not of sizes.
    #[test]
    fn both_sides_write_about_as_much() {
        let (ours, theirs) = request_bytes();
        assert!(ours.abs_diff(theirs) * 20 < theirs, "{ours} against {theirs} bytes");
        let request = RequestId { id: 1, born: Revision(1) };
        let sent = message(&[pod(5)], request);
        assert_eq!(Operation::try_from(&sent.operations[0]).unwrap(), pod(5));
        assert_eq!(key(1).len(), 15);
        assert_eq!(pod_number(&pod_key(77)), Some(77));
    }
}
