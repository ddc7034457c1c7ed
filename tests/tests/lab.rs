//! The lab itself: that it comes up, and above all that it goes away.
//!
//! These labs are bare (namespaces, Open vSwitch and ovn-controller, nothing of Atoll), so that
//! what is tested here does not depend on what the lab is for. Needs root and the tools that the
//! lab itself names. Several tests run side by side, as several labs must be able to.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use atoll_tests::lab::{
    DownOnDrop, FaultTarget, FaultVerb, Lab, LabName, Options, Place, Process, Refused, ScopedLab,
    Status, Usage, down, run,
};
use atoll_tests::wait::wait_until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(20);

/// A name that no other test, and no lab of a person, has.
fn unique_name() -> LabName {
    format!("t{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap()
}

fn bare(nodes: u8) -> Options {
    Options { nodes, members: 1, bare: true, ..Options::new(unique_name()) }
}

async fn atoll_lab(words: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atoll-lab"));
    command.args(words.split(' ')).output().await.unwrap()
}

/// Fails with what the lab `name`, whose files were in `dir`, has left behind.
fn assert_nothing_left(name: &LabName, dir: &Path, processes: &[Process]) {
    let mut left = Vec::new();
    for process in processes {
        let pid = process.pid;
        let network = fs::metadata(format!("/proc/{pid}/ns/net"));
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if network.is_ok() && comm.trim() == process.command {
            left.push(format!("process {process:?}"));
        }
    }
    left.extend(namespaces_of(name).into_iter().map(|ns| format!("namespace {ns}")));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let of_lab = |line: &&str| line.contains(dir.to_str().unwrap()) || line.contains(&prefix(name));
    left.extend(mounts.lines().filter(of_lab).map(|line| format!("mount {line}")));
    left.extend(dir.exists().then(|| format!("directory {}", dir.display())));
    let state = PathBuf::from(format!("/run/atoll-lab/{name}.json"));
    left.extend(state.exists().then(|| format!("state {}", state.display())));
    assert!(left.is_empty(), "left behind: {left:#?}");
}

fn prefix(name: &LabName) -> String {
    format!("/{name}-")
}

fn namespaces_of(name: &LabName) -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|found| format!("/{found}").starts_with(&prefix(name))).collect()
}

async fn run_at(lab: &Lab, place: &Place, argv: &[&str]) -> Result<String> {
    run(lab.space(place)?.command(argv[0]).args(&argv[1..])).await
}

#[tokio::test]
async fn what_up_makes_works_and_down_leaves_nothing_of_it() {
    let lab = ScopedLab::up(bare(2)).await.unwrap();
    let (name, dir) = (lab.name().clone(), lab.dir().to_owned());

    // Both underlays carry, in both families where there are two, and the way out is there.
    for (place, address) in [
        (Place::Node(1), "172.31.0.11"),
        (Place::Node(1), "fd31::102"),
        (Place::Node(2), "203.0.113.1"),
        (Place::Node(2), "fd99::1"),
        (Place::Node(2), "172.30.0.101"),
        (Place::Member(1), "172.31.0.102"),
        (Place::Outside, "172.31.0.101"),
    ] {
        let ping = ["ping", "-n", "-c", "1", "-W", "1", address];
        let what = format!("{address} to answer {place:?}");
        wait_until(DEADLINE, &what, async || run_at(&lab, &place, &ping).await).await.unwrap();
    }

    // A node has places of its own, and Open vSwitch is where a real node has it.
    let node = Place::Node(1);
    assert_eq!(run_at(&lab, &node, &["ovs-vsctl", "list-br"]).await.unwrap(), "br-int\nbr-phy\n");
    let datapaths = ["ovs-vsctl", "--bare", "--columns=datapath_type", "list", "Bridge"];
    let datapaths = run_at(&lab, &node, &datapaths).await.unwrap();
    assert_eq!(datapaths.split_whitespace().collect::<Vec<_>>(), ["netdev", "netdev"]);
    run_at(&lab, &node, &["touch", "/var/lib/of-n1", "/opt/cni/of-n1"]).await.unwrap();
    assert!(!Path::new("/var/lib/of-n1").exists());
    run_at(&lab, &Place::Node(2), &["test", "!", "-e", "/var/lib/of-n1"]).await.unwrap();
    run_at(&lab, &Place::Node(2), &["test", "!", "-e", "/opt/cni/of-n1"]).await.unwrap();
    let conflist = run_at(&lab, &node, &["cat", "/etc/cni/net.d/10-atoll.conflist"]).await.unwrap();
    assert!(conflist.contains("atoll-cni"), "{conflist}");

    let processes = lab.processes().unwrap();
    for program in ["ovsdb-server", "ovs-vswitchd", "ovn-controller", "sleep"] {
        let count = processes.iter().filter(|process| process.command == program).count();
        assert_eq!(count, 2, "{program}: {processes:?}");
    }
    let removed = lab.down().await.unwrap();
    assert_eq!(removed.processes, processes.len());
    assert_nothing_left(&name, &dir, &processes);
    assert!(down(&name).await.unwrap().is_nothing());
}

#[tokio::test]
async fn status_says_where_everything_is() {
    let lab = ScopedLab::up(bare(1)).await.unwrap();
    let status: Status = lab.status().await.unwrap();
    let shown = serde_json::to_value(&status).unwrap();
    let name = lab.name().clone();
    lab.down().await.unwrap();

    assert_eq!(shown["members"][0]["id"], "m1");
    assert_eq!(shown["members"][0]["role"], "stopped");
    assert_eq!(shown["members"][0]["ns"], format!("{name}-m1"));
    assert_eq!(shown["central"], serde_json::Value::Null);
    assert_eq!(shown["nodes"][0]["name"], "n1");
    assert_eq!(shown["nodes"][0]["ip"], "172.31.0.101");
    assert_eq!(shown["nodes"][0]["systemId"], serde_json::Value::Null);
    assert_eq!(shown["pods"], serde_json::json!([]));
    assert_eq!(shown["outside"]["ns"], format!("{name}-outside"));
    let outside = ["172.31.0.200", "fd31::200", "203.0.113.1", "fd99::1"];
    assert_eq!(shown["outside"]["addresses"], serde_json::json!(outside));
}

#[tokio::test]
async fn a_taken_name_is_refused_in_one_line_and_the_lab_that_has_it_is_not_touched() {
    let lab = ScopedLab::up(bare(0)).await.unwrap();
    let name = lab.name().clone();
    let before = namespaces_of(&name);

    let output = atoll_lab(&format!("up --bare --name {name}")).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains(&format!("there is a lab '{name}' already")), "{stderr}");
    let options = Options { name: name.clone(), ..bare(0) };
    assert!(Lab::up(options).await.unwrap_err().is::<Refused>());

    assert_eq!(namespaces_of(&name), before);
    lab.down().await.unwrap();
}

/// The state file may be lost, for instance with a reboot of `/run` in a container.
#[tokio::test]
async fn a_lab_whose_state_is_lost_still_has_its_name_and_still_goes_down() {
    let lab = ScopedLab::up(bare(1)).await.unwrap();
    let (name, dir) = (lab.name().clone(), lab.dir().to_owned());
    let processes = lab.processes().unwrap();
    fs::remove_file(format!("/run/atoll-lab/{name}.json")).unwrap();

    assert!(Lab::open(&name).unwrap_err().is::<Refused>());
    let options = Options { name: name.clone(), ..bare(0) };
    assert!(Lab::up(options).await.unwrap_err().is::<Refused>());
    assert_eq!(down(&name).await.unwrap().processes, processes.len());
    // Nobody can know any more where its files were.
    fs::remove_dir_all(&dir).unwrap();
    assert_nothing_left(&name, &dir, &processes);
}

#[tokio::test]
async fn down_works_after_every_process_was_killed() {
    let lab = ScopedLab::up(bare(2)).await.unwrap();
    let (name, dir) = (lab.name().clone(), lab.dir().to_owned());
    let processes = lab.processes().unwrap();
    for process in &processes {
        kill(Pid::from_raw(process.pid), Signal::SIGKILL).unwrap();
    }
    wait_until(DEADLINE, "every process to be gone", async || {
        let left = lab.processes()?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
    .unwrap();

    lab.down().await.unwrap();
    assert_nothing_left(&name, &dir, &processes);
}

/// A pod's process is in a network namespace that has no name on the host; what it shares with the
/// lab is its node's mount namespace, which it keeps alive when all else on the node is dead.
#[tokio::test]
async fn down_finds_a_process_in_a_namespace_without_a_name_when_all_others_are_dead() {
    let lab = ScopedLab::up(bare(1)).await.unwrap();
    let (name, dir) = (lab.name().clone(), lab.dir().to_owned());
    let others = lab.processes().unwrap();
    let mut hidden = lab.space(&Place::Node(1)).unwrap().command("unshare");
    let mut hidden = hidden.args(["--net", "sleep", "infinity"]).spawn().unwrap();
    let pid = i32::try_from(hidden.id().unwrap()).unwrap();
    wait_until(DEADLINE, "the process to be where it hides", async || {
        let found = lab.processes()?.into_iter().find(|process| process.pid == pid);
        ensure!(found.as_ref().is_some_and(|found| found.command == "sleep"), "{found:?}");
        Ok(())
    })
    .await
    .unwrap();
    for process in &others {
        kill(Pid::from_raw(process.pid), Signal::SIGKILL).unwrap();
    }
    wait_until(DEADLINE, "only it to be left", async || {
        let left = lab.processes()?;
        ensure!(left.len() == 1 && left[0].pid == pid, "{left:?}");
        Ok(())
    })
    .await
    .unwrap();

    assert_eq!(lab.down().await.unwrap().processes, 1);
    let ended = tokio::time::timeout(DEADLINE, hidden.wait()).await.unwrap().unwrap();
    assert!(!ended.success());
    assert_nothing_left(&name, &dir, &others);
}

#[tokio::test]
async fn an_interrupted_up_takes_down_what_it_made() {
    let name = unique_name();
    let _end = DownOnDrop::new(name.clone());
    let mut up = Command::new(env!("CARGO_BIN_EXE_atoll-lab"));
    up.args(["up", "--bare", "--nodes", "8", "--name", &name.to_string()]);
    let up = up.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lab = wait_until(DEADLINE, "something to be made", async || {
        ensure!(!namespaces_of(&name).is_empty(), "no namespace");
        Lab::open(&name)
    })
    .await
    .unwrap();
    let pid = i32::try_from(up.id().unwrap()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();

    let output = up.wait_with_output().await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("interrupted"), "{stderr}");
    assert_nothing_left(&name, lab.dir(), &[]);
    assert!(lab.processes().unwrap().is_empty());
}

/// As an interrupted one, but `up` itself gets no chance.
#[tokio::test]
async fn down_works_after_up_was_killed_half_way() {
    let name = unique_name();
    let _end = DownOnDrop::new(name.clone());
    let mut up = Command::new(env!("CARGO_BIN_EXE_atoll-lab"));
    up.args(["up", "--bare", "--nodes", "8", "--name", &name.to_string()]);
    let mut up = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let lab = wait_until(DEADLINE, "something to be made", async || {
        ensure!(!namespaces_of(&name).is_empty(), "no namespace");
        Lab::open(&name)
    })
    .await
    .unwrap();
    up.kill().await.unwrap();

    let output = atoll_lab(&format!("down -o json --name {name}")).await;
    assert!(output.status.success(), "{output:?}");
    assert_nothing_left(&name, lab.dir(), &[]);
    assert!(lab.processes().unwrap().is_empty());
}

/// Here a tool is missing in the middle of it all: what it stands for is any failure of `up`.
#[tokio::test]
async fn a_failed_up_leaves_nothing_unless_it_is_told_to() {
    let given = tempfile::Builder::new().prefix("lab").tempdir().unwrap();
    let tools = given.path().join("bin");
    fs::create_dir(&tools).unwrap();
    let failing = tools.join("ethtool");
    fs::write(&failing, "#!/bin/sh\necho no such device >&2\nexit 92\n").unwrap();
    fs::set_permissions(&failing, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let (name, dir) = (unique_name(), given.path().join("lab"));
    let _end = DownOnDrop::new(name.clone());
    let up = async |more: &[&str]| {
        let mut up = Command::new(env!("CARGO_BIN_EXE_atoll-lab"));
        up.args(["up", "--bare", "--name", &name.to_string(), "--dir"]).arg(&dir).args(more);
        up.env("PATH", &path).output().await.unwrap()
    };

    let output = up(&[]).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("no such device"), "{stderr}");
    assert_nothing_left(&name, &dir, &[]);

    assert_eq!(up(&["--keep"]).await.status.code(), Some(1));
    assert!(dir.exists() && !namespaces_of(&name).is_empty());
    down(&name).await.unwrap();
    assert_nothing_left(&name, &dir, &[]);
}

/// `up` once took a process for dead that had not yet entered its namespaces, and so never got to
/// see what it had to say.
#[tokio::test]
async fn a_member_that_ends_at_once_is_quoted_and_a_missing_program_is_named() {
    let programs = tempfile::Builder::new().prefix("lab").tempdir().unwrap();
    let atoll_lab = programs.path().join("atoll-lab");
    fs::copy(env!("CARGO_BIN_EXE_atoll-lab"), &atoll_lab).unwrap();
    let name = unique_name();
    let _end = DownOnDrop::new(name.clone());
    let up = async || {
        let mut up = Command::new(&atoll_lab);
        let output = up.args(["up", "--name", &name.to_string()]).output().await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };

    let stderr = up().await;
    let missing = programs.path().join("atolld");
    assert!(stderr.contains(&format!("{} is missing: build first", missing.display())), "{stderr}");

    // It makes certificates, and does not run as a member.
    let script = "#!/bin/sh\n[ \"$1\" = pki ] && exit 0\necho 'no such key: nme' >&2\nexit 2\n";
    for program in ["atolld", "atoll-node", "atoll-cni", "atollctl"] {
        let program = programs.path().join(program);
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let stderr = up().await;
    assert!(stderr.contains("no such key: nme") && stderr.contains("it has ended"), "{stderr}");
    assert_eq!(namespaces_of(&name), Vec::<String>::new());
}

#[tokio::test]
async fn a_machine_without_a_tool_is_told_which_and_in_which_package() {
    let mut up = Command::new(env!("CARGO_BIN_EXE_atoll-lab"));
    up.args(["up", "--bare", "--name", &unique_name().to_string()]).env("PATH", "/nowhere");
    let output = up.output().await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr, "atoll-lab: 'ip' is not in PATH: apt-get install iproute2\n");
}

#[tokio::test]
async fn two_labs_side_by_side_do_not_know_of_each_other() {
    let (one, other) = futures::future::join(ScopedLab::up(bare(1)), ScopedLab::up(bare(1))).await;
    let (one, other) = (one.unwrap(), other.unwrap());
    let (name, dir) = (one.name().clone(), one.dir().to_owned());
    let processes = one.processes().unwrap();
    let others = other.processes().unwrap();
    assert!(processes.iter().all(|process| !others.contains(process)));

    one.down().await.unwrap();
    assert_nothing_left(&name, &dir, &processes);
    assert_eq!(other.processes().unwrap(), others);
    run_at(&other, &Place::Node(1), &["ping", "-n", "-c", "1", "-W", "1", "172.31.0.200"])
        .await
        .unwrap();
    other.down().await.unwrap();
}

#[tokio::test]
async fn a_given_directory_is_emptied_but_stays_and_a_full_one_is_refused() {
    let given = tempfile::Builder::new().prefix("lab").tempdir().unwrap();
    let options = || Options { dir: Some(given.path().to_owned()), ..bare(1) };
    let lab = ScopedLab::up(options()).await.unwrap();
    assert!(given.path().join("n1").is_dir());
    lab.down().await.unwrap();
    assert_eq!(fs::read_dir(given.path()).unwrap().count(), 0);

    fs::write(given.path().join("precious"), "").unwrap();
    let options = options();
    let name = options.name.clone();
    assert!(Lab::up(options).await.unwrap_err().is::<Refused>());
    assert!(given.path().join("precious").exists());
    assert!(down(&name).await.unwrap().is_nothing());
}

#[tokio::test]
async fn faults_hit_what_they_name_and_can_be_undone() {
    let lab = ScopedLab::up(bare(2)).await.unwrap();
    let pings = async |address: &str| {
        let ping = ["ping", "-n", "-c", "1", "-W", "1", address];
        run_at(&lab, &Place::Node(1), &ping).await
    };
    let fault = async |verb, target: &str| lab.fault(verb, target.parse().unwrap()).await;
    let (management, tunnel) = ("172.31.0.102", "172.30.0.102");
    let answers = async |address: &str| {
        wait_until(DEADLINE, address, async || pings(address).await).await.unwrap();
    };

    fault(FaultVerb::Cut, "link/2:tunnel").await.unwrap();
    answers(management).await;
    assert!(pings(tunnel).await.is_err());
    fault(FaultVerb::Heal, "link/2:tunnel").await.unwrap();
    answers(tunnel).await;
    fault(FaultVerb::Cut, "link/2:mgmt").await.unwrap();
    assert!(pings(management).await.is_err());
    fault(FaultVerb::Heal, "node/2").await.unwrap();
    answers(management).await;

    let node = lab.node(2).unwrap();
    let before = node.vswitchd().pid().unwrap();
    fault(FaultVerb::Kill, "ovs/2").await.unwrap();
    assert_eq!(node.vswitchd().pid(), None);
    assert!(node.ovsdb().pid().is_some() && node.controller().pid().is_some());
    assert!(pings(tunnel).await.is_err());
    fault(FaultVerb::Restart, "ovs/2").await.unwrap();
    assert_ne!(node.vswitchd().pid().unwrap(), before);
    answers(tunnel).await;

    fault(FaultVerb::Stop, "ovs/2").await.unwrap();
    assert!(pings(tunnel).await.is_err());
    fault(FaultVerb::Cont, "ovs/2").await.unwrap();
    answers(tunnel).await;

    fault(FaultVerb::Kill, "node/2").await.unwrap();
    assert_eq!((node.ovsdb().pid(), node.controller().pid()), (None, None));
    assert!(pings(management).await.is_err());
    fault(FaultVerb::Restart, "node/2").await.unwrap();
    answers(management).await;
    answers(tunnel).await;

    assert!(fault(FaultVerb::Wipe, "ovs/2").await.unwrap_err().is::<Usage>());
    assert!(fault(FaultVerb::Kill, "link/2:mgmt").await.unwrap_err().is::<Usage>());
    assert!(fault(FaultVerb::Kill, "node/3").await.unwrap_err().is::<Usage>());
    lab.down().await.unwrap();
}

/// A frozen process ignores everything but SIGKILL and SIGCONT.
#[tokio::test]
async fn a_frozen_daemon_can_be_restarted_and_a_frozen_lab_taken_down() {
    let lab = ScopedLab::up(bare(1)).await.unwrap();
    let (name, dir) = (lab.name().clone(), lab.dir().to_owned());
    let target: FaultTarget = "ovs/1".parse().unwrap();
    lab.fault(FaultVerb::Stop, target).await.unwrap();
    lab.fault(FaultVerb::Restart, target).await.unwrap();
    lab.fault(FaultVerb::Stop, "node/1".parse().unwrap()).await.unwrap();

    let processes = lab.processes().unwrap();
    lab.down().await.unwrap();
    assert_nothing_left(&name, &dir, &processes);
}

/// If what holds a node's mounts is killed, the node is told to be restarted, and that suffices.
#[tokio::test]
async fn a_node_that_lost_its_mounts_says_so_and_comes_back() {
    let lab = ScopedLab::up(bare(1)).await.unwrap();
    let holder = lab.processes().unwrap().into_iter().find(|process| process.command == "sleep");
    let holder = holder.unwrap().pid;
    kill(Pid::from_raw(holder), Signal::SIGKILL).unwrap();
    let place = Place::Node(1);
    let error = wait_until(DEADLINE, "the loss to be seen", async || match lab.space(&place) {
        Ok(_) => bail!("the node still has its mounts"),
        Err(error) => Ok(error.to_string()),
    })
    .await
    .unwrap();
    assert!(error.contains("fault restart node/1"), "{error}");

    lab.fault(FaultVerb::Restart, "node/1".parse().unwrap()).await.unwrap();
    assert_eq!(run_at(&lab, &place, &["ovs-vsctl", "list-br"]).await.unwrap(), "br-int\nbr-phy\n");
    lab.down().await.unwrap();
}

#[tokio::test]
async fn exec_becomes_the_command_and_ends_with_its_code() {
    let lab = ScopedLab::up(bare(1)).await.unwrap();
    let name = lab.name().clone();
    let output =
        atoll_lab(&format!("exec --name {name} node/1 -- ip -o address show br-phy")).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("172.30.0.101/24"), "{output:?}");
    let output = atoll_lab(&format!("vsctl --name {name} 1 -- br-exists br-ex")).await;
    let stopped = atoll_lab(&format!("status --name {name} -o json")).await;
    lab.down().await.unwrap();
    assert_eq!(output.status.code(), Some(2), "ovs-vsctl's code for a bridge that is not there");
    let status: serde_json::Value = serde_json::from_slice(&stopped.stdout).unwrap();
    assert_eq!(status["name"], name.to_string());

    let output = atoll_lab(&format!("exec --name {name} outside -- true")).await;
    assert_eq!(output.status.code(), Some(3), "there is no such lab: {output:?}");
    assert_eq!(atoll_lab("exec outside").await.status.code(), Some(2));
}
