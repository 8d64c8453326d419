//! The socket itself: passes what comes in to the session and what goes out to the peer, and decides nothing.

use std::cell::Cell;
use std::rc::Rc;

use actix::{Actor, ActorContext, AsyncContext, StreamHandler};
use actix_http::ws::{CloseCode, CloseReason, Item};
use actix_web_actors::ws::{Message, ProtocolError, WebsocketContext};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use futures_util::stream;
use tokio::sync::mpsc;

use super::MAX_FRAME;

/// What the pump holds of its connection.
pub(super) struct PumpEnds {
    /// What the peer says.
    pub(super) incoming: mpsc::Sender<Bytes>,
    /// What goes out together; its end is the end of the connection.
    pub(super) outgoing: mpsc::Receiver<Vec<Out>>,
    /// Why the connection ends, once it does.
    pub(super) close: Rc<Cell<Close>>,
}

/// One frame to the peer.
pub(super) enum Out {
    /// Text.
    Text(ByteString),
    /// A question whether it lives.
    Ping,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// Without a word: what came was no JSON.
    Silent,
    /// With a code and a reason.
    With(u16, &'static str),
}

/// The socket actor.
pub(super) struct Pump {
    incoming: mpsc::Sender<Bytes>,
    outgoing: Option<mpsc::Receiver<Vec<Out>>>,
    close: Rc<Cell<Close>>,
    /// A message that comes in several frames.
    partial: BytesMut,
    /// A frame was refused by its header ([`super::limit`]).
    too_large: Rc<Cell<bool>>,
}

impl Pump {
    pub(super) fn new(ends: PumpEnds, too_large: Rc<Cell<bool>>) -> Self {
        let PumpEnds { incoming, outgoing, close } = ends;
        Self { incoming, outgoing: Some(outgoing), close, partial: BytesMut::new(), too_large }
    }

    fn end(&mut self, close: Close, context: &mut WebsocketContext<Self>) {
        if let Close::With(code, reason) = close {
            let reason = CloseReason { code: CloseCode::from(code), description: Some(reason.to_owned()) };
            context.close(Some(reason));
        }
        context.stop();
    }

    fn hand_over(&mut self, message: Bytes, context: &mut WebsocketContext<Self>) {
        match self.incoming.try_send(message) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.end(Close::With(1013, "too many commands at once"), context);
            }
            // The session has ended; what it said last is still on its way out.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    fn continued(&mut self, item: Item, context: &mut WebsocketContext<Self>) {
        let (piece, last) = match item {
            Item::FirstText(piece) | Item::FirstBinary(piece) => {
                self.partial.clear();
                (piece, false)
            }
            Item::Continue(piece) => (piece, false),
            Item::Last(piece) => (piece, true),
        };
        if self.partial.len() + piece.len() > MAX_FRAME {
            return self.end(Close::With(1009, "the message is larger than 1 MiB"), context);
        }
        self.partial.extend_from_slice(&piece);
        if last {
            let message = self.partial.split().freeze();
            self.hand_over(message, context);
        }
    }
}

impl Actor for Pump {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        if let Some(outgoing) = self.outgoing.take() {
            context.add_stream(stream::unfold(outgoing, |mut outgoing| async {
                outgoing.recv().await.map(|batch| (batch, outgoing))
            }));
        }
    }
}

/// What the session says: each batch becomes one write.
impl StreamHandler<Vec<Out>> for Pump {
    fn handle(&mut self, batch: Vec<Out>, context: &mut Self::Context) {
        for frame in batch {
            match frame {
                Out::Text(text) => context.text(text),
                Out::Ping => context.ping(b""),
            }
        }
    }

    fn finished(&mut self, context: &mut Self::Context) {
        self.end(self.close.get(), context);
    }
}

/// What the peer says.
impl StreamHandler<Result<Message, ProtocolError>> for Pump {
    fn handle(&mut self, message: Result<Message, ProtocolError>, context: &mut Self::Context) {
        match message {
            Ok(Message::Text(text)) => self.hand_over(text.into_bytes(), context),
            Ok(Message::Binary(bytes)) => self.hand_over(bytes, context),
            Ok(Message::Ping(payload)) => context.pong(&payload),
            Ok(Message::Pong(_) | Message::Nop) => {}
            Ok(Message::Continuation(item)) => self.continued(item, context),
            Ok(Message::Close(reason)) => {
                context.close(reason);
                context.stop();
            }
            Err(ProtocolError::Overflow) => {
                self.end(Close::With(1009, "the frame is larger than 1 MiB"), context)
            }
            Err(_) if self.too_large.get() => {
                self.end(Close::With(1009, "the frame is larger than 1 MiB"), context)
            }
            Err(error) => {
                tracing::debug!(error = %error, "event socket broke");
                self.end(Close::With(1002, "protocol error"), context);
            }
        }
    }

    fn finished(&mut self, context: &mut Self::Context) {
        context.stop();
    }
}
