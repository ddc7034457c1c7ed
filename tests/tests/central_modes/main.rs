//! The network with an ovn-central that somebody else runs, and with one whose databases are clusters.
//! Needs root.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]
#![allow(clippy::print_stdout, reason = "what a run saw is for people too")]

mod late;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_tests::intruders::{
    a_stolen_node_rules_its_own_rows, strangers_stay_outside, told, tool,
};
use atoll_tests::lab::store::PodSpec;
use atoll_tests::lab::{
    CentralMode, FaultTarget, FaultVerb, Lab, OPERATOR, Options, OthersCentral, Place, Pod,
    PodOptions, ScopedLab,
};
use atoll_tests::people::{self, atollctl, create_subnets};
use atoll_tests::probe::{Flow, ping};
use atoll_tests::referee::{Said, differences, expected, held_by};
use atoll_tests::wait::wait_until;
use serde_json::Value;
use tokio::process::Command;
use uuid::Uuid;

/// Above what any step took on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// For how long a leader is frozen: longer than an election.
const FROZEN: Duration = Duration::from_secs(5);

async fn lab(central: CentralMode) -> ScopedLab {
    let name = format!("c{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap();
    let lab = ScopedLab::up(Options { central, nodes: 3, ..Options::new(name) }).await.unwrap();
    let subnets = [
        ("blue", "10.61.0.0/16,fd00:61::/64", "blue"),
        ("red", "10.62.0.0/16,fd00:62::/64", "red"),
    ];
    create_subnets(&lab, &subnets).await.unwrap();
    lab
}

async fn run_pod(lab: &Lab, name: &str, node: u8) -> Result<Pod> {
    lab.run_pod(PodOptions::new(name.parse()?, node)).await
}

fn address(pod: &Pod) -> &str {
    pod.addresses[0].split('/').next().unwrap()
}

async fn reaches(lab: &Lab, from: &Pod, to: &Pod) {
    let space = lab.space(&Place::Pod(from.name.clone())).unwrap();
    for target in &to.addresses {
        let target = target.split('/').next().unwrap();
        let what = format!("{} to reach {} at {target}", from.name, to.name);
        wait_until(DEADLINE, &what, || ping(&space, target, 56)).await.unwrap();
    }
}

/// The pods of a network on which everything reaches everything.
async fn pods_that_reach_each_other(lab: &Lab) -> [Pod; 3] {
    let one = run_pod(lab, "blue/one", 1).await.unwrap();
    let beside = run_pod(lab, "blue/beside", 1).await.unwrap();
    let far = run_pod(lab, "red/far", 2).await.unwrap();
    reaches(lab, &one, &beside).await;
    reaches(lab, &one, &far).await;
    reaches(lab, &far, &beside).await;
    [one, beside, far]
}

/// Waits until the databases hold what a second computation says, and nothing else of ours.
async fn becomes_equal(lab: &Lab) {
    wait_until(DEADLINE, "a northbound that holds what it has to", async || {
        let said = Said {
            subnets: people::get(lab, "subnets").await?,
            nodes: people::get(lab, "nodes").await?,
            allocations: people::get(lab, "allocations").await?,
        };
        let (held, _) = held_by(&lab.central().await?.nb).await?;
        let differ = differences(&expected(&said), &held);
        ensure!(differ.is_empty(), "{}", differ.join("\n"));
        Ok(())
    })
    .await
    .unwrap();
}

async fn leader(lab: &Lab) -> Result<u8> {
    let leader = lab.store()?.status().await?.leader.context("nobody leads")?;
    Ok(leader.trim_start_matches('m').parse()?)
}

/// The term of the leader that writes, as the northbound says to somebody else than member `frozen`,
/// whose server may say nothing.
async fn term_that_writes(lab: &Lab, frozen: u8) -> Result<u64> {
    let nb = match lab.others_central() {
        Some(others) => others.databases().nb,
        None => lab.member(1 + frozen % 3)?.databases().0,
    };
    let mut command = Command::new("ovn-nbctl");
    command.args(["--no-leader-only", "--timeout=5", "--db", &nb]);
    command.args(["get", "NB_Global", ".", "external_ids:\"atoll/term\""]);
    let mark = atoll_tests::lab::run(&mut command).await?;
    let term = mark.trim().trim_matches('"').rsplit('/').next().context("no term")?;
    Ok(term.parse()?)
}

/// Announces pods one after the other for ever; nobody plugs them in.
async fn write_on(lab: &Lab, prefix: &str) {
    for number in 0.. {
        let pod = PodSpec {
            namespace: "red".to_owned(),
            name: format!("{prefix}{number}"),
            uid: format!("uid-{prefix}{number}"),
            node: "n1".to_owned(),
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
        };
        // Without a leader it takes none: the next one counts.
        let _ = lab.store().unwrap().put_pod(&pod).await;
    }
}

/// A leader that is frozen or cut off while another is elected and writes, and then goes on where it was.
async fn depose_the_leader(lab: &Lab, [begin, end]: [FaultVerb; 2]) {
    let frozen = leader(lab).await.unwrap();
    let before = term_that_writes(lab, frozen).await.unwrap();
    let frozen_and_back = async {
        lab.fault(begin, FaultTarget::Member(frozen)).await.unwrap();
        let begun = Instant::now();
        let next = wait_until(DEADLINE, "another leader to write", async || {
            let term = term_that_writes(lab, frozen).await?;
            ensure!(term > before, "still term {term}");
            Ok(term)
        });
        let next = next.await.unwrap();
        let took = begun.elapsed().as_secs_f64();
        println!("{begin} member/{frozen}: the next leader wrote after {took:.1} s");
        let lasts = wait_until(DEADLINE, "the freeze to last", async || {
            ensure!(begun.elapsed() >= FROZEN, "since {:?}", begun.elapsed());
            Ok(())
        });
        lasts.await.unwrap();
        lab.fault(end, FaultTarget::Member(frozen)).await.unwrap();
        next
    };
    let next = tokio::select! {
        next = frozen_and_back => next,
        () = write_on(lab, "busy") => unreachable!("it writes for ever"),
    };
    becomes_equal(lab).await;
    assert!(term_that_writes(lab, frozen).await.unwrap() >= next);
    let log = std::fs::read_to_string(lab.member(frozen).unwrap().dir().join("atolld.log"));
    let log = log.unwrap();
    let late = log.lines().filter(|it| it.contains("does not write")).count();
    println!("{end} member/{frozen}: what it wanted to write was refused {late} times");
}

/// From now until a new pod answers. It is on a node that no probe passes: a port that comes makes the
/// userspace datapath pause.
async fn new_pod_answers(lab: &Lab, name: &str, from: &Pod) -> Duration {
    let begun = Instant::now();
    let pod = wait_until(DEADLINE, "a new pod", async || {
        let run = run_pod(lab, name, 3).await;
        if run.is_err() {
            // What is half made would be in the way of the next try.
            let _ = lab.delete_pod(&name.parse()?).await;
        }
        run
    });
    let pod = pod.await.unwrap();
    reaches(lab, from, &pod).await;
    begun.elapsed()
}

#[tokio::test]
async fn an_ovn_central_of_others_is_projected_into_by_the_leader_alone() {
    let lab = lab(CentralMode::External).await;
    let [one, _, far] = pods_that_reach_each_other(&lab).await;
    becomes_equal(&lab).await;

    let shown = atollctl(&lab, &["ovn", "status"], "").await.unwrap();
    let count = |word: &str| shown.out.matches(word).count();
    assert_eq!((count("external"), count("stands by"), count("equal")), (3, 2, 1), "{}", shown.out);
    let refused = atollctl(&lab, &["ovn", "hand-over", "m2"], "").await.unwrap();
    assert!(refused.status != 0 && refused.err.contains("nothing to hand over"), "{refused:?}");
    let databases = OthersCentral::remotes();
    assert_eq!(told(&lab, 1, "ovn-remote").await.unwrap(), databases.sb);
    let others = lab.others_central().unwrap();
    let [n1, m1] = ["n1", "m1"].map(|name| others.certificate_of(name).unwrap());
    a_stolen_node_rules_its_own_rows(&lab, &databases.sb, &n1, "far.red").await.unwrap();
    strangers_stay_outside(&lab, [&databases.nb, &databases.sb], &m1).await.unwrap();
    // Nobody but its owner runs anything of it.
    for member in lab.members() {
        assert!(member.central().iter().all(|daemon| daemon.pid().is_none()));
    }

    let space = lab.space(&Place::Pod(one.name.clone())).unwrap();
    let traffic = Flow::start(&space, address(&far)).unwrap();
    let leads = leader(&lab).await.unwrap();
    lab.fault(FaultVerb::Kill, FaultTarget::Member(leads)).await.unwrap();
    let took = new_pod_answers(&lab, "red/new", &one).await;
    println!("external: a new pod answers {:.1} s after the leader's death", took.as_secs_f64());
    lab.fault(FaultVerb::Restart, FaultTarget::Member(leads)).await.unwrap();
    depose_the_leader(&lab, [FaultVerb::Stop, FaultVerb::Cont]).await;
    depose_the_leader(&lab, [FaultVerb::Cut, FaultVerb::Heal]).await;
    let seen = traffic.stop().await.unwrap();
    assert_eq!(seen.lost, 0, "of {}: {:?}", seen.sent, seen.missing);
}

/// What `atollctl ovn status` says, member by member.
async fn status(lab: &Lab) -> Result<Vec<Value>> {
    let said = atollctl(lab, &["ovn", "status", "-o", "json"], "").await?;
    let members: Value = serde_json::from_str(&said.out)?;
    members.as_array().cloned().context("no list")
}

/// Waits until each member's servers are in one cluster of three; answers their names, by member.
async fn whole(lab: &Lab) -> Vec<(String, String)> {
    wait_until(DEADLINE, "three servers of each database", async || {
        let members = status(lab).await?;
        ensure!(members.len() == 3, "{members:?}");
        for server in ["nbServer", "sbServer"] {
            let of = |what: &'static str| {
                members.iter().map(move |it| it["central"][server][what].clone())
            };
            ensure!(of("servers").all(|it| it == 3), "{members:?}");
            ensure!(of("connected").all(|it| it == true), "{members:?}");
            ensure!(of("leads").filter(|it| *it == true).count() == 1, "{members:?}");
        }
        let name = |it: &Value| it["central"]["nbServer"]["server"].as_str().map(str::to_owned);
        let named = |it: &Value| Some((it["name"].as_str()?.to_owned(), name(it)?));
        members.iter().map(|it| named(it).context("no name")).collect()
    })
    .await
    .unwrap()
}

/// The member whose server leads the northbound.
async fn leads_northbound(lab: &Lab) -> Result<u8> {
    let members = status(lab).await?;
    let leads = members.iter().find(|it| it["central"]["nbServer"]["leads"] == true);
    let name = leads.and_then(|it| it["name"].as_str()).context("none leads")?;
    Ok(name.trim_start_matches('m').parse()?)
}

/// At each of the servers that nodes are told.
async fn no_node_writes_more_than_its_rows(lab: &Lab) {
    let remotes = told(lab, 1, "ovn-remote").await.unwrap();
    assert_eq!(remotes.matches("ssl:").count(), 3, "{remotes}");
    let (n1, operator) = (lab.certificate("node/n1"), lab.certificate(OPERATOR));
    let space = lab.space(&Place::Outside).unwrap();
    for sb in remotes.split(',') {
        a_stolen_node_rules_its_own_rows(lab, sb, &n1, "far.red").await.unwrap();
        let nb = sb.replace(":6642", ":6641");
        strangers_stay_outside(lab, [&nb, sb], &operator).await.unwrap();
        // Where members come in, a node does not, and an operator has no role.
        let inner = sb.replace(":6642", ":6645");
        for (program, database) in [("ovn-nbctl", &nb), ("ovn-sbctl", &inner)] {
            let said = tool(&space, program, database, Some(&n1), &["show"]).await.unwrap();
            assert_ne!(said.status, 0, "{said:?}");
        }
        let write = ["set", "SB_Global", ".", "external_ids:seen=yes"];
        let said = tool(&space, "ovn-sbctl", &inner, Some(&operator), &write).await.unwrap();
        assert_eq!(said.status, 0, "{said:?}");
    }
}

#[tokio::test]
async fn databases_in_clusters_outlive_the_members_that_lead_them() {
    let lab = lab(CentralMode::Cluster).await;
    let [one, _, far] = pods_that_reach_each_other(&lab).await;
    becomes_equal(&lab).await;
    let servers = whole(&lab).await;
    no_node_writes_more_than_its_rows(&lab).await;

    let space = lab.space(&Place::Pod(one.name.clone())).unwrap();
    let traffic = Flow::start(&space, address(&far)).unwrap();
    let leads = leads_northbound(&lab).await.unwrap();
    let led = leader(&lab).await.unwrap() == leads;
    lab.fault(FaultVerb::Kill, FaultTarget::Member(leads)).await.unwrap();
    let took = new_pod_answers(&lab, "red/new", &one).await.as_secs_f64();
    println!(
        "cluster: a new pod answers {took:.1} s after the northbound's leader died; led: {led}"
    );
    lab.fault(FaultVerb::Restart, FaultTarget::Member(leads)).await.unwrap();
    assert_eq!(whole(&lab).await, servers, "what was only away comes back as it was");
    becomes_equal(&lab).await;

    depose_the_leader(&lab, [FaultVerb::Stop, FaultVerb::Cont]).await;
    let servers = whole(&lab).await;
    // Their files are lost: the old servers go, new ones join.
    let begun = Instant::now();
    lab.fault(FaultVerb::Wipe, FaultTarget::Central(2)).await.unwrap();
    wait_until(DEADLINE, "another server in the lost one's place", async || {
        let now = whole(&lab).await;
        ensure!(now[1] != servers[1], "{now:?}");
        Ok(())
    })
    .await
    .unwrap();
    println!("cluster: lost files are joined again after {:.1} s", begun.elapsed().as_secs_f64());
    let now = whole(&lab).await;
    assert_eq!((&now[0], &now[2]), (&servers[0], &servers[2]));
    becomes_equal(&lab).await;
    let seen = traffic.stop().await.unwrap();
    assert_eq!(seen.lost, 0, "of {}: {:?}", seen.sent, seen.missing);
}
