//! The layer test: reads the manifests and fails on any arrow between crates that the design does not have.
//!
//! An arrow points at what is used. What is not allowed here cannot be named in code, so the compiler keeps the rest: `process`
//! never names `db` or `mq`, the agent carries neither actix nor sqlx, nothing below the binary knows which engine runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Crate → the crates of this workspace that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("config", &["model"]),
    ("protocol", &["model"]),
    ("runtime", &["model"]),
    ("db", &["runtime", "model", "config"]),
    ("mq", &["runtime", "model", "config"]),
    ("data", &["db", "mq", "runtime", "model", "config"]),
    ("link", &["data", "protocol", "runtime", "model", "config"]),
    ("process", &["data", "link", "runtime", "model", "config"]),
    ("status", &["data", "runtime", "model", "config"]),
    ("www", &["data", "runtime", "model", "config"]),
    ("worker", &["protocol", "model", "config"]),
];

/// Crate → what it must not use from outside, and why that matters.
const FOREIGN: &[(&str, &[&str])] = &[
    ("model", &["actix", "actix-web", "sqlx", "tokio"]),
    ("protocol", &["actix", "actix-web", "sqlx", "tokio"]),
    ("worker", &["actix", "actix-rt", "actix-web", "sqlx"]),
    ("config", &["actix", "actix-web", "sqlx"]),
    ("runtime", &["actix-web", "sqlx"]),
    ("data", &["sqlx", "actix-web"]),
    ("process", &["sqlx", "actix-web"]),
    ("status", &["sqlx", "actix-web"]),
    ("www", &["sqlx"]),
    ("link", &["sqlx"]),
];

fn manifest(name: &str) -> toml::Table {
    let folder = if name == "config" { "config".to_owned() } else { format!("actors/{name}") };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    let of = |table: &toml::Table, key: &str| -> Vec<String> {
        table
            .get(key)
            .and_then(toml::Value::as_table)
            .map(|t| t.keys().cloned().collect())
            .unwrap_or_default()
    };
    // Dev-dependencies may reach further: a layer is tested over the real one below, or against its real peer.
    let mut all: BTreeSet<String> = of(manifest, "dependencies").into_iter().collect();
    all.extend(of(manifest, "build-dependencies"));
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        for target in targets.values().filter_map(toml::Value::as_table) {
            all.extend(of(target, "dependencies"));
        }
    }
    all
}

#[test]
fn crates_use_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    for (name, allowed) in ARROWS {
        for dependency in dependencies(&manifest(name)) {
            if let Some(layer) = dependency.strip_prefix("greenroom-")
                && !allowed.contains(&layer)
            {
                wrong.push(format!("{name} → {layer}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that the design does not have: {wrong:?}");
}

#[test]
fn crates_stay_free_of_what_belongs_elsewhere() {
    let forbidden: BTreeMap<_, _> = FOREIGN.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, _) in ARROWS {
        for dependency in dependencies(&manifest(name)) {
            if forbidden.get(name).is_some_and(|f| f.contains(&dependency.as_str())) {
                wrong.push(format!("{name} uses {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn every_folder_under_actors_is_a_layer() {
    let actors = Path::new(env!("CARGO_MANIFEST_DIR")).join("actors");
    let found: BTreeSet<String> = std::fs::read_dir(actors)
        .expect("the folder of layers")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    let known: BTreeSet<String> =
        ARROWS.iter().map(|(name, _)| (*name).to_owned()).filter(|n| n != "config").collect();
    assert_eq!(found, known, "a new layer needs its arrows here and in docs/ARCHITECTURE.md");
}
