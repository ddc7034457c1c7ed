//! Bad input, each with the message that a person reads. One lab of one member serves all of it.
//! Needs root.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

#[path = "cli/ovn.rs"]
mod ovn;
#[path = "cli/queries.rs"]
mod queries;

use std::time::Duration;

use atoll_api::CertificateFiles;
use atoll_tests::lab::{Lab, LabName, OPERATOR, Options, PodOptions, ScopedLab, VIEWER};
use atoll_tests::people::{Said, atollctl, atollctl_as, create_subnets, program, say};
use tokio::process::Command;
use uuid::Uuid;

const REFUSED: i32 = 3;
const USAGE: i32 = 2;
const FAILED: i32 = 1;

fn lab_name() -> LabName {
    format!("c{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap()
}

async fn lab() -> ScopedLab {
    let options = Options { members: 1, nodes: 1, ..Options::new(lab_name()) };
    ScopedLab::up(options).await.unwrap()
}

fn subnet(name: &str, spec: &str) -> String {
    format!("apiVersion: kubeovn.io/v1\nkind: Subnet\nmetadata: {{ name: {name} }}\nspec: {spec}\n")
}

#[track_caller]
fn expect(said: &Said, status: i32, words: &str) {
    assert_eq!(said.status, status, "{said:?}");
    assert!(said.err.contains(words), "expected {words:?} in: {}", said.err);
}

#[tokio::test]
async fn each_bad_manifest_is_refused_with_its_reason() {
    let lab = lab().await;
    create_subnets(&lab, &[("blue", "10.1.0.0/16", "team-blue")]).await.unwrap();
    let create =
        async |manifest: &str| atollctl(&lab, &["create", "-f", "-"], manifest).await.unwrap();

    let overlap = create(&subnet("green", "{ cidrBlock: 10.1.128.0/20 }")).await;
    expect(&overlap, REFUSED, "subnet green: 10.1.128.0/20 overlaps 10.1.0.0/16 of subnet blue");
    let node = create(&subnet("green", "{ cidrBlock: 172.31.0.0/16 }")).await;
    expect(&node, REFUSED, "contains 172.31.0.101, the address of node n1");
    let gateway = create(&subnet("green", "{ cidrBlock: 10.2.0.0/16, gateway: 10.3.0.1 }")).await;
    expect(&gateway, USAGE, "spec.gateway: 10.3.0.1 is not in 10.2.0.0/16");
    let unknown = create(&subnet("green", "{ cidrBlock: 10.2.0.0/16, gatway: 10.2.0.1 }")).await;
    expect(&unknown, USAGE, "unknown field spec.gatway");
    let later = create(&subnet("green", "{ cidrBlock: 10.2.0.0/16, enableIPv6RA: true }")).await;
    expect(&later, USAGE, "spec.enableIPv6RA: true is not implemented");
    let yaml = create("kind: [").await;
    expect(&yaml, USAGE, "- is neither YAML nor JSON");
    let kind = create("apiVersion: v1\nkind: Pod\nmetadata: { name: x }\n").await;
    expect(&kind, USAGE, "v1 Pod is not known here");
    let nothing = create("").await;
    expect(&nothing, USAGE, "the files hold no manifest");
    let single = create(&subnet("green", "{ cidrBlock: 10.2.0.1/32 }")).await;
    expect(&single, USAGE, "is a single address");
    let name = create(&subnet("Green_1", "{ cidrBlock: 10.2.0.0/16 }")).await;
    expect(&name, USAGE, "metadata.name: subnet name \"Green_1\"");

    let bits = create(&subnet("green", "{ cidrBlock: 10.2.3.4/16 }")).await;
    expect(&bits, 0, "note: Subnet green: 10.2.3.4/16 has host bits; taken as 10.2.0.0/16");
    let shown = atollctl(&lab, &["get", "subnet", "green", "-o", "json"], "").await.unwrap();
    assert!(shown.out.contains("\"cidrBlock\": \"10.2.0.0/16\""), "{}", shown.out);
}

#[tokio::test]
async fn objects_that_are_not_there_or_in_use_are_named() {
    let lab = lab().await;
    create_subnets(&lab, &[("blue", "10.1.0.0/16", "team-blue")]).await.unwrap();
    let missing = atollctl(&lab, &["delete", "subnet", "nowhere"], "").await.unwrap();
    expect(&missing, REFUSED, "subnet nowhere does not exist");
    let missing = atollctl(&lab, &["get", "subnet", "nowhere"], "").await.unwrap();
    expect(&missing, REFUSED, "there is no nowhere among the subnets");
    let join = atollctl(&lab, &["delete", "subnet", "join"], "").await.unwrap();
    expect(&join, REFUSED, "subnet join is the cluster's own");
    lab.run_pod(PodOptions::new("team-blue/a".parse().unwrap(), 1)).await.unwrap();
    let used = atollctl(&lab, &["delete", "subnet", "blue"], "").await.unwrap();
    expect(&used, REFUSED, "subnet blue is in use by 1: a.team-blue");
    let node = atollctl(&lab, &["delete", "node", "n1"], "").await.unwrap();
    expect(&node, REFUSED, "node n1 still has 1 pods");
    let nobody =
        atollctl(&lab, &["--endpoints", "127.0.0.1:1", "--timeout", "1", "get", "ips"], "");
    expect(&nobody.await.unwrap(), 1, "nothing was done");
    let nonsense = atollctl(&lab, &["--endpoints", "nowhere", "get", "ips"], "").await.unwrap();
    expect(&nonsense, USAGE, "\"nowhere\" is neither HOST:PORT nor unix:PATH");
}

/// A pod that cannot be addressed says why at once, and is served when there is room.
#[tokio::test]
async fn a_full_subnet_an_unknown_subnet_and_an_unknown_node_are_said_to_the_pod() {
    let lab = lab().await;
    create_subnets(&lab, &[("tiny", "10.7.0.0/30", "tiny")]).await.unwrap();
    let first = lab.run_pod(PodOptions::new("tiny/one".parse().unwrap(), 1)).await.unwrap();
    assert_eq!(first.addresses, ["10.7.0.2/30"]);
    let full = lab.run_pod(PodOptions::new("tiny/two".parse().unwrap(), 1)).await.unwrap_err();
    let full = format!("{full:#}");
    assert!(full.contains("no free address in tiny"), "{full}");

    let mut lost = PodOptions::new("tiny/lost".parse().unwrap(), 1);
    lost.annotations.insert("ovn.kubernetes.io/logical_switch".into(), "nowhere".into());
    let lost = format!("{:#}", lab.run_pod(lost).await.unwrap_err());
    assert!(lost.contains("subnet nowhere does not exist"), "{lost}");

    let pod = atoll_tests::lab::store::PodSpec {
        namespace: "tiny".into(),
        name: "nobody".into(),
        uid: "u".into(),
        node: "n9".into(),
        annotations: [].into(),
        labels: [].into(),
    };
    let unknown = format!("{:#}", lab.store().unwrap().put_pod(&pod).await.unwrap_err());
    assert!(unknown.contains("node n9 is not known"), "{unknown}");

    // Room is made: the waiting pod is served without being asked for again.
    lab.delete_pod(&first.name).await.unwrap();
    let served = atoll_tests::wait::wait_until(Duration::from_secs(10), "tiny/two", || async {
        let pod = lab.store()?.get_pod("tiny", "two").await?;
        let pod = pod.ok_or_else(|| anyhow::Error::msg("it is gone"))?;
        let address = pod.addresses.first().copied();
        address.ok_or_else(|| anyhow::Error::msg(format!("it waits: {:?}", pod.waiting)))
    });
    assert_eq!(served.await.unwrap().to_string(), "10.7.0.2");
}

/// What `atollctl` says to somebody without a certificate who types these words.
async fn nameless(lab: &Lab, words: &[&str]) -> Said {
    let mut command = Command::new(program("atollctl"));
    for variable in ["ATOLL_CA", "ATOLL_CERT", "ATOLL_KEY"] {
        command.env_remove(variable);
    }
    let endpoint = lab.member(1).unwrap().endpoint();
    say(command.env("ATOLL_ENDPOINTS", endpoint).args(words), "").await.unwrap()
}

#[tokio::test]
async fn a_certificate_decides_what_may_be_typed() {
    let lab = lab().await;
    create_subnets(&lab, &[("blue", "10.1.0.0/16", "team-blue")]).await.unwrap();
    let (viewer, node) = (lab.certificate(VIEWER), lab.certificate("node/n1"));
    let typed = async |files, words: &[&str]| atollctl_as(&lab, files, words, "").await.unwrap();

    let looked = typed(&viewer, &["get", "subnets", "-o", "name"]).await;
    assert!(looked.status == 0 && looked.out.contains("blue"), "{looked:?}");
    let deleted = typed(&viewer, &["delete", "subnet", "blue"]).await;
    expect(
        &deleted,
        REFUSED,
        "refused: viewer/atoll-lab may not write; this needs the role operator",
    );
    let checked = typed(&viewer, &["check"]).await;
    assert!(checked.status == 0 && checked.out.starts_with("ok: "), "{checked:?}");
    let planned = typed(&viewer, &["plan", "delete", "subnet", "blue"]).await;
    expect(&planned, REFUSED, "refused: viewer/atoll-lab may not write");
    for question in ["check", "get alloc", "history subnet blue", "janitor status"] {
        let words: Vec<&str> = question.split(' ').collect();
        let asked = typed(&node, &words).await;
        expect(&asked, REFUSED, "node/n1 may not read more than its own watch");
    }
    let created = subnet("green", "{ cidrBlock: 10.2.0.0/16 }");
    let created = atollctl_as(&lab, &node, &["create", "-f", "-"], &created).await.unwrap();
    expect(&created, REFUSED, "refused: node/n1 may only register and drain itself");
    let read = typed(&node, &["get", "ips"]).await;
    expect(
        &read,
        REFUSED,
        "node/n1 may not read more than its own watch; this needs the role viewer",
    );
    let status = typed(&node, &["status"]).await;
    assert!(status.status == 0 && status.out.contains("m1"), "{status:?}");
    let subnets = atollctl(&lab, &["get", "subnets", "-o", "name"], "").await.unwrap();
    assert!(subnets.out.contains("blue") && !subnets.out.contains("green"), "{subnets:?}");
}

#[tokio::test]
async fn each_bad_certificate_is_said_with_the_file_and_the_way_out() {
    let lab = lab().await;
    let good = lab.certificate(OPERATOR);
    let typed = async |files: &CertificateFiles, words: &[&str]| {
        atollctl_as(&lab, files, words, "").await.unwrap()
    };
    let nobody = nameless(&lab, &["status"]).await;
    expect(&nobody, USAGE, "who are you? ATOLL_CA and ATOLL_CERT and ATOLL_KEY are not set");
    let far = ["--insecure-dev", "--endpoints", "10.0.0.1:7400", "status"];
    expect(&nameless(&lab, &far).await, USAGE, "10.0.0.1:7400 is not on loopback");
    let plain = nameless(&lab, &["--insecure-dev", "--timeout", "1", "get", "ips"]).await;
    expect(&plain, FAILED, "if it speaks TLS, give --ca, --cert and --key");

    let missing = CertificateFiles { cert: "/nowhere/tls.crt".into(), ..good.clone() };
    expect(
        &typed(&missing, &["status"]).await,
        USAGE,
        "cannot read /nowhere/tls.crt: No such file",
    );
    let mixed = CertificateFiles { key: lab.certificate(VIEWER).key, ..good.clone() };
    expect(&typed(&mixed, &["status"]).await, USAGE, "is not the key of");

    // Another cluster's operator, with everything in order there.
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = |name: &str| elsewhere.path().join(name).display().to_string();
    let (ca, out) = (dir("ca"), dir("mallory"));
    let mut init = Command::new(program("atolld"));
    assert_eq!(say(init.args(["pki", "init", "--dir", &ca]), "").await.unwrap().status, 0);
    let mut issue = Command::new(program("atolld"));
    issue.args(["pki", "issue", "--dir", &ca, "--role", "operator", "--name", "mallory"]);
    let issued = say(issue.args(["--out", &out]), "").await.unwrap();
    assert!(issued.out.contains("operator/mallory, valid for 365 days"), "{issued:?}");
    let mut again = Command::new(program("atolld"));
    let again = say(again.args(["pki", "init", "--dir", &ca]), "").await.unwrap();
    expect(&again, REFUSED, "ca.crt is there already, and nothing is overwritten");
    let mallory = CertificateFiles::in_dir(&elsewhere.path().join("mallory"));
    let words = ["--timeout", "1", "get", "ips"];
    let theirs = typed(&mallory, &words).await;
    expect(&theirs, FAILED, "its certificate is not taken: it was not signed by the authority in");
    expect(&theirs, FAILED, "nothing was done");
    let mixed = CertificateFiles { ca: good.ca.clone(), ..mallory };
    expect(&typed(&mixed, &words).await, USAGE, "it was not signed by the authority in");
}

#[tokio::test]
async fn a_cluster_shall_have_an_odd_number_of_members() {
    let lab = lab().await;
    let resize = async |to: &str| atollctl(&lab, &["member", "resize", to], "").await.unwrap();
    expect(&resize("4").await, USAGE, "must be 1, 3 or 5, not 4");
    expect(&resize("many").await, USAGE, "many is no number");
    let three = resize("3").await;
    assert!(three.out.contains("has 1 of 3 members and takes in who asks"), "{three:?}");
    let one = resize("1").await;
    assert!(one.out.contains("has 1 of 1 members"), "{one:?}");
    let viewer = lab.certificate(VIEWER);
    let viewer = atollctl_as(&lab, &viewer, &["member", "resize", "3"], "").await.unwrap();
    expect(&viewer, REFUSED, "viewer/atoll-lab may not write; this needs the role operator");
}

/// With the tool that everybody has: every stage of a write is a histogram.
#[tokio::test]
async fn metrics_are_told_to_whoever_has_a_certificate() {
    let lab = lab().await;
    create_subnets(&lab, &[("blue", "10.1.0.0/16", "team-blue")]).await.unwrap();
    let socket = lab.member(1).unwrap().endpoint();
    let socket = socket.strip_prefix("unix:").unwrap();
    let curl = |words: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--insecure", "--unix-socket", socket]);
        curl.args(words).arg("https://member/metrics");
        curl
    };
    let files = lab.certificate(VIEWER);
    let (cert, key) = (files.cert.display().to_string(), files.key.display().to_string());
    let told = say(&mut curl(&["--cert", &cert, "--key", &key]), "").await.unwrap();
    assert_eq!(told.status, 0, "{told:?}");
    for stage in ["queue", "commit", "wal_write", "wal_sync", "apply", "lag"] {
        let count = format!("atoll_{stage}_seconds_count ");
        let line = told.out.lines().find_map(|line| line.strip_prefix(&count));
        assert!(line.is_some_and(|count| count != "0"), "{stage}: {}", told.out);
    }
    assert!(told.out.contains("\natoll_is_leader 1\n"), "{}", told.out);
    let nobody = say(&mut curl(&[]), "").await.unwrap();
    assert!(nobody.status != 0 && nobody.out.is_empty(), "{nobody:?}");
}

/// What keeps a member or an agent from starting is one line, and it does not start.
#[tokio::test]
async fn a_member_or_agent_without_its_own_certificate_does_not_start() {
    let lab = lab().await;
    let check = async |binary: &str, config: &str, words: &[&str]| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config).unwrap();
        let mut command = Command::new(program(binary));
        command.arg("--config").arg(file.path()).arg("--check-config").args(words);
        say(&mut command, "").await.unwrap()
    };
    let tls = |identity: &str| {
        let CertificateFiles { ca, cert, key } = lab.certificate(identity);
        format!("[tls]\nca = {ca:?}\ncert = {cert:?}\nkey = {key:?}\n")
    };
    let member = "name = \"m1\"\ndata_dir = \"/x/data\"\nlisten = \"10.0.0.1:7400\"\n\
                  peers = [\"10.0.0.1:7400\"]\nexpected_members = 1\nformation_marker = \"/x/m\"\n";
    let sound = check("atolld", &(member.to_owned() + &tls("member/m1")), &[]).await;
    expect(&sound, 0, "the configuration is sound");
    expect(
        &check("atolld", member, &[]).await,
        USAGE,
        "tls: is missing: a member shows a certificate",
    );
    let plain = check("atolld", member, &["--insecure-dev"]).await;
    expect(
        &plain,
        USAGE,
        "peers: --insecure-dev is for one machine: 10.0.0.1:7400 is not on loopback",
    );
    let other = check("atolld", &(member.to_owned() + &tls("node/n1")), &[]).await;
    expect(&other, USAGE, "this is the certificate of node/n1, and this process is member/m1");

    let agent = "node = \"n1\"\nendpoints = [\"10.0.0.1:7400\"]\nencap_ip = \"10.0.0.9\"\n";
    let sound = check("atoll-node", &(agent.to_owned() + &tls("node/n1")), &[]).await;
    expect(&sound, 0, "the configuration is sound");
    expect(&check("atoll-node", agent, &[]).await, USAGE, "tls: is missing: an agent shows");
    let other = check("atoll-node", &(agent.replace("n1", "n2") + &tls("node/n1")), &[]).await;
    expect(&other, USAGE, "this is the certificate of node/n1, and this process is node/n2");
}

/// A member whose disk belongs to another cluster is refused, with both ids.
#[tokio::test]
async fn a_second_lab_of_the_same_name_and_a_call_without_root_are_one_clear_line() {
    let name = lab_name();
    let options = Options { members: 1, nodes: 0, ..Options::new(name.clone()) };
    let _lab = ScopedLab::up(options).await.unwrap();
    let name = name.to_string();
    let mut again = Command::new(program("atoll-lab"));
    let said = say(again.args(["up", "--members", "1", "--nodes", "0", "--name", &name]), "");
    let said = said.await.unwrap();
    assert_eq!(said.status, REFUSED, "{said:?}");
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
    assert!(said.err.contains(&name), "{said:?}");

    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--clear-groups", "--"]).arg(program("atoll-lab"));
    let said = say(nobody.args(["up", "--name", "x"]), "").await.unwrap();
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.err.contains("root"), "{said:?}");
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
}
