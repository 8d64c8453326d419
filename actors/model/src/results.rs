//! Results: how something ended. Never used for *state* (where something is in its life).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The result of a step, build, request or buildset. Numbers are those of the public API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i64)]
pub enum Results {
    /// Went as wished.
    Success = 0,
    /// Went through, with something to look at.
    Warnings = 1,
    /// The work says no.
    Failure = 2,
    /// Was not run, on purpose.
    Skipped = 3,
    /// The machinery failed, not the work.
    Exception = 4,
    /// Lost on the way; the request runs again.
    Retry = 5,
    /// Stopped or cancelled by somebody.
    Cancelled = 6,
}

impl Results {
    /// Every result, by number.
    pub const ALL: [Results; 7] = [
        Results::Success,
        Results::Warnings,
        Results::Failure,
        Results::Skipped,
        Results::Exception,
        Results::Retry,
        Results::Cancelled,
    ];

    /// The public number.
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The result of a public number.
    pub fn from_code(code: i64) -> Option<Self> {
        usize::try_from(code).ok().and_then(|i| Self::ALL.get(i).copied())
    }

    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Results::Success => "success",
            Results::Warnings => "warnings",
            Results::Failure => "failure",
            Results::Skipped => "skipped",
            Results::Exception => "exception",
            Results::Retry => "retry",
            Results::Cancelled => "cancelled",
        }
    }

    /// How bad it is: skipped is no better than success for a whole, cancelled is the worst.
    fn severity(self) -> u8 {
        match self {
            Results::Skipped => 0,
            Results::Success => 1,
            Results::Warnings => 2,
            Results::Failure => 3,
            Results::Exception => 4,
            Results::Retry => 5,
            Results::Cancelled => 6,
        }
    }

    /// The worse of two; associative and commutative, with `Skipped` as its neutral element.
    #[must_use]
    pub fn worst_of(self, other: Self) -> Self {
        if other.severity() > self.severity() { other } else { self }
    }

    /// The worst of many; success when all were skipped or there were none.
    pub fn combine(all: impl IntoIterator<Item = Self>) -> Self {
        match all.into_iter().fold(Results::Skipped, Self::worst_of) {
            Results::Skipped => Results::Success,
            worst => worst,
        }
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Serialize for Results {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.code())
    }
}

impl<'de> Deserialize<'de> for Results {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = i64::deserialize(deserializer)?;
        Self::from_code(code)
            .ok_or_else(|| serde::de::Error::custom(format!("no result has the number {code}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_two_does_not_depend_on_their_order() {
        for a in Results::ALL {
            for b in Results::ALL {
                assert_eq!(a.worst_of(b), b.worst_of(a));
                for c in Results::ALL {
                    assert_eq!(a.worst_of(b).worst_of(c), a.worst_of(b.worst_of(c)));
                }
            }
        }
    }

    #[test]
    fn a_whole_is_as_bad_as_its_worst_part() {
        use Results::*;
        assert_eq!(Results::combine([Success, Warnings, Skipped]), Warnings);
        assert_eq!(Results::combine([Success, Failure, Exception]), Exception);
        assert_eq!(Results::combine([Skipped, Skipped]), Success);
        assert_eq!(Results::combine([]), Success);
    }

    #[test]
    fn numbers_are_those_of_the_api() {
        for r in Results::ALL {
            assert_eq!(Results::from_code(r.code()), Some(r));
        }
        assert_eq!(Results::from_code(7), None);
        assert_eq!(Results::from_code(-1), None);
    }
}
