//! Output of a command in binary batches: an extension that our agent announces and a master enables.
//!
//! A batch carries bytes as the program wrote them, of several sources in order of arrival, each piece with its offset in
//! its source: so the reader drops what comes twice and sees what is missing. The bytes may be compressed; how many they are is said
//! beforehand and bounded, and they are unpacked into exactly that much memory or refused.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::error::{DecodeError, Inside, Problem};
use crate::reader::{Head, Reader};
use crate::writer::Writer;

type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// Name under which the extension is announced in [`crate::WorkerInfo::extensions`].
pub const OUTPUT_BATCHES: &str = "output-batches";
/// The version of the extension that this crate speaks.
pub const OUTPUT_BATCHES_VERSION: i64 = 1;
/// Most bytes in one batch, unpacked.
pub const MAX_BATCH: usize = 1024 * 1024;
/// Most pieces in one batch.
pub const MAX_CHUNKS: usize = 4096;
/// Most sources that the end of a command gives totals of.
const MAX_SOURCES: usize = 4096;

/// Level of zstd: the fastest ordinary one. Output is compressed once more, in larger pieces, where it is stored.
const LEVEL: i32 = 1;
/// Smaller batches are left as they are: what could be saved is less than one packet.
const LEAST: usize = 1024;
/// After a batch that could not be compressed so many are not tried.
const SKIPPED: u32 = 15;

/// Where output comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// What the worker itself has to say.
    Header,
    /// A followed file, by the name of its log.
    File(ByteString),
}

impl Source {
    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let at = reader.clone();
        match reader.peek()? {
            Head::Str(_) => Ok(Source::File(reader.text()?)),
            _ => match reader.uint()? {
                0 => Ok(Source::Stdout),
                1 => Ok(Source::Stderr),
                2 => Ok(Source::Header),
                _ => Err(at.error(Problem::OutOfRange)),
            },
        }
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Source::Stdout => writer.uint(0),
            Source::Stderr => writer.uint(1),
            Source::Header => writer.uint(2),
            Source::File(name) => writer.text(name),
        }
    }
}

/// A piece of one source. One without length says that its source has ended there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where it comes from.
    pub source: Source,
    /// Bytes of this source before it, from the start of the command.
    pub offset: u64,
    /// Its bytes.
    pub length: usize,
}

/// A batch of output.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    chunks: Vec<Chunk>,
    size: usize,
    is_packed: bool,
    data: Bytes,
}

/// The data of a batch are not what it says they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a batch of output does not unpack to the size that it names")]
pub struct Damaged;

impl Batch {
    /// Pieces in order of arrival, each with its offset. Without a copy if there is only one. They are at most [`MAX_CHUNKS`], and together at
    /// most [`MAX_BATCH`] long.
    pub fn new(pieces: Vec<(Source, u64, Bytes)>) -> Self {
        let size = pieces.iter().map(|(_, _, bytes)| bytes.len()).sum();
        debug_assert!(size <= MAX_BATCH && pieces.len() <= MAX_CHUNKS);
        let mut full = pieces.iter().filter(|(_, _, bytes)| !bytes.is_empty());
        let data = match (full.next(), full.next()) {
            (None, _) => Bytes::new(),
            (Some((_, _, only)), None) => only.clone(),
            (Some(_), Some(_)) => {
                let mut whole = BytesMut::with_capacity(size);
                pieces.iter().for_each(|(_, _, bytes)| whole.extend_from_slice(bytes));
                whole.freeze()
            }
        };
        let chunk =
            |(source, offset, bytes): (Source, u64, Bytes)| Chunk { source, offset, length: bytes.len() };
        Self { chunks: pieces.into_iter().map(chunk).collect(), size, is_packed: false, data }
    }

    /// Its pieces; their bytes follow each other in [`Batch::unpack`].
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Its bytes, unpacked.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Its bytes, as they are sent.
    pub fn packed_size(&self) -> usize {
        self.data.len()
    }

    /// Whether it is compressed.
    pub fn is_packed(&self) -> bool {
        self.is_packed
    }

    /// The bytes of all pieces. Takes no more memory than [`Batch::size`], whatever the data are.
    ///
    /// # Errors
    /// If they are not exactly that many.
    pub fn unpack(&self) -> Result<Bytes, Damaged> {
        if !self.is_packed {
            return Ok(self.data.clone());
        }
        let bytes = zstd::bulk::decompress(&self.data, self.size).map_err(|_| Damaged)?;
        if bytes.len() == self.size { Ok(bytes.into()) } else { Err(Damaged) }
    }

    /// Reads the keys `chunks`, `size`, `encoding` and `data`.
    pub(crate) fn read(fields: BatchFields<'_>) -> Result<Self> {
        let at = fields.size.clone();
        let size = fields.size.clone().uint().inside("size")?;
        let too_large = || at.error(Problem::TooLarge { found: size, most: MAX_BATCH as u64 }).inside("size");
        let size = usize::try_from(size).ok().filter(|size| *size <= MAX_BATCH).ok_or_else(too_large)?;
        let is_packed = match fields.encoding {
            None => false,
            Some(mut reader) => {
                let at = reader.clone();
                match &*reader.text().inside("encoding")? {
                    "zstd" => true,
                    _ => return Err(at.error(Problem::UnknownEncoding).inside("encoding")),
                }
            }
        };
        let chunks = read_chunks(fields.chunks.clone(), size).inside("chunks")?;
        let data = fields.data.clone().bin().inside("data")?;
        // Whoever compresses wants to save something: what is not smaller is not sent so.
        let fits = if is_packed { data.len() < size } else { data.len() == size };
        if !fits {
            return Err(fields.data.error(Problem::WrongSize).inside("data"));
        }
        Ok(Self { chunks, size, is_packed, data })
    }

    pub(crate) const KEYS: usize = 4;

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.text("chunks");
        writer.array(self.chunks.len());
        for chunk in &self.chunks {
            writer.array(3);
            chunk.source.write(writer);
            writer.uint(chunk.offset);
            writer.uint(chunk.length as u64);
        }
        writer.text("size");
        writer.uint(self.size as u64);
        writer.text("encoding");
        writer.optional(self.is_packed.then_some("zstd"), Writer::text);
        writer.text("data");
        writer.bin(&self.data);
    }

    pub(crate) fn size_hint(&self) -> usize {
        let names = |chunk: &Chunk| if let Source::File(name) = &chunk.source { name.len() } else { 0 };
        128 + self.data.len() + self.chunks.iter().map(|chunk| names(chunk) + 24).sum::<usize>()
    }
}

/// The values of a batch's keys, not read yet.
pub(crate) struct BatchFields<'a> {
    pub(crate) chunks: Reader<'a>,
    pub(crate) size: Reader<'a>,
    /// None: the bytes are as they were written.
    pub(crate) encoding: Option<Reader<'a>>,
    pub(crate) data: Reader<'a>,
}

fn read_chunks(mut reader: Reader<'_>, size: usize) -> Result<Vec<Chunk>> {
    let whole = reader.clone();
    let count = reader.array()?;
    if count > MAX_CHUNKS {
        return Err(whole.error(Problem::TooManyItems));
    }
    let mut chunks = Vec::with_capacity(count.min(16));
    let mut left = size;
    for _ in 0..count {
        let at = reader.clone();
        if reader.array()? != 3 {
            return Err(
                at.error(Problem::WrongType { expected: "source, offset and length", found: "an array" })
            );
        }
        let (source, offset, length) = (Source::read(&mut reader)?, reader.uint()?, reader.uint()?);
        let length = usize::try_from(length).ok().filter(|length| *length <= left);
        let length = length.ok_or_else(|| at.error(Problem::WrongSize))?;
        offset.checked_add(length as u64).ok_or_else(|| at.error(Problem::OutOfRange))?;
        left -= length;
        chunks.push(Chunk { source, offset, length });
    }
    if left == 0 { Ok(chunks) } else { Err(whole.error(Problem::WrongSize)) }
}

/// Bytes of each source that a command had, told with its end.
pub(crate) fn read_totals(reader: &mut Reader<'_>) -> Result<Vec<(Source, u64)>> {
    let whole = reader.clone();
    let count = reader.array()?;
    if count > MAX_SOURCES {
        return Err(whole.error(Problem::TooManyItems));
    }
    let mut totals = Vec::with_capacity(count.min(16));
    for _ in 0..count {
        let at = reader.clone();
        if reader.array()? != 2 {
            return Err(at.error(Problem::WrongType { expected: "source and bytes", found: "an array" }));
        }
        totals.push((Source::read(reader)?, reader.uint()?));
    }
    Ok(totals)
}

pub(crate) fn write_totals(writer: &mut Writer, totals: &[(Source, u64)]) {
    writer.array(totals.len());
    for (source, total) in totals {
        writer.array(2);
        source.write(writer);
        writer.uint(*total);
    }
}

/// Compresses batches where that saves something; after one that could not be compressed the next ones are not tried. Keeps the memory of the
/// compressor (about a MiB, once it is used): one for each connection.
#[derive(Default)]
pub struct Packer {
    skip: u32,
    compressor: Option<zstd::bulk::Compressor<'static>>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").field("skip", &self.skip).finish_non_exhaustive()
    }
}

impl Packer {
    /// The batch, compressed if that makes it smaller by an eighth at least.
    pub fn pack(&mut self, batch: Batch) -> Batch {
        if batch.is_packed || batch.size < LEAST {
            return batch;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return batch;
        }
        match self.packed(&batch) {
            Ok(data) => Batch { data, is_packed: true, ..batch },
            Err(_) => {
                self.skip = SKIPPED;
                batch
            }
        }
    }

    fn packed(&mut self, batch: &Batch) -> std::io::Result<Bytes> {
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(zstd::bulk::Compressor::new(LEVEL)?),
        };
        // With too little room the compressor gives up.
        let mut packed = Vec::with_capacity(batch.size - batch.size / 8);
        compressor.compress_to_buffer(&batch.data[..], &mut packed)?;
        packed.shrink_to_fit();
        Ok(packed.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bytes: impl Into<Bytes>) -> Batch {
        Batch::new(vec![(Source::Stdout, 0, bytes.into())])
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn one_piece_is_not_copied_and_several_are_joined() {
        let bytes = Bytes::from_static(b"plain\n");
        assert_eq!(one(bytes.clone()).unpack().unwrap().as_ptr(), bytes.as_ptr());
        let ended = vec![(Source::Stdout, 0, bytes.clone()), (Source::Stdout, 6, Bytes::new())];
        assert_eq!(Batch::new(ended).unpack().unwrap().as_ptr(), bytes.as_ptr());
        let two = vec![(Source::Stdout, 0, bytes.clone()), (Source::Stderr, 9, Bytes::from_static(b"bad"))];
        let two = Batch::new(two);
        assert_eq!((&two.unpack().unwrap()[..], two.size()), (&b"plain\nbad"[..], 9));
    }

    #[test]
    fn only_what_gets_smaller_is_packed() {
        let mut packer = Packer::default();
        let text = b"the same line again and again\n".repeat(1000);
        let packed = packer.pack(one(text.clone()));
        assert!(packed.is_packed() && packed.data.len() < text.len() / 8);
        assert_eq!(packed.unpack().unwrap(), text);
        assert!(!packer.pack(one(b"x".repeat(LEAST - 1))).is_packed(), "too small to be worth it");
        assert!(!packer.pack(one(noise(100_000))).is_packed());
        assert!(!packer.pack(one(text.clone())).is_packed(), "not tried so soon after");
        for _ in 1..SKIPPED {
            packer.pack(one(text.clone()));
        }
        assert!(packer.pack(one(text)).is_packed(), "tried again");
    }

    #[test]
    fn what_unpacks_to_another_size_is_refused() {
        let text = vec![b'x'; 10_000];
        let packed = Packer::default().pack(one(text));
        for size in [9_999, 10_001, 0] {
            assert_eq!(Batch { size, ..packed.clone() }.unpack(), Err(Damaged), "{size}");
        }
        let torn = Batch { data: packed.data.slice(..packed.data.len() - 1), ..packed.clone() };
        assert_eq!(torn.unpack(), Err(Damaged));
        assert_eq!(Batch { data: Bytes::from_static(b"no zstd"), ..packed }.unpack(), Err(Damaged));
    }
}
