//! The architecture as a test: what each crate may depend on (ARCHITECTURE.md, "Layers").

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// (crate, workspace crates, external crates). `*` is "anything".
///
/// Layer 0 is pure: no tokio, file, socket, clock, environment or randomness may come in through
/// a dependency either.
const ALLOWED: &[(&str, &[&str], &[&str])] = &[
    // Layer 0: pure.
    ("atoll-ipam", &[], &["imbl", "ipnetwork", "thiserror"]),
    ("atoll-model", &["atoll-ipam"], &["thiserror"]),
    ("atoll-codec", &["atoll-model"], &["bytes", "crc32fast", "prost", "thiserror"]),
    ("atoll-store", &["atoll-ipam", "atoll-model"], &["imbl", "siphasher", "thiserror"]),
    ("atoll-ovn-plan", &["atoll-model", "atoll-store"], &["sha2", "thiserror", "uuid"]),
    // Layer 1: the wire.
    ("atoll-cni-wire", &[], &["serde", "serde_json", "thiserror"]),
    ("atoll-api", &["atoll-codec", "atoll-model"], &["*"]),
    ("atoll-ovsdb", &[], &["*"]),
    // Layer 2: services. They do not know each other.
    ("atoll-raft", &["atoll-api", "atoll-codec", "atoll-model", "atoll-store"], &["*"]),
    ("atoll-ovn-sync", &["atoll-model", "atoll-ovn-plan", "atoll-ovsdb", "atoll-store"], &["*"]),
    ("atoll-kube", &["atoll-api", "atoll-model"], &["*"]),
    // Layer 3: processes. None depends on another.
    (
        "atolld",
        &[
            "atoll-api",
            "atoll-codec",
            "atoll-kube",
            "atoll-model",
            "atoll-ovn-plan",
            "atoll-ovn-sync",
            "atoll-ovsdb",
            "atoll-raft",
            "atoll-store",
        ],
        &["*"],
    ),
    ("atoll-node", &["atoll-api", "atoll-cni-wire", "atoll-model", "atoll-ovsdb"], &["*"]),
    ("atoll-cni", &["atoll-cni-wire"], &["serde", "serde_json", "thiserror"]),
    ("atollctl", &["atoll-api", "atoll-model"], &["*"]),
    // Layer 4: tests.
    ("atoll-tests", &["*"], &["*"]),
];

fn packages() -> Vec<serde_json::Value> {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&cargo.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

#[test]
fn crates_depend_only_downwards() {
    let allowed: BTreeMap<_, _> =
        ALLOWED.iter().map(|(krate, ours, theirs)| (*krate, (*ours, *theirs))).collect();
    let mut faults = BTreeSet::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let Some((ours, theirs)) = allowed.get(name) else {
            faults.insert(format!("{name}: add it to ALLOWED, with the layer it belongs to"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            if !dependency["kind"].is_null() {
                continue; // Dev- and build-dependencies may be anything.
            }
            let on = dependency["name"].as_str().unwrap();
            let list = if dependency["path"].is_null() { theirs } else { ours };
            if !list.contains(&on) && !list.contains(&"*") {
                faults.insert(format!("{name} may not depend on {on}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// openraft is a pre-release: everything of it stays behind one crate.
#[test]
fn only_atoll_raft_knows_openraft_and_sled() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            let kept = ["openraft", "sled"].contains(&on);
            assert!(!kept || name == "atoll-raft", "{name} may not depend on {on}");
        }
    }
}

/// A listener or channel of tonic's own would be a way in that asks for no certificate.
#[test]
fn grpc_connections_are_made_and_taken_in_one_place() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut faults = Vec::new();
    for krate in ["api", "raft", "server", "node", "cli"] {
        for file in sources(&root.join(krate)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for own in ["TcpIncoming", "Channel::from_", "connect_with_connector"] {
                let is_the_place = file.ends_with("api/src/client/endpoint.rs");
                if text.contains(own) && !is_the_place {
                    faults.push(format!("{}: {own}; use atoll_api::tls", file.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// All Rust files of a crate.
fn sources(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let deeper = |path: std::path::PathBuf| match path.is_dir() {
        true => sources(&path),
        false => vec![path],
    };
    let is_rust = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "rs");
    entries.flat_map(deeper).filter(is_rust).collect()
}

/// A crate that does not opt in is checked by nobody.
#[test]
fn every_crate_takes_the_workspace_lints() {
    for package in packages() {
        let manifest = std::fs::read_to_string(package["manifest_path"].as_str().unwrap()).unwrap();
        let name = &package["name"];
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name} has no workspace lints");
    }
}
