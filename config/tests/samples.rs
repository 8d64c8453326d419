//! What we show to users loads: the samples, and every TOML block of the reference.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use greenroom_config::{LoadOptions, Settings, load, load_text};

fn sample(name: &str) -> Settings {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name);
    let env = ["LINUX_1_PASSWORD", "LINUX_2_PASSWORD"].map(|name| (name.to_owned(), "secret".to_owned()));
    let loaded = load(&LoadOptions { files: vec![path], env: env.to_vec(), ..LoadOptions::default() });
    let loaded = loaded.unwrap_or_else(|faults| panic!("{name}:\n{faults}"));
    assert_eq!(loaded.warnings, [], "{name}");
    loaded.settings
}

#[test]
fn the_samples_load_without_a_warning() {
    let minimal = sample("minimal.toml");
    let names: Vec<String> = minimal.builders["test"].steps.iter().map(|it| it.name()).collect();
    assert_eq!(names, ["git", "make test"]);
    assert!(minimal.builders["test"].steps[0].halts_on_failure());
    assert!(!minimal.builders["test"].steps[1].halts_on_failure());
    let team = sample("team.toml");
    assert_eq!(team.builders_of(&team.schedulers["main"]), ["fast", "full", "port-gcc", "port-clang"]);
    let own = sample("greenroom.toml");
    assert_eq!(own.builders_of(&own.schedulers["force"]), ["full", "quick"]);
    assert_eq!(team.workers_of(&team.builders["full"]), ["linux-1"]);
}

#[test]
fn no_sample_is_forgotten() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let mut found: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, ["greenroom.toml", "minimal.toml", "notices.json", "team.toml"]);
}

/// The texts between ```` ```toml ```` and ```` ``` ````, with the lines they begin on.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line) {
            (None, "```toml") => open = Some((index + 2, String::new())),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some((_, block)), line) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

#[test]
fn every_block_of_the_reference_loads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/user-guide/configuration.md");
    let blocks = blocks(&std::fs::read_to_string(path).unwrap());
    assert!(blocks.len() >= 7, "only {} blocks were found", blocks.len());
    for (line, block) in blocks {
        if let Err(faults) = load_text(&block, Path::new("/srv/ci")) {
            panic!("the block at line {line}:\n{faults}");
        }
    }
}
