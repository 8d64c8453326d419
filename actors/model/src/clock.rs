//! Clocks: which events a state contains.
//!
//! A clock is the vector {master → sequence number of its last event that is contained}, with the database's
//! generation. Each master commits its events in the order of their numbers and without gaps, so the clock says
//! exactly which events a snapshot holds. Outside it is one opaque string: compare it for equality, send it back.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::MasterId;

/// The longest clock string that is read, in bytes.
pub const MAX_CLOCK_BYTES: usize = 1024;

/// A vector clock over the masters of one database generation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Clock {
    /// Which life of the database: a restored backup begins another.
    pub generation: i64,
    /// The last contained event of each master; a master not named stands at 0.
    heads: BTreeMap<MasterId, i64>,
}

/// Why a string is no clock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a clock of this service")]
pub struct BadClock;

impl Clock {
    /// The clock that contains nothing.
    pub fn start(generation: i64) -> Self {
        Self { generation, heads: BTreeMap::new() }
    }

    /// The last contained event of `master`.
    pub fn head(&self, master: MasterId) -> i64 {
        self.heads.get(&master).copied().unwrap_or(0)
    }

    /// Moves `master`'s head to `seq`, forwards or backwards.
    pub fn set(&mut self, master: MasterId, seq: i64) {
        self.heads.insert(master, seq);
    }

    /// Whether the event `seq` of `master` is contained.
    pub fn contains(&self, master: MasterId, seq: i64) -> bool {
        seq <= self.head(master)
    }

    /// Whether every event contained in `other` is contained here (same generation).
    pub fn covers(&self, other: &Clock) -> bool {
        self.generation == other.generation && other.heads.iter().all(|(m, s)| self.head(*m) >= *s)
    }

    /// The clock of what is contained both here and in `other` (same generation).
    #[must_use]
    pub fn meet(&self, other: &Clock) -> Clock {
        let heads = self.heads.iter().map(|(master, seq)| (*master, (*seq).min(other.head(*master))));
        Clock { generation: self.generation, heads: heads.collect() }
    }

    /// The masters and their heads.
    pub fn heads(&self) -> impl Iterator<Item = (MasterId, i64)> + '_ {
        self.heads.iter().map(|(m, s)| (*m, *s))
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut body = format!("{:x}", self.generation);
        for (master, seq) in &self.heads {
            write!(body, ".{:x}-{seq:x}", master.0)?;
        }
        write!(f, "{body}.{:08x}", checksum(body.as_bytes()))
    }
}

impl FromStr for Clock {
    type Err = BadClock;

    fn from_str(text: &str) -> Result<Self, BadClock> {
        if text.len() > MAX_CLOCK_BYTES {
            return Err(BadClock);
        }
        let (body, sum) = text.rsplit_once('.').ok_or(BadClock)?;
        if u32::from_str_radix(sum, 16) != Ok(checksum(body.as_bytes())) {
            return Err(BadClock);
        }
        let number = |t: &str| i64::from_str_radix(t, 16).map_err(|_| BadClock);
        let mut parts = body.split('.');
        let mut clock = Clock::start(number(parts.next().ok_or(BadClock)?)?);
        for part in parts {
            let (master, seq) = part.split_once('-').ok_or(BadClock)?;
            clock.set(MasterId(number(master)?), number(seq)?);
        }
        Ok(clock)
    }
}

impl Serialize for Clock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Clock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// FNV-1a: guards against typing errors and truncation, not against forgery (a forged clock harms only its sender).
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_survives_its_string() {
        let mut clock = Clock::start(0x1f_2e3d);
        clock.set(MasterId(1), 70_000);
        clock.set(MasterId(12), 3);
        assert_eq!(clock.to_string().parse(), Ok(clock));
    }

    #[test]
    fn a_damaged_clock_is_refused() {
        let mut clock = Clock::start(9);
        clock.set(MasterId(1), 255);
        let text = clock.to_string();
        for bad in
            [&text[1..], &text[..text.len() - 1], "", "x", &text.replace("ff", "fe"), &"1.".repeat(600)]
        {
            assert_eq!(bad.parse::<Clock>(), Err(BadClock), "{bad}");
        }
    }

    #[test]
    fn covering_is_by_master() {
        let mut a = Clock::start(1);
        a.set(MasterId(1), 5);
        let mut b = a.clone();
        assert!(a.covers(&b) && b.covers(&a));
        b.set(MasterId(2), 1);
        assert!(b.covers(&a) && !a.covers(&b));
        assert!(!Clock::start(2).covers(&Clock::start(1)));
    }
}
