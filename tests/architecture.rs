//! The arrows between the crates: who may depend on whom.

use std::{collections::BTreeMap, process::Command};

use crate::harness::root;

/// What each crate may depend on, of the workspace.
const ARROWS: [(&str, &[&str]); 7] = [
    ("tidemill-core", &[]),
    ("tidemill-config", &["tidemill-core"]),
    ("tidemill-journal", &["tidemill-config", "tidemill-core"]),
    ("tidemill-sandbox", &["tidemill-config", "tidemill-core"]),
    ("tidemill-connectors", &["tidemill-config", "tidemill-core"]),
    (
        "tidemill",
        &[
            "tidemill-config",
            "tidemill-connectors",
            "tidemill-core",
            "tidemill-journal",
            "tidemill-sandbox",
        ],
    ),
    // The floors run with the sandbox's settings; the engine is its binary, but where events are to come from memory.
    (
        "tidemill-bench",
        &[
            "tidemill",
            "tidemill-config",
            "tidemill-core",
            "tidemill-sandbox",
        ],
    ),
];

/// What would bring I/O, a clock, randomness or a runtime into core.
const IMPURE: [&str; 8] = [
    "tokio",
    "rand",
    "fastrand",
    "rusqlite",
    "wasmtime",
    "object_store",
    "notify",
    "tracing",
];

fn dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |value: &serde_json::Value| value["name"].as_str().expect("a name").to_owned();
    let packages = packages.iter().map(|package| {
        let all = package["dependencies"].as_array().expect("dependencies");
        let shipped = all.iter().filter(|dependency| dependency["kind"] != "dev");
        (name(package), shipped.map(name).collect())
    });
    packages.collect()
}

#[test]
fn arrows_point_down() {
    let dependencies = dependencies();
    let known: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    for name in dependencies.keys() {
        assert!(
            known.contains(&name.as_str()),
            "{name} has no line in this test and the design"
        );
    }
    for (name, allowed) in ARROWS {
        let own = dependencies[name]
            .iter()
            .filter(|dependency| known.contains(&dependency.as_str()));
        for dependency in own {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} must not know {dependency}"
            );
        }
    }
}

#[test]
fn core_is_pure() {
    for dependency in &dependencies()["tidemill-core"] {
        assert!(
            !IMPURE.contains(&dependency.as_str()),
            "core must not know {dependency}"
        );
    }
}
