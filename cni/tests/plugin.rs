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
        ("CHECK", NONE, good.replace("prevResult", "other"), 7, "prevResult is missing"),
        ("CHECK", NONE, good.clone(), 7, "does not name the interface"),
        ("CHECK", ("CNI_NETNS", ""), good.clone(), 4, "CNI_NETNS"),
        ("GC", NONE, good.clone(), 1, "1.1.0"),
        ("STATUS", NONE, good, 1, "1.1.0"),
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
fn a_command_that_a_version_lacks_is_refused_as_incompatible() {
    let runtime = Runtime::new();
    for (command, version, since) in [
        ("CHECK", "0.3.1", "0.4.0"),
        ("GC", "0.4.0", "1.1.0"),
        ("GC", "1.0.0", "1.1.0"),
        ("STATUS", "0.3.1", "1.1.0"),
        ("STATUS", "1.0.0", "1.1.0"),
    ] {
        let ended = runtime.call(command, &runtime.config(version));
        let printed = parse(&ended.stdout);
        assert_eq!(
            (ended.code, &printed["code"]),
            (1, &json!(1)),
            "{command} {version}: {printed}"
        );
        let message = printed["msg"].as_str().unwrap();
        assert!(message.contains(since) && message.contains(version), "{message}");
        assert_eq!(printed["cniVersion"], version);
    }
}

/// The result that a version's `ADD` printed is what its `CHECK` is given.
#[test]
fn check_hands_what_add_said_to_the_agent() {
    for (version, golden) in [
        ("0.4.0", include_str!("golden/add-0.4.0.json")),
        ("1.0.0", include_str!("golden/add-1.0.0.json")),
        ("1.1.0", include_str!("golden/add-1.1.0.json")),
    ] {
        let runtime = Runtime::new();
        let agent = FakeAgent::answering(runtime.socket(), Response::Checked);
        let config = with(&runtime.config(version), "prevResult", parse(golden));
        let ended = runtime.call("CHECK", &config);
        assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{version}");
        let request = agent.request();
        let mut expected = added();
        // The route that has no gateway here is not known to be ours.
        expected.routes.pop();
        if version != "1.1.0" {
            expected.interfaces.iter_mut().for_each(|it| it.mtu = None);
        }
        assert_eq!(
            (request.command, request.previous),
            (Command::Check, Some(expected)),
            "{version}"
        );
        assert_eq!(request.network, "atoll");
    }
}

#[test]
fn gc_hands_the_list_to_the_agent_and_a_missing_one_to_nobody() {
    let runtime = Runtime::new();
    let bare = [("CNI_CONTAINERID", ""), ("CNI_NETNS", ""), ("CNI_IFNAME", ""), ("CNI_ARGS", "")];
    let config = runtime.config("1.1.0");
    let missing = parse(&runtime.call_with("GC", &bare, &config).stdout);
    assert_eq!(missing["code"], 7, "{missing}");
    assert!(missing["msg"].as_str().unwrap().contains("nothing was taken down"), "{missing}");

    let agent = FakeAgent::answering(runtime.socket(), Response::Collected);
    let listed = json!([{"containerID": "c1", "ifname": "eth0"}]);
    for (list, expected) in [(listed, 1), (json!([]), 0)] {
        let config = with(&config, "cni.dev/valid-attachments", list);
        let ended = runtime.call_with("GC", &bare, &config);
        assert_eq!((ended.code, ended.stdout.as_str()), (0, ""));
        let request = agent.request();
        assert_eq!((request.command, request.network.as_str()), (Command::Gc, "atoll"));
        assert_eq!(request.valid.unwrap().len(), expected);
    }
}

#[test]
fn gc_without_an_agent_fails_and_leaves_nothing_for_later() {
    let runtime = Runtime::new();
    let config = runtime.config("1.1.0").replace("2000", "300");
    let config = with(&config, "cni.dev/valid-attachments", json!([]));
    let ended = runtime.call("GC", &config);
    assert_eq!((ended.code, &parse(&ended.stdout)["code"]), (1, &json!(11)), "{}", ended.stdout);
    assert!(!runtime.tombstones().exists());
}

#[test]
fn status_is_known_within_a_second_also_from_an_agent_that_is_away_or_silent() {
    let runtime = Runtime::new();
    let config = runtime.config("1.1.0");
    let absent = runtime.call("STATUS", &config);
    assert_eq!((absent.code, &parse(&absent.stdout)["code"]), (1, &json!(50)));
    assert!(absent.took.as_millis() < 900, "took {:?}", absent.took);
    let silent = FakeAgent::silent(runtime.socket());
    let ended = runtime.call("STATUS", &config);
    assert_eq!((ended.code, &parse(&ended.stdout)["code"]), (1, &json!(50)));
    assert!(ended.took.as_millis() < 1_900, "took {:?}", ended.took);
    drop(silent);

    let runtime = Runtime::new();
    let _agent = FakeAgent::answering(runtime.socket(), Response::Ready);
    let ended = runtime.call_with("STATUS", &[("CNI_CONTAINERID", "")], &runtime.config("1.1.0"));
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""));
}

/// What an agent of the first release does with a command that it does not know.
#[test]
fn an_older_agent_refuses_by_the_name_of_the_command() {
    let refused = CniError::new(Code::NOT_PROVIDED, "GC is not provided by this release");
    let runtime = Runtime::new();
    let agent = FakeAgent::answering(runtime.socket(), Response::Error(refused));
    let config = with(&runtime.config("1.1.0"), "cni.dev/valid-attachments", json!([]));
    let printed = parse(&runtime.call("GC", &config).stdout);
    assert_eq!(printed["code"], 100, "{printed}");
    let request = agent.request();
    atoll_cni_wire::check_container_id(&request.container_id).unwrap();
    atoll_cni_wire::check_ifname(&request.ifname).unwrap();
}

/// The configuration with one more field.
fn with(config: &str, field: &str, value: Value) -> String {
    let mut config = parse(config);
    config[field] = value;
    config.to_string()
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
