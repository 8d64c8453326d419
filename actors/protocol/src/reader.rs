//! Reads MessagePack from a received frame without copying text or file contents.
//!
//! Lengths are compared with what is left of the frame before anything is allocated, and skipping needs
//! no stack however deep the nesting, so hostile frames fail fast.

use bytes::Bytes;
use bytestring::ByteString;

use crate::error::{DecodeError, Inside, Problem};

/// Most elements accepted in one list that is kept (files, update pairs, arguments).
pub(crate) const MAX_ITEMS: usize = 1 << 20;

/// The head of one MessagePack value: a scalar, or the type and length of what follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Head {
    Nil,
    Bool(bool),
    Int(i64),
    /// Only numbers above `i64::MAX`.
    Big(u64),
    Float(f64),
    Str(usize),
    Bin(usize),
    Array(usize),
    Map(usize),
    Ext(usize),
}

impl Head {
    fn type_name(self) -> &'static str {
        match self {
            Head::Nil => "nil",
            Head::Bool(_) => "a boolean",
            Head::Int(_) | Head::Big(_) => "an integer",
            Head::Float(_) => "a float",
            Head::Str(_) => "a text",
            Head::Bin(_) => "binary data",
            Head::Array(_) => "an array",
            Head::Map(_) => "a map",
            Head::Ext(_) => "an extension",
        }
    }
}

type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// A cursor over a frame or over one value in it.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    frame: &'a Bytes,
    pos: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(frame: &'a Bytes) -> Self {
        Self { frame, pos: 0, end: frame.len() }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.pos == self.end
    }

    pub(crate) fn error(&self, problem: Problem) -> DecodeError {
        DecodeError::new(problem, self.pos)
    }

    fn left(&self) -> usize {
        self.end - self.pos
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.frame[self.pos..self.end].first_chunk::<N>() {
            Some(chunk) => {
                self.pos += N;
                Ok(*chunk)
            }
            None => Err(self.error(Problem::Truncated)),
        }
    }

    #[inline]
    fn length(&self, length: u64) -> Result<usize> {
        if length > self.left() as u64 {
            return Err(self.error(Problem::LengthBeyondFrame(length)));
        }
        Ok(length as usize)
    }

    /// Number of entries of a map; each takes at least two bytes.
    #[inline]
    fn entries(&self, entries: u64) -> Result<usize> {
        self.length(entries * 2)?;
        Ok(entries as usize)
    }

    /// Reads one head; the contents of a text, list or map follow it.
    #[inline]
    pub(crate) fn head(&mut self) -> Result<Head> {
        let [marker] = self.take()?;
        Ok(match marker {
            0x00..=0x7f => Head::Int(i64::from(marker)),
            0x80..=0x8f => Head::Map(self.entries(u64::from(marker & 0x0f))?),
            0x90..=0x9f => Head::Array(self.length(u64::from(marker & 0x0f))?),
            0xa0..=0xbf => Head::Str(self.length(u64::from(marker & 0x1f))?),
            0xe0..=0xff => Head::Int(i64::from(marker as i8)),
            0xcb => Head::Float(f64::from_be_bytes(self.take()?)),
            _ => return self.long_head(marker),
        })
    }

    fn long_head(&mut self, marker: u8) -> Result<Head> {
        Ok(match marker {
            0xc0 => Head::Nil,
            0xc2 => Head::Bool(false),
            0xc3 => Head::Bool(true),
            0xc4 | 0xd9 | 0xc7 => {
                let length = u64::from(u8::from_be_bytes(self.take()?));
                self.sized(marker, length)?
            }
            0xc5 | 0xda | 0xc8 => {
                let length = u64::from(u16::from_be_bytes(self.take()?));
                self.sized(marker, length)?
            }
            0xc6 | 0xdb | 0xc9 => {
                let length = u64::from(u32::from_be_bytes(self.take()?));
                self.sized(marker, length)?
            }
            0xca => Head::Float(f64::from(f32::from_be_bytes(self.take()?))),
            0xcc => Head::Int(i64::from(u8::from_be_bytes(self.take()?))),
            0xcd => Head::Int(i64::from(u16::from_be_bytes(self.take()?))),
            0xce => Head::Int(i64::from(u32::from_be_bytes(self.take()?))),
            0xcf => {
                let number = u64::from_be_bytes(self.take()?);
                i64::try_from(number).map_or(Head::Big(number), Head::Int)
            }
            0xd0 => Head::Int(i64::from(i8::from_be_bytes(self.take()?))),
            0xd1 => Head::Int(i64::from(i16::from_be_bytes(self.take()?))),
            0xd2 => Head::Int(i64::from(i32::from_be_bytes(self.take()?))),
            0xd3 => Head::Int(i64::from_be_bytes(self.take()?)),
            0xd4..=0xd8 => Head::Ext(self.length(1 + (1 << (marker - 0xd4)))?),
            0xdc => {
                let count = u16::from_be_bytes(self.take()?);
                Head::Array(self.length(u64::from(count))?)
            }
            0xdd => {
                let count = u32::from_be_bytes(self.take()?);
                Head::Array(self.length(u64::from(count))?)
            }
            0xde => {
                let count = u16::from_be_bytes(self.take()?);
                Head::Map(self.entries(u64::from(count))?)
            }
            0xdf => {
                let count = u32::from_be_bytes(self.take()?);
                Head::Map(self.entries(u64::from(count))?)
            }
            _ => return Err(self.error(Problem::ReservedByte)),
        })
    }

    fn sized(&self, marker: u8, length: u64) -> Result<Head> {
        Ok(match marker {
            0xc4..=0xc6 => Head::Bin(self.length(length)?),
            0xc7..=0xc9 => Head::Ext(self.length(length + 1)?),
            _ => Head::Str(self.length(length)?),
        })
    }

    fn wrong<T>(&self, expected: &'static str, found: Head, start: usize) -> Result<T> {
        Err(DecodeError::new(Problem::WrongType { expected, found: found.type_name() }, start))
    }

    /// Skips one value with everything in it. Costs no allocation and no recursion.
    pub(crate) fn skip(&mut self) -> Result<()> {
        let mut open: u64 = 1;
        while open > 0 {
            open -= 1;
            match self.head()? {
                Head::Str(length) | Head::Bin(length) | Head::Ext(length) => self.pos += length,
                Head::Array(count) => open += count as u64,
                Head::Map(count) => open += 2 * count as u64,
                _ => {}
            }
            // Each open value takes at least a byte.
            self.length(open)?;
        }
        Ok(())
    }

    /// Skips one value and returns a reader of just that value.
    pub(crate) fn value(&mut self) -> Result<Reader<'a>> {
        let start = self.pos;
        self.skip()?;
        Ok(Reader { frame: self.frame, pos: start, end: self.pos })
    }

    /// The bytes of the value this reader was made for.
    pub(crate) fn raw(&self) -> Bytes {
        self.frame.slice(self.pos..self.end)
    }

    /// The head of the next value, without moving on.
    pub(crate) fn peek(&self) -> Result<Head> {
        self.clone().head()
    }

    /// Reads nil, if it comes next.
    pub(crate) fn nil(&mut self) -> bool {
        let is_nil = self.pos < self.end && self.frame[self.pos] == 0xc0;
        self.pos += usize::from(is_nil);
        is_nil
    }

    pub(crate) fn bool(&mut self) -> Result<bool> {
        let start = self.pos;
        match self.head()? {
            Head::Bool(value) => Ok(value),
            found => self.wrong("a boolean", found, start),
        }
    }

    pub(crate) fn int(&mut self) -> Result<i64> {
        let start = self.pos;
        match self.head()? {
            Head::Int(value) => Ok(value),
            Head::Big(_) => Err(DecodeError::new(Problem::OutOfRange, start)),
            found => self.wrong("an integer", found, start),
        }
    }

    pub(crate) fn uint(&mut self) -> Result<u64> {
        let start = self.pos;
        match self.head()? {
            Head::Int(value) => {
                u64::try_from(value).map_err(|_| DecodeError::new(Problem::OutOfRange, start))
            }
            Head::Big(value) => Ok(value),
            found => self.wrong("an integer", found, start),
        }
    }

    /// An integer or float, as a float; it is finite.
    pub(crate) fn number(&mut self) -> Result<f64> {
        let start = self.pos;
        match self.head()? {
            Head::Int(value) => Ok(value as f64),
            Head::Big(value) => Ok(value as f64),
            Head::Float(value) if value.is_finite() => Ok(value),
            Head::Float(_) => Err(DecodeError::new(Problem::OutOfRange, start)),
            found => self.wrong("a number", found, start),
        }
    }

    fn str_slice(&mut self) -> Result<Bytes> {
        let start = self.pos;
        match self.head()? {
            Head::Str(length) => {
                let bytes = self.frame.slice(self.pos..self.pos + length);
                self.pos += length;
                Ok(bytes)
            }
            found => self.wrong("a text", found, start),
        }
    }

    /// A text as a slice of the frame.
    pub(crate) fn text(&mut self) -> Result<ByteString> {
        let start = self.pos;
        ByteString::try_from(self.str_slice()?).map_err(|_| DecodeError::new(Problem::NotUtf8, start))
    }

    /// A text of its own.
    pub(crate) fn string(&mut self) -> Result<String> {
        let start = self.pos;
        match self.head()? {
            Head::Str(length) => {
                let bytes = &self.frame[self.pos..self.pos + length];
                let text =
                    std::str::from_utf8(bytes).map_err(|_| DecodeError::new(Problem::NotUtf8, start))?;
                self.pos += length;
                Ok(text.to_owned())
            }
            found => self.wrong("a text", found, start),
        }
    }

    /// The bytes of a map key, not checked for UTF-8: they are only compared.
    pub(crate) fn key(&mut self) -> Result<&'a [u8]> {
        let start = self.pos;
        match self.head()? {
            Head::Str(length) => {
                let bytes = &self.frame[self.pos..self.pos + length];
                self.pos += length;
                Ok(bytes)
            }
            found => self.wrong("a text as key", found, start),
        }
    }

    /// Binary data as a slice of the frame.
    pub(crate) fn bin(&mut self) -> Result<Bytes> {
        let start = self.pos;
        match self.head()? {
            Head::Bin(length) => {
                let bytes = self.frame.slice(self.pos..self.pos + length);
                self.pos += length;
                Ok(bytes)
            }
            found => self.wrong("binary data", found, start),
        }
    }

    /// Number of elements of an array; they follow.
    pub(crate) fn array(&mut self) -> Result<usize> {
        let start = self.pos;
        match self.head()? {
            Head::Array(count) if count > MAX_ITEMS => Err(DecodeError::new(Problem::TooManyItems, start)),
            Head::Array(count) => Ok(count),
            found => self.wrong("an array", found, start),
        }
    }

    /// Number of entries of a map; they follow as key, value.
    pub(crate) fn map(&mut self) -> Result<usize> {
        let start = self.pos;
        match self.head()? {
            Head::Map(count) if count > MAX_ITEMS => Err(DecodeError::new(Problem::TooManyItems, start)),
            Head::Map(count) => Ok(count),
            found => self.wrong("a map", found, start),
        }
    }

    /// An array of texts of their own.
    pub(crate) fn strings(&mut self) -> Result<Vec<String>> {
        let count = self.array()?;
        // The list grows as elements are read: the count alone allocates next to nothing.
        let mut list = Vec::with_capacity(count.min(64));
        for index in 0..count {
            list.push(self.string().inside(&index.to_string())?);
        }
        Ok(list)
    }

    /// Nil or what `read` reads.
    pub(crate) fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.nil() { Ok(None) } else { read(self).map(Some) }
    }
}
