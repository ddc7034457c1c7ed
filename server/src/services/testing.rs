//! A store to serve, for the services' tests.

use std::path::Path;

use atoll_api::identity::Caller;
use atoll_model::{MemberName, NodeName, NodeSpec, Operation, Uid};
use atoll_raft::{RaftOptions, Retention, Store, Timing};
use tonic::Request;

/// A cluster of one that is set up.
pub(crate) async fn alone(directory: &Path) -> Store {
    let advertise = "127.0.0.1:1".to_owned();
    let options = RaftOptions {
        name: MemberName::new("m1").unwrap(),
        data_dir: directory.join("data"),
        peers: vec![advertise.clone()],
        advertise,
        expected_members: 1,
        formation_marker: directory.join("marker"),
        credentials: atoll_api::Credentials::insecure_dev(),
        timing: Timing::default(),
        retention: Retention::default(),
    };
    let (store, _peers) = Store::open(options).await.unwrap();
    let mut published = store.published();
    published.wait_for(|now| now.state.settings().is_some()).await.unwrap();
    store
}

/// A request of somebody whom the listener knows.
pub(super) fn from<T>(caller: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Caller::Verified(caller.parse().unwrap()));
    request
}

/// Announces a node.
pub(crate) fn put_node(name: &str) -> Operation {
    Operation::PutNode(NodeSpec {
        name: NodeName::new(name).unwrap(),
        uid: Uid::new(name).unwrap(),
        addresses: Vec::new(),
        labels: [].into(),
    })
}
