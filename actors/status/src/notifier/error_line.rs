//! The end of a log as people want to read it, and the line in it that names the error.

use std::sync::LazyLock;

use greenroom_config::mask::Masks;
use regex::Regex;

/// The most lines of a log's end that a message holds.
pub const TAIL: usize = 100;
/// The longest line, in characters.
const LINE: usize = 1_000;

static STRONG: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compile(concat!(
        r"(?:^|[\s:])(?:fatal )?error(?:\[\w+\])?:|\bfatal:|\bpanicked at\b|^FAIL(?:ED)?\b[: ]|\*\*\* .*\bError\b",
        r"|^\s*\w*(?:Error|Exception)\b[: ]|\bundefined reference\b|\bSegmentation fault\b|\bcommand not found\b",
        r"|\bNo such file or directory\b|^E\s{2,}\S"
    ))
});
static WEAK: LazyLock<Option<Regex>> =
    LazyLock::new(|| compile(r"(?i)\b(?:error|failed|failure|fatal|exception|cannot|denied|timed out)\b"));
/// Counts of nothing, which are no errors.
static HARMLESS: LazyLock<Option<Regex>> =
    LazyLock::new(|| compile(r"(?i)\b(?:0|no) (?:errors?|failed|failures?|exceptions?)\b"));
static ESCAPE: LazyLock<Option<Regex>> =
    LazyLock::new(|| compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])"));

/// The patterns are ours; a test compiles them all.
fn compile(pattern: &str) -> Option<Regex> {
    Regex::new(pattern).ok()
}

fn is_match(regex: &LazyLock<Option<Regex>>, line: &str) -> bool {
    regex.as_ref().is_some_and(|it| it.is_match(line))
}

/// The lines of a log's text without the letters of their streams, terminal escapes and control characters, secrets masked.
/// `letters`: whether each line begins with the letter of its stream; what the machinery itself says is left out then.
pub fn clean(text: &str, letters: bool, masks: &Masks) -> Vec<String> {
    let masked = masks.mask(text);
    let lines = masked.lines().filter_map(|line| match (letters, line.chars().next()) {
        (true, Some('h') | None) => None,
        (true, Some(letter)) => Some(&line[letter.len_utf8()..]),
        (false, _) => Some(line),
    });
    let clean = |line: &str| {
        let line = match ESCAPE.as_ref() {
            Some(escape) => escape.replace_all(line, ""),
            None => line.into(),
        };
        // A line that is written over itself shows its last state.
        let shown = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or("");
        let shown = shown.chars().filter(|it| !it.is_control() || *it == '\t').take(LINE);
        shown.collect::<String>().trim_end().to_owned()
    };
    lines.map(clean).collect()
}

/// The first line that surely names an error, else the first that may.
pub fn first_error(lines: &[String]) -> Option<&str> {
    let find = |regex| lines.iter().find(|it| is_match(regex, it) && !is_match(&HARMLESS, it));
    find(&STRONG).or_else(|| find(&WEAK)).map(|it| it.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn all_patterns_compile() {
        for it in [&STRONG, &WEAK, &HARMLESS, &ESCAPE] {
            assert!(it.is_some());
        }
    }

    #[test]
    fn the_line_that_names_the_error_is_found() {
        for (text, wanted) in [
            (
                "make all\nsrc/a.c:3:5: error: expected ';'\nmake: *** [a.o] Error 1",
                "src/a.c:3:5: error: expected ';'",
            ),
            ("error[E0308]: mismatched types\n --> src/x.rs", "error[E0308]: mismatched types"),
            (
                "running 2 tests\nthread 'a' panicked at src/lib.rs:3:5:\nboom",
                "thread 'a' panicked at src/lib.rs:3:5:",
            ),
            ("0 errors so far\nAssertionError: 1 != 2", "AssertionError: 1 != 2"),
            ("ok\nFAILED tests/x.py::test_y", "FAILED tests/x.py::test_y"),
            ("fatal: not a git repository", "fatal: not a git repository"),
            ("sh: 1: foo: command not found", "sh: 1: foo: command not found"),
            ("the upload failed\nbye", "the upload failed"),
            ("make: *** [Makefile:2: all] Error 2", "make: *** [Makefile:2: all] Error 2"),
        ] {
            assert_eq!(first_error(&lines(text)), Some(wanted), "{text}");
        }
        assert_eq!(first_error(&lines("12 passed, 0 failed\nno errors\nall good")), None);
    }

    #[test]
    fn lines_are_as_a_terminal_shows_them() {
        let masks = Masks::new(["hunter22"]);
        let text = "hcommand starts\no\u{1b}[1;31mred\u{1b}[0m and \u{7}plain\neloading 1%\rloading 2%\r\nokey hunter22!\n";
        assert_eq!(clean(text, true, &masks), ["red and plain", "loading 2%", "key ***!"]);
        assert_eq!(clean("hello", false, &masks), ["hello"]);
        assert_eq!(clean(&format!("o{}", "ä".repeat(2_000)), true, &masks)[0].chars().count(), LINE);
    }
}
