//! What an operator does to ovn-central.

use std::time::Duration;

use atoll_tests::lab::{Lab, Options, PodOptions, ScopedLab};
use atoll_tests::people::create_subnets;
use atoll_tests::wait::wait_until;
use serde_json::Value;
use tokio::process::Command;

use crate::queries::{asked, told, typed};
use crate::{REFUSED, USAGE, expect, lab_name};

const SOON: Duration = Duration::from_secs(30);

/// The members, of which one serves and the others copy it.
async fn warm(lab: &Lab) -> (String, Vec<String>) {
    wait_until(SOON, "one that serves and two copies", || async {
        let members = asked(lab, "ovn status").await;
        let of = |what: &str| -> Vec<String> {
            let members = members.as_array().unwrap().iter();
            let those = members.filter(|it| it["central"][what] == Value::Bool(true));
            those.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
        };
        let (serving, copies) = (of("serving"), of("copying"));
        anyhow::ensure!(serving.len() == 1 && copies.len() == 2, "{members}");
        Ok((serving[0].clone(), copies))
    })
    .await
    .unwrap()
}

/// Everything but the commands would heal it: a hand's damage to the serving northbound.
async fn damage(lab: &Lab, serving: &str) {
    let member = lab.members().find(|it| it.name() == serving).unwrap();
    let mut command = Command::new("ovn-nbctl");
    command.args(["--db", &member.databases().0, "lsp-set-addresses", "a.blue", "unknown"]);
    assert!(command.status().await.unwrap().success());
}

#[tokio::test]
async fn ovn_is_compared_paused_rebuilt_backed_up_and_handed_over() {
    let options = Options { members: 3, nodes: 1, ..Options::new(lab_name()) };
    let lab = ScopedLab::up(options).await.unwrap();
    create_subnets(&lab, &[("blue", "10.1.0.0/16", "blue")]).await.unwrap();
    lab.run_pod(PodOptions::new("blue/a".parse().unwrap(), 1)).await.unwrap();
    let (serving, copies) = warm(&lab).await;
    assert_eq!(asked(&lab, "ovn diff").await["changes"], Value::Array(vec![]));

    assert!(told(&lab, "ovn pause").await.contains("until `atollctl ovn resume`"));
    wait_until(SOON, "a pause on all members", || async {
        let members = asked(&lab, "ovn status").await;
        let paused = |it: &Value| it["projection"]["paused"] == Value::Bool(true);
        anyhow::ensure!(members.as_array().unwrap().iter().all(paused), "{members}");
        Ok(())
    })
    .await
    .unwrap();
    damage(&lab, &serving).await;
    let diff = told(&lab, "ovn diff").await;
    assert!(diff.contains("update Logical_Switch_Port a.blue"), "{diff}");
    assert!(diff.contains("  addresses: ") && diff.contains(" -> "), "{diff}");
    // The other one is the revision that NB_Global names: the pause itself is newer.
    assert!(diff.contains(&format!("{serving}: 2 changes to be equal")), "{diff}");
    expect(&typed(&lab, "ovn sync").await, REFUSED, "paused");
    expect(&typed(&lab, &format!("ovn rebuild {}", copies[0])).await, REFUSED, "resume` first");
    told(&lab, "ovn resume").await;
    wait_until(SOON, "the damage to be healed", || async {
        let diff = asked(&lab, "ovn diff").await;
        anyhow::ensure!(diff["changes"] == Value::Array(vec![]), "{diff}");
        Ok(())
    })
    .await
    .unwrap();
    let synced = told(&lab, "ovn sync").await;
    assert_eq!(synced.matches("is equal to revision").count(), 3, "{synced}");

    let refused = typed(&lab, &format!("ovn rebuild {serving}")).await;
    expect(&refused, REFUSED, "this member serves the nodes");
    let rebuilt = told(&lab, &format!("ovn rebuild {}", copies[0])).await;
    assert!(rebuilt.contains("rebuilt in"), "{rebuilt}");
    warm(&lab).await;

    let directory = tempfile::tempdir().unwrap();
    let backup = format!("ovn backup {}", directory.path().join("ovn").display());
    let written = told(&lab, &backup).await;
    assert!(written.contains("OVN_Northbound of") && written.contains("OVN_Southbound of"));
    expect(&typed(&lab, &backup).await, REFUSED, "is there already; name another directory");

    // The leader hears a moment later than we do that it copies; until then it says so.
    wait_until(SOON, "the leader to take the order", || async {
        let said = typed(&lab, &format!("ovn hand-over {}", copies[1])).await;
        anyhow::ensure!(said.status == 0 || said.err.contains("has no copy"), "{said:?}");
        anyhow::ensure!(said.out.contains("serves the nodes, after"), "{said:?}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(warm(&lab).await.0, copies[1]);
    lab.run_pod(PodOptions::new("blue/b".parse().unwrap(), 1)).await.unwrap();
    expect(&typed(&lab, "ovn hand-over m9").await, REFUSED, "no member m9 answers; those that do");
    expect(&typed(&lab, "ovn sync --accept many").await, USAGE, "many");
}
