//! The real binary against a fake agent: what a container runtime sees.
#![allow(clippy::unwrap_used, reason = "in a test, a step that fails is the report")]

mod runtime;

use std::fs;

use atoll_cni_wire::{CniError, Code, Command, Response, Tombstone};
use runtime::{FakeAgent, Runtime, added, parse};
use serde_json::{Value, json};

#[test]
fn add_prints_the_result_in_the_shape_of_each_version() {
    for (version, golden) in [
        ("0.3.1", include_str!("golden/add-0.3.1.json")),
        ("0.4.0", include_str!("golden/add-0.4.0.json")),
        ("1.0.0", include_str!("golden/add-1.0.0.json")),
        ("1.1.0", include_str!("golden/add-1.1.0.json")),
    ] {
        let runtime = Runtime::new();
        let agent = FakeAgent::answering(runtime.socket(), Response::Added(added()));
        let ended = runtime.call("ADD", &runtime.config(version));
        assert_eq!(ended.code, 0, "{version}: {}", ended.stdout);
        assert_eq!(parse(&ended.stdout), parse(golden), "{version}");

        let request = agent.request();
        assert_eq!(request.command, Command::Add);
        assert_eq!(request.cni_version, version);
        assert_eq!((request.pod_namespace.as_str(), request.pod_name.as_str()), ("ns", "web-0"));
        assert_eq!(request.pod_uid.as_deref(), Some("uid-1"));
        assert_eq!(request.netns.as_deref(), Some("/run/netns/x"));
        assert!(request.deadline_ms > 0 && request.deadline_ms < 2_000, "{request:?}");
    }
}

#[test]
fn version_names_what_is_supported_without_an_agent() {
    let ended = Runtime::new().call("VERSION", r#"{"cniVersion":"1.0.0"}"#);
    let expected = json!({
        "cniVersion": "1.0.0",
        "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    });
    assert_eq!((ended.code, parse(&ended.stdout)), (0, expected));
}

#[test]
fn an_error_of_the_agent_reaches_the_runtime_as_it_is() {
    let runtime = Runtime::new();
    let error = CniError::new(Code(4711), "subnet web is full").with_details("10.1.0.0/24");
    let _agent = FakeAgent::answering(runtime.socket(), Response::Error(error));
    let ended = runtime.call("ADD", &runtime.config("0.4.0"));
    let expected = json!({
        "cniVersion": "0.4.0", "code": 4711, "msg": "subnet web is full", "details": "10.1.0.0/24",
    });
    assert_eq!((ended.code, parse(&ended.stdout)), (1, expected));
}

#[test]
fn bad_input_is_refused_with_the_code_of_the_specification() {
    const NONE: (&str, &str) = ("UNRELATED", "");
    let runtime = Runtime::new();
    let good = runtime.config("1.0.0");
    let long_id = "a".repeat(201);
    let cases = [
        ("ADD", NONE, "{\"cniVersion\":".into(), 6, "JSON"),
        ("ADD", NONE, String::new(), 6, "JSON"),
        ("ADD", NONE, runtime.config("0.2.0"), 1, "0.2.0"),
        ("ADD", NONE, runtime.config(""), 1, "0.3.1, 0.4.0, 1.0.0, 1.1.0"),
        ("ADD", NONE, good.replace("\"atoll\"", "\"a/b\""), 7, "name"),
        ("ADD", ("CNI_NETNS", ""), good.clone(), 4, "CNI_NETNS"),
        ("ADD", ("CNI_CONTAINERID", ""), good.clone(), 4, "CNI_CONTAINERID"),
        ("ADD", ("CNI_CONTAINERID", &long_id), good.clone(), 4, "longer than 200"),
        ("ADD", ("CNI_IFNAME", "sixteencharacter"), good.clone(), 4, "longer than 15"),
        ("ADD", ("CNI_IFNAME", "../x"), good.clone(), 4, "CNI_IFNAME"),
        ("ADD", ("CNI_ARGS", "K8S_POD_NAME=a"), good.clone(), 4, "K8S_POD_NAMESPACE"),
        ("ADD", ("CNI_ARGS", "nonsense"), good.clone(), 4, "nonsense"),
        ("MOVE", NONE, good.clone(), 4, "MOVE"),
        ("", NONE, good.clone(), 4, "CNI_COMMAND"),
        ("CHECK", NONE, good.clone(), 100, "CHECK"),
        ("GC", NONE, good.clone(), 100, "GC"),
        ("STATUS", NONE, good, 100, "STATUS"),
    ];
    for (command, variable, config, code, mentions) in cases {
        let ended = runtime.call_with(command, &[variable], &config);
        let printed = parse(&ended.stdout);
        let case = format!("{command} {variable:?} {config}: {printed}");
        assert_eq!(ended.code, 1, "{case}");
        assert_eq!(printed["code"], code, "{case}");
        assert!(printed["msg"].as_str().unwrap().contains(mentions), "{case}");
        assert_eq!(printed["cniVersion"], "1.0.0", "{case}");
    }
}

#[test]
fn add_without_an_agent_asks_the_runtime_to_try_again() {
    let runtime = Runtime::new();
    let config = runtime.config("1.0.0").replace("2000", "300");
    let ended = runtime.call("ADD", &config);
    let printed = parse(&ended.stdout);
    assert_eq!((ended.code, &printed["code"]), (1, &json!(11)));
    let message = printed["msg"].as_str().unwrap();
    assert!(message.contains("cni.sock") && message.contains("atoll-node"), "{message}");
    assert!(!runtime.tombstones().exists());
}

// An agent that is being restarted must not cost the pod its sandbox.
#[test]
fn add_waits_for_an_agent_that_is_being_restarted() {
    let runtime = Runtime::new();
    let calling = runtime.start("ADD", &[], &runtime.config("1.0.0"));
    runtime.wait_for_looking(&calling);
    let _agent = FakeAgent::answering(runtime.socket(), Response::Added(added()));
    let ended = calling.end();
    assert_eq!(ended.code, 0, "{}", ended.stdout);
}

#[test]
fn an_agent_that_never_answers_does_not_hold_the_runtime_beyond_the_timeout() {
    let runtime = Runtime::new();
    let _agent = FakeAgent::silent(runtime.socket());
    let config = runtime.config("1.0.0").replace("2000", "300");
    for command in ["ADD", "DEL"] {
        let ended = runtime.call(command, &config);
        let printed = parse(&ended.stdout);
        assert_eq!((ended.code, &printed["code"]), (1, &json!(11)), "{command}: {printed}");
        assert!(printed["msg"].as_str().unwrap().contains("outcome unknown"), "{printed}");
        assert!(ended.took.as_millis() < 1_500, "{command} took {:?}", ended.took);
    }
    // A DEL of unknown outcome is the runtime's to repeat, not the next agent's to guess.
    assert!(!runtime.tombstones().exists());
}

#[test]
fn an_agent_that_hangs_up_leaves_the_outcome_unknown() {
    let runtime = Runtime::new();
    let _agent = FakeAgent::hanging_up(runtime.socket());
    let printed = parse(&runtime.call("ADD", &runtime.config("1.0.0")).stdout);
    assert_eq!(printed["code"], 11, "{printed}");
    assert!(printed["msg"].as_str().unwrap().contains("outcome unknown"), "{printed}");
}

#[test]
fn del_passes_through_and_prints_nothing() {
    let runtime = Runtime::new();
    let agent = FakeAgent::answering(runtime.socket(), Response::Deleted);
    let ended = runtime.call_with("DEL", &[("CNI_NETNS", "")], &runtime.config("1.0.0"));
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""));
    let request = agent.request();
    assert_eq!((request.command, request.netns), (Command::Del, None));
    assert!(!runtime.tombstones().exists());
}

#[test]
fn del_without_an_agent_succeeds_and_leaves_one_tombstone_for_each_interface() {
    let runtime = Runtime::new();
    // A socket file whose process is gone is as absent as none.
    drop(std::os::unix::net::UnixListener::bind(runtime.socket()).unwrap());
    for ifname in ["eth0", "eth0", "net1"] {
        let variables = [("CNI_IFNAME", ifname), ("CNI_ARGS", "")];
        let ended = runtime.call_with("DEL", &variables, &runtime.config("1.0.0"));
        assert_eq!((ended.code, ended.stdout.as_str()), (0, ""));
    }
    let left: Vec<Tombstone> = Tombstone::read_all(&runtime.tombstones())
        .unwrap()
        .into_iter()
        .map(|found| found.unwrap().1)
        .collect();
    let names: Vec<_> = left.iter().map(|tombstone| tombstone.ifname.as_str()).collect();
    assert_eq!(names, ["eth0", "net1"]);
    assert!(left.iter().all(|t| t.container_id == "cafe0123" && t.written_ms > 0));
}

#[test]
fn del_that_can_reach_nobody_and_keep_nothing_says_so() {
    let runtime = Runtime::new();
    fs::write(runtime.tombstones(), "a file where a directory should be").unwrap();
    let ended = runtime.call("DEL", &runtime.config("1.0.0"));
    let printed: Value = parse(&ended.stdout);
    assert_eq!((ended.code, &printed["code"]), (1, &json!(5)), "{printed}");
}
