//! Lines of a log as a terminal shows them, and the one among them that names the error: one rule for the page and for messages.

use std::sync::LazyLock;

use greenroom_model::LogKind;
use regex::Regex;

/// The patterns are ours; a test compiles them all.
type Pattern = LazyLock<Option<Regex>>;

/// Names an error, surely.
static STRONG: Pattern = LazyLock::new(|| {
    compile(concat!(
        r"(?:^|[\s:])(?:fatal )?error(?:\[\w+\])?:|\bfatal:|\bpanicked at\b|^FAIL(?:ED)?\b[: ]|\*\*\* .*\bError\b",
        r"|^\s*\w*(?:Error|Exception)\b[: ]|\bundefined reference\b|\bSegmentation fault\b|\bcommand not found\b",
        r"|\bNo such file or directory\b|^E\s{2,}\S|^not ok\b"
    ))
});
/// May name one.
static WEAK: Pattern = LazyLock::new(|| {
    compile(concat!(
        r"(?i)\b(?:error|failed|failure|fail|fatal|exception|traceback|panicked|assertion|cannot|denied|timed out",
        r"|killed|segmentation fault|no such file)\b"
    ))
});
/// Counts of nothing, and flags and names with such a word: no errors.
static HARMLESS: Pattern = LazyLock::new(|| {
    compile(r"(?i)\b(?:0|no) (?:errors?|failed|failures?|exceptions?)\b|\berror[-_]|(?:^|\s)-\S*error")
});
static ESCAPE: Pattern =
    LazyLock::new(|| compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])"));

fn compile(pattern: &str) -> Option<Regex> {
    Regex::new(pattern).ok()
}

fn says(pattern: &Pattern, line: &str) -> bool {
    pattern.as_ref().is_some_and(|it| it.is_match(line))
}

/// The place of the first line that surely names an error, else of the first that may. Lines as [`plain`] gives them.
pub fn error_line<'a>(lines: impl Iterator<Item = &'a str> + Clone) -> Option<usize> {
    let surely = |line: &str| says(&STRONG, line) && !says(&HARMLESS, line);
    let perhaps = |line: &str| says(&WEAK, line) && !says(&HARMLESS, line);
    lines.clone().position(surely).or_else(|| lines.clone().position(perhaps))
}

/// What a stored line says of the work, without its newline: without its stream's letter, terminal escapes and control characters, and as it
/// was at last if it was written over; at most so many characters. None: the machinery itself remarks something.
pub fn plain(line: &str, kind: LogKind, most: usize) -> Option<String> {
    let line = match (kind, line.chars().next()) {
        (LogKind::Stdio, Some('h') | None) => return None,
        (LogKind::Stdio, Some(letter)) => &line[letter.len_utf8()..],
        (LogKind::Text | LogKind::Html, _) => line,
    };
    let line = match ESCAPE.as_ref() {
        Some(escape) => escape.replace_all(line, ""),
        None => line.into(),
    };
    let shown = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let shown: String = shown.chars().filter(|it| !it.is_control() || *it == '\t').take(most).collect();
    Some(shown.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&str> {
        error_line(text.lines()).and_then(|at| text.lines().nth(at))
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
            ("ok 1\nnot ok 2 - sums", "not ok 2 - sums"),
            ("fatal: not a git repository", "fatal: not a git repository"),
            ("sh: 1: foo: command not found", "sh: 1: foo: command not found"),
            ("the upload failed\nbye", "the upload failed"),
            ("make: *** [Makefile:2: all] Error 2", "make: *** [Makefile:2: all] Error 2"),
            ("something failed\nerror: the reason", "error: the reason"),
        ] {
            assert_eq!(found(text), Some(wanted), "{text}");
        }
        assert_eq!(found("12 passed, 0 failed\nno errors\ncc -Werror=all\nerror-free\nall good"), None);
    }

    #[test]
    fn lines_are_as_a_terminal_shows_them() {
        let of = |line: &str| plain(line, LogKind::Stdio, 40);
        assert_eq!(of("o\u{1b}[1;31mred\u{1b}[0m and \u{7}plain").as_deref(), Some("red and plain"));
        assert_eq!(of("o\u{1b}]8;;http://x\u{7}link").as_deref(), Some("link"));
        assert_eq!(of("eloading 1%\rloading 2%\r").as_deref(), Some("loading 2%"));
        assert_eq!((of("hcommand starts"), of("")), (None, None));
        assert_eq!(plain("hello", LogKind::Text, 40).as_deref(), Some("hello"));
        assert_eq!(of(&format!("o{}", "ä".repeat(2_000))).map(|it| it.chars().count()), Some(40));
    }
}
