//! What a running command reports: text of its streams, its result, facts about files.

use std::ops::Deref;

use bytes::Bytes;
use bytestring::ByteString;

use crate::error::{DecodeError, Inside, Problem};
use crate::reader::{Head, Reader};
use crate::writer::Writer;

type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// Text of a log, made of whole lines; a slice of the received frame, checked to be UTF-8.
///
/// On the wire it comes with the character position of each newline and the time of each line. Both are
/// advisory (stock workers send wrong ones for long lines): only the first time is kept, and lines are to
/// be found in the text itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogText {
    text: ByteString,
    received_at: f64,
}

impl LogText {
    /// Text received from the program at a time, in seconds since 1970.
    pub fn new(text: impl Into<ByteString>, received_at: f64) -> Self {
        Self { text: text.into(), received_at }
    }

    /// Bytes that must be UTF-8, without a copy.
    pub fn from_utf8(bytes: Bytes, received_at: f64) -> Result<Self, std::str::Utf8Error> {
        Ok(Self { text: ByteString::try_from(bytes)?, received_at })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The bytes of the text, still sharing the received frame.
    pub fn into_bytes(self) -> Bytes {
        self.text.into_bytes()
    }

    /// The bytes of the text, still sharing the received frame.
    pub fn as_bytes(&self) -> &Bytes {
        self.text.as_bytes()
    }

    /// When the worker received the first line, in seconds since 1970; 0 if it did not say.
    pub fn received_at(&self) -> f64 {
        self.received_at
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let at = reader.clone();
        let count = reader.array()?;
        if count == 0 {
            return Err(at.error(Problem::WrongType { expected: "a log text", found: "an empty array" }));
        }
        let text = reader.text().inside("text")?;
        let mut received_at = 0.0;
        for index in 1..count {
            let element = reader.clone();
            reader.skip()?;
            if index == 2 {
                received_at = first_number(element);
            }
        }
        Ok(Self { text, received_at })
    }

    fn write(&self, writer: &mut Writer) {
        let text = self.text.as_bytes();
        let lines = memchr::memchr_iter(b'\n', text).count();
        writer.array(3);
        writer.text(&self.text);
        writer.array(lines);
        let (mut start, mut characters) = (0, 0);
        for newline in memchr::memchr_iter(b'\n', text) {
            characters += count_characters(&text[start..newline]);
            writer.uint(characters);
            characters += 1;
            start = newline + 1;
        }
        writer.array(lines);
        for _ in 0..lines {
            writer.float(self.received_at);
        }
    }
}

/// Characters in UTF-8 text: every byte that does not continue one.
fn count_characters(text: &[u8]) -> u64 {
    if text.is_ascii() {
        return text.len() as u64;
    }
    text.iter().filter(|byte| (**byte as i8) >= -64).count() as u64
}

fn first_number(mut times: Reader<'_>) -> f64 {
    match times.head() {
        Ok(Head::Array(count)) if count > 0 => times.number().unwrap_or(0.0),
        _ => 0.0,
    }
}

impl Deref for LogText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

/// Facts about a file, as `stat(2)` gives them; times in whole seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names of stat(2)")]
pub struct FileStat {
    pub mode: i64,
    pub ino: i64,
    pub dev: i64,
    pub nlink: i64,
    pub uid: i64,
    pub gid: i64,
    pub size: i64,
    pub atime: i64,
    pub mtime: i64,
    pub ctime: i64,
}

impl FileStat {
    fn to_array(self) -> [i64; 10] {
        [
            self.mode, self.ino, self.dev, self.nlink, self.uid, self.gid, self.size, self.atime, self.mtime,
            self.ctime,
        ]
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let at = reader.clone();
        let count = reader.array()?;
        if count < 10 {
            return Err(at.error(Problem::WrongType { expected: "ten integers", found: "fewer" }));
        }
        let mut facts = [0; 10];
        for fact in &mut facts {
            // An inode number may use all 64 bits.
            *fact = match reader.peek()? {
                Head::Big(_) => reader.uint()? as i64,
                _ => reader.int()?,
            };
        }
        for _ in 10..count {
            reader.skip()?;
        }
        let [mode, ino, dev, nlink, uid, gid, size, atime, mtime, ctime] = facts;
        Ok(Self { mode, ino, dev, nlink, uid, gid, size, atime, mtime, ctime })
    }
}

/// One fact in an update, in the order in which it became known.
#[derive(Debug, Clone, PartialEq)]
pub enum UpdateItem {
    /// Standard output.
    Stdout(LogText),
    /// Standard error.
    Stderr(LogText),
    /// What the worker itself has to say.
    Header(LogText),
    /// Text of a followed file.
    Log {
        /// Name of its log.
        name: ByteString,
        /// What was added.
        text: LogText,
    },
    /// Exit status; -1 if a signal killed it. Not the end: that is `complete`.
    Rc(i64),
    /// Seconds it took.
    Elapsed(f64),
    /// Why the worker killed it: `timeout_without_output`, `timeout` or `max_lines_failure`.
    FailureReason(String),
    /// Names found by `glob` or `listdir`, unsorted.
    Files(Vec<ByteString>),
    /// Answer of `stat`.
    Stat(FileStat),
    /// A fact this crate does not know; kept as it came.
    Unknown {
        /// Its name.
        name: ByteString,
        /// Its value, in MessagePack.
        value: Bytes,
    },
}

impl UpdateItem {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let at = reader.clone();
        let count = reader.array()?;
        if count != 2 {
            return Err(at.error(Problem::WrongType { expected: "a pair", found: "an array" }));
        }
        let name = reader.text()?;
        Self::read_value(&name, reader).inside(&name)
    }

    fn read_value(name: &ByteString, reader: &mut Reader<'_>) -> Result<Self> {
        Ok(match &**name {
            "stdout" => UpdateItem::Stdout(LogText::read(reader)?),
            "stderr" => UpdateItem::Stderr(LogText::read(reader)?),
            "header" => UpdateItem::Header(LogText::read(reader)?),
            "log" => {
                let at = reader.clone();
                if reader.array()? != 2 {
                    return Err(at.error(Problem::WrongType { expected: "name and text", found: "an array" }));
                }
                UpdateItem::Log { name: reader.text()?, text: LogText::read(reader)? }
            }
            "rc" => UpdateItem::Rc(reader.int()?),
            "elapsed" => UpdateItem::Elapsed(reader.number()?),
            "failure_reason" => UpdateItem::FailureReason(reader.string()?),
            "files" => {
                let mut files = Vec::new();
                for index in 0..reader.array()? {
                    files.push(reader.text().inside(&index.to_string())?);
                }
                UpdateItem::Files(files)
            }
            "stat" => UpdateItem::Stat(FileStat::read(reader)?),
            _ => UpdateItem::Unknown { name: name.clone(), value: reader.value()?.raw() },
        })
    }

    /// Bytes of text in it; a good guess of its encoded size.
    pub(crate) fn size_hint(&self) -> usize {
        match self {
            UpdateItem::Stdout(text) | UpdateItem::Stderr(text) | UpdateItem::Header(text) => {
                text.len() + text.len() / 4 + 64
            }
            UpdateItem::Log { name, text } => name.len() + text.len() + text.len() / 4 + 64,
            UpdateItem::Files(files) => files.iter().map(|name| name.len() + 5).sum(),
            UpdateItem::Unknown { name, value } => name.len() + value.len(),
            _ => 32,
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.array(2);
        match self {
            UpdateItem::Stdout(text) => {
                writer.text("stdout");
                text.write(writer);
            }
            UpdateItem::Stderr(text) => {
                writer.text("stderr");
                text.write(writer);
            }
            UpdateItem::Header(text) => {
                writer.text("header");
                text.write(writer);
            }
            UpdateItem::Log { name, text } => {
                writer.text("log");
                writer.array(2);
                writer.text(name);
                text.write(writer);
            }
            UpdateItem::Rc(code) => {
                writer.text("rc");
                writer.int(*code);
            }
            UpdateItem::Elapsed(seconds) => {
                writer.text("elapsed");
                writer.float(*seconds);
            }
            UpdateItem::FailureReason(reason) => {
                writer.text("failure_reason");
                writer.text(reason);
            }
            UpdateItem::Files(files) => {
                writer.text("files");
                writer.texts(files);
            }
            UpdateItem::Stat(stat) => {
                writer.text("stat");
                writer.array(10);
                for fact in stat.to_array() {
                    writer.int(fact);
                }
            }
            UpdateItem::Unknown { name, value } => {
                writer.text(name);
                writer.raw(value);
            }
        }
    }
}
