//! The words of `notify on …`: what a channel or a person wants to hear of.

use std::fmt;

use greenroom_config::Mode;
use greenroom_model::Results;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::notice::{BuildEvent, BuildNotice};

/// One event that can be switched on and off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventWord {
    /// A build began.
    Started,
    /// A build ended, however.
    Finished,
    /// It went well.
    Success,
    /// With warnings.
    Warnings,
    /// It failed.
    Failure,
    /// The machinery failed.
    Exception,
    /// It was stopped.
    Cancelled,
    /// It failed, and the one before did not.
    Problem,
    /// It went well, and the one before did not.
    Recovery,
    /// It ended otherwise than the one before.
    Change,
    /// It ended worse than the one before.
    Worse,
    /// It ended better than the one before.
    Better,
    /// A worker is missing.
    Worker,
    /// It ended like this, and the one before like that: `successToFailure`.
    From(Outcome, Outcome),
}

/// A result that says something of the code or the machinery, for transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the results of these names
pub enum Outcome {
    Success,
    Warnings,
    Failure,
    Exception,
    Cancelled,
}

const OUTCOMES: &[(Outcome, Results)] = &[
    (Outcome::Success, Results::Success),
    (Outcome::Warnings, Results::Warnings),
    (Outcome::Failure, Results::Failure),
    (Outcome::Exception, Results::Exception),
    (Outcome::Cancelled, Results::Cancelled),
];

/// Words and their events, in the order of help. The second of a kind are the words of the configuration's `modes`.
const WORDS: &[(&str, EventWord)] = &[
    ("started", EventWord::Started),
    ("finished", EventWord::Finished),
    ("success", EventWord::Success),
    ("warnings", EventWord::Warnings),
    ("failure", EventWord::Failure),
    ("exception", EventWord::Exception),
    ("cancelled", EventWord::Cancelled),
    ("problem", EventWord::Problem),
    ("recovery", EventWord::Recovery),
    ("change", EventWord::Change),
    ("worse", EventWord::Worse),
    ("better", EventWord::Better),
    ("worker", EventWord::Worker),
    ("all", EventWord::Finished),
    ("passing", EventWord::Success),
    ("failing", EventWord::Failure),
];

/// What `notify on` without words means.
pub const USUAL: &[EventWord] = &[EventWord::Started, EventWord::Finished];

impl EventWord {
    /// The event of a word.
    pub fn parse(word: &str) -> Option<Self> {
        let word_of = |outcome: &str| {
            let known = OUTCOMES.iter().find(|(_, results)| results.word().eq_ignore_ascii_case(outcome));
            known.map(|(outcome, _)| *outcome)
        };
        let plain = WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, event)| *event);
        plain.or_else(|| {
            let (from, to) = word.split_once("To")?;
            Some(EventWord::From(word_of(from)?, word_of(to)?))
        })
    }

    /// All words, for help.
    pub fn all_words() -> String {
        let words: Vec<&str> = WORDS.iter().take(WORDS.len() - 3).map(|(word, _)| *word).collect();
        format!("{}, or one result to another such as successToFailure", words.join(", "))
    }

    /// What stands for a mode of the configuration.
    pub fn of_mode(mode: Mode) -> Self {
        EventWord::parse(mode.word()).unwrap_or(EventWord::Finished)
    }

    /// The mode without which the notifier would not tell of this.
    pub fn mode(self) -> Option<Mode> {
        Some(match self {
            EventWord::Started => Mode::Started,
            EventWord::Finished => Mode::All,
            EventWord::Success => Mode::Passing,
            EventWord::Warnings => Mode::Warnings,
            EventWord::Failure => Mode::Failing,
            EventWord::Exception => Mode::Exception,
            EventWord::Cancelled => Mode::Cancelled,
            EventWord::Problem => Mode::Problem,
            EventWord::Worker => return None,
            EventWord::Recovery
            | EventWord::Change
            | EventWord::Worse
            | EventWord::Better
            | EventWord::From(..) => Mode::Change,
        })
    }

    /// Whether a build's notice is such an event.
    pub fn fits(self, notice: &BuildNotice) -> bool {
        let finished = notice.event == BuildEvent::Finished;
        let (now, before) = (notice.results, notice.previous.as_ref().map(|it| it.results));
        let is = |results: Results| finished && now == Some(results);
        match self {
            EventWord::Started => !finished,
            EventWord::Finished => finished,
            EventWord::Success => is(Results::Success),
            EventWord::Warnings => is(Results::Warnings),
            EventWord::Failure => is(Results::Failure),
            EventWord::Exception => is(Results::Exception),
            EventWord::Cancelled => is(Results::Cancelled),
            EventWord::Problem | EventWord::Change => {
                let mode = if self == EventWord::Problem { Mode::Problem } else { Mode::Change };
                finished && notice.modes.contains(&mode)
            }
            EventWord::Recovery => {
                is(Results::Success) && before.is_some_and(|it| badness(it) > badness(Results::Warnings))
            }
            EventWord::Worse | EventWord::Better => match (now, before) {
                (Some(now), Some(before)) if finished => match self {
                    EventWord::Worse => badness(now) > badness(before),
                    _ => badness(now) < badness(before),
                },
                _ => false,
            },
            EventWord::From(from, to) => is(to.results()) && before == Some(from.results()),
            EventWord::Worker => false,
        }
    }
}

impl Outcome {
    fn results(self) -> Results {
        OUTCOMES.iter().find(|(it, _)| *it == self).map_or(Results::Exception, |(_, results)| *results)
    }
}

/// Order of results for people: stopping says nothing of the code.
fn badness(results: Results) -> u8 {
    match results {
        Results::Success | Results::Skipped | Results::Cancelled | Results::Retry => 0,
        Results::Warnings => 1,
        Results::Failure => 2,
        Results::Exception => 3,
    }
}

impl fmt::Display for EventWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let EventWord::From(from, to) = self {
            let to = to.results().word();
            let (first, rest) = to.split_at(1);
            return write!(f, "{}To{}{rest}", from.results().word(), first.to_ascii_uppercase());
        }
        f.write_str(WORDS.iter().find(|(_, event)| event == self).map_or("", |(word, _)| word))
    }
}

impl Serialize for EventWord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        EventWord::parse(&word).ok_or_else(|| serde::de::Error::custom(format!("no event `{word}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for (word, _) in WORDS {
            let event = EventWord::parse(word).expect(word);
            assert_eq!(EventWord::parse(&event.to_string()), Some(event));
        }
        let transition = EventWord::parse("successToFailure").expect("a transition");
        assert_eq!(transition, EventWord::From(Outcome::Success, Outcome::Failure));
        assert_eq!(transition.to_string(), "successToFailure");
        for bad in ["", "dance", "To", "successTo", "successToSkipped"] {
            assert_eq!(EventWord::parse(bad), None, "{bad}");
        }
        assert!(
            EventWord::all_words().ends_with("worker, or one result to another such as successToFailure")
        );
    }

    #[test]
    fn every_mode_has_a_word() {
        for mode in [
            Mode::Started,
            Mode::Failing,
            Mode::Passing,
            Mode::Warnings,
            Mode::Problem,
            Mode::Change,
            Mode::Exception,
            Mode::Cancelled,
            Mode::All,
        ] {
            assert_eq!(EventWord::of_mode(mode).mode(), Some(mode));
        }
    }
}
