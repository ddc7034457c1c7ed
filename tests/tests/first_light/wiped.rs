//! Members whose disks are wiped.

use crate::*;

/// Promise 1 and §11: never a second cluster, nothing deleted for an empty store.
#[tokio::test]
async fn wiped_disks_make_no_second_cluster_and_take_nothing_away() {
    let lab = up(3, 2).await.unwrap();
    let mut report = report();
    wiped(&lab, &mut report).await.unwrap();
    finish(&report).unwrap();
}

async fn wiped(lab: &Lab, report: &mut Report) -> Result<()> {
    create_subnets(lab, &[("keep", "10.50.0.0/16", "keep")]).await?;
    let a = run_pod(lab, "keep/a", 1).await?;
    let b = run_pod(lab, "keep/b", 2).await?;
    let (from, target) = (space(lab, &a)?, addresses(&b)[0].to_string());
    // A pod is ready when its own node has its flows; the other node may be a moment behind, and
    // a probe that was lost then is none of running traffic.
    wait_until(Duration::from_secs(20), "a to reach b", || ping(&from, &target, 56)).await?;
    let flow = Flow::start(&from, &target)?;
    // The serving central's member keeps its disk, so that its NB can be looked at throughout.
    let survivor = central_of(&lab.status().await?)?;
    let wiped: Vec<u8> = (1..=3).filter(|member| *member != survivor).collect();
    let before = nb_rows(lab, survivor).await?;
    for member in &wiped {
        lab.fault(FaultVerb::Wipe, FaultTarget::Member(*member)).await?;
    }
    for member in &wiped {
        lab.fault(FaultVerb::Restart, FaultTarget::Member(*member)).await?;
    }
    for member in &wiped {
        waits(lab, *member, "quorum").await?;
    }
    ensure!(nb_rows(lab, survivor).await? == before, "rows of NB changed");
    let known = cluster_of(lab, survivor).await?;
    ensure!(known.is_some(), "the member that kept its disk forgot its cluster");
    let anew = formed_anew(lab, known.as_deref()).await?;
    report.claim(
        "two disks wiped: members in another cluster",
        "members",
        to_f64(anew),
        Target::Exactly(0.0),
    );

    lab.fault(FaultVerb::Wipe, FaultTarget::Member(survivor)).await?;
    lab.fault(FaultVerb::Restart, FaultTarget::Member(survivor)).await?;
    for member in 1..=3 {
        let why = waits(lab, member, "put back a disk").await?;
        ensure!(why.contains("remove"), "m{member} does not say how to begin anew: {why}");
    }
    let said = atollctl(lab, &["status"], "").await?;
    ensure!(
        said.out.contains("put back a disk"),
        "atollctl status does not say what to do: {}",
        said.out
    );
    let anew = formed_anew(lab, known.as_deref()).await?;
    report.claim(
        "three disks wiped: members in another cluster",
        "members",
        to_f64(anew),
        Target::Exactly(0.0),
    );
    let seen = flow.stop().await?;
    report.claim("disks wiped: probes lost", "probes", to_f64(seen.lost), Target::Exactly(0.0));
    report.details(seen.missing);
    for pod in [&a, &b] {
        ping(&lab.node(1)?.space()?, &addresses(pod)[0].to_string(), 56).await?;
    }
    Ok(())
}

/// What a waiting member says of itself, once it has seen what there is to see.
async fn waits(lab: &Lab, member: u8, word: &str) -> Result<String> {
    let name = format!("m{member}");
    wait_until(Duration::from_secs(30), &format!("{name} to say what it waits for"), || async {
        let own = member_says(lab, member).await?;
        ensure!(own["cluster"].is_null(), "{name} is in a cluster");
        let why = own["why"].as_str().unwrap_or_default();
        ensure!(why.contains(word), "it says: {why}");
        Ok(why.to_owned())
    })
    .await
}

/// What one member says of itself.
async fn member_says(lab: &Lab, member: u8) -> Result<serde_json::Value> {
    let name = format!("m{member}");
    let own = members_say(lab).await?.into_iter().find(|it| it["name"] == name.as_str());
    own.with_context(|| format!("{name} does not answer"))
}

/// The cluster that a member says it belongs to.
async fn cluster_of(lab: &Lab, member: u8) -> Result<Option<String>> {
    let own = member_says(lab, member).await?;
    Ok(own["cluster"].as_str().map(ToOwned::to_owned))
}

/// How many members say that they belong to a cluster other than `known`.
async fn formed_anew(lab: &Lab, known: Option<&str>) -> Result<u64> {
    let mut anew = 0;
    for member in 1..=3 {
        let cluster = cluster_of(lab, member).await?;
        anew += u64::from(cluster.is_some() && cluster.as_deref() != known);
    }
    Ok(anew)
}

/// Names of the rows in one member's NB, by table.
async fn nb_rows(lab: &Lab, member: u8) -> Result<Vec<String>> {
    let (nb, _) = lab.member(member)?.databases();
    let mut rows = Vec::new();
    for table in ["Logical_Switch", "Logical_Switch_Port", "Logical_Router_Port", "Port_Group"] {
        let mut command = tokio::process::Command::new("ovn-nbctl");
        command.args(["--db", &nb, "--timeout=5", "--bare", "--columns=_uuid,name", "list", table]);
        let mut lines: Vec<String> =
            run(&mut command).await?.lines().map(ToOwned::to_owned).collect();
        lines.sort();
        rows.extend(lines);
    }
    Ok(rows)
}
