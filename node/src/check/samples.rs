//! A check for tests.

use atoll_cni_wire::{Added, Address, Interface, Route};
use tokio::time::Instant;

use crate::cni::{AddRequest, CheckRequest, Pod};
use crate::link::Mac;

/// That of `eth0`.
pub(super) const MAC: Mac = Mac([10, 0, 0, 0, 0, 2]);

/// Of pod `a/p` with uid `u1` in sandbox `c1`, with 10.99.0.2.
pub(super) fn request() -> CheckRequest {
    let said = |name: &str, mac: &str, sandbox: Option<&str>| Interface {
        name: name.into(),
        mac: mac.into(),
        mtu: Some(1400),
        sandbox: sandbox.map(Into::into),
    };
    let gateway = Some([10, 99, 0, 1].into());
    let previous = Added {
        interfaces: vec![
            said("c1_h", "0A:00:00:00:00:01", None),
            said("eth0", "0a:00:00:00:00:02", Some("/n")),
        ],
        ips: vec![Address {
            address: "10.99.0.2/24".parse().unwrap(),
            gateway,
            interface: Some(1),
        }],
        routes: vec![Route { destination: "0.0.0.0/0".parse().unwrap(), gateway }],
    };
    let attachment = AddRequest {
        container_id: "c1".into(),
        ifname: "eth0".into(),
        netns: "/n".into(),
        pod: Pod { namespace: "a".into(), name: "p".into(), uid: Some("u1".into()) },
        network: "atoll".into(),
        deadline: Instant::now(),
    };
    CheckRequest { attachment, previous }
}
