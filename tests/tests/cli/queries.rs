//! What is asked of a cluster: who holds what, what was, what would be, and whether all is well.

use std::process::Stdio;
use std::time::Duration;

use atoll_tests::lab::{FaultTarget, FaultVerb, Lab, OPERATOR, Options, PodOptions, ScopedLab};
use atoll_tests::people::{Said, atollctl, create_subnets, program};
use atoll_tests::wait::wait_until;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::{FAILED, REFUSED, USAGE, expect, lab, lab_name, subnet};

const SOON: Duration = Duration::from_secs(20);

/// What `atollctl` says to these words, separated by blanks.
pub(crate) async fn typed(lab: &Lab, words: &str) -> Said {
    atollctl(lab, &words.split_whitespace().collect::<Vec<_>>(), "").await.unwrap()
}

/// Its standard output, after success.
pub(crate) async fn told(lab: &Lab, words: &str) -> String {
    let said = typed(lab, words).await;
    assert_eq!(said.status, 0, "{words}: {said:?}");
    said.out
}

/// The document that it prints with `-o json`.
pub(crate) async fn asked(lab: &Lab, words: &str) -> Value {
    serde_json::from_str(&told(lab, &format!("{words} -o json")).await).unwrap()
}

/// The names of the allocations that are found.
async fn found(lab: &Lab, filter: &str) -> Vec<String> {
    let list = asked(lab, &format!("get allocations {filter}")).await;
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Two pods, `team-blue/a` and `team-blue/b`; b's uid and address.
async fn two_pods(lab: &Lab) -> (String, String) {
    create_subnets(lab, &[("blue", "10.1.0.0/16", "team-blue")]).await.unwrap();
    lab.run_pod(PodOptions::new("team-blue/a".parse().unwrap(), 1)).await.unwrap();
    let pod = lab.run_pod(PodOptions::new("team-blue/b".parse().unwrap(), 1)).await.unwrap();
    let address = pod.addresses[0].split('/').next().unwrap().to_owned();
    (pod.uid, address)
}

#[tokio::test]
async fn allocations_are_found_by_whatever_is_known_of_them_now_and_then() {
    let lab = lab().await;
    let (uid, address) = two_pods(&lab).await;
    let b = ["b.team-blue"];
    for filter in [
        "--pod team-blue/b".to_owned(),
        format!("--address {address}"),
        format!("--owner {uid}"),
        format!("--subnet blue --node n1 --state active --address {address}"),
        "b.team-blue".to_owned(),
    ] {
        if filter.starts_with("--") {
            assert_eq!(found(&lab, &filter).await, b, "{filter}");
        } else {
            let one = asked(&lab, &format!("get alloc {filter}")).await;
            assert_eq!(one["spec"]["owner"]["uid"], uid.as_str(), "{one}");
        }
    }
    assert_eq!(found(&lab, "--subnet blue").await, ["a.team-blue", "b.team-blue"]);
    let all = found(&lab, "--node n1").await;
    assert!(all.len() == 3 && all.contains(&"node-n1".to_owned()), "{all:?}");
    for none in
        ["--subnet join --pod team-blue/b", "--state kept", "--owner StatefulSet/team-blue/b"]
    {
        assert!(found(&lab, none).await.is_empty(), "{none}");
    }
    let item = asked(&lab, "get allocations --pod team-blue/b").await["items"][0].clone();
    assert_eq!(item["spec"]["v4"], address.as_str());
    assert_eq!((&item["spec"]["node"], &item["status"]["state"]), (&"n1".into(), &"active".into()));
    let table = told(&lab, "get alloc --pod team-blue/b -o wide").await;
    assert!(table.contains("pod/team-blue/b") && table.contains(&uid), "{table}");

    lab.delete_pod(&"team-blue/b".parse().unwrap()).await.unwrap();
    wait_until(SOON, "the address to cool", || async {
        let cooling = found(&lab, "--state cooling --subnet blue").await;
        anyhow::ensure!(cooling == [address.clone()], "{cooling:?}");
        Ok(())
    })
    .await
    .unwrap();
    assert!(found(&lab, &format!("--address {address}")).await.is_empty());

    // The last revision of the pod is the one that ended it.
    let history = asked(&lab, "history pod team-blue/b").await;
    let end = history.as_array().unwrap().last().unwrap().clone();
    assert_eq!(end["changes"][0]["change"], "deleted", "{end}");
    let end = end["revision"].as_u64().unwrap();
    let before = asked(&lab, &format!("get alloc --pod team-blue/b --at {}", end - 1)).await;
    let before = &before["items"][0];
    assert_eq!(before["spec"]["v4"], address.as_str());
    assert_eq!(
        (&before["spec"]["node"], &before["status"]["state"]),
        (&"n1".into(), &"active".into())
    );
    assert!(found(&lab, &format!("--pod team-blue/b --state active --at {end}")).await.is_empty());
    assert_eq!(found(&lab, "--subnet blue --at 0s").await, ["a.team-blue"]);
    let as_of = typed(&lab, &format!("get alloc --at {end}")).await;
    expect(&as_of, 0, &format!("as of revision {end} (2"));
}

#[tokio::test]
async fn the_history_tells_who_held_an_address_and_what_changed() {
    let lab = lab().await;
    let (uid, address) = two_pods(&lab).await;
    lab.delete_pod(&"team-blue/b".parse().unwrap()).await.unwrap();
    let held = asked(&lab, &format!("history address blue {address}")).await;
    assert_eq!(held[0]["owner"]["name"], "team-blue/b");
    assert_eq!(held[0]["owner"]["uid"], uid.as_str());
    let (from, until) = (&held[0]["from"], &held[0]["until"]);
    assert!(from["revision"].as_u64() < until["revision"].as_u64(), "{held}");
    assert!(from["time"].as_str() <= until["time"].as_str(), "{held}");
    let table = told(&lab, &format!("history address blue {address}")).await;
    assert!(table.contains("pod/team-blue/b"), "{table}");

    let changed = subnet("blue", "{ cidrBlock: 10.1.0.0/16, namespaces: [team-blue, more] }");
    expect(&atollctl(&lab, &["create", "-f", "-"], &changed).await.unwrap(), 0, "");
    let table = told(&lab, "history subnet blue").await;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1].contains("operator/") && lines[1].contains("+ subnet blue"), "{table}");
    assert!(lines[2].contains("namespaces: team-blue → team-blue,more"), "{table}");
    assert!(told(&lab, "history settings").await.contains("leader"));
}

#[tokio::test]
async fn questions_that_cannot_be_answered_say_why() {
    let lab = lab().await;
    for (words, status, why) in [
        ("get alloc --at 999999", REFUSED, "revision 999999 is not there yet; the newest is"),
        ("get alloc --at 365d", REFUSED, "this member's history begins after revision 0"),
        ("get alloc --at yesterday", USAGE, "is neither a revision (42), nor a time"),
        (
            "get alloc --state cooling --at 5",
            REFUSED,
            "which addresses cooled is not in the history",
        ),
        ("get alloc --owner Cron/a/b", USAGE, "is no kind of workload; there are StatefulSet"),
        ("get alloc --pod web", USAGE, "NAMESPACE/NAME"),
        ("get alloc --address 10.1.0", USAGE, "invalid IP address"),
        ("get alloc --state free", USAGE, "[possible values: active, kept, draining, cooling]"),
        ("get alloc nowhere", REFUSED, "there is no nowhere among the allocations"),
        ("get ips --pod a/b", USAGE, "type `atollctl get allocations --pod`"),
        ("history address nowhere 10.1.0.1", REFUSED, "nobody is known to have held 10.1.0.1"),
        ("history address blue", USAGE, "<ADDRESS>"),
        ("history subnet", USAGE, "which subnet? Give its name"),
        ("history settings x", USAGE, "there is one settings: leave out x"),
        ("history subnet nowhere", REFUSED, "no change of subnet nowhere is known"),
        ("history teapot x", USAGE, "invalid value 'teapot'"),
        ("watch teapots", USAGE, "invalid value 'teapots'"),
        ("watch --from 999999", USAGE, "revision 999999 is not there yet; the newest is"),
        ("plan create -f /nowhere.yaml", USAGE, "cannot read /nowhere.yaml"),
        ("plan delete subnet nowhere", REFUSED, "subnet nowhere does not exist"),
        ("plan delete subnet join", REFUSED, "subnet join is the cluster's own"),
        ("plan delete node n1 --when-empty", USAGE, "--when-empty is for subnets; node n1 is none"),
        ("delete subnet join --effect 12", USAGE, "is no effect"),
        ("delete subnet join --when-empty", REFUSED, "subnet join is the cluster's own"),
        ("member transfer", REFUSED, "there is no other voter"),
        ("member transfer m9", REFUSED, "there is no member m9; there are m1"),
        ("node fence n9", REFUSED, "node n9 does not exist"),
        ("node fence n1", USAGE, "If it is not off, two pods may get one address"),
        ("node drain n9", REFUSED, "node n9 does not exist"),
        ("node undrain n9", REFUSED, "node n9 does not exist"),
        ("node waive n9", REFUSED, "node n9 does not exist"),
        ("node waive n1", REFUSED, "there is nothing to waive of node n1"),
        ("janitor resume", USAGE, "<UID>"),
        ("--endpoints 127.0.0.1:1 --timeout 1 check", FAILED, "nothing was done"),
        ("--endpoints 127.0.0.1:1 --timeout 1 watch", FAILED, "nothing to watch"),
        ("--endpoints 127.0.0.1:1 --timeout 1 member list", FAILED, "no member answers"),
    ] {
        let said = typed(&lab, words).await;
        assert_eq!(said.status, status, "{words}: {said:?}");
        assert!(said.err.contains(why), "{words}: {said:?}");
    }
    for verb in [
        "get",
        "history",
        "history address",
        "watch",
        "plan",
        "plan create",
        "plan delete",
        "check",
        "create",
        "delete",
        "member list",
        "member transfer",
        "node drain",
        "node undrain",
        "node fence",
        "node waive",
        "janitor status",
        "janitor resume",
    ] {
        let help = told(&lab, &format!("{verb} --help")).await;
        assert!(help.contains(&format!("  atollctl {verb}")), "{verb} has no example: {help}");
    }
}

/// `atollctl watch`, running.
struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start(lab: &Lab, words: &str) -> Self {
        let files = lab.certificate(OPERATOR);
        let mut command = Command::new(program("atollctl"));
        command.arg("watch").args(words.split_whitespace());
        command.env("ATOLL_ENDPOINTS", lab.member(1).unwrap().endpoint());
        command.env("ATOLL_CA", &files.ca).env("ATOLL_CERT", &files.cert);
        command.env("ATOLL_KEY", &files.key).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(SOON, self.lines.next_line()).await;
        line.expect("nothing came").unwrap().expect("it ended")
    }

    /// Ctrl-C; its exit status.
    async fn interrupt(mut self) -> Option<i32> {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        tokio::time::timeout(SOON, self.child.wait()).await.unwrap().unwrap().code()
    }
}

#[tokio::test]
async fn a_watch_tells_each_change_once_from_where_it_is_told_to_begin() {
    let lab = lab().await;
    let mut all = Watching::start(&lab, "subnets pods -o json");
    let first: Value = serde_json::from_str(&all.line().await).unwrap();
    let from = first["resync"].as_u64().expect("it begins with the state");
    let names: Vec<&str> = first["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| object["kind"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"subnet") && !names.contains(&"node"), "{first}");

    create_subnets(&lab, &[("blue", "10.1.0.0/16", "team-blue")]).await.unwrap();
    lab.run_pod(PodOptions::new("team-blue/a".parse().unwrap(), 1)).await.unwrap();
    let made: Value = serde_json::from_str(&all.line().await).unwrap();
    assert_eq!(made["changes"][0]["name"], "blue", "{made}");
    assert!(made["actor"].as_str().unwrap().starts_with("operator/"), "{made}");
    let pod: Value = serde_json::from_str(&all.line().await).unwrap();
    assert_eq!(pod["changes"].as_array().unwrap().len(), 1, "its allocation was not asked for");
    assert_eq!(pod["changes"][0]["name"], "team-blue/a", "{pod}");
    assert_eq!(all.interrupt().await, Some(0));

    let mut later = Watching::start(&lab, &format!("subnet --from {from}"));
    let line = later.line().await;
    assert!(line.contains(" + subnet blue ") && line.contains("cidr=10.1.0.0/16"), "{line}");
    assert_eq!(later.interrupt().await, Some(0));
    let revision = made["revision"].as_u64().unwrap();
    let mut none = Watching::start(&lab, &format!("subnet --from {revision}"));
    let manifest = subnet("green", "{ cidrBlock: 10.2.0.0/16 }");
    expect(&atollctl(&lab, &["create", "-f", "-"], &manifest).await.unwrap(), 0, "");
    assert!(none.line().await.contains("+ subnet green "), "what came before was told again");
    assert_eq!(none.interrupt().await, Some(0));
}

#[tokio::test]
async fn a_plan_is_carried_out_as_it_was_shown_or_not_at_all() {
    let lab = lab().await;
    two_pods(&lab).await;
    let manifest = subnet("blue", "{ cidrBlock: 10.1.0.0/16, namespaces: [team-blue], mtu: 1300 }")
        + "---\n"
        + &subnet("green", "{ cidrBlock: 10.2.0.0/16 }");
    let say = async |words: &[&str]| atollctl(&lab, words, &manifest).await.unwrap();
    let plan = say(&["plan", "create", "-f", "-"]).await;
    expect(&plan, 0, "");
    assert!(plan.out.contains("1 made, 1 changed"), "{plan:?}");
    assert!(plan.out.contains("~ subnet blue") && plan.out.contains("mtu: - → 1300"), "{plan:?}");
    assert!(plan.out.contains("pods affected: 2 (team-blue/a, team-blue/b)"), "{plan:?}");
    let effect = plan.out.lines().last().unwrap().strip_prefix("effect: ").unwrap().to_owned();
    assert!(!told(&lab, "get subnets -o name").await.contains("green"), "a plan changed something");

    // Somebody else does a part of it meanwhile.
    let green = subnet("green", "{ cidrBlock: 10.2.0.0/16 }");
    expect(&atollctl(&lab, &["create", "-f", "-"], &green).await.unwrap(), 0, "");
    let stale = say(&["create", "-f", "-", "--effect", &effect]).await;
    expect(&stale, REFUSED, "refused: the plan is stale: now 1 changed (subnet blue)");
    assert!(stale.out.contains("1 changed") && !stale.out.contains("green"), "{stale:?}");
    let blue = asked(&lab, "history subnet blue").await;
    assert_eq!(blue.as_array().unwrap().len(), 1, "a stale plan was carried out: {blue}");
    let now = stale.out.lines().last().unwrap().strip_prefix("effect: ").unwrap();
    let applied = say(&["create", "-f", "-", "--effect", now]).await;
    expect(&applied, 0, "");
    assert_eq!(applied.out, "subnet/blue configured\nsubnet/green configured\n");
    assert!(told(&lab, "history subnet blue").await.contains("mtu: - → 1300"));

    let plan = asked(&lab, "plan delete subnet green").await;
    assert_eq!(
        (&plan["changes"][0]["change"], &plan["refused"]),
        (&"deleted".into(), &Value::Null)
    );
    let delete = format!("delete subnet green --effect {}", plan["effect"].as_str().unwrap());
    assert_eq!(told(&lab, &delete).await, "subnet/green deleted\n");
    let used = typed(&lab, "plan delete subnet blue").await;
    expect(&used, REFUSED, "subnet blue is in use by 2");
}

#[tokio::test]
async fn an_operator_checks_fences_resumes_and_deletes_what_is_in_use() {
    let lab = lab().await;
    two_pods(&lab).await;
    let checked = asked(&lab, "check").await;
    assert_eq!((&checked["ok"], &checked["broken"]), (&true.into(), &Value::Null), "{checked}");
    assert!(checked["objects"].as_u64() > Some(6), "{checked}");
    let line = told(&lab, "check").await;
    assert!(line.starts_with("ok: all invariants hold at revision "), "{line}");
    assert!(told(&lab, "janitor status").await.contains("no list of pods has come yet"));
    assert!(told(&lab, "janitor resume u-1").await.contains("janitor/u-1 resumed"));
    assert!(told(&lab, "janitor status").await.contains("believes apiserver u-1"));

    let going = told(&lab, "delete subnet blue --when-empty").await;
    assert_eq!(going, "subnet/blue goes when it is empty\n");
    assert!(told(&lab, "history subnet blue").await.contains("deleting: - → true"));
    for pod in ["team-blue/a", "team-blue/b"] {
        assert!(told(&lab, "get subnets -o name").await.contains("blue"), "it went too early");
        lab.delete_pod(&pod.parse().unwrap()).await.unwrap();
    }
    wait_until(SOON, "the subnet to go", || async {
        anyhow::ensure!(!told(&lab, "get subnets -o name").await.contains("blue"), "it is there");
        Ok(())
    })
    .await
    .unwrap();

    // A pod that is gone while its node says nothing: only an operator's word frees its address.
    create_subnets(&lab, &[("red", "10.3.0.0/16", "team-red")]).await.unwrap();
    let pod = lab.run_pod(PodOptions::new("team-red/c".parse().unwrap(), 1)).await.unwrap();
    // The agent tells the store of a binding after it has answered the plugin.
    wait_until(SOON, "the binding to be told", || async {
        let list = asked(&lab, "get alloc --pod team-red/c").await;
        anyhow::ensure!(list["items"][0]["status"]["boundAt"].is_u64(), "{list}");
        Ok(())
    })
    .await
    .unwrap();
    lab.fault(FaultVerb::Kill, FaultTarget::Agent(1)).await.unwrap();
    lab.store().unwrap().delete_pod("team-red", "c", &pod.uid).await.unwrap();
    assert_eq!(found(&lab, "--state draining --node n1").await, ["c.team-red"]);
    assert_eq!(found(&lab, "--subnet red").await, ["c.team-red"]);
    let fenced = told(&lab, "node fence n1 --yes").await;
    assert_eq!(fenced, "node/n1 fenced, until its agent registers anew\n");
    assert!(found(&lab, "--subnet red").await.is_empty());
    assert_eq!(found(&lab, "--subnet red --state cooling").await, ["10.3.0.2"]);
    let history = told(&lab, "history node n1").await;
    assert!(history.lines().last().unwrap().contains("fenced: - → true"), "{history}");
}

#[tokio::test]
async fn members_are_listed_with_equal_digests_and_leadership_goes_where_it_is_sent() {
    let options = Options { members: 3, nodes: 0, ..Options::new(lab_name()) };
    let lab = ScopedLab::up(options).await.unwrap();
    let members = wait_until(SOON, "equal digests", || async {
        let members = asked(&lab, "member list").await;
        let members = members.as_array().unwrap().clone();
        anyhow::ensure!(members.len() == 3, "{members:?}");
        let digest = |member: &Value| (member["applied"].clone(), member["digest"].clone());
        let first = digest(&members[0]);
        anyhow::ensure!(first.1.is_string(), "{members:?}");
        anyhow::ensure!(members.iter().all(|member| digest(member) == first), "{members:?}");
        Ok(members)
    })
    .await
    .unwrap();
    let follower = members.iter().find(|member| member["role"] == "follower").unwrap();
    let follower = follower["name"].as_str().unwrap();
    let done = told(&lab, &format!("member transfer {follower}")).await;
    assert_eq!(done, format!("member/{follower} leads\n"));
    let again = told(&lab, &format!("member transfer {follower}")).await;
    assert_eq!(again, format!("member/{follower} leads already\n"));
    let elsewhere = told(&lab, "member transfer").await;
    assert!(!elsewhere.contains(follower), "{elsewhere}");
}

#[tokio::test]
async fn after_a_restore_the_status_names_who_has_to_report_until_an_operator_waives() {
    let options = Options { members: 1, nodes: 2, ..Options::new(lab_name()) };
    let lab = ScopedLab::up(options).await.unwrap();
    let calm = asked(&lab, "status").await;
    assert_eq!(calm["conditions"]["reconciling"], Value::Null, "{calm}");
    let backup = lab.dir().join("backup").display().to_string();
    told(&lab, &format!("backup {backup}")).await;
    lab.fault(FaultVerb::Kill, FaultTarget::Agent(2)).await.unwrap();
    lab.fault(FaultVerb::Wipe, FaultTarget::Member(1)).await.unwrap();
    let config = lab.member(1).unwrap().config_file().display().to_string();
    let mut restore = Command::new(program("atolld"));
    restore.args(["restore", "--config", &config, "--from", &backup]);
    expect(&atoll_tests::people::say(&mut restore, "").await.unwrap(), 0, "");
    lab.fault(FaultVerb::Restart, FaultTarget::Member(1)).await.unwrap();
    wait_until(SOON, "only n2 to be missing", || async {
        let status = typed(&lab, "status").await;
        anyhow::ensure!(status.out.contains("1 of 2 nodes have to report (n2)"), "{status:?}");
        Ok(())
    })
    .await
    .unwrap();
    let status = asked(&lab, "status").await;
    assert_eq!(status["conditions"]["reconciling"]["missing"][0]["name"], "n2", "{status}");
    let before = typed(&lab, "get alloc --at 3").await;
    expect(&before, REFUSED, "what was before is not known here");
    assert_eq!(told(&lab, "node waive n2").await, "node/n2 waived\n");
    assert!(!told(&lab, "status").await.contains("reconciling"));
    let again = typed(&lab, "node waive n2").await;
    expect(&again, REFUSED, "there is nothing to waive of node n2");
}
