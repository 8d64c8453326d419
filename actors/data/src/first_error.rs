//! The first line of a broken build that reads like an error.

use std::ops::Range;
use std::sync::LazyLock;

use futures_util::TryStreamExt;
use greenroom_model::{Log, LogId, LogKind, Results, Step, StepId};
use regex::Regex;

use crate::error::DataError;
use crate::ro::Ro;

/// How much of the end of a log is looked at: lines, and bytes.
const TAIL_LINES: i64 = 1_000;
const TAIL_BYTES: usize = 4 << 20;
/// How many characters of a line are shown.
const CUT: usize = 400;
/// How many lines are shown before the error, and after it.
const AROUND: (usize, usize) = (1, 3);

/// The line that says what went wrong, with what stands around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstError {
    /// The step that broke.
    pub step: StepId,
    /// Its log.
    pub log: LogId,
    /// The line's number, from 1.
    pub line: i64,
    /// Its text, without colours and what was overwritten.
    pub text: String,
    /// It and the lines about it, with their numbers.
    pub around: Vec<(i64, String)>,
}

impl Ro {
    /// The first error of the first broken step: the line of the end of its log that reads like one, else the last that says
    /// anything. None: no step is broken, or it has said nothing. Reads a bounded piece of one log.
    pub async fn first_error<'a>(
        &self,
        steps: impl Iterator<Item = &'a Step>,
        logs: impl Iterator<Item = &'a Log>,
    ) -> Result<Option<FirstError>, DataError> {
        let broken = steps.filter(|s| matches!(s.results, Some(Results::Failure | Results::Exception)));
        let Some(step) = broken.min_by_key(|s| s.number) else { return Ok(None) };
        let of_step = logs.filter(|l| l.step == step.id && l.num_lines > 0 && l.kind != LogKind::Html);
        let Some(log) = of_step.min_by_key(|l| (l.slug != "stdio", l.id)) else { return Ok(None) };
        let first = (log.num_lines - TAIL_LINES).max(0);
        let (mut text, mut pieces) = (Vec::new(), self.log_text(log.id, first..log.num_lines));
        while text.len() < TAIL_BYTES
            && let Some(piece) = pieces.try_next().await?
        {
            text.extend_from_slice(&piece);
        }
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let found = find(&lines, log.kind).map(|at| {
            let line = |i: usize| (first + i as i64 + 1, plain(lines[i], log.kind));
            let shown = around(at, lines.len());
            let (number, text) = line(at);
            FirstError { step: step.id, log: log.id, line: number, text, around: shown.map(line).collect() }
        });
        Ok(found)
    }
}

fn around(at: usize, lines: usize) -> Range<usize> {
    at.saturating_sub(AROUND.0)..(at + AROUND.1 + 1).min(lines)
}

/// The place of the first line that reads like an error, else of the last that is not empty.
fn find(lines: &[&str], kind: LogKind) -> Option<usize> {
    let mut last = None;
    for (at, line) in lines.iter().enumerate() {
        // What the master itself remarks says nothing of the work.
        if kind == LogKind::Stdio && line.starts_with('h') {
            continue;
        }
        let text = plain(line, kind);
        if text.trim().is_empty() {
            continue;
        }
        if reads_like_an_error(&text) {
            return Some(at);
        }
        last = Some(at);
    }
    last
}

/// The text of a stored line without its stream's letter, colours and what was overwritten.
fn plain(line: &str, kind: LogKind) -> String {
    static SEQUENCES: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))").ok());
    let line = match kind {
        LogKind::Stdio => line.get(1..).unwrap_or_default(),
        LogKind::Text | LogKind::Html => line,
    };
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or_default();
    let text = SEQUENCES.as_ref().map_or_else(|| line.into(), |it| it.replace_all(line, ""));
    text.chars().take(CUT).collect()
}

fn reads_like_an_error(text: &str) -> bool {
    static ERROR: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            r"(?i)(^|[^\w-])(error|fatal|panicked|exception|traceback|segmentation fault|assertion|undefined reference|no such file|command not found|permission denied|timed out|killed|not ok)\b|\bFAIL(ED)?\b",
        )
        .ok()
    });
    static NO_ERROR: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?i)\b(0|no) (errors?|failed|failures?)\b|-Werror|error(-|_)|(^|\s)-\S*error").ok()
    });
    let says = |it: &Option<Regex>| it.as_ref().is_some_and(|it| it.is_match(text));
    says(&ERROR) && !says(&NO_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_reads_like_an_error_is_found_before_the_last_one() {
        let found = |lines: &[&str]| find(lines, LogKind::Stdio);
        assert_eq!(found(&["hrun FAILED", "otest a ... ok", "oerror: boom", "odone"]), Some(2));
        assert_eq!(found(&["o0 errors", "o-Werror=all", "o ", "olast words", "o", "hexit code 1"]), Some(3));
        assert_eq!(found(&["hnothing", "o"]), None);
        assert_eq!(around(0, 1), 0..1);
        assert_eq!(around(5, 100), 4..9);
    }

    #[test]
    fn colours_and_overwritten_text_are_left_out() {
        assert_eq!(plain("o\u{1b}[31mred\u{1b}[0m\u{1b}]8;;http://x\u{7}link", LogKind::Stdio), "redlink");
        assert_eq!(plain("e10 %\r20 %\rdone\r", LogKind::Stdio), "done");
        assert_eq!(plain("plain", LogKind::Text), "plain");
        assert_eq!(plain(&"x".repeat(1000), LogKind::Text).len(), CUT);
        assert!(reads_like_an_error("thread 'a' panicked at src/lib.rs:1"));
        assert!(!reads_like_an_error("0 failures, error-free"));
    }
}
