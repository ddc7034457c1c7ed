//! A store that lacks most of what a node has, and does not say why: the node keeps it until somebody who
//! has looked lets it go.

use anyhow::{Result, ensure};
use atoll_tests::kubelet::{host_end, on_node, run_pod, until_bound};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab, Pod};
use atoll_tests::people::{atollctl, create_subnets, program, say};
use atoll_tests::wait::wait_until;

use super::paused::said;
use super::{SOON, up};

const SUBNETS: [&str; 5] = ["b1", "b2", "b3", "b4", "b5"];

#[tokio::test]
async fn a_node_keeps_what_too_much_is_gone_of_until_it_is_released() {
    let lab = up(1, 1).await;
    keeps(&lab).await.unwrap();
}

async fn keeps(lab: &Lab) -> Result<()> {
    let ranges = [21, 22, 23, 24, 25].map(|number| format!("10.{number}.0.0/16"));
    for (name, range) in SUBNETS.iter().zip(&ranges) {
        create_subnets(lab, &[(name, range, name)]).await?;
    }
    let mut pods = Vec::new();
    for name in ["dual/a", "dual/b", "dual/c", "dual/d"] {
        pods.push(run_pod(lab, name, 1).await?);
    }
    for pod in &pods {
        until_bound(lab, pod, true).await?;
    }
    wait_until(SOON, "routes to all subnets", || async {
        let routes = routes(lab).await?;
        ensure!(routes.contains("10.21.0.0/16") && routes.contains("10.25.0.0/16"), "{routes}");
        Ok(())
    })
    .await?;

    lab.fault(FaultVerb::Kill, FaultTarget::Agent(1)).await?;
    for pod in &pods {
        lab.store()?.lose_pod(pod).await?;
    }
    for name in SUBNETS {
        let deleted = atollctl(lab, &["delete", "subnet", name], "").await?;
        ensure!(deleted.status == 0, "{deleted:?}");
    }
    for _ in 0..2 {
        lab.fault(FaultVerb::Restart, FaultTarget::Agent(1)).await?;
        wait_until(SOON, "the node to say what it keeps", || async {
            let status = status(lab).await?;
            for words in
                ["kept since", "4 pods (dual/", "5 subnets (b1, b2", "`atoll-node release`"]
            {
                ensure!(status.contains(words), "{words}: {status}");
            }
            let rollout = atollctl(lab, &["ovn", "rollout"], "").await?;
            ensure!(rollout.out.contains("n1: kept since"), "{rollout:?}");
            Ok(())
        })
        .await?;
        plugged(lab, &pods, true).await?;
        let routes = routes(lab).await?;
        ensure!(routes.contains("10.21.0.0/16") && routes.contains("10.25.0.0/16"), "{routes}");
    }
    let more = run_pod(lab, "dual/more", 1).await?;
    until_bound(lab, &more, true).await?;

    ensure!(said(lab, "release").await?.contains("released: 4 pods"), "not released");
    wait_until(SOON, "what was kept to go", || async {
        plugged(lab, &pods, false).await?;
        let routes = routes(lab).await?;
        ensure!(!routes.contains("10.21.0.0/16") && !routes.contains("10.25.0.0/16"), "{routes}");
        let status = status(lab).await?;
        ensure!(!status.contains("kept since"), "{status}");
        let rollout = atollctl(lab, &["ovn", "rollout"], "").await?;
        ensure!(!rollout.out.contains("kept since"), "{rollout:?}");
        Ok(())
    })
    .await?;
    plugged(lab, &[more], true).await?;
    ensure!(said(lab, "release").await?.contains("nothing is held back"), "something is");
    Ok(())
}

async fn routes(lab: &Lab) -> Result<String> {
    on_node(lab, 1, &["ip", "route"]).await
}

/// Whether all of them, or none, have a port.
async fn plugged(lab: &Lab, pods: &[Pod], are: bool) -> Result<()> {
    let ports = on_node(lab, 1, &["ovs-vsctl", "list-ports", "br-int"]).await?;
    for pod in pods {
        ensure!(ports.contains(&host_end(pod)) == are, "{}: {ports}", pod.name);
    }
    Ok(())
}

async fn status(lab: &Lab) -> Result<String> {
    let node = lab.node(1)?;
    let mut command = node.space()?.command(program("atoll-node"));
    command.args(["status", "--config"]).arg(node.dir().join("atoll-node.toml"));
    Ok(say(&mut command, "").await?.out)
}
