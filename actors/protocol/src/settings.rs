//! How a worker collects the output of commands.

use crate::error::{DecodeError, Inside, Problem};
use crate::reader::Reader;
use crate::writer::Writer;

/// Arguments of `set_worker_settings`.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Bytes of text after which collected output is sent.
    pub buffer_size: u64,
    /// Seconds after which collected output is sent.
    pub buffer_timeout: f64,
    /// What else ends a line, a regular expression in Python's syntax.
    pub newline_re: String,
    /// Characters after which a stock worker cuts a line, and loses data doing so.
    pub max_line_length: u64,
    /// Version of the extension [output batches](crate::Batch) that the worker is to use, of those that it announced; none: it
    /// reports output as a stock worker does.
    pub output_batches: Option<i64>,
}

/// What ends a line besides `\n`: `\r\n`, a lone `\r` that something follows, three cursor moves, runs of backspaces. It finds what
/// `(\r\n|\r(?=.)|\033\[u|\033\[[0-9]+;[0-9]+[Hf]|\033\[2J|\x08+)` finds, but begins with one class of characters: Python's
/// matcher then skips ordinary text six times faster, and a stock worker scans an unfinished line again with every piece.
const NEWLINE: &str =
    r"([\r\033\x08](?:(?<=\r)\n|(?<=\r)(?=.)|(?<=\033)\[(?:u|[0-9]+;[0-9]+[Hf]|2J)|(?<=\x08)\x08*))";

impl Default for Settings {
    /// What suits stock workers: live output, and lines that are never cut (a stock worker that cuts a line
    /// loses part of it, so the master cuts).
    fn default() -> Self {
        Self {
            buffer_size: 64 * 1024,
            buffer_timeout: 0.2,
            newline_re: NEWLINE.to_owned(),
            max_line_length: 1 << 30,
            output_batches: None,
        }
    }
}

impl Settings {
    /// What suits our agent, if it announced output batches: as the default, in batches of a size that costs little a byte.
    pub fn batched(version: i64) -> Self {
        Self { buffer_size: 256 * 1024, output_batches: Some(version), ..Self::default() }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = reader.clone();
        let missing = |key| at.error(Problem::Missing(key));
        let (mut size, mut timeout, mut newline, mut length, mut batches) = (None, None, None, None, None);
        for _ in 0..reader.map()? {
            match reader.key()? {
                b"buffer_size" => size = Some(reader.uint().inside("buffer_size")?),
                b"buffer_timeout" => timeout = Some(reader.number().inside("buffer_timeout")?),
                b"newline_re" => newline = Some(reader.string().inside("newline_re")?),
                b"max_line_length" => length = Some(reader.uint().inside("max_line_length")?),
                b"output_batches" => {
                    batches = reader.optional(Reader::int).inside("output_batches")?;
                }
                _ => reader.skip()?,
            }
        }
        Ok(Self {
            buffer_size: size.ok_or_else(|| missing("buffer_size"))?,
            buffer_timeout: timeout.ok_or_else(|| missing("buffer_timeout"))?,
            newline_re: newline.ok_or_else(|| missing("newline_re"))?,
            max_line_length: length.ok_or_else(|| missing("max_line_length"))?,
            output_batches: batches,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.map(4 + usize::from(self.output_batches.is_some()));
        writer.text("newline_re");
        writer.text(&self.newline_re);
        writer.text("max_line_length");
        writer.uint(self.max_line_length);
        writer.text("buffer_timeout");
        writer.number(self.buffer_timeout);
        writer.text("buffer_size");
        writer.uint(self.buffer_size);
        if let Some(version) = self.output_batches {
            writer.text("output_batches");
            writer.int(version);
        }
    }
}
