//! `atollctl trace` in a network with a private subnet, one with a rule of its user, and the
//! outside: which of the three witnesses says what, against real OVN and Open vSwitch. Needs root.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]
#![allow(clippy::print_stdout, reason = "how long a trace takes is for people too")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_tests::kubelet::until_bound;
use atoll_tests::lab::{
    CentralMode, FaultTarget, FaultVerb, Lab, Options, PodOptions, ScopedLab, VIEWER,
};
use atoll_tests::people::{Said, atollctl, atollctl_as};
use atoll_tests::wait::wait_until;
use serde_json::Value;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);

const OUTSIDE: &str = "203.0.113.1";

/// The pods, and the node that each is on.
const PODS: [(&str, u8); 6] =
    [("open/a", 1), ("open/b", 2), ("open/c", 1), ("red/d", 1), ("ruled/e", 1), ("ruled/f", 2)];

async fn network(central: CentralMode) -> Result<ScopedLab> {
    let name = format!("x{}", &Uuid::new_v4().simple().to_string()[..8]).parse()?;
    let options = Options { members: 3, nodes: 2, central, ..Options::new(name) };
    let lab = ScopedLab::up(options).await?;
    let subnets = [
        ("open", 1, ""),
        ("red", 2, "  private: true\n"),
        (
            "ruled",
            3,
            "  acls: [{ direction: to-lport, priority: 2000, match: \"tcp.dst == 25\", action: drop }]\n",
        ),
    ];
    let manifests = subnets.map(|(name, number, more)| {
        format!(
            "apiVersion: kubeovn.io/v1\nkind: Subnet\nmetadata: {{ name: {name} }}\nspec:\n  \
             cidrBlock: 10.{number}.0.0/16,fd00:{number}::/64\n  namespaces: [{name}]\n  \
             natOutgoing: true\n{more}"
        )
    });
    let manifests = manifests.join("---\n");
    let said = atollctl(&lab, &["create", "-f", "-", "--wait", "30"], &manifests).await?;
    ensure!(said.status == 0, "atollctl create: {}", said.err);
    for (pod, node) in PODS {
        let pod = lab.run_pod(PodOptions::new(pod.parse()?, node)).await?;
        // The state speaks of what nodes have told.
        until_bound(&lab, &pod, true).await?;
    }
    Ok(lab)
}

async fn typed(lab: &Lab, words: &str) -> Result<Said> {
    let words = format!("trace {words}");
    atollctl(lab, &words.split_whitespace().collect::<Vec<_>>(), "").await
}

/// Checks the verdict of all, and what each witness says.
async fn expect(lab: &Lab, words: &str, verdict: &str, legs: [(&str, &str); 3]) -> Result<()> {
    let said = typed(lab, &format!("{words} -o json")).await?;
    let told: Value = serde_json::from_str(&said.out).with_context(|| format!("{said:?}"))?;
    for (leg, (verdict, why)) in told["legs"].as_array().context("no legs")?.iter().zip(legs) {
        let is_right = leg["verdict"] == verdict && leg["why"].as_str().unwrap().contains(why);
        ensure!(is_right, "{words}: expected {verdict}: {why} in {leg:#}");
    }
    ensure!(told["verdict"] == verdict, "{words}: {told:#}");
    ensure!(said.status == i32::from(verdict == "drops"), "{said:?}");
    Ok(())
}

/// What a tunnel's first packet waits for is found out by one that is sent.
async fn soon(lab: &Lab, words: &str, verdict: &str, legs: [(&str, &str); 3]) {
    wait_until(SOON, words, || expect(lab, words, verdict, legs)).await.unwrap();
}

#[tokio::test]
async fn each_witness_says_what_drops_a_packet() {
    let lab = network(CentralMode::Warm).await.unwrap();
    let begun = Instant::now();
    expect(
        &lab,
        "open/a open/c --tcp 80",
        "passes",
        [
            ("passes", "pod open/c on node n1 receives it, inside of subnet open"),
            ("passes", "comes out at port c.open"),
            ("passes", "goes out at port c.open"),
        ],
    )
    .await
    .unwrap();
    println!("one trace took {:?}", begun.elapsed());

    let tunnel = ("passes", "leaves by the tunnel to 172.30.0.102");
    let b = [("passes", "pod open/b on node n2"), ("passes", "comes out at port b.open"), tunnel];
    soon(&lab, "open/a open/b", "passes", b).await;
    soon(&lab, "open/a open/b -6 --udp 53", "passes", b).await;

    // The rule is on this node, and each witness names it in its own way.
    let drops = [
        ("drops", "(rule to-others, from-lport 1000)"),
        ("drops", "rule to-others of subnet red (from-lport 1000: drop) drops it"),
        ("drops", "(ls_in_acl"),
    ];
    expect(&lab, "red/d open/a --tcp 80", "drops", drops).await.unwrap();
    let drops = [
        ("drops", "(rule from-others, to-lport 1000)"),
        ("drops", "rule from-others of subnet red (to-lport 1000: drop) drops it"),
        ("drops", "(ls_out_acl"),
    ];
    expect(&lab, "open/a red/d -6", "drops", drops).await.unwrap();

    // A user's rule: the state cannot read it, and the port decides.
    let may = ("depends", "1 of subnet ruled's own rules");
    let drops =
        [may, ("drops", "acls[0] of subnet ruled (to-lport 2000: drop)"), ("drops", "(ls_out_acl")];
    expect(&lab, "open/a ruled/e --tcp 25", "drops", drops).await.unwrap();
    let passes = [may, ("passes", "port e.ruled"), ("passes", "goes out at port e.ruled")];
    expect(&lab, "open/a ruled/e --tcp 80", "passes", passes).await.unwrap();

    let leaves = [
        ("passes", "leaves by its own node: n1 as 172.31.0.101"),
        ("passes", "comes out at port node-n1"),
        ("passes", "goes out at port node-n1"),
    ];
    expect(&lab, &format!("open/a {OUTSIDE} --tcp 443"), "passes", leaves).await.unwrap();
    let answers = [
        ("passes", "the router answers as 10.2.0.1"),
        ("passes", "comes out at port a.open"),
        ("passes", "goes out at port a.open"),
    ];
    expect(&lab, "open/a 10.2.0.1", "passes", answers).await.unwrap();
    let nobody = [
        ("drops", "nobody has 10.3.77.77 in subnet ruled"),
        ("drops", "does not know whose the address is"),
        ("unknown", "is handed to ovn-controller"),
    ];
    expect(&lab, "open/a 10.3.77.77", "drops", nobody).await.unwrap();

    silent(&lab).await.unwrap();
    people(&lab).await.unwrap();
}

/// A node that does not answer is said to, and the others are heard.
async fn silent(lab: &Lab) -> Result<()> {
    lab.fault(FaultVerb::Stop, FaultTarget::Agent(1)).await?;
    let words = "open/a open/c";
    let others = [("passes", "pod open/c"), ("passes", "port c.open")];
    let said = expect(lab, words, "unknown", [others[0], others[1], ("unknown", "node n1 ")]).await;
    lab.fault(FaultVerb::Cont, FaultTarget::Agent(1)).await?;
    said?;
    let back = ("passes", "goes out at port c.open");
    wait_until(SOON, "the agent to answer again", || {
        expect(lab, words, "passes", [others[0], others[1], back])
    })
    .await
}

async fn people(lab: &Lab) -> Result<()> {
    let files = lab.certificate(VIEWER);
    let viewer = atollctl_as(lab, &files, &["trace", "open/a", "open/c"], "").await?;
    ensure!(viewer.status == 0 && viewer.out.contains("pod open/c on node n1"), "{viewer:?}");
    ensure!(viewer.out.matches("may not have a packet traced").count() == 2, "{viewer:?}");
    let full = typed(lab, "red/d open/a -v").await?;
    ensure!(full.status == 1 && full.err.contains("dropped, says: state, ovn, switch"), "{full:?}");
    for words in ["--- state", "from pod red/d: ", "ingress(dp=\"red\"", "Datapath actions: drop"] {
        ensure!(full.out.contains(words), "{words}: {}", full.out);
    }
    for (words, status, why) in [
        ("open/a open/nobody", 3, "pod open/nobody does not exist"),
        ("open/a b", 3, "written as NAMESPACE/NAME"),
        ("open/a open/b --tcp 0", 3, "0 is no port"),
        ("open/a open/b --tcp 80 --udp 80", 2, "cannot be used with"),
    ] {
        let said = typed(lab, words).await?;
        ensure!(said.status == status && said.err.contains(why), "{words}: {said:?}");
    }
    Ok(())
}

/// Where no member serves more than another, each can be asked.
#[tokio::test]
async fn databases_in_a_cluster_are_asked_too() {
    let lab = network(CentralMode::Cluster).await.unwrap();
    let drops = [
        ("drops", "(rule to-others, from-lport 1000)"),
        ("drops", "rule to-others of subnet red (from-lport 1000: drop) drops it"),
        ("drops", "(ls_in_acl"),
    ];
    soon(&lab, "red/d open/a --tcp 80", "drops", drops).await;
}
