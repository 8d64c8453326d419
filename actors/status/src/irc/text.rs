//! Text that goes onto IRC: harmless and short enough.
//!
//! Whatever comes from a build, a commit or a person may hold line ends (which would begin a command of its own), colour and
//! formatting codes, terminal escapes or characters that turn the direction of writing. [`plain`] leaves none of them;
//! [`split`] cuts what is left into lines by bytes, since that is how the protocol counts.

/// The longest line of the protocol in bytes, its line end included.
pub const LINE_BYTES: usize = 512;

/// What a line of others needs at most before its text, when the server has put our full name before it and does not tell
/// how long names may be: `:nick!user@host `.
const HOST_BYTES: usize = 63;
const USER_BYTES: usize = 11;

/// One line of plain text: control characters, colour codes and terminal escapes are gone, white space is one blank.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => skip_escape(&mut rest),
            '\x03' => skip_colour(&mut rest),
            '\x04' => skip_while(&mut rest, 6, |c| c.is_ascii_hexdigit()),
            c if c.is_whitespace() => blank(&mut out),
            c if c.is_control() || turns_direction(c) => {}
            c => out.push(c),
        }
    }
    while out.ends_with(' ') {
        out.pop();
    }
    out
}

/// As [`plain`], cut to `most` characters with an ellipsis.
pub fn brief(text: &str, most: usize) -> String {
    let text = plain(text);
    match text.char_indices().nth(most) {
        None => text,
        Some(_) => {
            let kept: String = text.chars().take(most.saturating_sub(1)).collect();
            format!("{}…", kept.trim_end())
        }
    }
}

fn blank(out: &mut String) {
    if !out.is_empty() && !out.ends_with(' ') {
        out.push(' ');
    }
}

/// `ESC [ … letter`, as terminals take it; any other escape is one character long.
fn skip_escape(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    if rest.peek() != Some(&'[') {
        return;
    }
    rest.next();
    while let Some(c) = rest.peek() {
        let inside = matches!(c, '\x20'..='\x3f');
        let last = matches!(c, '\x40'..='\x7e');
        if inside || last {
            rest.next();
        }
        if !inside {
            return;
        }
    }
}

/// One or two digits, and after a comma one or two more.
fn skip_colour(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    let digits = skip_counted(rest, 2, |c| c.is_ascii_digit());
    let mut ahead = rest.clone();
    if digits > 0 && ahead.next() == Some(',') && ahead.next().is_some_and(|c| c.is_ascii_digit()) {
        rest.next();
        skip_while(rest, 2, |c| c.is_ascii_digit());
    }
}

fn skip_while(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, most: usize, is: impl Fn(char) -> bool) {
    skip_counted(rest, most, is);
}

fn skip_counted(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    most: usize,
    is: impl Fn(char) -> bool,
) -> usize {
    let mut skipped = 0;
    while skipped < most && rest.peek().is_some_and(|c| is(*c)) {
        rest.next();
        skipped += 1;
    }
    skipped
}

/// Marks that make what follows be read in another direction, with which a text can be made to look like another one.
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How many bytes of text fit into `VERB target :text` so that the line is not cut when the server puts our full name
/// before it. `nick_bytes` is our nick's length; `prefix` what the server has shown as our full name, if it has.
pub fn room(verb: &str, target: &str, nick_bytes: usize, prefix: Option<usize>) -> usize {
    let prefix = prefix.unwrap_or(nick_bytes + 1 + USER_BYTES + 1 + HOST_BYTES);
    // ":" prefix " " verb " " target " :" text CR LF
    let around = 1 + prefix + 1 + verb.len() + 1 + target.len() + 2 + 2;
    LINE_BYTES.saturating_sub(around).max(1)
}

/// Cuts a text into pieces of at most `room` bytes, at blanks where that is possible and never inside a character.
/// More than `most` pieces are not made: the last one then ends in an ellipsis.
pub fn split(text: &str, room: usize, most: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() && pieces.len() < most {
        if rest.len() <= room {
            pieces.push(rest.to_owned());
            return pieces;
        }
        if pieces.len() + 1 == most {
            let (kept, _) = cut(rest, room.saturating_sub('…'.len_utf8()));
            pieces.push(format!("{kept}…"));
            return pieces;
        }
        let (piece, left) = cut(rest, room);
        pieces.push(piece.to_owned());
        rest = left;
    }
    pieces
}

/// The first at most `room` bytes (one character at least) and the rest. What is past half of the room is looked through for
/// a blank.
fn cut(text: &str, room: usize) -> (&str, &str) {
    if text.len() <= room {
        return (text, "");
    }
    let first = text.chars().next().map_or(0, char::len_utf8);
    let mut end = room.max(first);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let end = end.max(first);
    // A blank right after the piece is a good place too.
    let looked_at = &text[..end + usize::from(text[end..].starts_with(' '))];
    match looked_at.rfind(' ') {
        Some(at) if at >= end / 2 && at > 0 => (text[..at].trim_end(), text[at..].trim_start()),
        _ => (&text[..end], &text[end..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_can_begin_a_command_or_a_colour() {
        for (from, to) in [
            ("one\r\nQUIT :bye", "one QUIT :bye"),
            ("a\0b", "ab"),
            ("\x02bold\x0f \x1funder\x16", "bold under"),
            ("\x0304,12red\x03 plain", "red plain"),
            ("\x034,x", ",x"),
            ("\x03123", "3"),
            ("\x04ff0000hex", "hex"),
            ("\x1b[1;31merror\x1b[0m: no", "error: no"),
            ("\x1b]0;title\x07x", "]0;titlex"),
            ("\x01VERSION\x01", "VERSION"),
            ("  a \t b\u{a0}\n ", "a b"),
            ("safe\u{202e}txt.exe", "safetxt.exe"),
            ("\x1b[", ""),
            ("", ""),
        ] {
            assert_eq!(plain(from), to, "{from:?}");
        }
    }

    #[test]
    fn brief_counts_characters() {
        assert_eq!(brief("äöü", 3), "äöü");
        assert_eq!(brief("äöüß", 3), "äö…");
        assert_eq!(brief("a\nb", 9), "a b");
    }

    #[test]
    fn pieces_end_at_blanks_where_they_can() {
        assert_eq!(split("one two three", 7, 9), ["one two", "three"]);
        assert_eq!(split("one two three", 8, 9), ["one two", "three"]);
        assert_eq!(split("https://ci.example.org/x", 10, 9), ["https://ci", ".example.o", "rg/x"]);
        assert_eq!(split("a b", 80, 9), ["a b"]);
        assert_eq!(split("", 80, 9), Vec::<String>::new());
        assert_eq!(split("one two three four", 9, 1), ["one…"]);
        assert_eq!(split("x", 80, 0), Vec::<String>::new());
    }

    #[test]
    fn a_character_wider_than_the_room_is_not_cut() {
        assert_eq!(split("🦀🦀", 1, 9), ["🦀", "🦀"]);
        assert_eq!(split("ää", 3, 9), ["ä", "ä"]);
    }

    #[test]
    fn the_room_leaves_space_for_what_the_server_puts_before() {
        let room = room("PRIVMSG", "#builds", 9, None);
        let line = format!(
            ":{}!{}@{} PRIVMSG #builds :{}\r\n",
            "n".repeat(9),
            "u".repeat(11),
            "h".repeat(63),
            "x".repeat(room)
        );
        assert_eq!(line.len(), LINE_BYTES);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_one_harmless_line(text in ".*") {
            let text = plain(&text);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(plain(&text), text);
        }

        #[test]
        fn pieces_fit_and_nothing_is_lost(text in "\\PC{0,300}", room in 4usize..60) {
            let text = plain(&text);
            let pieces = split(&text, room, usize::MAX);
            for piece in &pieces {
                prop_assert!(piece.len() <= room && !piece.is_empty());
            }
            let squeezed = |t: &str| t.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(squeezed(&pieces.concat()), squeezed(&text));
        }
    }
}
