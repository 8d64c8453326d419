//! Documents stay true where a machine can tell: TOML blocks load, links and anchors lead somewhere, targets and subcommands
//! that are named exist, the table of arrows is the one that is enforced.

#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Pages outside `docs/` that people read.
const PAGES: [&str; 4] = ["README.md", "CONTRIBUTING.md", "changelog.d/README.md", "ui/README.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder of documents") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|it| it == "md") {
            into.push(path);
        }
    }
}

/// All pages, sorted.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = PAGES.iter().map(|page| root().join(page)).collect();
    collect(&root().join("docs"), &mut pages);
    pages.sort();
    assert!(pages.len() > 15, "only {} pages were found", pages.len());
    pages
}

fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// A line of a page, with its number and the kind of block it stands in (`None` outside of blocks).
fn lines(text: &str) -> Vec<(usize, Option<String>, &str)> {
    let (mut block, mut lines) = (None::<String>, Vec::new());
    for (index, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &block) {
            (Some(kind), None) => block = Some(kind.trim().to_owned()),
            (Some(_), Some(_)) => block = None,
            (None, _) => lines.push((index + 1, block.clone(), line)),
        }
    }
    assert!(block.is_none(), "a block is not closed");
    lines
}

/// The TOML blocks of a page, with the line that each begins on.
fn toml_blocks(text: &str) -> BTreeMap<usize, String> {
    let mut blocks = BTreeMap::new();
    let (mut begin, mut last) = (0, 0);
    for (number, block, line) in lines(text) {
        if block.as_deref() == Some("toml") {
            if number != last + 1 {
                begin = number;
            }
            last = number;
            let text: &mut String = blocks.entry(begin).or_default();
            text.push_str(line);
            text.push('\n');
        }
    }
    blocks
}

#[test]
fn every_toml_block_of_the_user_guide_loads() {
    // One block reads a password from a file beside it.
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("passwords")).expect("a directory");
    std::fs::write(dir.path().join("passwords/w1"), "secret\n").expect("a file");
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages().iter().filter(|it| it.ends_with("README.md") || short(it).contains("user-guide")) {
        for (line, block) in toml_blocks(&read(page)) {
            seen += 1;
            if let Err(faults) = greenroom_config::load_text(&block, dir.path()) {
                wrong.push(format!("{}:{line}\n{faults}", short(page)));
            }
        }
    }
    assert!(seen >= 12, "only {seen} blocks were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What follows `open` up to `close`, wherever `open` stands in the line.
fn between<'a>(line: &'a str, open: &str, close: &[char]) -> Vec<&'a str> {
    line.split(open).skip(1).filter_map(|rest| Some(&rest[..rest.find(close)?])).collect()
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = |c: char| {
        if c == ' ' { Some('-') } else { (c.is_alphanumeric() || c == '-' || c == '_').then_some(c) }
    };
    heading.trim_start_matches('#').trim().to_lowercase().chars().filter_map(kept).collect()
}

fn anchors(page: &Path) -> BTreeSet<String> {
    let text = read(page);
    let headings =
        lines(&text).into_iter().filter(|(_, block, line)| block.is_none() && line.starts_with('#'));
    headings.map(|(_, _, line)| anchor(line)).collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages() {
        let text = read(&page);
        for (number, _, line) in lines(&text).into_iter().filter(|(_, block, _)| block.is_none()) {
            let mut links = between(line, "](", &[')']);
            links.extend(between(line, "src=\"", &['"']));
            links.extend(between(line, "srcset=\"", &['"']));
            for link in links.into_iter().filter(|it| !it.contains("://")) {
                seen += 1;
                let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
                let folder = page.parent().unwrap_or(root());
                let target = if file.is_empty() { page.clone() } else { folder.join(file) };
                let leads = target.exists() && (fragment.is_empty() || anchors(&target).contains(fragment));
                if !leads {
                    wrong.push(format!("{}:{number} → {link}", short(&page)));
                }
            }
        }
    }
    assert!(seen > 30, "only {seen} links were found");
    assert!(wrong.is_empty(), "links that lead nowhere: {wrong:#?}");
}

/// The word after `program` where a page names a command: in `` `program word …` `` or on a line `$ program word …`.
fn words_after(program: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for page in pages() {
        let text = read(&page);
        for (number, block, line) in lines(&text) {
            let opens = if block.is_some() { format!("$ {program} ") } else { format!("`{program} ") };
            for rest in line.split(&opens).skip(1) {
                let word: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
                if !word.is_empty() && !word.starts_with('-') {
                    found.insert(word, format!("{}:{number}", short(&page)));
                }
            }
        }
    }
    found
}

#[test]
fn every_make_target_that_is_named_exists() {
    let makefile = read(&root().join("Makefile"));
    let is_target = |word: &str| makefile.lines().any(|line| line.starts_with(&format!("{word}:")));
    let named = words_after("make");
    assert!(named.contains_key("demo") && named.contains_key("test"), "{named:?}");
    let wrong: Vec<_> = named.iter().filter(|(word, _)| !is_target(word)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The subcommands that `greenroom help` lists.
fn subcommands() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_greenroom")).arg("help").output().expect("greenroom help");
    let text = String::from_utf8(output.stdout).expect("text");
    // In groups: each subcommand is a line that begins with two spaces and its name.
    let listed =
        text.lines().take_while(|line| *line != "Options:").filter_map(|line| line.strip_prefix("  "));
    let listed = listed.filter(|line| line.starts_with(|it: char| it.is_ascii_lowercase()));
    listed.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

#[test]
fn the_subcommands_that_are_named_are_those_that_exist() {
    let (exist, named) = (subcommands(), words_after("greenroom"));
    let wrong: Vec<_> = named.iter().filter(|(word, _)| !exist.contains(*word)).collect();
    assert!(wrong.is_empty(), "named but not there: {wrong:?}");
    let guide = read(&root().join("docs/user-guide/install.md"));
    let rows: Vec<&str> = guide.lines().filter(|line| line.starts_with("| `")).collect();
    let missing: Vec<_> = exist
        .iter()
        .filter(|word| *word != "help" && !rows.iter().any(|row| row.starts_with(&format!("| `{word}` |"))))
        .collect();
    assert!(missing.is_empty(), "there but not in the table of install.md: {missing:?}");
}

/// The lists that `tests/layers.rs` enforces: rows such as `("data", &["db", "mq"]),`.
fn enforced(name: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = read(&root().join("tests/layers.rs"));
    let rows = text.lines().skip_while(|line| !line.starts_with(&format!("const {name}"))).skip(1);
    let mut lists = BTreeMap::new();
    for row in rows.take_while(|line| !line.starts_with("];")) {
        let mut words = row.split('"').skip(1).step_by(2).map(str::to_owned);
        let key = words.next().unwrap_or_else(|| panic!("a row without a name: {row}"));
        lists.insert(key, words.collect());
    }
    lists
}

#[test]
fn the_architecture_shows_the_arrows_that_are_enforced() {
    let text = read(&root().join("docs/ARCHITECTURE.md"));
    let rows = text
        .lines()
        .skip_while(|line| !line.starts_with("### Who may use whom"))
        .filter(|line| line.starts_with("| `"));
    let list = |cell: &str| -> BTreeSet<String> {
        cell.split(',').map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()).collect()
    };
    let (mut uses, mut never) = (BTreeMap::new(), BTreeMap::new());
    for row in rows.take(enforced("ARROWS").len()) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`').to_owned();
        uses.insert(name.clone(), list(cells[1]));
        if !list(cells[2]).is_empty() {
            never.insert(name, list(cells[2]));
        }
    }
    assert_eq!(uses, enforced("ARROWS"));
    assert_eq!(never, enforced("FOREIGN"));
}

#[test]
fn every_decision_has_its_number_and_its_parts() {
    let mut numbers = BTreeSet::new();
    let mut records = Vec::new();
    collect(&root().join("docs/adr"), &mut records);
    for record in records.iter().filter(|it| !it.ends_with("000-template.md")) {
        let name = record.file_name().and_then(|it| it.to_str()).unwrap_or_default().to_owned();
        let number: u32 =
            name.get(..4).and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("{name}: no number"));
        assert!(numbers.insert(number), "{name}: its number is taken");
        let text = read(record);
        for part in ["# ADR: ", "\nStatus: ", "\n## Context\n", "\n## Decision\n", "\n## Consequences\n"] {
            assert!(text.contains(part), "{name} has no {part:?}");
        }
    }
    assert!(numbers.len() >= 10);
}
