//! The pod's port on the bridge, and its marks.

use crate::cni::{AddRequest, CheckRequest};
use crate::ovs::BRIDGE;
use crate::ovs::port::Plugged;

/// The port on the bridge and its marks.
pub(super) fn differences(
    request: &CheckRequest,
    (interface, port): (&str, &str),
    plugged: Option<&Plugged>,
    is_on_bridge: bool,
) -> Vec<String> {
    let AddRequest { container_id, ifname, pod, .. } = &request.attachment;
    if !is_on_bridge {
        return vec![format!("Open vSwitch has no port {interface} on {BRIDGE}")];
    }
    let Some(plugged) = plugged else {
        return vec![format!("Open vSwitch's port {interface} does not carry our mark")];
    };
    let mut marks = vec![
        ("iface-id", plugged.port.as_str(), port),
        ("sandbox", &plugged.sandbox, container_id),
        ("ifname", &plugged.ifname, ifname),
    ];
    if let Some(uid) = &pod.uid {
        marks.push(("iface-id-ver", &plugged.uid, uid));
    }
    let wrong = marks.into_iter().filter(|(_, has, wanted)| has != wanted);
    let mut found: Vec<_> = wrong
        .map(|(key, has, wanted)| {
            format!("port {interface} has {key} {has:?} instead of {wanted:?}")
        })
        .collect();
    if let Some(error) = &plugged.error {
        found.push(format!("Open vSwitch cannot use {interface}: {error}"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::samples::request;
    use crate::ovs::port::samples::plugged;

    #[test]
    fn whatever_of_the_port_is_not_so_is_named() {
        let of = |plugged: Option<Plugged>, is_on_bridge| {
            differences(&request(), ("c1_h", "p.a"), plugged.as_ref(), is_on_bridge)
        };
        assert_eq!(of(Some(plugged("c1")), true), Vec::<String>::new());
        assert_eq!(of(None, false), ["Open vSwitch has no port c1_h on br-int"]);
        assert_eq!(of(None, true), ["Open vSwitch's port c1_h does not carry our mark"]);
        let wrong = Plugged {
            port: "q.a".into(),
            uid: "u2".into(),
            error: Some("no such device".into()),
            ..plugged("c1")
        };
        let expected = [
            r#"port c1_h has iface-id "q.a" instead of "p.a""#,
            r#"port c1_h has iface-id-ver "u2" instead of "u1""#,
            "Open vSwitch cannot use c1_h: no such device",
        ];
        assert_eq!(of(Some(wrong), true), expected);
    }
}
