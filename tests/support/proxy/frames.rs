//! Just enough of the protocols of buses to find the ends of messages.

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Nobody needs to know.
    Bytes,
    /// Lines; a message is followed by its payload.
    Nats,
    /// Frames; a message is a method, a header and a body.
    Amqp,
    /// Messages of PostgreSQL, of which notifications are the bus's.
    Postgres,
}

/// A piece of a stream that passes as a whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub bytes: Vec<u8>,
    /// Whether the bus delivers something with it.
    pub is_message: bool,
}

/// Parts a stream into frames.
pub struct Frames {
    protocol: Protocol,
    rest: Vec<u8>,
    begun: bool,
}

impl Frames {
    pub fn of(protocol: Protocol) -> Self {
        Self { protocol, rest: Vec::new(), begun: false }
    }

    /// Takes bytes as they come; gives the frames that are complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.rest.extend_from_slice(bytes);
        let (mut frames, mut from) = (Vec::new(), 0);
        while let Some((length, is_message)) = self.first(&self.rest[from..]) {
            frames.push(Frame { bytes: self.rest[from..from + length].to_vec(), is_message });
            from += length;
            self.begun = true;
        }
        self.rest.drain(..from);
        frames
    }

    /// The length of the first frame and whether it is a message; none: it is not complete.
    fn first(&self, bytes: &[u8]) -> Option<(usize, bool)> {
        let (length, is_message) = match self.protocol {
            Protocol::Bytes => (bytes.len(), false),
            Protocol::Nats => nats(bytes)?,
            Protocol::Amqp => amqp(bytes)?,
            // The answer to the wish for TLS is a bare letter.
            Protocol::Postgres if !self.begun && matches!(bytes.first(), Some(b'N' | b'S')) => (1, false),
            Protocol::Postgres => (1 + big_endian(bytes.get(1..5)?), bytes[0] == b'A'),
        };
        (length > 0 && length <= bytes.len()).then_some((length, is_message))
    }
}

fn big_endian(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |all, byte| all << 8 | usize::from(*byte))
}

/// `MSG subject id [reply] length`, and the payload after it; of others the line.
fn nats(bytes: &[u8]) -> Option<(usize, bool)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let line = std::str::from_utf8(&bytes[..end]).unwrap_or_default();
    let mut words = line.split_ascii_whitespace();
    if !matches!(words.next(), Some("MSG" | "HMSG")) {
        return Some((end, false));
    }
    let payload: usize = words.next_back()?.parse().ok()?;
    Some((end + payload + 2, true))
}

/// A frame is its type, channel, length, payload and an end mark. A delivery goes on through its header frame, which says how long
/// its body is, to the end of the body's frames.
fn amqp(bytes: &[u8]) -> Option<(usize, bool)> {
    if bytes.starts_with(b"AMQP") {
        return Some((8, false));
    }
    let frame = |from: usize| Some(8 + big_endian(bytes.get(from + 3..from + 7)?));
    let mut end = frame(0)?;
    const DELIVER: [u8; 4] = [0, 60, 0, 60];
    if bytes[0] != 1 || bytes.get(7..11)? != DELIVER {
        return Some((end, false));
    }
    let mut body = big_endian(bytes.get(end + 11..end + 19)?);
    end += frame(end)?;
    while body > 0 {
        let length = frame(end)?;
        body = body.checked_sub(length - 8)?;
        end += length;
    }
    Some((end, true))
}
