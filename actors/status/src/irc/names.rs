//! Nicks and channels: how a server compares them, and what may be one.

/// Which characters are the same letter, as the server tells by `CASEMAPPING`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CaseMapping {
    /// Letters of ASCII.
    Ascii,
    /// Also `{}|~` and `[]\^`.
    #[default]
    Rfc1459,
    /// Also `{}|` and `[]\`.
    StrictRfc1459,
}

impl CaseMapping {
    /// What the server calls it; what is not known is taken as the protocol's own.
    pub fn named(name: &str) -> Self {
        match name {
            "ascii" => CaseMapping::Ascii,
            "strict-rfc1459" | "rfc1459-strict" => CaseMapping::StrictRfc1459,
            _ => CaseMapping::Rfc1459,
        }
    }

    /// The one spelling of a name.
    pub fn fold(self, name: &str) -> String {
        name.chars()
            .map(|c| match c {
                'A'..='Z' => c.to_ascii_lowercase(),
                '[' if self != CaseMapping::Ascii => '{',
                ']' if self != CaseMapping::Ascii => '}',
                '\\' if self != CaseMapping::Ascii => '|',
                '^' if self == CaseMapping::Rfc1459 => '~',
                c => c,
            })
            .collect()
    }

    /// Whether two names are the same.
    pub fn same(self, one: &str, other: &str) -> bool {
        self.fold(one) == self.fold(other)
    }
}

/// Whether a target is a channel.
pub fn is_channel(target: &str) -> bool {
    target.starts_with(['#', '&', '+', '!'])
}

/// Whether a text can be a channel's name and nothing else: one word without commas, which would make it several.
pub fn channel_is_valid(name: &str) -> bool {
    let fine = |c: char| !c.is_control() && !c.is_whitespace() && c != ',';
    is_channel(name) && (2..=64).contains(&name.len()) && name.chars().all(fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_capital_braces() {
        assert!(CaseMapping::Rfc1459.same("Ada[^]\\", "aDA{~}|"));
        assert!(!CaseMapping::StrictRfc1459.same("a^", "a~"));
        assert!(CaseMapping::StrictRfc1459.same("a[", "a{"));
        assert!(!CaseMapping::Ascii.same("a[", "a{"));
        assert_eq!(CaseMapping::named("ascii"), CaseMapping::Ascii);
        assert_eq!(CaseMapping::named("rfc7613"), CaseMapping::Rfc1459);
    }

    #[test]
    fn channels_are_one_word() {
        for good in ["#builds", "##c++", "&local", "#ä"] {
            assert!(channel_is_valid(good), "{good}");
        }
        for bad in ["builds", "#", "#a,#b", "#a b", "#a\r\nQUIT", "", "#a\x07"] {
            assert!(!channel_is_valid(bad), "{bad:?}");
        }
    }
}
