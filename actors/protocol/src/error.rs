//! Why a frame could not be read.

use std::fmt;

/// What is wrong with the bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The frame ends inside a value.
    #[error("the frame ends too early")]
    Truncated,
    /// A length or count is larger than the rest of the frame can hold.
    #[error("a length of {0} does not fit into the frame")]
    LengthBeyondFrame(u64),
    /// Arrays and maps are nested too deeply.
    #[error("nested too deeply")]
    TooDeep,
    /// More elements than are accepted at this place.
    #[error("too many elements")]
    TooManyItems,
    /// A value of another type than expected.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// The type that belongs here.
        expected: &'static str,
        /// The type that was found.
        found: &'static str,
    },
    /// A number that is outside the accepted range.
    #[error("the number is out of range")]
    OutOfRange,
    /// A str value that is not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// A required key is missing.
    #[error("message did not contain obligatory \"{0}\" key")]
    Missing(&'static str),
    /// A byte that MessagePack never uses.
    #[error("the byte 0xc1 is not MessagePack")]
    ReservedByte,
    /// The frame goes on after its one map.
    #[error("the frame has bytes after its end")]
    TrailingBytes,
    /// Something is larger than is accepted.
    #[error("{found} bytes are announced, at most {most} are accepted")]
    TooLarge {
        /// Its size in bytes.
        found: u64,
        /// The largest size accepted.
        most: u64,
    },
    /// Data that are not as long as is said of them.
    #[error("the lengths do not agree")]
    WrongSize,
    /// Data in an encoding that is not known.
    #[error("the encoding is not known")]
    UnknownEncoding,
}

/// A frame that could not be read: what is wrong and where.
///
/// If [`DecodeError::seq`] is known, the envelope of a request was readable and only its contents were
/// not: answer that number with an error response. Otherwise the peer does not speak the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    problem: Problem,
    path: String,
    offset: usize,
    seq: Option<u64>,
}

impl DecodeError {
    pub(crate) fn new(problem: Problem, offset: usize) -> Self {
        Self { problem, path: String::new(), offset, seq: None }
    }

    pub(crate) fn with_seq(mut self, seq: u64) -> Self {
        self.seq = Some(seq);
        self
    }

    pub(crate) fn inside(mut self, key: &str) -> Self {
        self.path = if self.path.is_empty() { key.to_owned() } else { format!("{key}.{}", self.path) };
        self
    }

    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Dotted path of keys to the faulty value; empty for the frame as a whole.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Offset in bytes from the start of the frame.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The number of the request whose contents are faulty, if its envelope was readable.
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{} (at byte {})", self.problem, self.offset)
    }
}

impl std::error::Error for DecodeError {}

/// Names the key in whose value an error came up.
pub(crate) trait Inside {
    fn inside(self, key: &str) -> Self;
}

impl<T> Inside for Result<T, DecodeError> {
    fn inside(self, key: &str) -> Self {
        self.map_err(|error| error.inside(key))
    }
}
