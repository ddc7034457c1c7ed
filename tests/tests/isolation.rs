//! Who reaches the pods of a private subnet: with real packets, in both families, on one node and on
//! two, while the rules change. Needs root.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

#[path = "isolation/flood.rs"]
mod flood;
#[path = "isolation/streams.rs"]
mod streams;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{Lab, Options, Place, Pod, PodOptions, ScopedLab, Space};
use atoll_tests::people::atollctl;
use atoll_tests::report::Report;
use atoll_tests::wait::wait_until;
use futures::future::try_join_all;
use uuid::Uuid;

/// From the command to flows on all nodes.
const SETTLED: Duration = Duration::from_secs(5);

const OUTSIDE: [&str; 2] = ["203.0.113.1", "fd99::1"];

/// The pods, and the node that each is on.
const PODS: [(&str, u8); 6] =
    [("red/a", 1), ("red/b", 2), ("friend/c", 1), ("friend/d", 2), ("green/e", 1), ("green/f", 2)];

/// Creates or changes a subnet for the namespace of its name; `more` are further lines of its spec.
async fn subnet(lab: &Lab, name: &str, number: u8, more: &str) -> Result<()> {
    let said = atollctl(lab, &["create", "-f", "-"], &manifest(name, number, more)).await?;
    ensure!(said.status == 0, "atollctl create: {}", said.err);
    Ok(())
}

fn manifest(name: &str, number: u8, more: &str) -> String {
    format!(
        "apiVersion: kubeovn.io/v1\nkind: Subnet\nmetadata: {{ name: {name} }}\nspec:\n  \
         cidrBlock: 10.{number}.0.0/16,fd00:{number}::/64\n  namespaces: [{name}]\n  \
         natOutgoing: true\n{more}"
    )
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let address = |text: &String| text.split('/').next().unwrap().parse().unwrap();
    pod.addresses.iter().map(address).collect()
}

/// Whether one of three probes is answered.
async fn reaches(from: &Space, target: &str) -> Result<bool> {
    let mut command = from.command("ping");
    command.args(["-n", "-c", "3", "-i", "0.1", "-W", "1", target]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    Ok(command.status().await.context("ping cannot be started")?.success())
}

/// What may talk to a private subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    Open,
    Private,
    PrivateButFriend,
}

/// Whether the pods of two subnets reach each other.
fn talk(rules: Rules, one: &str, other: &str) -> bool {
    let pair = [one, other];
    match rules {
        Rules::Open => true,
        _ if one == other || !pair.contains(&"red") => true,
        Rules::Private => false,
        Rules::PrivateButFriend => pair.contains(&"friend"),
    }
}

fn namespace(pod: &Pod) -> String {
    pod.name.to_string().split('/').next().unwrap().to_owned()
}

/// Every pair in both families, with nodes and the outside: how many were probed, and the answers
/// that were not as expected.
async fn differing(lab: &Lab, pods: &[Pod], rules: Rules) -> Result<(usize, Vec<String>)> {
    let mut probes = Vec::new();
    for from in pods {
        let space = lab.space(&Place::Pod(from.name.clone()))?;
        for to in pods.iter().filter(|to| to.name != from.name) {
            let expected = talk(rules, &namespace(from), &namespace(to));
            for target in addresses(to) {
                probes.push((from.name.to_string(), space.clone(), target.to_string(), expected));
            }
        }
        for target in OUTSIDE {
            probes.push((from.name.to_string(), space.clone(), target.to_owned(), true));
        }
    }
    for node in lab.nodes() {
        for target in pods.iter().flat_map(addresses) {
            probes.push((node.name(), node.space()?, target.to_string(), true));
        }
    }
    let mut differing = Vec::new();
    for some in probes.chunks(16) {
        let ask = |(name, space, target, expected): &(String, Space, String, bool)| {
            let (name, space, target, expected) =
                (name.clone(), space.clone(), target.clone(), *expected);
            async move {
                let found = reaches(&space, &target).await?;
                anyhow::Ok((found != expected).then(|| format!("{name} → {target}: {found}")))
            }
        };
        differing.extend(try_join_all(some.iter().map(ask)).await?.into_iter().flatten());
    }
    Ok((probes.len(), differing))
}

/// Waits until the rules hold between one pod and two others, then looks at everything; says how much
/// that was.
async fn becomes(lab: &Lab, pods: &[Pod], rules: Rules) -> Result<usize> {
    let [red, friend, green] = ["red/b", "friend/c", "green/e"]
        .map(|name| pods.iter().find(|pod| pod.name.to_string() == name).unwrap());
    let from = lab.space(&Place::Pod(red.name.clone()))?;
    wait_until(SETTLED, "the new rules", || async {
        let probes = [friend, green].into_iter().flat_map(|other| {
            let expected = talk(rules, "red", &namespace(other));
            addresses(other).into_iter().map(move |target| (target.to_string(), expected))
        });
        // Side by side: what is not answered takes a second to tell.
        let ask = |(target, expected): (String, bool)| {
            let from = &from;
            async move {
                let found = reaches(from, &target).await?;
                ensure!(found == expected, "red/b → {target}: {found}");
                Ok(())
            }
        };
        try_join_all(probes.map(ask)).await?;
        Ok(())
    })
    .await?;
    let (probed, differing) = differing(lab, pods, rules).await?;
    ensure!(differing.is_empty(), "under {rules:?}: {differing:#?}");
    Ok(probed)
}

/// Requirement A5: the border of a private subnet, as it is drawn, moved and taken away.
#[tokio::test]
async fn a_private_subnet_talks_to_itself_its_friends_the_nodes_and_the_outside() {
    let lab = up(1).await.unwrap();
    let mut report = Report::new("isolation", "make isolation");
    border(&lab, &mut report).await.unwrap();
    report.save().unwrap();
}

/// A network of two nodes.
async fn up(members: u8) -> Result<ScopedLab> {
    let name = format!("i{}", &Uuid::new_v4().simple().to_string()[..8]).parse()?;
    ScopedLab::up(Options { members, nodes: 2, ..Options::new(name) }).await
}

async fn border(lab: &Lab, report: &mut Report) -> Result<()> {
    for (name, number) in [("red", 41), ("friend", 42), ("green", 43)] {
        subnet(lab, name, number, "").await?;
    }
    let mut pods = Vec::new();
    for (name, node) in PODS {
        pods.push(lab.run_pod(PodOptions::new(name.parse()?, node)).await?);
    }
    let open = becomes(lab, &pods, Rules::Open).await;
    let mut probed = open.context("before there are rules")?;
    let friend = "  private: true\n  allowSubnets: [10.42.0.0/16, \"fd00:42::/64\"]\n";
    let steps = [
        ("private, with an allowed subnet", friend, Rules::PrivateButFriend),
        ("the allowance is revoked", "  private: true\n", Rules::Private),
        ("it is given back", friend, Rules::PrivateButFriend),
        ("no longer private", "", Rules::Open),
    ];
    for (what, more, rules) in steps {
        let begun = Instant::now();
        subnet(lab, "red", 41, more).await?;
        probed += becomes(lab, &pods, rules).await.context(what)?;
        report.note(
            &format!("{what}: until every pair is as it should be"),
            "s",
            begun.elapsed().as_secs_f64(),
        );
    }
    let probed = f64::from(u32::try_from(probed)?);
    report.note("ways that were probed and as they should be", "ways", probed);
    Ok(())
}
