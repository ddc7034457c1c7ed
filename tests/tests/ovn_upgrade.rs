//! OVN's next release, member by member, under running traffic. Needs root.
//!
//! One release is on this machine; of the next one there are the databases: the same with a column
//! more, which is what a release usually changes in them.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab, Options, Place, Pod, PodOptions, ScopedLab};
use atoll_tests::people::{atollctl, create_subnets};
use atoll_tests::probe::{Flow, ping};
use atoll_tests::wait::wait_until;
use serde_json::{Value, json};
use uuid::Uuid;

/// Above what any step took on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

const RELEASE: &str = "/usr/share/ovn";

/// A table of each database, and the column that the next release adds to it.
const FILES: [(&str, &str); 2] =
    [("ovn-nb.ovsschema", "NB_Global"), ("ovn-sb.ovsschema", "SB_Global")];
const COLUMN: &str = "of_the_next_release";

/// Copies first, the serving member last, as the README says.
#[tokio::test]
async fn ovn_is_upgraded_member_by_member_and_nobody_notices() {
    let name = format!("u{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap();
    let lab = ScopedLab::up(Options { members: 3, nodes: 2, ..Options::new(name) }).await.unwrap();
    upgrade(&lab).await.unwrap();
}

async fn upgrade(lab: &Lab) -> Result<()> {
    create_subnets(lab, &[("blue", "10.61.0.0/16,fd00:61::/64", "blue")]).await?;
    let one = lab.run_pod(PodOptions::new("blue/one".parse()?, 1)).await?;
    let far = lab.run_pod(PodOptions::new("blue/far".parse()?, 2)).await?;
    let space = lab.space(&Place::Pod(one.name.clone()))?;
    let targets: Vec<&str> = far.addresses.iter().filter_map(|it| it.split('/').next()).collect();
    for target in &targets {
        wait_until(DEADLINE, "the first answer", || ping(&space, target, 56)).await?;
    }
    let flows = targets.iter().map(|target| Flow::start(&space, target));
    let flows = flows.collect::<Result<Vec<_>>>()?;

    let first = serving(lab, 2).await?;
    let copies: Vec<u8> = (1..=3).filter(|member| *member != first).collect();
    for member in &copies {
        install(lab, *member).await?;
        // A copy that knows more than what it copies is as good as before.
        ensure!(serving(lab, 2).await? == first, "another member serves");
    }
    hand_over(lab, copies[0]).await?;
    // The last one cannot copy what it does not know, and says so.
    wait_until(DEADLINE, "the member of the older release to say so", || async {
        let text = error(lab, first).await?;
        ensure!(text.contains("schema"), "m{first} says: {text}");
        Ok(())
    })
    .await?;
    ensure!(serving(lab, 1).await? == copies[0], "another member serves");
    install(lab, first).await?;
    ensure!(serving(lab, 2).await? == copies[0], "another member serves");

    let new = lab.run_pod(PodOptions::new("blue/new".parse()?, 2)).await?;
    let target = address(&new);
    wait_until(DEADLINE, "a new pod", || ping(&space, target, 56)).await?;
    let seen = Flow::stop_all(flows).await?;
    ensure!(seen.sent > 100 && seen.lost == 0, "lost probes: {:#?}", seen.missing);
    Ok(())
}

fn address(pod: &Pod) -> &str {
    pod.addresses[0].split('/').next().unwrap()
}

/// The schemas of the release, with another version and a column more.
fn next_release(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    for (file, table) in FILES {
        let text = std::fs::read_to_string(Path::new(RELEASE).join(file))?;
        let mut schema: Value = serde_json::from_str(&text)?;
        schema["version"] = json!("99.0.0");
        schema["tables"][table]["columns"][COLUMN] = json!({ "type": "string" });
        // It is about the older text.
        schema.as_object_mut().context("no schema")?.remove("cksum");
        std::fs::write(directory.join(file), serde_json::to_string_pretty(&schema)?)?;
    }
    Ok(())
}

/// Gives a member the next release and starts it anew.
async fn install(lab: &Lab, member: u8) -> Result<()> {
    next_release(&lab.member(member)?.release_dir())?;
    lab.fault(FaultVerb::Restart, FaultTarget::Member(member)).await?;
    let what = format!("m{member} to have the next release");
    wait_until(DEADLINE, &what, || has_next_release(lab, member)).await
}

async fn statuses(lab: &Lab) -> Result<Vec<Value>> {
    let said = atollctl(lab, &["ovn", "status", "-o", "json"], "").await?;
    let members: Value = serde_json::from_str(&said.out)?;
    Ok(members.as_array().context("no list")?.clone())
}

/// The member that serves, once so many others are whole copies of it.
async fn serving(lab: &Lab, copies: usize) -> Result<u8> {
    wait_until(DEADLINE, "one that serves, and copies", || async {
        let members = statuses(lab).await?;
        let is = |it: &&Value, what: &str| it["central"][what] == true;
        let healthy = |it: &&Value| is(it, "healthy") && it["central"]["foreign"]["equal"] == true;
        let whole: Vec<&Value> = members.iter().filter(healthy).collect();
        let copying = whole.iter().filter(|it| is(it, "copying")).count();
        let serving = whole.iter().find(|it| is(it, "serving")).context("nobody serves")?;
        ensure!(copying == copies, "{copying} copies: {members:#?}");
        let name = serving["name"].as_str().unwrap_or_default();
        Ok(name.trim_start_matches('m').parse()?)
    })
    .await
}

/// What a member says of its ovn-central.
async fn error(lab: &Lab, member: u8) -> Result<String> {
    let name = format!("m{member}");
    let members = statuses(lab).await?;
    let own = members.iter().find(|it| it["name"] == name.as_str()).context("it is away")?;
    Ok(own["central"]["error"].as_str().unwrap_or_default().to_owned())
}

async fn hand_over(lab: &Lab, to: u8) -> Result<()> {
    let said = atollctl(lab, &["ovn", "hand-over", &format!("m{to}")], "").await?;
    ensure!(said.status == 0, "atollctl ovn hand-over: {}", said.err);
    Ok(())
}

/// Whether the member's databases have what the next release adds.
async fn has_next_release(lab: &Lab, member: u8) -> Result<()> {
    let (nb, sb) = lab.member(member)?.databases();
    let databases = [(nb, "OVN_Northbound"), (sb, "OVN_Southbound")];
    for ((_, table), (socket, database)) in FILES.into_iter().zip(databases) {
        let mut command = tokio::process::Command::new("ovsdb-client");
        command.args(["list-columns", &socket, database, table]);
        let columns = atoll_tests::lab::run(&mut command).await?;
        ensure!(columns.contains(COLUMN), "m{member}, {table}: {columns}");
    }
    Ok(())
}
