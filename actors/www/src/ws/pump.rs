//! The socket itself: passes what the peer says to the session, answers pings, and decides nothing. What the session says goes past it
//! ([`super::body`]).

use std::cell::Cell;
use std::rc::Rc;

use actix::{Actor, ActorContext, StreamHandler};
use actix_http::ws::{CloseCode, CloseReason, Item};
use actix_web_actors::ws::{Message, ProtocolError, WebsocketContext};
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::MAX_FRAME;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// Without a word: what came was no JSON.
    Silent,
    /// With a code and a reason.
    With(u16, &'static str),
}

impl Close {
    /// What the peer is told.
    pub(super) fn reason(self) -> Option<CloseReason> {
        match self {
            Close::Silent => None,
            Close::With(code, text) => {
                Some(CloseReason { code: CloseCode::from(code), description: Some(text.to_owned()) })
            }
        }
    }
}

/// The socket actor.
pub(super) struct Pump {
    incoming: mpsc::Sender<Bytes>,
    /// A message that comes in several frames.
    partial: BytesMut,
    /// A frame was refused by its header ([`super::limit`]).
    too_large: Rc<Cell<bool>>,
}

impl Pump {
    /// One that passes on what the peer says.
    pub(super) fn new(incoming: mpsc::Sender<Bytes>, too_large: Rc<Cell<bool>>) -> Self {
        Self { incoming, partial: BytesMut::new(), too_large }
    }

    fn end(&mut self, close: Close, context: &mut WebsocketContext<Self>) {
        if let Some(reason) = close.reason() {
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
