//! The arrows of docs/architecture.md, kept by a machine.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// The house's rooms, and what each may know of the others.
const ARROWS: &[(&str, &[&str])] = &[
    ("reading", &[]),
    ("device", &["reading"]),
    ("store", &["reading"]),
    ("forward", &["reading", "store"]),
    ("dashboard", &["reading", "store"]),
    ("tidemill", &["dashboard", "device", "forward", "reading", "store"]),
];

/// Each heavy library, and the only room that knows it.
const HEAVY: &[(&str, &str)] = &[
    ("axum", "dashboard"),
    ("clap", "tidemill"),
    ("gpiocdev", "device"),
    ("jiff", "reading"),
    ("rppal", "device"),
    ("rumqttc", "forward"),
    ("sd-notify", "tidemill"),
    ("sqlx", "store"),
    ("tokio-serial", "device"),
    ("tracing-journald", "tidemill"),
];

/// What each crate of the workspace says it needs to run, not to be tested.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let runs = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|d| d["kind"] != "dev").map(|d| text(&d["name"])).collect()
    };
    packages.iter().map(|package| (text(&package["name"]), runs(package))).collect()
}

#[test]
fn the_rooms_know_each_other_as_architecture_draws_it() {
    let dependencies = dependencies();
    let rooms: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    for (room, allowed) in ARROWS {
        let known = dependencies[*room].iter().map(String::as_str);
        let known: BTreeSet<&str> = known.filter(|name| rooms.contains(name)).collect();
        assert_eq!(known, allowed.iter().copied().collect(), "what {room} knows");
    }
    let unknown: Vec<_> =
        dependencies.keys().filter(|name| !rooms.contains(name.as_str())).collect();
    assert_eq!(
        unknown,
        ["bench", "xtask"],
        "a new room needs its arrows here and in architecture.md"
    );
}

#[test]
fn only_one_room_knows_each_heavy_library() {
    let dependencies = dependencies();
    for (library, only) in HEAVY {
        for (room, _) in ARROWS {
            let knows = dependencies[*room].contains(*library);
            assert!(!knows || room == only, "{room} knows {library}, which is {only}'s alone");
        }
        let knows = dependencies[*only].contains(*library);
        assert!(knows || *library == "rppal", "{only} no longer knows {library}: mend this list");
    }
}
