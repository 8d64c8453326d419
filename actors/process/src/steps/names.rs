//! Names of steps: identifiers of at most 50 characters, unique in their build.

use std::collections::HashSet;

/// The longest name of a step.
const LONGEST: usize = 50;

/// Makes an identifier of each name and numbers those that occur again.
pub(crate) fn unique_names(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut used: HashSet<String> = HashSet::new();
    let mut unique = Vec::new();
    for name in names {
        let base = identifier(&name);
        let mut candidate = base.clone();
        let mut number = 0;
        while !used.insert(candidate.clone()) {
            number += 1;
            let suffix = format!("_{number}");
            candidate = format!("{}{suffix}", &base[..base.len().min(LONGEST - suffix.len())]);
        }
        unique.push(candidate);
    }
    unique
}

/// ASCII letters, digits, `.`, `_` and `-`, beginning with none of digit and dot.
fn identifier(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.trim().chars() {
        let c = if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
        if c != '_' || !text.ends_with('_') {
            text.push(c);
        }
    }
    if text.starts_with(|c: char| c.is_ascii_digit() || c == '.') || text.is_empty() {
        text.insert(0, '_');
    }
    text.truncate(LONGEST);
    text
}

/// A directory name made of a builder's name, as stock workers find it: anything unusual becomes `_`, and then a hash of
/// the whole name keeps those apart that would be called alike.
pub(crate) fn directory(name: &str) -> String {
    let text: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' })
        .collect();
    match text.as_str() {
        "" | "." | ".." => format!("_{}-{:08x}", text.len(), stable_hash(name)),
        _ if text == name => text,
        _ => format!("{text}-{:08x}", stable_hash(name)),
    }
}

/// FNV-1a: directories outlive this program, so the hash may never change.
fn stable_hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_identifiers() {
        let names = ["make", "make", "run the tests: ä", "1st", &"x".repeat(60), &"x".repeat(70)];
        let unique = unique_names(names.map(str::to_owned));
        assert_eq!(&unique[..4], ["make", "make_1", "run_the_tests_", "_1st"]);
        assert_eq!(unique[4], "x".repeat(50));
        assert_eq!(unique[5], format!("{}_1", "x".repeat(48)));
    }

    #[test]
    fn a_builder_never_leaves_the_basedir() {
        let sanitised = |name: &str| directory(name).rsplit_once('-').map(|it| it.0.to_owned());
        assert_eq!(sanitised("linux x/64").as_deref(), Some("linux_x_64"));
        assert_eq!(sanitised("..").as_deref(), Some("_2"));
        assert_eq!(sanitised("../../etc").as_deref(), Some(".._.._etc"));
    }

    #[test]
    fn builders_whose_names_are_alike_share_no_directory() {
        assert_eq!(directory("linux_x-64.a"), "linux_x-64.a");
        let names = ["linux x", "linux/x", "linux_x", "linux\u{e4}x", "", ".", ".."];
        let directories: HashSet<String> = names.iter().map(|it| directory(it)).collect();
        assert_eq!(directories.len(), names.len(), "{directories:?}");
        // the published values of FNV-1a: never another one, or every builder would move
        assert_eq!(
            (stable_hash(""), stable_hash("a"), stable_hash("foobar")),
            (0x811c_9dc5, 0xe40c_292c, 0xbf9c_f968)
        );
    }
}
