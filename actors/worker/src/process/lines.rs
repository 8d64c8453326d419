//! Turns the bytes of a stream into whole lines of text, or hands them on as they are.

use bytes::{Bytes, BytesMut};
use greenroom_protocol::LogText;
use memchr::{memchr_iter, memchr2, memchr3, memrchr2};

/// Longest line; a longer one is cut.
pub(crate) const MAX_LINE: usize = 16 * 1024 * 1024;
/// Room for the first read of a stream; most commands say little.
const FIRST_READ: usize = 4 * 1024;
/// Room for further reads: the capacity of a pipe.
const NEXT_READ: usize = 64 * 1024;
/// The same where bytes are not looked at: what goes into one batch is read into one piece.
const NEXT_RAW_READ: usize = 320 * 1024;

/// What was taken out of a [`LineBuffer`].
#[derive(Debug)]
pub(crate) enum Taken {
    /// Whole lines of text.
    Lines(LogText),
    /// Bytes as they were written.
    Bytes(Bytes),
}

/// Bytes of one stream that were not sent yet: whole lines up to `cut`, then the beginning of a line.
///
/// Lines end at a newline or, so that progress bars are live, at a carriage return. In a raw buffer everything is ready at once.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer {
    raw: bool,
    bytes: BytesMut,
    cut: usize,
    searched: usize,
    first_at: f64,
    lines: u64,
}

impl LineBuffer {
    /// For lines of text, or for bytes as they are.
    pub(crate) fn new(raw: bool) -> Self {
        Self { raw, ..Self::default() }
    }

    /// Room to read into; call [`Self::filled`] afterwards.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        if self.bytes.capacity() - self.bytes.len() < 1024 {
            let more = match (self.bytes.capacity(), self.raw) {
                (0, _) => FIRST_READ,
                (_, false) => NEXT_READ,
                (_, true) => NEXT_RAW_READ,
            };
            self.bytes.reserve(more);
        }
        &mut self.bytes
    }

    /// Takes note of bytes read at `now`, in seconds since 1970.
    pub(crate) fn filled(&mut self, now: f64) {
        if self.raw {
            self.cut = self.bytes.len();
            return;
        }
        if self.cut == 0 {
            self.first_at = if self.searched == 0 { now } else { self.first_at };
        }
        // A carriage return at the very end may be the first half of a CRLF.
        let held = usize::from(self.bytes.last() == Some(&b'\r'));
        let end = self.bytes.len() - held;
        let fresh = &self.bytes[self.searched.min(end)..end];
        if let Some(last) = memrchr2(b'\n', b'\r', fresh) {
            self.cut = self.searched.min(end) + last + 1;
        }
        self.searched = end;
        if self.bytes.len() - self.cut > MAX_LINE {
            self.cut = character_boundary(&self.bytes[..self.cut + MAX_LINE]);
            self.searched = self.cut;
        }
    }

    /// Drops what was read; for a stream that nobody wants.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Bytes of whole lines.
    pub(crate) fn ready(&self) -> usize {
        self.cut
    }

    /// Newlines taken out so far.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// The whole lines, if there are any. Without a copy where the program wrote plain UTF-8.
    pub(crate) fn take_ready(&mut self) -> Option<Taken> {
        if self.raw { self.take_bytes() } else { self.take_lines().map(Taken::Lines) }
    }

    /// Everything, with a newline added to a line of text that has none.
    pub(crate) fn take_rest(&mut self) -> Option<Taken> {
        if self.raw { self.take_bytes() } else { self.take_all().map(Taken::Lines) }
    }

    fn take_bytes(&mut self) -> Option<Taken> {
        self.cut = 0;
        let bytes = self.bytes.split().freeze();
        self.lines += memchr_iter(b'\n', &bytes).count() as u64;
        (!bytes.is_empty()).then_some(Taken::Bytes(bytes))
    }

    fn take_lines(&mut self) -> Option<LogText> {
        if self.cut == 0 {
            return None;
        }
        let lines = self.bytes.split_to(self.cut).freeze();
        self.searched = self.searched.saturating_sub(self.cut);
        self.cut = 0;
        Some(self.finish(lines))
    }

    fn take_all(&mut self) -> Option<LogText> {
        let all = self.bytes.split().freeze();
        self.searched = 0;
        self.cut = 0;
        if all.is_empty() { None } else { Some(self.finish(all)) }
    }

    fn finish(&mut self, bytes: Bytes) -> LogText {
        let text = to_text(bytes, self.first_at);
        self.lines += memchr_iter(b'\n', text.as_bytes()).count() as u64;
        text
    }
}

/// The end of the last whole character, looking back no further than one can reach.
fn character_boundary(bytes: &[u8]) -> usize {
    let end = bytes.len();
    for back in 1..=4.min(end) {
        let byte = bytes[end - back];
        if byte < 0x80 {
            return end;
        }
        if byte >= 0xc0 {
            let length = if byte >= 0xf0 {
                4
            } else if byte >= 0xe0 {
                3
            } else {
                2
            };
            return if length > back { end - back } else { end };
        }
    }
    end
}

fn to_text(bytes: Bytes, at: f64) -> LogText {
    let bytes = match std::str::from_utf8(&bytes) {
        Ok(text) if text.ends_with('\n') => match normalize(text) {
            None => bytes,
            Some(changed) => Bytes::from(changed),
        },
        _ => {
            let text = String::from_utf8_lossy(&bytes);
            let mut text = normalize(&text).unwrap_or_else(|| text.into_owned());
            if !text.ends_with('\n') {
                text.push('\n');
            }
            Bytes::from(text)
        }
    };
    // The bytes are UTF-8 by now; the second check costs far less than the pipe they came through.
    LogText::from_utf8(bytes, at).unwrap_or_default()
}

/// Replaces what else ends a line by a newline: CRLF, a lone carriage return, moves of the cursor, runs of
/// backspaces. `None` if there is nothing to replace.
fn normalize(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out: Option<String> = None;
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = memchr3(b'\r', 0x1b, 0x08, &bytes[at..]) {
        let start = at + found;
        let length = line_end(&bytes[start..]);
        if length == 0 {
            at = start + 1;
            continue;
        }
        let out = out.get_or_insert_with(|| String::with_capacity(text.len()));
        out.push_str(&text[copied..start]);
        out.push('\n');
        copied = start + length;
        at = copied;
    }
    let mut out = out?;
    out.push_str(&text[copied..]);
    Some(out)
}

/// Length of the line end that `bytes` begin with, 0 if they begin with none.
fn line_end(bytes: &[u8]) -> usize {
    match bytes {
        [b'\r', b'\n', ..] => 2,
        [b'\r', ..] => 1,
        [0x08, ..] => bytes.iter().take_while(|byte| **byte == 0x08).count(),
        [0x1b, b'[', b'u', ..] => 3,
        [0x1b, b'[', b'2', b'J', ..] => 4,
        [0x1b, b'[', rest @ ..] => cursor_position(rest).map_or(0, |length| length + 2),
        _ => 0,
    }
}

/// Length of `12;34H` or `12;34f` at the beginning of `bytes`.
fn cursor_position(bytes: &[u8]) -> Option<usize> {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    // Longer numbers than a terminal has rows are no cursor position.
    let semicolon = memchr2(b';', b'\n', bytes.get(..bytes.len().min(12))?)?;
    let columns = digits(&bytes[semicolon + 1..]);
    let end = semicolon + 1 + columns;
    let valid = semicolon > 0
        && digits(bytes) == semicolon
        && bytes[semicolon] == b';'
        && columns > 0
        && matches!(bytes.get(end), Some(b'H' | b'f'));
    valid.then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds pieces and returns what comes out after each, then the rest.
    fn feed(pieces: &[&[u8]]) -> Vec<String> {
        let mut buffer = LineBuffer::default();
        let mut out = Vec::new();
        for piece in pieces {
            buffer.room().extend_from_slice(piece);
            buffer.filled(1.0);
            out.push(buffer.take_lines().map_or(String::new(), |text| text.as_str().to_owned()));
        }
        out.push(buffer.take_all().map_or(String::new(), |text| text.as_str().to_owned()));
        out
    }

    #[test]
    fn partial_lines_are_held_back() {
        assert_eq!(feed(&[b"one\ntw", b"o", b"\nend"]), ["one\n", "", "two\n", "end\n"]);
    }

    #[test]
    fn line_ends_become_newlines_wherever_they_are_split() {
        assert_eq!(feed(&[b"a\r\nb\r", b"\nc\rd\re"]), ["a\n", "b\nc\nd\n", "e\n"]);
        assert_eq!(feed(&[b"a\r"]), ["", "a\n"]);
        assert_eq!(feed(&[b"a\x08\x08b\x1b[2Jc\x1b[ud\x1b[1;20He\n"]), ["a\nb\nc\nd\ne\n", ""]);
    }

    #[test]
    fn colours_stay() {
        let line = b"\x1b[1;31mred\x1b[0m \x1b[38;5;9mh\n";
        assert_eq!(feed(&[line]), [std::str::from_utf8(line).unwrap(), ""]);
    }

    #[test]
    fn invalid_utf8_is_replaced_and_split_characters_are_not() {
        assert_eq!(feed(&[b"a\xffb\n", b"\xc3", b"\xa9\n"]), ["a\u{fffd}b\n", "", "é\n", ""]);
    }

    #[test]
    fn a_plain_line_is_not_copied() {
        let mut buffer = LineBuffer::default();
        buffer.room().extend_from_slice(b"plain\nrest");
        let at = buffer.bytes.as_ptr();
        buffer.filled(2.5);
        let text = buffer.take_lines().unwrap();
        assert_eq!(text.as_bytes().as_ptr(), at);
        assert!((text.received_at() - 2.5).abs() < f64::EPSILON);
    }

    #[test]
    fn a_line_without_end_is_cut_between_characters() {
        let mut buffer = LineBuffer::default();
        buffer.room().extend_from_slice(&vec![b'x'; MAX_LINE - 1]);
        buffer.room().extend_from_slice("é".as_bytes().split_at(1).0);
        buffer.filled(1.0);
        assert_eq!(buffer.ready(), 0, "the longest line may still end here");
        buffer.room().extend_from_slice("é".as_bytes().split_at(1).1);
        buffer.filled(1.0);
        let text = buffer.take_lines().unwrap();
        assert_eq!(text.len(), MAX_LINE, "all but the last character, and a newline");
        assert_eq!(buffer.take_all().unwrap().as_str(), "é\n");
    }

    #[test]
    fn raw_bytes_are_ready_as_they_come() {
        let mut buffer = LineBuffer::new(true);
        buffer.room().extend_from_slice(b"a\r\n\xff\rno end");
        buffer.filled(1.0);
        assert_eq!(buffer.ready(), 11);
        let Some(Taken::Bytes(bytes)) = buffer.take_ready() else { panic!("no bytes") };
        assert_eq!(&bytes[..], b"a\r\n\xff\rno end");
        assert_eq!((buffer.ready(), buffer.lines()), (0, 1));
        assert!(buffer.take_rest().is_none());
    }

    #[test]
    fn lines_are_counted_once() {
        let mut buffer = LineBuffer::default();
        buffer.room().extend_from_slice(b"1\n2\n3");
        buffer.filled(1.0);
        buffer.take_lines();
        buffer.take_all();
        assert_eq!(buffer.lines(), 3);
    }
}
