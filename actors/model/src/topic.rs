//! Topics: the routing keys of events and the patterns that select them.
//!
//! A key is a list of elements joined by `/`, such as `builders/3/builds/17/finished`; in a pattern `*` stands for any
//! one element, and the number of elements must be equal. There is no other wildcard.

use std::fmt;
use std::sync::Arc;

/// One element of a routing key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Element {
    /// A fixed word.
    Word(&'static str),
    /// A number.
    Number(i64),
    /// Any other text.
    Text(Arc<str>),
}

impl Element {
    /// The element of a piece of text: canonical numbers are numbers, so that `7` and id 7 are the same element.
    pub fn parse(text: &str) -> Self {
        match text.parse::<i64>() {
            Ok(n) if text.len() < 20 && n.to_string() == text => Element::Number(n),
            _ => match WORDS.iter().find(|w| **w == text) {
                Some(word) => Element::Word(word),
                None => Element::Text(text.into()),
            },
        }
    }
}

/// The fixed words of all keys: a text equal to one of them is that word, so that equal elements compare equal.
const WORDS: &[&str] = &[
    "append",
    "branches",
    "build",
    "builders",
    "buildrequests",
    "builds",
    "buildsets",
    "cancel",
    "changes",
    "changesources",
    "claimed",
    "codebases",
    "commits",
    "complete",
    "configurations",
    "completed",
    "connected",
    "control",
    "deliveries",
    "disconnected",
    "enable",
    "finished",
    "force",
    "kill",
    "logs",
    "masters",
    "missing",
    "new",
    "notifiers",
    "pause",
    "projects",
    "properties",
    "rebuild",
    "schedulers",
    "settled",
    "started",
    "state_updated",
    "steps",
    "stop",
    "stopped",
    "unclaimed",
    "unpause",
    "update",
    "updated",
    "worker",
    "workers",
    "forceschedulers",
];

impl From<i64> for Element {
    fn from(n: i64) -> Self {
        Element::Number(n)
    }
}

impl From<&'static str> for Element {
    /// For the fixed words of keys and any other static text.
    fn from(word: &'static str) -> Self {
        match WORDS.iter().find(|w| **w == word) {
            Some(word) => Element::Word(word),
            None => Element::Text(word.into()),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Word(w) => f.write_str(w),
            Element::Number(n) => n.fmt(f),
            Element::Text(t) => f.write_str(t),
        }
    }
}

/// A routing key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(pub Vec<Element>);

impl Key {
    /// The key of a text such as `builds/4/new`.
    pub fn parse(text: &str) -> Self {
        Self(text.split('/').map(Element::parse).collect())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, element) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("/")?;
            }
            element.fmt(f)?;
        }
        Ok(())
    }
}

/// A pattern over keys: `None` stands for any one element.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(pub Vec<Option<Element>>);

impl Pattern {
    /// The pattern of a text such as `builds/*/finished`. Every text is a pattern; a senseless one matches nothing.
    pub fn parse(text: &str) -> Self {
        Self(text.split('/').map(|e| (e != "*").then(|| Element::parse(e))).collect())
    }

    /// Whether it selects `key`.
    pub fn matches(&self, key: &Key) -> bool {
        self.0.len() == key.0.len()
            && self.0.iter().zip(&key.0).all(|(p, e)| p.as_ref().is_none_or(|p| p == e))
    }
}

/// Builds a [`Key`] from words, numbers and texts: `key!["builds", 4, "new"]`.
#[macro_export]
macro_rules! key {
    ($($element:expr),+ $(,)?) => { $crate::topic::Key(vec![$($crate::topic::Element::from($element)),+]) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_needs_the_same_number_of_elements() {
        let key = key!["builds", 4, "new"];
        for (pattern, wanted) in [
            ("builds/*/new", true),
            ("builds/4/*", true),
            ("*/*/*", true),
            ("builds/04/new", false),
            ("builds/*", false),
            ("builds/4/steps/20/new", false),
            ("/builds/4/new", false),
            ("", false),
        ] {
            assert_eq!(Pattern::parse(pattern).matches(&key), wanted, "{pattern}");
        }
    }

    #[test]
    fn a_key_reads_back_from_its_text() {
        for text in
            ["builders/3/builds/17/finished", "steps/2/logs/stdio/append", "control/worker/7/pause", "a//b"]
        {
            assert_eq!(Key::parse(text).to_string(), text);
        }
        assert_eq!(Key::parse("builds/4/new"), key!["builds", 4, "new"]);
    }
}
