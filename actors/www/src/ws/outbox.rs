//! What a session has to say, as it goes over the wire.

use actix_http::ws::{OpCode, Parser};
use bytes::{Bytes, BytesMut};
use greenroom_data::{Delivered, Run};

use super::session::frame;

/// Subscriptions are not read while so much waits to be sent: what comes meanwhile waits in the data layer, which ends a
/// subscription past 1,000 events or 1 MiB.
const PAUSE_FRAMES: usize = 512;
const PAUSE_BYTES: usize = 256 << 10;

/// What waits to be sent.
#[derive(Default)]
pub(super) struct Outbox {
    pieces: Vec<Bytes>,
    /// The last piece, to which more is added.
    open: BytesMut,
    frames: usize,
    /// Of the pieces.
    bytes: usize,
}

impl Outbox {
    /// Adds a text.
    pub(super) fn push(&mut self, text: String) {
        self.frames += 1;
        Parser::write_message(&mut self.open, text, OpCode::Text, true, false);
    }

    /// Adds a question whether the peer lives.
    pub(super) fn ping(&mut self) {
        self.frames += 1;
        Parser::write_message(&mut self.open, Bytes::new(), OpCode::Ping, true, false);
    }

    /// Adds all events of a run, in the form without clocks. Its bytes are shared with everybody who gets the same.
    pub(super) fn push_run(&mut self, run: &Run) {
        self.close_piece();
        let bytes = run.encoded(encode);
        self.frames += run.len();
        self.bytes += bytes.len();
        self.pieces.push(bytes);
    }

    fn close_piece(&mut self) {
        if !self.open.is_empty() {
            let piece = self.open.split().freeze();
            self.bytes += piece.len();
            self.pieces.push(piece);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Whether no more events are taken until some are sent.
    pub(super) fn is_full(&self) -> bool {
        self.frames >= PAUSE_FRAMES || self.bytes + self.open.len() >= PAUSE_BYTES
    }

    /// All of it.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.close_piece();
        (self.frames, self.bytes) = (0, 0);
        std::mem::take(&mut self.pieces)
    }
}

fn encode(run: &Run) -> Bytes {
    let mut out = BytesMut::new();
    for delivered in run.deliveries() {
        Parser::write_message(&mut out, frame(&delivered, None), OpCode::Text, true, false);
    }
    out.freeze()
}

/// Puts events in the order of production, in which stock clients get them, whichever subscription they came by.
pub(super) fn in_order(plain: &mut [Delivered]) {
    plain.sort_by_key(|it| (it.frame.event.master, it.frame.event.seq));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbox_is_full_by_count_or_by_bytes() {
        let mut outbox = Outbox::default();
        (0..PAUSE_FRAMES).for_each(|_| outbox.push("{}".into()));
        assert!(outbox.is_full());
        assert_eq!(outbox.take().concat(), b"\x81\x02{}".repeat(PAUSE_FRAMES));
        assert!(!outbox.is_full() && outbox.is_empty());
        outbox.push("x".repeat(PAUSE_BYTES));
        assert!(outbox.is_full());
    }

    #[test]
    fn pieces_stay_in_order() {
        let mut outbox = Outbox::default();
        outbox.push("a".into());
        outbox.ping();
        assert_eq!(outbox.take().concat(), b"\x81\x01a\x89\x00");
        assert!(outbox.take().is_empty());
    }
}
