//! Frames past the limit: recognised by their header, skipped without being kept, and read just far enough to tell
//! which command they belong to.
//!
//! The envelope of a message stands at its ends (a stock worker writes `op` first and `command_id` and `seq_number` last,
//! our agent all three first), so a little of both ends is kept while the rest goes by.

use bytes::{Buf, BytesMut};

/// Bytes kept of each end.
const KEPT: usize = 512;

/// The head of a masked WebSocket frame whose payload is larger than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes before the payload.
    pub(crate) length: usize,
    /// Bytes of the payload.
    pub(crate) payload: u64,
    mask: [u8; 4],
}

/// The header at the beginning of `buf`, if it announces a payload of more than `limit` bytes. A header that is not yet
/// complete, or is not well-formed, is none: the parser judges it.
pub(crate) fn over_limit(buf: &[u8], limit: usize) -> Option<Header> {
    let masked_with_long_length = buf.get(1).is_some_and(|second| *second == 0x80 | 127);
    if !masked_with_long_length {
        return None;
    }
    let payload = u64::from_be_bytes(*buf.get(2..)?.first_chunk()?);
    let mask = *buf.get(10..)?.first_chunk()?;
    (payload > limit as u64).then_some(Header { length: 14, payload, mask })
}

/// The envelope of a frame that was too large, as far as it could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) command_id: Option<String>,
    pub(crate) seq: Option<u64>,
}

/// Lets the payload of one frame go by, keeping a little of both ends.
#[derive(Debug)]
pub(crate) struct Skipper {
    header: Header,
    seen: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Skipper {
    pub(crate) fn new(header: Header) -> Self {
        Self { header, seen: 0, head: Vec::with_capacity(KEPT), tail: Vec::with_capacity(2 * KEPT) }
    }

    /// Takes what belongs to the frame from `buf`; true when the frame is over.
    pub(crate) fn take(&mut self, buf: &mut BytesMut) -> bool {
        let left = self.header.payload - self.seen;
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let part = &buf[..taken];
        let head = part.len().min(KEPT - self.head.len());
        for (index, byte) in part[..head].iter().enumerate() {
            self.head.push(byte ^ self.mask_at(index));
        }
        for (index, byte) in part.iter().enumerate().skip(part.len().saturating_sub(KEPT)) {
            self.tail.push(byte ^ self.mask_at(index));
        }
        let surplus = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..surplus);
        self.seen += taken as u64;
        buf.advance(taken);
        self.seen == self.header.payload
    }

    /// The mask of the byte at this index of the part that is being taken.
    fn mask_at(&self, index: usize) -> u8 {
        let position = (self.seen % 4) as usize + index % 4;
        self.header.mask[position % 4]
    }

    /// What could be read of the envelope.
    pub(crate) fn envelope(&self) -> Envelope {
        Envelope {
            command_id: find(&self.tail, b"\xaacommand_id")
                .and_then(text)
                .or_else(|| find(&self.head, b"\xaacommand_id").and_then(text)),
            seq: find(&self.tail, b"\xaaseq_number")
                .and_then(number)
                .or_else(|| find(&self.head, b"\xaaseq_number").and_then(number)),
        }
    }
}

/// What follows the last occurrence of a key.
fn find<'a>(bytes: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = bytes.windows(key.len()).rposition(|window| window == key)?;
    bytes.get(at + key.len()..)
}

/// A short MessagePack text.
fn text(bytes: &[u8]) -> Option<String> {
    let (length, rest) = match *bytes.first()? {
        marker @ 0xa0..=0xbf => (usize::from(marker & 0x1f), bytes.get(1..)?),
        0xd9 => (usize::from(*bytes.get(1)?), bytes.get(2..)?),
        _ => return None,
    };
    String::from_utf8(rest.get(..length)?.to_vec()).ok()
}

/// A MessagePack number that is not negative.
fn number(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.get(1..)?;
    match *bytes.first()? {
        small @ 0x00..=0x7f => Some(u64::from(small)),
        0xcc => rest.first().map(|byte| u64::from(*byte)),
        0xcd => rest.first_chunk().map(|bytes| u64::from(u16::from_be_bytes(*bytes))),
        0xce => rest.first_chunk().map(|bytes| u64::from(u32::from_be_bytes(*bytes))),
        0xcf => rest.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(payload: &[u8], mask: [u8; 4]) -> BytesMut {
        let mut frame = BytesMut::from(&[0x82, 0x80 | 127][..]);
        frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
        frame
    }

    fn stock_update(id: &str, seq: u8, text: usize) -> Vec<u8> {
        let mut frame = b"\x84\xa2op\xa6update\xa4args".to_vec();
        frame.extend(std::iter::repeat_n(b'x', text));
        frame.extend_from_slice(b"\xaacommand_id");
        frame.push(0xa0 | id.len() as u8);
        frame.extend_from_slice(id.as_bytes());
        frame.extend_from_slice(b"\xaaseq_number");
        frame.push(seq);
        frame
    }

    #[test]
    fn the_envelope_is_read_from_either_end_in_pieces_of_any_size() {
        let stock = stock_update("m-17", 9, 5000);
        let mut ours =
            b"\x84\xa2op\xa6update\xaaseq_number\xcd\x01\x02\xaacommand_id\xa4m-17\xa4args".to_vec();
        ours.extend(std::iter::repeat_n(b'x', 5000));
        for (payload, seq) in [(stock, 9), (ours, 258)] {
            for piece in [1, 3, 500, 513, 10_000] {
                let mut frame = masked(&payload, [7, 99, 200, 31]);
                frame.extend_from_slice(b"next");
                let header = over_limit(&frame, 4096).unwrap();
                frame.advance(header.length);
                let mut skipper = Skipper::new(header);
                let mut buf = BytesMut::new();
                while {
                    let more = frame.split_to(piece.min(frame.len()));
                    buf.extend_from_slice(&more);
                    !skipper.take(&mut buf)
                } {}
                buf.extend_from_slice(&frame);
                assert_eq!(&buf[..], b"next", "pieces of {piece}");
                let expected = Envelope { command_id: Some("m-17".into()), seq: Some(seq) };
                assert_eq!(skipper.envelope(), expected, "pieces of {piece}");
            }
        }
    }

    #[test]
    fn only_complete_headers_of_large_frames_count() {
        let frame = masked(&[0; 5000], [1, 2, 3, 4]);
        assert!(over_limit(&frame, 4999).is_some());
        assert!(over_limit(&frame, 5000).is_none());
        assert!(over_limit(&frame[..13], 4999).is_none());
        assert!(over_limit(b"\x82\x85abcd", 1).is_none());
    }

    #[test]
    fn hostile_ends_give_nothing() {
        let header = over_limit(&masked(&[0; 100], [0; 4]), 10).unwrap();
        for payload in [
            &b"\xaacommand_id"[..],
            b"\xaacommand_id\xbfshort",
            b"\xaaseq_number\xcf\x01",
            b"\xaaseq_number\xff",
        ] {
            let mut skipper = Skipper::new(Header { payload: payload.len() as u64, ..header });
            assert!(skipper.take(&mut BytesMut::from(payload)));
            assert_eq!(skipper.envelope(), Envelope::default());
        }
    }
}
