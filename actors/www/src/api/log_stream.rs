//! The bytes of one stream of a log of streams, as they were written.

use bytes::{Bytes, BytesMut};
use greenroom_model::log_words;
use memchr::memchr;

/// Longer lines of the machinery's own are none that matter here.
const WORDS: usize = 128;

/// Picks one stream out of lines that bear letters, over pieces that end anywhere.
#[derive(Debug)]
pub(super) struct Pick {
    letter: u8,
    /// What the log says where this stream ends without a newline.
    open_end: String,
    /// The letter of the line that is being read.
    line: Option<u8>,
    /// The machinery's own line that is being read.
    words: Vec<u8>,
    /// A newline that comes only if the log does not say that it was never written.
    newline: bool,
}

impl Pick {
    /// For a stream by its name: `stdout`, `stderr` or `header`.
    pub(super) fn of(name: &str) -> Option<Self> {
        let (letter, source) = match name {
            "stdout" => (b'o', log_words::STDOUT),
            "stderr" => (b'e', log_words::STDERR),
            "header" => (b'h', ""),
            _ => return None,
        };
        let open_end = log_words::open_end(source);
        Some(Self { letter, open_end, line: None, words: Vec::new(), newline: false })
    }

    /// What this piece of the log adds to the stream.
    pub(super) fn apply(&mut self, piece: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(piece.len());
        let mut rest = piece;
        while let Some((first, after)) = rest.split_first() {
            let Some(letter) = self.line else {
                self.line = Some(*first);
                self.words.clear();
                if *first == self.letter && std::mem::take(&mut self.newline) {
                    out.extend_from_slice(b"\n");
                }
                rest = after;
                continue;
            };
            let end = memchr(b'\n', rest);
            let (text, after) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
            rest = after;
            let text = &text[..text.len() - usize::from(end.is_some())];
            if letter == self.letter {
                out.extend_from_slice(text);
                self.newline = end.is_some();
            } else if letter == b'h' {
                let room = WORDS.saturating_sub(self.words.len());
                self.words.extend_from_slice(&text[..text.len().min(room)]);
                // It follows the line that it is about: no line of the same stream can stand between.
                self.newline &= end.is_none() || self.words != self.open_end.as_bytes();
            }
            if end.is_some() {
                self.line = None;
            }
        }
        out.freeze()
    }

    /// What is left at the end of the log.
    pub(super) fn finish(&self) -> &'static [u8] {
        if self.newline { b"\n" } else { b"" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(name: &str, text: &[u8]) -> Vec<u8> {
        let whole = |cut: usize| {
            let mut pick = Pick::of(name).unwrap();
            let mut out = pick.apply(&text[..cut]).to_vec();
            out.extend_from_slice(&pick.apply(&text[cut..]));
            out.extend_from_slice(pick.finish());
            out
        };
        let out = whole(0);
        (1..=text.len()).for_each(|cut| assert_eq!(whole(cut), out, "cut at {cut}"));
        out
    }

    #[test]
    fn one_stream_is_picked_byte_for_byte() {
        let text = b"hmake\noa\r\neoops\no\xff\ro\no\nhexit 0\n";
        assert_eq!(picked("stdout", text), b"a\r\n\xff\ro\n\n");
        assert_eq!(picked("stderr", text), b"oops\n");
        assert_eq!(picked("header", text), b"make\nexit 0\n");
        assert!(Pick::of("log").is_none());
    }

    #[test]
    fn a_newline_that_was_never_written_is_left_out() {
        let text = b"oone\notwo\nhstandard output ends without a newline\nebad\nhexit 0\n";
        assert_eq!(picked("stdout", text), b"one\ntwo");
        assert_eq!(picked("stderr", text), b"bad\n");
        let again = b"oone\nhstandard output ends without a newline\notwo\n";
        assert_eq!(picked("stdout", again), b"onetwo\n");
        let said = b"oone\nostandard output ends without a newline\n";
        assert_eq!(picked("stdout", said), b"one\nstandard output ends without a newline\n");
    }
}
