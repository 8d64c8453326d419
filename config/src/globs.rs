//! Whether two globs can match the same name. Where that is not clear the answer is yes: it serves warnings only.

use std::ops::RangeInclusive;

use crate::values::Patterns;

/// The most `{` of a glob, the most alternatives that they may expand to, and the most pairs of tokens that are compared.
const MAX_BRACES: usize = 16;
const MAX_ALTERNATIVES: usize = 64;
const MAX_PAIRS: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Char(char),
    AnyChar,
    /// `[a-z]` or `[!a-z]`.
    Class {
        ranges: Vec<RangeInclusive<char>>,
        negated: bool,
    },
    Star,
}

/// Whether there may be a name that both lists of globs match.
pub(crate) fn may_overlap(one: &Patterns, other: &Patterns) -> bool {
    one.is_any() && !other.source().is_empty()
        || other.is_any() && !one.source().is_empty()
        || one.source().iter().any(|a| other.source().iter().any(|b| globs_may_overlap(a, b)))
}

fn globs_may_overlap(one: &str, other: &str) -> bool {
    match (alternatives(one), alternatives(other)) {
        (Some(one), Some(other)) => one.iter().any(|a| other.iter().any(|b| tokens_may_overlap(a, b))),
        _ => true,
    }
}

/// The token lists of a glob, one for each alternative; none when there are too many or it is not understood.
fn alternatives(glob: &str) -> Option<Vec<Vec<Token>>> {
    if glob.matches('{').count() > MAX_BRACES {
        return None;
    }
    let chars: Vec<char> = glob.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(&it) = chars.get(at) {
        at += 1;
        match it {
            '\\' => {
                tokens.push(Token::Char(*chars.get(at)?));
                at += 1;
            }
            '?' => tokens.push(Token::AnyChar),
            '*' => {
                // `**/` may also match nothing, with its separator.
                if chars.get(at) == Some(&'*') {
                    at += 1;
                    at += usize::from(chars.get(at) == Some(&'/'));
                }
                tokens.push(Token::Star);
            }
            '[' => {
                let (class, next) = class(&chars, at)?;
                tokens.push(class);
                at = next;
            }
            '{' => {
                let (choices, next) = choices(&chars, at)?;
                let rest: String = chars[next..].iter().collect();
                return expand(&tokens, &choices, &rest);
            }
            '/' if chars[at..] == ['*', '*'] => {
                tokens.push(Token::Star);
                at = chars.len();
            }
            it => tokens.push(Token::Char(it)),
        }
    }
    Some(vec![tokens])
}

/// Each of the choices between what was read and the rest.
fn expand(read: &[Token], choices: &[String], rest: &str) -> Option<Vec<Vec<Token>>> {
    let mut found = Vec::new();
    for choice in choices {
        for tail in alternatives(&format!("{choice}{rest}"))? {
            found.push([read, tail.as_slice()].concat());
        }
        if found.len() > MAX_ALTERNATIVES {
            return None;
        }
    }
    Some(found)
}

/// A class whose `[` stands before `at`, and where it ends.
fn class(chars: &[char], mut at: usize) -> Option<(Token, usize)> {
    let negated = matches!(chars.get(at), Some('!' | '^'));
    at += usize::from(negated);
    let mut ranges = Vec::new();
    let first = at;
    loop {
        let from = *chars.get(at)?;
        if from == ']' && at > first {
            return Some((Token::Class { ranges, negated }, at + 1));
        }
        match (chars.get(at + 1), chars.get(at + 2)) {
            (Some('-'), Some(&to)) if to != ']' => {
                ranges.push(from..=to);
                at += 3;
            }
            _ => {
                ranges.push(from..=from);
                at += 1;
            }
        }
    }
}

/// The alternatives whose `{` stands before `at`, and where they end.
fn choices(chars: &[char], mut at: usize) -> Option<(Vec<String>, usize)> {
    let mut choices = vec![String::new()];
    let mut depth = 0usize;
    loop {
        let it = *chars.get(at)?;
        at += 1;
        match it {
            '}' if depth == 0 => return Some((choices, at)),
            ',' if depth == 0 => choices.push(String::new()),
            it => {
                match it {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    // Escapes and classes may hold braces and commas.
                    '\\' | '[' => return None,
                    _ => {}
                }
                choices.last_mut()?.push(it);
            }
        }
    }
}

fn tokens_may_overlap(one: &[Token], other: &[Token]) -> bool {
    if (one.len() + 1).saturating_mul(other.len() + 1) > MAX_PAIRS {
        return true;
    }
    // `below[j]`: whether the rests from `i + 1` and from `j` have a name in common.
    let mut below: Vec<bool> = Vec::new();
    for i in (0..=one.len()).rev() {
        let mut row = vec![false; other.len() + 1];
        for j in (0..=other.len()).rev() {
            let down = |j: usize| below.get(j).copied().unwrap_or(false);
            let right = row.get(j + 1).copied().unwrap_or(false);
            row[j] = match (one.get(i), other.get(j)) {
                (None, None) => true,
                (Some(Token::Star), _) | (_, Some(Token::Star)) => {
                    let star_of_one = one.get(i) == Some(&Token::Star);
                    let star_of_other = other.get(j) == Some(&Token::Star);
                    // A star ends, or takes one token of the other side.
                    (star_of_one && (down(j) || right)) || (star_of_other && (right || down(j)))
                }
                (Some(a), Some(b)) => compatible(a, b) && down(j + 1),
                _ => false,
            };
        }
        below = row;
    }
    below.first().copied().unwrap_or(true)
}

fn compatible(one: &Token, other: &Token) -> bool {
    match (one, other) {
        (Token::Char(a), Token::Char(b)) => a == b,
        (Token::Char(it), Token::Class { ranges, negated })
        | (Token::Class { ranges, negated }, Token::Char(it)) => {
            ranges.iter().any(|range| range.contains(it)) != *negated
        }
        (Token::Class { ranges: a, negated: false }, Token::Class { ranges: b, negated: false }) => {
            a.iter().any(|a| b.iter().any(|b| a.start() <= b.end() && b.start() <= a.end()))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlap(one: &str, other: &str) -> bool {
        let both = [globs_may_overlap(one, other), globs_may_overlap(other, one)];
        assert_eq!(both[0], both[1], "{one} {other}");
        both[0]
    }

    #[test]
    fn globs_that_share_a_name_are_told_from_those_that_do_not() {
        for (one, other) in [
            ("main", "main"),
            ("*", "release-1"),
            ("release-*", "*-1"),
            ("a*c", "ab*"),
            ("feature/*", "*/x"),
            ("v[0-9]", "v?"),
            ("v[0-9]", "v[5-z]"),
            ("v[!0-9]", "vx"),
            ("{main,next}", "next"),
            ("x{a,b{c,d}}*", "xbd1"),
            ("**/x", "x"),
            ("x/**", "x/y/z"),
            (r"a\*", "a*"),
            ("", "*"),
        ] {
            assert!(overlap(one, other), "{one} and {other}");
        }
        for (one, other) in [
            ("main", "master"),
            ("release-*", "main"),
            ("v[0-9]", "vx"),
            ("v[!0-9]", "v1"),
            ("v[0-4]", "v[5-9]"),
            ("{main,next}", "stable*"),
            ("?", "ab"),
            ("?", ""),
            (r"a\*", "ab"),
        ] {
            assert!(!overlap(one, other), "{one} and {other}");
        }
    }

    #[test]
    fn what_is_not_understood_may_overlap() {
        let many = "{a,b}".repeat(12);
        assert!(overlap(&many, "nothing like it") && overlap("{[,],x}", "y"));
        assert!(overlap(&"a*".repeat(2_000), &"*b".repeat(2_000)));
    }
}
