//! Lines from pieces of text, in one pass, into the segment that is open.

use memchr::{memchr, memchr_iter};

use crate::messages::Stream;

/// A segment is closed when it holds this much text.
pub const SEGMENT: usize = 256 * 1024;
/// A longer line is split.
pub const MAX_LINE: usize = 16 * 1024 * 1024;
/// So many small segments of an open one are merged.
const TAILS: usize = 32;
/// A longer log is cut.
pub const MAX_LOG: i64 = 1024 * 1024 * 1024;

/// A closed segment, not stored yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Sealed {
    pub first: i64,
    pub lines: i64,
    pub text: Vec<u8>,
    /// Some of its lines are stored in smaller segments, which it replaces.
    pub replaces: bool,
    /// How much of its text was not stored before.
    pub new_bytes: usize,
}

/// An open log.
#[derive(Debug, Default)]
pub struct Assembly {
    /// The text after the last closed segment.
    run: Vec<u8>,
    /// Its first line.
    first: i64,
    /// Its lines.
    lines: i64,
    /// So much of it, and so many lines, are in stored (or being stored) tails.
    tail: usize,
    tail_lines: i64,
    tails: usize,
    /// Unfinished lines, by stream.
    fragments: [Vec<u8>; 4],
    /// Text of the log so far.
    bytes: i64,
    cut: bool,
    pub sealed: Vec<Sealed>,
}

fn letter(stream: Stream) -> Option<u8> {
    match stream {
        Stream::Out => Some(b'o'),
        Stream::Err => Some(b'e'),
        Stream::Header => Some(b'h'),
        Stream::Plain => None,
    }
}

impl Assembly {
    /// A log of which this much is stored.
    pub fn after(lines: i64, bytes: i64) -> Self {
        Self { first: lines, bytes, cut: bytes > MAX_LOG, ..Self::default() }
    }

    /// All whole lines.
    pub fn total_lines(&self) -> i64 {
        self.first + self.lines
    }

    /// Text that is in no stored segment, closed segments aside.
    pub fn unstored(&self) -> usize {
        self.run.len() - self.tail
    }

    /// Unfinished lines.
    pub fn pending(&self) -> usize {
        self.fragments.iter().map(Vec::len).sum()
    }

    /// Takes text in. Answers by how much the whole lines grew.
    pub fn add(&mut self, stream: Stream, text: &[u8]) -> usize {
        if self.cut {
            return 0;
        }
        let before = self.bytes;
        let mut rest = text;
        if !self.fragments[stream as usize].is_empty() {
            let Some(end) = memchr(b'\n', rest) else {
                self.keep_fragment(stream, rest);
                return grown(before, self.bytes);
            };
            let mut line = std::mem::take(&mut self.fragments[stream as usize]);
            line.extend_from_slice(&rest[..=end]);
            self.line(stream, &line);
            rest = &rest[end + 1..];
        }
        let mut start = 0;
        for end in memchr_iter(b'\n', rest) {
            self.line(stream, &rest[start..=end]);
            start = end + 1;
        }
        self.keep_fragment(stream, &rest[start..]);
        if self.bytes > MAX_LOG {
            self.cut_log(stream);
        }
        grown(before, self.bytes)
    }

    fn keep_fragment(&mut self, stream: Stream, text: &[u8]) {
        let mut fragment = std::mem::take(&mut self.fragments[stream as usize]);
        fragment.extend_from_slice(text);
        while fragment.len() > MAX_LINE {
            let at = split_at(&fragment);
            self.push(stream, &fragment[..at]);
            self.end_line();
            fragment.drain(..at);
        }
        self.fragments[stream as usize] = fragment;
    }

    /// Adds a line that ends with a newline, split if it is too long.
    fn line(&mut self, stream: Stream, mut line: &[u8]) {
        while line.len() - 1 > MAX_LINE {
            let at = split_at(line);
            self.push(stream, &line[..at]);
            self.end_line();
            line = &line[at..];
        }
        self.push(stream, &line[..line.len() - 1]);
        self.end_line();
    }

    fn push(&mut self, stream: Stream, text: &[u8]) {
        // Whoever reads the lines before an enormous one need not unpack that.
        if text.len() >= SEGMENT {
            self.seal();
        }
        let before = self.run.len();
        self.run.extend(letter(stream));
        self.run.extend_from_slice(text);
        self.run.push(b'\n');
        self.bytes += (self.run.len() - before) as i64;
    }

    fn end_line(&mut self) {
        self.lines += 1;
        if self.run.len() >= SEGMENT {
            self.seal();
        }
    }

    fn cut_log(&mut self, stream: Stream) {
        self.fragments = Default::default();
        self.cut = true;
        let stream = if stream == Stream::Plain { Stream::Plain } else { Stream::Header };
        self.push(stream, b"The log is cut here: it is larger than 1 GiB.");
        self.end_line();
    }

    /// Closes the open segment.
    pub fn seal(&mut self) {
        if self.lines == 0 {
            return;
        }
        let new_bytes = self.unstored();
        let text = std::mem::replace(&mut self.run, Vec::with_capacity(SEGMENT + SEGMENT / 8));
        self.sealed.push(Sealed {
            first: self.first,
            lines: self.lines,
            text,
            replaces: self.tails > 0,
            new_bytes,
        });
        self.first += self.lines;
        (self.lines, self.tail, self.tail_lines, self.tails) = (0, 0, 0, 0);
    }

    /// What is not stored of the open segment, to be stored as a small one for the time being.
    pub fn take_tail(&mut self) -> Option<Sealed> {
        if self.unstored() == 0 {
            return None;
        }
        let new_bytes = self.unstored();
        let merge = self.tails >= TAILS;
        if merge {
            (self.tail, self.tail_lines, self.tails) = (0, 0, 0);
        }
        let text = self.run[self.tail..].to_vec();
        let (first, lines) = (self.first + self.tail_lines, self.lines - self.tail_lines);
        (self.tail, self.tail_lines) = (self.run.len(), self.lines);
        self.tails += 1;
        Some(Sealed { first, lines, text, replaces: merge, new_bytes })
    }

    /// Ends the log: unfinished lines become lines, and what is left is closed. Answers by how much the whole lines grew.
    pub fn finish(&mut self) -> usize {
        let grown = self.break_lines();
        if self.unstored() > 0 || self.tails > 1 {
            self.seal();
        }
        grown
    }

    /// Makes lines of the unfinished ones. Answers by how much the whole lines grew.
    pub fn break_lines(&mut self) -> usize {
        let before = self.bytes;
        for stream in [Stream::Out, Stream::Err, Stream::Header, Stream::Plain] {
            let mut line = std::mem::take(&mut self.fragments[stream as usize]);
            if !line.is_empty() {
                line.push(b'\n');
                self.line(stream, &line);
            }
        }
        grown(before, self.bytes)
    }
}

fn grown(before: i64, after: i64) -> usize {
    usize::try_from(after - before).unwrap_or(0)
}

/// Where to split a text that is too long for a line: before a character.
fn split_at(text: &[u8]) -> usize {
    let begins = |at: &usize| text.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    (MAX_LINE - 3..=MAX_LINE).rev().find(begins).unwrap_or(MAX_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(mut log: Assembly) -> String {
        log.finish();
        String::from_utf8(log.sealed.into_iter().flat_map(|s| s.text).collect()).unwrap()
    }

    #[test]
    fn lines_bear_their_stream_and_fragments_wait_for_their_end() {
        let mut log = Assembly::default();
        log.add(Stream::Out, b"one\ntw");
        log.add(Stream::Err, b"bad\n");
        log.add(Stream::Out, b"o\n\n");
        log.add(Stream::Header, b"exit 0");
        assert_eq!(log.total_lines(), 4);
        assert_eq!(text(log), "oone\nebad\notwo\no\nhexit 0\n");
        let mut plain = Assembly::default();
        plain.add(Stream::Plain, b"a\nb");
        assert_eq!(text(plain), "a\nb\n");
        assert_eq!(text(Assembly::default()), "");
    }

    #[test]
    fn long_lines_are_split_between_characters() {
        let mut log = Assembly::default();
        let long = "ä".repeat(MAX_LINE / 2 + 10);
        log.add(Stream::Out, &long.as_bytes()[..1001]);
        log.add(Stream::Out, &long.as_bytes()[1001..]);
        log.add(Stream::Out, b"end\n");
        let stored = text(log);
        assert!(stored.lines().all(|l| l.starts_with('o') && l.len() <= MAX_LINE + 1));
        assert_eq!(stored.lines().map(|l| &l[1..]).collect::<String>(), long + "end");
    }

    #[test]
    fn tails_are_replaced_by_the_closed_segment() {
        let mut log = Assembly::default();
        assert_eq!(log.take_tail(), None);
        log.add(Stream::Plain, b"a\n");
        let tail = log.take_tail().unwrap();
        assert_eq!((tail.first, tail.lines, tail.text.as_slice()), (0, 1, &b"a\n"[..]));
        assert_eq!(log.take_tail(), None);
        log.add(Stream::Plain, b"b\nc\n");
        let tail = log.take_tail().unwrap();
        assert_eq!((tail.first, tail.lines), (1, 2));
        log.add(Stream::Plain, &b"x\n".repeat(SEGMENT / 2));
        let sealed = &log.sealed[0];
        assert_eq!((sealed.first, sealed.replaces, sealed.text.len()), (0, true, SEGMENT));
        assert_eq!(sealed.new_bytes, SEGMENT - 6);
        assert_eq!(log.unstored(), 6);
    }

    #[test]
    fn an_enormous_line_has_its_own_segment() {
        let mut log = Assembly::default();
        log.add(Stream::Out, b"a\n");
        log.add(Stream::Out, format!("{}\nb\n", "x".repeat(SEGMENT)).as_bytes());
        log.finish();
        let shape: Vec<_> = log.sealed.iter().map(|s| (s.first, s.lines, s.text.len())).collect();
        assert_eq!(shape, [(0, 1, 3), (1, 1, SEGMENT + 2), (2, 1, 3)]);
    }

    #[test]
    fn many_tails_are_merged() {
        let mut log = Assembly::default();
        let mut stored: Vec<Sealed> = Vec::new();
        for _ in 0..100 {
            log.add(Stream::Plain, b"a\n");
            let tail = log.take_tail().unwrap();
            assert_eq!(tail.new_bytes, 2);
            stored.retain(|s| !tail.replaces || s.first < tail.first);
            stored.push(tail);
        }
        assert!(stored.len() <= TAILS + 1, "{}", stored.len());
        assert_eq!(stored.iter().map(|s| s.lines).sum::<i64>(), 100);
        log.finish();
        assert_eq!((log.sealed[0].lines, log.sealed[0].new_bytes), (100, 0));
    }

    #[test]
    fn a_log_is_cut_once_with_a_record() {
        let mut log = Assembly::after(7, MAX_LOG - 10);
        log.add(Stream::Out, b"0123456789\n");
        log.add(Stream::Out, b"lost\n");
        assert_eq!(log.total_lines(), 9);
        assert_eq!(text(log), "o0123456789\nhThe log is cut here: it is larger than 1 GiB.\n");
    }
}
