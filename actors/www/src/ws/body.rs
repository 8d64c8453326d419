//! What goes to the peer: what the session says, and between its frames what the socket's actor answers by itself. The session's bytes
//! are made once for everybody who gets the same, so they do not pass through the actor.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_http::ws::Parser;
use actix_web::Error;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use futures_util::stream::LocalBoxStream;
use tokio::sync::mpsc;

use super::pump::Close;

/// The body of the connection's answer.
pub(super) struct Body {
    actor: LocalBoxStream<'static, Result<Bytes, Error>>,
    outgoing: mpsc::Receiver<Vec<Bytes>>,
    due: VecDeque<Bytes>,
    close: Rc<Cell<Close>>,
    ended: bool,
}

impl Body {
    /// `actor` gives whole frames, and so does `outgoing`, whose end is the end of the connection; `close` says then why.
    pub(super) fn new(
        actor: LocalBoxStream<'static, Result<Bytes, Error>>,
        outgoing: mpsc::Receiver<Vec<Bytes>>,
        close: Rc<Cell<Close>>,
    ) -> Self {
        Self { actor, outgoing, due: VecDeque::new(), close, ended: false }
    }
}

impl Stream for Body {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if let Some(piece) = self.due.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            // The actor first: it hears the peer.
            if let Poll::Ready(said) = self.actor.as_mut().poll_next(context) {
                self.ended = said.is_none();
                return Poll::Ready(said);
            }
            match ready!(self.outgoing.poll_recv(context)) {
                Some(batch) => self.due.extend(batch),
                None => {
                    self.ended = true;
                    let mut last = BytesMut::new();
                    if let Some(reason) = self.close.get().reason() {
                        Parser::write_close(&mut last, Some(reason), false);
                        return Poll::Ready(Some(Ok(last.freeze())));
                    }
                }
            }
        }
    }
}
