//! Passwords in URLs: where they stand, to be refused and never shown.

use std::ops::Range;

/// The place of each `PASSWORD` of a `scheme://user:PASSWORD@host` in a text, in bytes.
pub(crate) fn url_passwords(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("://") {
        let start = at + "://".len();
        let rest = &text[start..];
        let authority = &rest[..rest.find(['/', '?', '#', '\n']).unwrap_or(rest.len())];
        let Some((user, _)) = authority.rsplit_once('@') else { continue };
        if let Some(colon) = user.find(':').filter(|it| it + 1 < user.len()) {
            found.push(start + colon + 1..start + user.len());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_passwords_are_found() {
        let found =
            |text: &str| url_passwords(text).into_iter().map(|it| text[it].to_owned()).collect::<Vec<_>>();
        assert_eq!(found("https://ann:p@ss:w@x.org:80/r"), ["p@ss:w"]);
        assert_eq!(found("a = 'https://:one@x/r' # ssh://b:two@y"), ["one", "two"]);
        for fine in [
            "ssh://git@x.org:22/r",
            "git@x.org:a/r",
            "https://x.org:80/a:b@c",
            "/srv/a:b@c",
            "https://ann:@x/r",
        ] {
            assert_eq!(found(fine), [""; 0], "{fine}");
        }
    }
}
