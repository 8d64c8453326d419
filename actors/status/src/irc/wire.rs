//! Lines in and out. Reading is ours around irc-proto's parser, since its own codec fails on text that is not UTF-8 and
//! reads lines of any length; writing is its own, which lets nothing begin a second command.

use bytes::{Buf, BytesMut};
use irc_proto::error::ProtocolError;
use irc_proto::{IrcCodec, Message};
use tokio_util::codec::{Decoder, Encoder};

/// The longest line that is read: 8,191 bytes of tags and 512 of the rest, as IRCv3 has it. What a line has beyond is thrown away
/// with the line.
const MOST_BYTES: usize = 8_191 + 512;

/// Reads and writes messages.
pub struct Wire {
    writer: IrcCodec,
    /// Up to where the buffer has no line end.
    looked: usize,
    /// Inside a line that is too long.
    skipping: bool,
    /// Lines that were no messages.
    pub refused: u64,
}

impl Wire {
    /// A codec for one connection.
    ///
    /// # Errors
    /// None with this encoding; the library's constructor has one.
    pub fn new() -> Result<Self, ProtocolError> {
        Ok(Self { writer: IrcCodec::new("utf8")?, looked: 0, skipping: false, refused: 0 })
    }
}

impl Decoder for Wire {
    type Item = Message;
    type Error = ProtocolError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Message>, ProtocolError> {
        loop {
            let Some(end) = src[self.looked..].iter().position(|b| *b == b'\n').map(|at| self.looked + at)
            else {
                if src.len() > MOST_BYTES {
                    src.clear();
                    self.skipping = true;
                }
                self.looked = src.len();
                return Ok(None);
            };
            let line = src.split_to(end);
            src.advance(1);
            self.looked = 0;
            let too_long = std::mem::take(&mut self.skipping) || line.len() > MOST_BYTES;
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches('\r');
            if text.is_empty() {
                continue;
            }
            match text.parse() {
                Ok(message) if !too_long => return Ok(Some(message)),
                _ => self.refused += 1,
            }
        }
    }
}

impl Encoder<Message> for Wire {
    type Error = ProtocolError;

    fn encode(&mut self, message: Message, dst: &mut BytesMut) -> Result<(), ProtocolError> {
        self.writer.encode(message, dst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use irc_proto::Command;
    use proptest::prelude::*;

    fn read_all(bytes: &[u8], piece: usize) -> (Vec<Message>, u64) {
        let (mut wire, mut buffer, mut read) = (Wire::new().unwrap(), BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece.max(1)) {
            buffer.extend_from_slice(piece);
            while let Some(message) = wire.decode(&mut buffer).unwrap() {
                read.push(message);
            }
            assert!(buffer.len() <= MOST_BYTES + piece.len());
        }
        (read, wire.refused)
    }

    #[test]
    fn lines_arrive_in_any_pieces() {
        let bytes = b"PING :a\r\n\r\n:ada!a@h PRIVMSG #c :hi there\nPONG x";
        for piece in 1..bytes.len() {
            let (read, refused) = read_all(bytes, piece);
            assert_eq!(read.len(), 2, "{read:?}");
            assert_eq!(read[1].command, Command::PRIVMSG("#c".into(), "hi there".into()));
            assert_eq!(refused, 0);
        }
    }

    #[test]
    fn text_that_is_not_utf8_ends_no_connection() {
        let (read, _) = read_all(b":a!b@c PRIVMSG #c :gr\xfc\xdfe\r\nPING :b\r\n", 7);
        assert_eq!(read[0].command, Command::PRIVMSG("#c".into(), "gr\u{fffd}\u{fffd}e".into()));
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn a_line_without_end_takes_no_memory_and_is_left_out() {
        let mut bytes = vec![b'x'; 100_000];
        bytes.extend_from_slice(b"\r\nPING :b\r\n");
        let (read, refused) = read_all(&bytes, 1_000);
        assert_eq!(read.len(), 1);
        assert_eq!(refused, 1);
    }

    #[test]
    fn what_is_written_is_one_line() {
        let mut out = BytesMut::new();
        let said = Command::PRIVMSG("#c".into(), "hi\r\nQUIT :x".into());
        Wire::new().unwrap().encode(said.into(), &mut out).unwrap();
        assert_eq!(&out[..], b"PRIVMSG #c :hi\r\n");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1usize..50) {
            read_all(&bytes, piece);
        }

        #[test]
        fn no_line_panics(line in "[@:]?[ :;=#a-zA-Z0-9+\\-*\\\\\r]{0,60}", verb in "(MODE|CAP|BATCH|METADATA|JOIN|AUTHENTICATE|WHO|[0-9]{3}) ") {
            read_all(format!(":s {verb}{line}\r\n{line}\r\n").as_bytes(), 1_000);
        }
    }
}
