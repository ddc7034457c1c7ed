//! `atoll-node status`: what holds, and whatever somebody takes away behind the agent's back.

use anyhow::{Context as _, Result, ensure};
use atoll_tests::kubelet::{host_end, on_node, run_pod, until_bound};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab};
use atoll_tests::people::{Said, program, say};
use atoll_tests::wait::wait_until;
use serde_json::Value;

use super::{SOON, up};

/// A hand, its command, and the concern that it hurts.
const HANDS: [(&str, &str); 4] = [
    ("ip route del 10.1.0.0/16 dev ovn0", "ovn0"),
    ("iptables -t mangle -F ATOLL-BORDER", "packet filter"),
    ("ovs-vsctl remove Open_vSwitch . external_ids ovn-encap-type", "Open vSwitch"),
    ("ovs-vsctl del-port mirror0", "mirror0"),
];

#[tokio::test]
async fn a_node_says_what_holds_and_what_does_not() {
    let lab = up(1, 1).await;
    what_holds(&lab).await.unwrap();
}

async fn what_holds(lab: &Lab) -> Result<()> {
    let pod = run_pod(lab, "dual/here", 1).await?;
    until_bound(lab, &pod, true).await?;
    let holds = async || {
        let said = status(lab).await?;
        ensure!(said.status == 0, "{}{}", said.out, said.err);
        Ok(said)
    };
    let said = wait_until(SOON, "all of it to hold", holds).await?;
    ensure!(differing(&said)?.is_empty(), "{}", said.out);
    ensure!(said.out.contains("1 decided, 1 plugged in, 1 installed"), "{}", said.out);

    // It would put everything back.
    lab.fault(FaultVerb::Kill, FaultTarget::Agent(1)).await?;
    for (hand, _) in HANDS {
        let words: Vec<&str> = hand.split(' ').collect();
        on_node(lab, 1, &words).await?;
    }
    on_node(lab, 1, &["ovs-vsctl", "del-port", &host_end(&pod)]).await?;
    let said = status(lab).await?;
    ensure!(said.status == 1, "{}", said.out);
    let differs = differing(&said)?;
    let hurt = HANDS.iter().map(|(_, concern)| *concern).chain(["agent", "pods"]);
    for concern in hurt {
        ensure!(differs.iter().any(|it| it == concern), "{concern} holds: {}", said.out);
    }
    ensure!(differs.len() == HANDS.len() + 2, "more than was hurt: {}", said.out);
    ensure!(said.out.contains("no route to 10.1.0.0/16"), "{}", said.out);
    ensure!(said.out.contains("dual/here: the store has it plugged in by"), "{}", said.out);
    Ok(())
}

/// The concerns that do not hold.
fn differing(said: &Said) -> Result<Vec<String>> {
    let printed: Vec<Value> = serde_json::from_str(&said.out).context("no list")?;
    let differs = |it: &&Value| it["differs"].as_array().is_some_and(|list| !list.is_empty());
    let names = printed.iter().filter(differs);
    Ok(names.filter_map(|it| it["concern"].as_str().map(ToOwned::to_owned)).collect())
}

async fn status(lab: &Lab) -> Result<Said> {
    let node = lab.node(1)?;
    let mut command = node.space()?.command(program("atoll-node"));
    command.args(["status", "-o", "json", "--config"]).arg(node.dir().join("atoll-node.toml"));
    say(&mut command, "").await
}
