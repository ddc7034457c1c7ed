//! What nobody should ask of an agent, and what is in its way: refused with the reason; what is of
//! others is left as it is, and the agent goes on.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use atoll_tests::kubelet::{
    Call, Held, TRY_AGAIN_LATER, add, announce, del, end_pod, end_sandbox, held, host_end,
    make_sandbox, on_node, pings, run_pod, settled, unannounced, until_held,
};
use atoll_tests::lab::{Lab, Pod, PodName};
use atoll_tests::people::create_subnets;
use atoll_tests::wait::wait_until;

use super::{PLUMBING, SOON, healthy, up};

/// CNI's codes of a wrong variable, and of a socket that cannot be used.
const INVALID_ENVIRONMENT: u64 = 4;
const IO_FAILURE: u64 = 5;

#[tokio::test]
async fn whoever_asks_for_what_is_not_theirs_is_refused_with_the_reason() {
    let lab = up(1, 2).await;
    let beside = run_pod(&lab, "dual/beside", 1).await.unwrap();
    let before = settled(&lab, 1).await.unwrap();
    strangers(&lab).await.unwrap();
    names(&lab).await.unwrap();
    ways_to_elsewhere(&lab).await.unwrap();
    until_held(&lab, 1, &before).await.unwrap();
    vanishing(&lab, &before).await.unwrap();
    links_of_others(&lab, &before).await.unwrap();
    ports_of_others(&lab, &before).await.unwrap();
    another_of_ours(&lab, &beside).await.unwrap();
    let elsewhere = pod_of_another_node(&lab);
    let (elsewhere, full) = tokio::join!(elsewhere, full_subnet(&lab));
    elsewhere.unwrap();
    full.unwrap();
    until_held(&lab, 1, &before).await.unwrap();
    healthy(&lab, &beside).await.unwrap();
}

/// Another user, also if somebody opened the socket to everybody.
async fn strangers(lab: &Lab) -> Result<()> {
    let pod = announce(lab, "dual/stranger", 1).await?;
    make_sandbox(lab, &pod).await?;
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let ask = |verb| Call { through: &nobody, ..Call::new(verb, Some(&pod)) }.on(lab, 1);
    for verb in ["ADD", "DEL"] {
        ask(verb).await?.refused(IO_FAILURE, &["must run as root"])?;
    }
    let socket = lab.node(1)?.dir().join("run/atoll/cni.sock");
    std::fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
    for verb in ["ADD", "DEL", "STATUS"] {
        ask(verb).await?.refused(IO_FAILURE, &["from root only, not from user 65534"])?;
    }
    std::fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
    end_sandbox(lab, &pod).await
}

/// Names that lead out of a directory, or into somebody else's row.
async fn names(lab: &Lab) -> Result<()> {
    let good = unannounced("dual/named", 1)?;
    let pod_name = |namespace: &str, name: &str| {
        let name = PodName { namespace: namespace.to_owned(), name: name.to_owned() };
        Pod { name, ..good.clone() }
    };
    let container = |id: &str| Pod { container_id: id.to_owned(), ..good.clone() };
    let ifname = |name: &str| Pod { ifname: name.to_owned(), ..good.clone() };
    let wrong = [
        (pod_name("dual", "../../etc/passwd"), "is not valid"),
        (pod_name("../dual", "p"), "is not valid"),
        (pod_name("dual", ".."), "is not valid"),
        (pod_name("dual", "p/q"), "is not valid"),
        (container("../../../etc/passwd"), "container id"),
        (ifname("../eth0"), "interface name"),
    ];
    for (pod, mentions) in wrong {
        let answer = add(lab, &pod).await?;
        answer.refused(INVALID_ENVIRONMENT, &[mentions])?;
    }
    // A DEL does not need the pod's name, so it does not look at it.
    del(lab, &pod_name("dual", "../../etc/passwd")).await?.done().map(drop)
}

/// Paths that are no sandbox: what would be made there would be the node's.
async fn ways_to_elsewhere(lab: &Lab) -> Result<()> {
    let pod = announce(lab, "dual/elsewhere", 1).await?;
    let agent = lab.node(1)?.agent().pid().unwrap_or_default();
    on_node(lab, 1, &["mkfifo", "/run/pipe"]).await?;
    for (path, mentions) in [
        (format!("/proc/{agent}/ns/net"), "the node's own network namespace"),
        ("/etc/hostname".to_owned(), "cannot enter /etc/hostname"),
        ("/run/pipe".to_owned(), "cannot enter /run/pipe"),
        ("/run/netns/../netns/none".to_owned(), "there is no network namespace"),
    ] {
        let variables = vec![("CNI_NETNS", path)];
        let call = Call { variables, ..Call::new("ADD", Some(&pod)) };
        call.on(lab, 1).await?.refused(PLUMBING, &[mentions])?;
    }
    Ok(())
}

/// A sandbox that goes away before, or at any moment of, an ADD.
async fn vanishing(lab: &Lab, before: &Held) -> Result<()> {
    let pod = announce(lab, "dual/vanishing", 1).await?;
    add(lab, &pod).await?.refused(PLUMBING, &["there is no network namespace"])?;
    until_held(lab, 1, before).await?;
    for round in 0..8 {
        let again =
            Pod { container_id: format!("{round}{}", &pod.container_id[1..]), ..pod.clone() };
        make_sandbox(lab, &again).await?;
        let vanish = async {
            tokio::time::sleep(Duration::from_millis(15 * round)).await;
            end_sandbox(lab, &again).await
        };
        let (answer, vanished) = tokio::join!(add(lab, &again), vanish);
        vanished?;
        // Done it may be as well: it is the runtime's business what it then does.
        let answer = answer?;
        ensure!([0, TRY_AGAIN_LATER, PLUMBING].contains(&answer.code()), "{}", answer.printed);
        if !answer.is_done {
            until_held(lab, 1, before).await?;
        }
        del(lab, &again).await?.done()?;
        until_held(lab, 1, before).await?;
    }
    Ok(())
}

/// A link of the name that the pod's would have.
async fn links_of_others(lab: &Lab, before: &Held) -> Result<()> {
    let pod = announce(lab, "dual/linked", 1).await?;
    make_sandbox(lab, &pod).await?;
    let name = host_end(&pod);
    let theirs = ["ip", "link", "add", &name, "type", "veth", "peer", "name", "theirs"];
    on_node(lab, 1, &theirs).await?;
    let with_theirs = held(lab, 1).await?;
    add(lab, &pod).await?.refused(PLUMBING, &[&name, "was not made for this container"])?;
    until_held(lab, 1, &with_theirs).await?;
    del(lab, &pod).await?.done()?;
    until_held(lab, 1, &with_theirs).await?;
    on_node(lab, 1, &["ip", "link", "delete", &name]).await?;
    add(lab, &pod).await?.done()?;
    end_pod(lab, &pod).await?;
    until_held(lab, 1, before).await
}

/// A port of that name on the bridge.
async fn ports_of_others(lab: &Lab, before: &Held) -> Result<()> {
    let pod = announce(lab, "dual/ported", 1).await?;
    make_sandbox(lab, &pod).await?;
    let name = host_end(&pod);
    let set = ["--", "set", "Interface", &name, "type=internal"];
    on_node(lab, 1, &[["ovs-vsctl", "add-port", "br-int", &name].as_slice(), &set].concat())
        .await?;
    let with_theirs = held(lab, 1).await?;
    add(lab, &pod).await?.refused(PLUMBING, &[&name, "of somebody else"])?;
    del(lab, &pod).await?.done()?;
    until_held(lab, 1, &with_theirs).await?;
    on_node(lab, 1, &["ovs-vsctl", "del-port", "br-int", &name]).await?;
    end_pod(lab, &pod).await?;
    until_held(lab, 1, before).await
}

/// Another container of ours whose id begins alike: the first one keeps what it has.
async fn another_of_ours(lab: &Lab, beside: &Pod) -> Result<()> {
    let first = run_pod(lab, "dual/first", 1).await?;
    let second = announce(lab, "dual/second", 1).await?;
    let container_id = format!("{}{}", &first.container_id[..12], &second.container_id[12..]);
    let second = Pod { container_id, ..second };
    make_sandbox(lab, &second).await?;
    let with_first = held(lab, 1).await?;
    let of_first = format!("of container {}", first.container_id);
    add(lab, &second).await?.refused(PLUMBING, &[&of_first])?;
    del(lab, &second).await?.done()?;
    until_held(lab, 1, &with_first).await?;
    wait_until(SOON, "the first one to talk", || pings(lab, &first, beside)).await?;
    end_sandbox(lab, &second).await?;
    end_pod(lab, &first).await
}

async fn pod_of_another_node(lab: &Lab) -> Result<()> {
    let pod = announce(lab, "dual/far", 2).await?;
    let here = Pod { node: 1, ..pod };
    make_sandbox(lab, &here).await?;
    let mentions = ["dual/far is not known on node n1", "as a pod of this node"];
    add(lab, &here).await?.refused(TRY_AGAIN_LATER, &mentions)?;
    end_sandbox(lab, &here).await
}

/// Five pods have all there is of eight addresses; the sixth is served when one ends.
async fn full_subnet(lab: &Lab) -> Result<()> {
    create_subnets(lab, &[("small", "10.2.0.0/29", "small")]).await?;
    let mut pods = Vec::new();
    for number in 1..=6 {
        pods.push(announce(lab, &format!("small/p{number}"), 1).await?);
    }
    let last = &pods[5];
    make_sandbox(lab, last).await?;
    add(lab, last).await?.refused(TRY_AGAIN_LATER, &["small/p6 has no address", "small"])?;
    let Pod { name, uid, .. } = &pods[0];
    lab.store()?.delete_pod(&name.namespace, &name.name, uid).await?;
    wait_until(SOON, "the waiting pod to be served", async || {
        add(lab, last).await?.done().map(drop)
    })
    .await?;
    end_pod(lab, last).await
}
