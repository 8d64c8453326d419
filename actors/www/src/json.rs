//! JSON for people: indented, with escaped non-ASCII characters, as stock clients have always seen it.

use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// Compact JSON text of `value`, ASCII only.
pub(crate) fn compact(value: &impl Serialize) -> String {
    greenroom_model::wire::to_json(value)
}

/// `compact`, a JSON text, indented by 2. A text that is not JSON comes back as it is.
pub(crate) fn pretty(compact: &str) -> String {
    let Ok(value) = serde_json::from_str::<Value>(compact) else { return compact.to_owned() };
    let mut out = Vec::with_capacity(compact.len() * 2);
    let done =
        value.serialize(&mut Serializer::with_formatter(&mut out, PrettyAscii(PrettyFormatter::new())));
    match (done, String::from_utf8(out)) {
        (Ok(()), Ok(text)) => text,
        _ => compact.to_owned(),
    }
}

/// Appends `text` to `out` as the inside of a JSON string, ASCII only. For strings that are streamed in pieces.
pub(crate) fn escape_into(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let unit = |out: &mut Vec<u8>, unit: u16| {
        out.extend_from_slice(b"\\u");
        for shift in [12, 8, 4, 0] {
            out.push(HEX[usize::from((unit >> shift) & 15)]);
        }
    };
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            ' '..='~' => out.push(c as u8),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|u| unit(out, *u)),
        }
    }
}

/// Indents, and escapes what is not ASCII.
struct PrettyAscii<'a>(PrettyFormatter<'a>);

impl Formatter for PrettyAscii<'_> {
    fn begin_array<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.begin_array(w)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_array(w)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(w, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_array_value(w)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.begin_object(w)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_object(w)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(w, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.begin_object_value(w)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_object_value(w)
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, w: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.is_ascii() {
            return w.write_all(fragment.as_bytes());
        }
        let mut escaped = Vec::with_capacity(fragment.len() * 2);
        escape_into(&mut escaped, fragment);
        w.write_all(&escaped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_indented_ascii() {
        let text = compact(&serde_json::json!({"a": ["h\u{e9} \u{1f600}"], "b": [], "c": {}}));
        assert_eq!(
            pretty(&text),
            "{\n  \"a\": [\n    \"h\\u00e9 \\ud83d\\ude00\"\n  ],\n  \"b\": [],\n  \"c\": {}\n}"
        );
    }

    #[test]
    fn escaped_pieces_make_one_json_string() {
        let text = "a\"\\\n\r\t\u{1}\u{7f}\u{e9}\u{1f600}";
        let mut out = b"\"".to_vec();
        escape_into(&mut out, text);
        out.push(b'"');
        assert!(out.is_ascii());
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
    }
}
