//! Searching the text of a log: a literal or a regular expression, in linear time, line by line.

use std::sync::Arc;

use bytes::Bytes;
use memchr::memchr;
use memchr::memmem::Finder;
use regex::bytes::{Regex, RegexBuilder};

/// The longest pattern, in bytes.
pub const MAX_PATTERN: usize = 1_000;
/// The most memory that a compiled pattern may take, in bytes.
const MAX_COMPILED: usize = 1 << 20;
/// The most memory of the cache that a pattern fills while it is used, in bytes.
const MAX_CACHE: usize = 4 << 20;
/// A match shows about so much of its line, in bytes.
const SHOWN: usize = 400;
/// So much of it before the match, if the line is longer than that.
const BEFORE: usize = 100;

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It would match everything.
    #[error("the pattern is empty")]
    Empty,
    /// It is longer than [`MAX_PATTERN`].
    #[error("the pattern is longer than {MAX_PATTERN} bytes")]
    TooLong,
    /// It would take too much memory.
    #[error("the pattern is too large once compiled: use fewer or smaller repetitions")]
    TooLarge,
    /// It is no regular expression.
    #[error("{0}")]
    Syntax(String),
}

/// What a log is searched for. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogPattern(Arc<Matcher>);

#[derive(Debug)]
enum Matcher {
    Literal(Box<Finder<'static>>),
    Regex(Regex),
}

impl LogPattern {
    /// A literal text, or a regular expression of the crate `regex`; `case`: capitals count.
    ///
    /// # Errors
    /// The text is empty, too long, no regular expression, or one that takes too much memory.
    pub fn new(text: &str, regex: bool, case: bool) -> Result<Self, PatternError> {
        match text.len() {
            0 => return Err(PatternError::Empty),
            long if long > MAX_PATTERN => return Err(PatternError::TooLong),
            _ => {}
        }
        if !regex && case {
            return Ok(Self(Arc::new(Matcher::Literal(Box::new(Finder::new(text).into_owned())))));
        }
        let text = if regex { text.to_owned() } else { regex::escape(text) };
        let built = RegexBuilder::new(&text)
            .case_insensitive(!case)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_CACHE)
            .build();
        match built {
            Ok(regex) => Ok(Self(Arc::new(Matcher::Regex(regex)))),
            Err(regex::Error::CompiledTooBig(_)) => Err(PatternError::TooLarge),
            Err(error) => Err(PatternError::Syntax(error.to_string())),
        }
    }

    /// Where a line matches first.
    fn find(&self, line: &[u8]) -> Option<(usize, usize)> {
        match &*self.0 {
            Matcher::Literal(finder) => finder.find(line).map(|at| (at, at + finder.needle().len())),
            Matcher::Regex(regex) => regex.find(line).map(|found| (found.start(), found.end())),
        }
    }

    /// Whether no line of a text can match: often known faster than by looking at each.
    fn nowhere(&self, text: &[u8]) -> bool {
        matches!(&*self.0, Matcher::Literal(finder) if finder.find(text).is_none())
    }
}

/// A line that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogMatch {
    /// Its number, from 0.
    pub line: i64,
    /// Its stream's letter, in a log of streams.
    pub stream: Option<char>,
    /// Its text, or what of it is around the first match if it is long.
    pub text: String,
    /// Whether the line is longer than `text`.
    pub cut: bool,
    /// Where the first match begins in `text`, in UTF-16 code units as JavaScript counts.
    pub start: usize,
    /// Where it ends, or the shown text does.
    pub end: usize,
}

/// How far a search is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Searched {
    /// What was found since the last time, in order.
    pub matches: Vec<LogMatch>,
    /// How many lines matched so far, the ones that are not given included.
    pub count: u64,
    /// All lines before this one are searched.
    pub upto: i64,
}

/// Searches whole lines of a log that begin at line `first`; gives at most `most` matches.
pub(crate) fn scan(pattern: &LogPattern, text: &Bytes, first: i64, streams: bool, most: usize) -> Searched {
    let mut found = Searched { upto: first, ..Searched::default() };
    let lines = || memchr::memchr_iter(b'\n', text).count() as i64;
    if pattern.nowhere(text) {
        return Searched { upto: first + lines(), ..found };
    }
    let mut rest: &[u8] = text;
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, after) = (&rest[..end], &rest[(end + 1).min(rest.len())..]);
        let (stream, line) = match line.split_first() {
            Some((letter, line)) if streams => (Some(char::from(*letter)), line),
            _ => (None, line),
        };
        if let Some(at) = pattern.find(line) {
            found.count += 1;
            if found.matches.len() < most {
                found.matches.push(show(found.upto, stream, line, at));
            }
        }
        found.upto += 1;
        rest = after;
    }
    found
}

/// What is shown of a line that matches.
fn show(number: i64, stream: Option<char>, line: &[u8], (start, end): (usize, usize)) -> LogMatch {
    let boundary = |at: usize| {
        let continues = |at: &usize| line.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
        (at.saturating_sub(3)..=at).rev().find(|at| !continues(at)).unwrap_or(at)
    };
    let from = if line.len() <= SHOWN { 0 } else { boundary(start.saturating_sub(BEFORE)) };
    let upto = if line.len() - from <= SHOWN { line.len() } else { boundary(from + SHOWN) };
    let units = |from: usize, upto: usize| String::from_utf8_lossy(&line[from..upto]).encode_utf16().count();
    // A match may go past what is shown, and an empty one may stand behind it.
    let (start, end) = (start.min(upto), end.min(upto));
    let before = units(from, start);
    LogMatch {
        line: number,
        stream,
        text: String::from_utf8_lossy(&line[from..upto]).into_owned(),
        cut: upto - from < line.len(),
        start: before,
        end: before + units(start, end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(pattern: &str, regex: bool, case: bool, text: &str) -> Vec<(i64, String, usize, usize)> {
        let pattern = LogPattern::new(pattern, regex, case).unwrap();
        let found = scan(&pattern, &Bytes::copy_from_slice(text.as_bytes()), 10, true, 100);
        assert_eq!(found.upto, 10 + text.lines().count() as i64);
        assert_eq!(found.count, found.matches.len() as u64);
        found.matches.into_iter().map(|m| (m.line, m.text, m.start, m.end)).collect()
    }

    #[test]
    fn lines_are_matched_without_their_letter() {
        let text = "oone\neerror: one\nh\nooh\n";
        assert_eq!(
            search("o", false, true, text),
            [(10, "one".into(), 0, 1), (11, "error: one".into(), 3, 4), (13, "oh".into(), 0, 1)]
        );
        assert_eq!(search("^o", true, true, text).len(), 2);
        assert_eq!(search(r"\Aone\z", true, true, text), [(10, "one".into(), 0, 3)]);
        assert_eq!(search("^$", true, true, text), [(12, String::new(), 0, 0)]);
        assert_eq!(search("e\\s*e", true, true, text), []);
        assert_eq!(search("ERROR", false, true, text), []);
        assert_eq!(search("ERROR", false, false, text), [(11, "error: one".into(), 0, 5)]);
        assert_eq!(search("E.R", true, false, text).len(), 1);
        assert_eq!(search("a.c", false, false, "oabc\noA.C\n"), [(11, "A.C".into(), 0, 3)]);
        assert_eq!(search("ÄRGER", false, false, "oso ein ärger\n"), [(10, "so ein ärger".into(), 7, 12)]);
    }

    #[test]
    fn places_count_as_javascript_does() {
        assert_eq!(search("x", false, true, "o😀äx\n"), [(10, "😀äx".into(), 3, 4)]);
    }

    #[test]
    fn long_lines_are_shown_around_their_match() {
        let long = format!("o{}needle{}\n", "ä".repeat(5_000), "ö".repeat(5_000));
        let pattern = LogPattern::new("needle", false, true).unwrap();
        let found = scan(&pattern, &Bytes::from(long), 0, true, 9).matches.remove(0);
        assert!(found.cut && found.text.len() <= SHOWN, "{}", found.text.len());
        let shown: Vec<u16> = found.text.encode_utf16().collect();
        assert_eq!(String::from_utf16(&shown[found.start..found.end]).unwrap(), "needle");
        let all = LogPattern::new(".*", true, true).unwrap();
        let found =
            scan(&all, &Bytes::from(format!("o{}\n", "x".repeat(9_999))), 0, true, 9).matches.remove(0);
        assert_eq!((found.text.len(), found.start, found.end, found.cut), (SHOWN, 0, SHOWN, true));
        let behind = LogPattern::new("$", true, true).unwrap();
        let found =
            scan(&behind, &Bytes::from(format!("o{}\n", "x".repeat(9_999))), 0, true, 9).matches.remove(0);
        assert_eq!((found.start, found.end), (BEFORE, BEFORE));
    }

    #[test]
    fn so_many_matches_are_given_and_all_are_counted() {
        let pattern = LogPattern::new("a", false, false).unwrap();
        let found = scan(&pattern, &Bytes::from("a\n".repeat(1_000)), 0, false, 10);
        assert_eq!((found.matches.len(), found.count, found.upto), (10, 1_000, 1_000));
        assert_eq!(found.matches[0].stream, None);
    }

    #[test]
    fn patterns_have_bounds() {
        let error = |text: &str, regex| LogPattern::new(text, regex, true).err();
        assert_eq!(error("", false), Some(PatternError::Empty));
        assert_eq!(error(&"x".repeat(MAX_PATTERN + 1), false), Some(PatternError::TooLong));
        assert_eq!(error(&"x".repeat(MAX_PATTERN), false), None);
        assert_eq!(error(r"\w{1000}{1000}", true), Some(PatternError::TooLarge));
        assert!(matches!(error("(", true), Some(PatternError::Syntax(_))));
        assert_eq!(error("(", false), None);
    }

    #[test]
    fn patterns_that_are_hard_for_others_take_linear_time() {
        let pattern = LogPattern::new("(a*)*b|(a|aa)+$x", true, true).unwrap();
        let text = Bytes::from(format!("{}\n", "a".repeat(1 << 16)));
        let begun = std::time::Instant::now();
        assert_eq!(scan(&pattern, &text, 0, false, 1).count, 0);
        assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    }
}
