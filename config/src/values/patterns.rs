//! Globs, regular expressions and lists of names.

use std::fmt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::serde_fault;

/// The largest compiled form of one user pattern, in bytes.
const REGEX_SIZE: usize = 1 << 20;

/// One glob or a list of globs over names, in which `*` also matches `/` (so that `*` is every branch).
#[derive(Clone)]
pub struct Patterns {
    source: Vec<String>,
    set: GlobSet,
}

impl Patterns {
    /// Matches everything.
    pub fn any() -> Self {
        // An empty set matches nothing, so everything is told by the source `*`.
        Patterns { source: vec!["*".to_owned()], set: GlobSet::empty() }
    }

    /// Compiles globs.
    ///
    /// # Errors
    /// A message for people when a glob is malformed.
    pub fn parse(source: Vec<String>) -> Result<Self, String> {
        compile(&source, false).map(|set| Patterns { source, set })
    }

    /// Whether any of the globs matches the whole name.
    pub fn matches(&self, name: &str) -> bool {
        self.is_any() || self.set.is_match(name)
    }

    /// Whether `*` is among them.
    pub fn is_any(&self) -> bool {
        self.source.iter().any(|it| it == "*")
    }

    /// The globs as written.
    pub fn source(&self) -> &[String] {
        &self.source
    }
}

/// One glob or a list of globs over file paths: `*` stays within a directory, `**` crosses them.
#[derive(Clone)]
pub struct FilePatterns {
    source: Vec<String>,
    set: GlobSet,
}

impl FilePatterns {
    /// Whether any of the globs matches the whole path.
    pub fn matches(&self, path: &str) -> bool {
        self.set.is_match(path)
    }

    /// The globs as written.
    pub fn source(&self) -> &[String] {
        &self.source
    }
}

fn compile(source: &[String], separators_count: bool) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for glob in source {
        let built = GlobBuilder::new(glob).literal_separator(separators_count).backslash_escape(true).build();
        set.add(built.map_err(|it| format!("bad glob `{glob}`: {}", it.kind()))?);
    }
    set.build().map_err(|it| format!("bad globs: {}", it.kind()))
}

/// A regular expression, in linear time and bounded size.
#[derive(Clone)]
pub struct Regex(regex::Regex);

impl Regex {
    /// Whether it matches somewhere in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// Whether it matches the text from begin to end.
    pub fn is_full_match(&self, text: &str) -> bool {
        self.0.find(text).is_some_and(|it| it.range() == (0..text.len()))
            || regex::Regex::new(&format!(r"\A(?:{})\z", self.0.as_str())).is_ok_and(|it| it.is_match(text))
    }

    /// The compiled expression.
    pub fn get(&self) -> &regex::Regex {
        &self.0
    }
}

/// `"*"`, or a list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameList {
    /// Everything there is.
    All,
    /// These.
    Some(Vec<String>),
}

impl NameList {
    /// Whether the name is in it.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            NameList::All => true,
            NameList::Some(names) => names.iter().any(|it| it == name),
        }
    }
}

macro_rules! by_source {
    ($type:ty, $($source:tt)+) => {
        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.$($source)+ == other.$($source)+
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.$($source)+.fmt(f)
            }
        }
    };
}

by_source!(Patterns, source);
by_source!(FilePatterns, source);
by_source!(Regex, 0.as_str());

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = deserializer.deserialize_any(OneOrMore("a glob or a list of globs"))?;
        Patterns::parse(source).map_err(|message| serde_fault(message, ""))
    }
}

impl<'de> Deserialize<'de> for FilePatterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = deserializer.deserialize_any(OneOrMore("a glob or a list of globs"))?;
        let set = compile(&source, true).map_err(|message| serde_fault(message, ""))?;
        Ok(FilePatterns { source, set })
    }
}

impl<'de> Deserialize<'de> for NameList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = deserializer.deserialize_any(OneOrMore("a list of names or \"*\""))?;
        if names.iter().any(|it| it == "*") { Ok(NameList::All) } else { Ok(NameList::Some(names)) }
    }
}

impl<'de> Deserialize<'de> for Regex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        regex::RegexBuilder::new(&text).size_limit(REGEX_SIZE).build().map(Regex).map_err(|error| {
            let last = error.to_string();
            let last = last.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            serde_fault(format_args!("bad regular expression: {last}"), "")
        })
    }
}

/// A single string or a list of strings.
struct OneOrMore(&'static str);

impl<'de> Visitor<'de> for OneOrMore {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
        Ok(vec![text.to_owned()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        let mut found = Vec::new();
        while let Some(it) = list.next_element()? {
            found.push(it);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(json: serde_json::Value) -> Patterns {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_star_is_every_branch() {
        assert!(Patterns::any().matches("a/b"));
        assert!(patterns("*".into()).matches("feature/x"));
        assert!(patterns(serde_json::json!(["main", "release-*"])).matches("release-1"));
        assert!(!patterns(serde_json::json!(["main", "release-*"])).matches("mainline"));
        assert!(!patterns(serde_json::json!([])).matches("main"));
    }

    #[test]
    fn file_globs_know_directories() {
        let files: FilePatterns = serde_json::from_value(serde_json::json!(["src/*.c", "docs/**"])).unwrap();
        assert!(files.matches("src/a.c") && files.matches("docs/a/b.md"));
        assert!(!files.matches("src/x/a.c"));
    }

    #[test]
    fn a_full_match_does_not_stop_at_the_first_alternative() {
        let regex: Regex = serde_json::from_value("a|ab".into()).unwrap();
        assert!(regex.is_full_match("ab") && regex.is_full_match("a") && !regex.is_full_match("abc"));
    }
}
