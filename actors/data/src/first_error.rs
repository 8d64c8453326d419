//! The first line of a broken build that reads like an error.

use std::ops::Range;

use futures_util::TryStreamExt;
use greenroom_model::{Log, LogId, LogKind, Results, Step, StepId};

use crate::error::DataError;
use crate::error_line::{error_line, plain};
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
        let lines: Vec<_> = text.lines().map(|line| plain(line, log.kind, CUT)).collect();
        let found = find(&lines).map(|at| {
            // What the machinery remarks between them is no line of the error.
            let line = |i: usize| Some((first + i as i64 + 1, lines.get(i)?.clone()?));
            let shown = around(at, lines.len()).filter_map(line).collect();
            let (number, text) = line(at).unwrap_or_default();
            FirstError { step: step.id, log: log.id, line: number, text, around: shown }
        });
        Ok(found)
    }
}

fn around(at: usize, lines: usize) -> Range<usize> {
    at.saturating_sub(AROUND.0)..(at + AROUND.1 + 1).min(lines)
}

/// The place of the line that names the error, else of the last that says anything.
fn find(lines: &[Option<String>]) -> Option<usize> {
    let says = |line: &Option<String>| line.as_ref().is_some_and(|it| !it.trim().is_empty());
    error_line(lines.iter().map(|it| it.as_deref().unwrap_or_default()))
        .or_else(|| lines.iter().rposition(says))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_names_an_error_is_found_before_the_last_one() {
        let found = |lines: &[&str]| {
            find(&lines.iter().map(|line| plain(line, LogKind::Stdio, CUT)).collect::<Vec<_>>())
        };
        assert_eq!(found(&["hrun FAILED", "otest a ... ok", "oerror: boom", "odone"]), Some(2));
        assert_eq!(found(&["o0 errors", "o-Werror=all", "o ", "olast words", "o", "hexit code 1"]), Some(3));
        assert_eq!(found(&["hnothing", "o"]), None);
        assert_eq!(around(0, 1), 0..1);
        assert_eq!(around(5, 100), 4..9);
    }
}
