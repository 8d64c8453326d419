//! Lengths of time such as `"30s"` and `"1h 30m"`.

use std::fmt;

use serde::{Deserialize, Deserializer};

use super::serde_fault;

/// The units, largest first, in microseconds.
const UNITS: &[(&str, u64)] = &[
    ("w", 7 * 24 * 3_600_000_000),
    ("d", 24 * 3_600_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

const HELP: &str =
    "write a number with its unit, such as \"30s\", \"20m\" or \"1h 30m\" (us, ms, s, m, h, d, w)";

/// A length of time, exact to the microsecond; written as `"30s"`, `"20m"`, `"1h 30m"`, `"50ms"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    micros: u64,
}

impl Duration {
    /// So many seconds.
    pub const fn from_secs(seconds: u32) -> Self {
        Duration { micros: seconds as u64 * 1_000_000 }
    }

    /// So many microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Duration { micros }
    }

    /// In microseconds.
    pub const fn as_micros(self) -> u64 {
        self.micros
    }

    /// As the standard library's type.
    pub const fn get(self) -> std::time::Duration {
        std::time::Duration::from_micros(self.micros)
    }

    /// Whether it is no time at all.
    pub const fn is_zero(self) -> bool {
        self.micros == 0
    }

    /// Reads `1h 30m`: numbers (with decimals if wanted) each with a unit, in any order.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return None;
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, tail) = rest.split_at(digits);
            let tail = tail.trim_start();
            let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            let unit = UNITS.iter().find(|(name, _)| *name == unit)?.1;
            total = total.checked_add(scale(number, unit)?)?;
            rest = tail.trim_start();
        }
        Some(Duration { micros: total })
    }
}

/// `number` × `unit`, exactly; none when it does not come out in whole microseconds or does not fit.
fn scale(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let mut micros = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let scale = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = fraction.parse::<u64>().ok()?.checked_mul(unit)?;
    if part % scale != 0 {
        return None;
    }
    micros = micros.checked_add(part / scale)?;
    Some(micros)
}

impl From<Duration> for std::time::Duration {
    fn from(it: Duration) -> Self {
        it.get()
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.micros;
        let mut first = true;
        for (unit, micros) in UNITS {
            let count = rest / micros;
            rest %= micros;
            if count > 0 {
                write!(f, "{}{count}{unit}", if first { "" } else { " " })?;
                first = false;
            }
        }
        if first { f.write_str("0s") } else { Ok(()) }
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"30s\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
                if !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()) {
                    return Err(serde_fault(
                        "a duration needs a unit",
                        format_args!("did you mean \"{text}s\"?"),
                    ));
                }
                Duration::parse(text).ok_or_else(|| serde_fault("not a duration", HELP))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Duration, E> {
                Err(serde_fault("a duration needs a unit", format_args!("did you mean \"{number}s\"?")))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Duration, E> {
                Err(serde_fault("a duration needs a unit", format_args!("did you mean \"{number}s\"?")))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, micros, shown) in [
            ("30s", 30_000_000, "30s"),
            ("20m", 1_200_000_000, "20m"),
            ("1h 30m", 5_400_000_000, "1h 30m"),
            ("1h30m", 5_400_000_000, "1h 30m"),
            ("90m", 5_400_000_000, "1h 30m"),
            ("1.5s", 1_500_000, "1s 500ms"),
            ("0.000001s", 1, "1us"),
            ("50 ms", 50_000, "50ms"),
            ("0s", 0, "0s"),
            ("2w", 1_209_600_000_000, "2w"),
        ] {
            let read = Duration::parse(text).unwrap();
            assert_eq!((read.as_micros(), read.to_string().as_str()), (micros, shown), "{text}");
            assert_eq!(Duration::parse(shown), Some(read));
        }
    }

    #[test]
    fn nonsense_is_no_duration() {
        for text in [
            "",
            " ",
            "s",
            "30",
            "30x",
            "-1s",
            "1..5s",
            ".s",
            "1.s",
            "1e3s",
            "0.0000001s",
            "99999999999999w",
            "1h,30m",
        ] {
            assert_eq!(Duration::parse(text), None, "{text}");
        }
    }
}
