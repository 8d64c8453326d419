//! Amounts of bytes such as `"1 MiB"`.

use std::fmt;

use serde::{Deserialize, Deserializer};

use super::serde_fault;

const UNITS: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// An amount of bytes; written as `"1 MiB"`, `"500 kB"`, `"4096 B"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// So many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Size(bytes)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Reads `1 MiB`: a whole number and a unit (`KiB`, `MiB`, `GiB`, `kB`, `MB`, `GB`, `B`).
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(digits);
        let unit = UNITS.iter().find(|(name, _)| *name == unit.trim())?.1;
        number.parse::<u64>().ok()?.checked_mul(unit).map(Size)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |(_, unit): &&(&str, u64)| self.0 >= *unit && self.0.is_multiple_of(*unit);
        let (name, unit) = UNITS.iter().find(exact).unwrap_or(&("B", 1));
        write!(f, "{} {name}", self.0 / unit)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Size::parse(&String::deserialize(deserializer)?)
            .ok_or_else(|| serde_fault("not a size", "write a whole number with its unit, such as \"1 MiB\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes, shown) in [
            ("1 MiB", 1 << 20, "1 MiB"),
            ("64KiB", 65_536, "64 KiB"),
            ("500 kB", 500_000, "500 kB"),
            ("1 B", 1, "1 B"),
            ("0 B", 0, "0 B"),
        ] {
            let read = Size::parse(text).unwrap();
            assert_eq!((read.bytes(), read.to_string().as_str()), (bytes, shown));
        }
        for text in ["", "1", "MiB", "1 mib", "-1 B", "99999999999 GiB"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }
}
