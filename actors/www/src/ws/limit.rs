//! Refuses a frame by its header. The WebSocket parser keeps bytes until a frame is whole before it looks at the frame's
//! length, so without this a peer could make it keep as much as it likes to announce.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::Stream;

use super::MAX_FRAME;

/// The longest header: two bytes, eight of length, four of mask.
const LONGEST_HEADER: usize = 14;

/// Follows the bounds of frames in a stream of bytes.
#[derive(Default)]
struct Frames {
    header: [u8; LONGEST_HEADER],
    have: usize,
    /// Bytes of the current frame's payload that are yet to come.
    payload: u64,
}

impl Frames {
    /// Takes the next bytes; false if a frame announces more than the limit.
    fn pass(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skip = bytes.len().min(usize::try_from(self.payload).unwrap_or(usize::MAX));
                self.payload -= skip as u64;
                bytes = &bytes[skip..];
                continue;
            }
            self.header[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if let Some(length) = self.announced() {
                if length > MAX_FRAME as u64 {
                    return false;
                }
                (self.payload, self.have) = (length, 0);
            }
        }
        true
    }

    /// The payload's length, once the header is whole.
    fn announced(&self) -> Option<u64> {
        let header = &self.header[..self.have];
        let second = *header.get(1)?;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let extended: &[u8] = match second & 0x7f {
            126 => header.get(2..4)?,
            127 => header.get(2..10)?,
            short => return (self.have == 2 + mask).then_some(u64::from(short)),
        };
        let length = extended.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        (self.have == 2 + extended.len() + mask).then_some(length)
    }
}

/// The bytes of a peer, which end with an error where a frame is too large.
pub(super) struct Limited<S> {
    inner: S,
    frames: Frames,
    too_large: Rc<Cell<bool>>,
}

impl<S> Limited<S> {
    /// `too_large` becomes true when a frame is refused.
    pub(super) fn new(inner: S, too_large: Rc<Cell<bool>>) -> Self {
        Self { inner, frames: Frames::default(), too_large }
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for Limited<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.inner).poll_next(context);
        if let Poll::Ready(Some(Ok(bytes))) = &next
            && !self.frames.pass(bytes)
        {
            self.too_large.set(true);
            return Poll::Ready(Some(Err(PayloadError::Overflow)));
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: u64, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0x82];
        match length {
            0..=125 => bytes.push(0x80 | length as u8),
            126..=0xffff => {
                bytes.push(0x80 | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        bytes.extend([1, 2, 3, 4]);
        bytes.resize(bytes.len() + payload, 7);
        bytes
    }

    #[test]
    fn frames_pass_however_they_are_cut() {
        let mut stream = Vec::new();
        for length in [0, 5, 125, 126, 70_000, MAX_FRAME as u64, 3] {
            stream.extend(frame(length, length as usize));
        }
        for piece in [1, 2, 3, 7, 4096, stream.len()] {
            let mut frames = Frames::default();
            assert!(stream.chunks(piece).all(|bytes| frames.pass(bytes)), "in pieces of {piece}");
            assert_eq!((frames.have, frames.payload), (0, 0));
        }
    }

    #[test]
    fn a_header_that_announces_too_much_is_enough_to_refuse() {
        for length in [MAX_FRAME as u64 + 1, 1 << 30, u64::MAX] {
            let mut frames = Frames::default();
            assert!(frames.pass(&frame(5, 5)));
            let header = frame(length, 0);
            assert!(frames.pass(&header[..header.len() - 1]));
            assert!(!frames.pass(&header[header.len() - 1..]), "{length}");
        }
    }
}
