//! The bounded way to the socket.
//!
//! Output takes room by its size, so a master that reads slowly stops the commands' pipes from being read,
//! which stops the programs. Responses have a channel of their own and never wait behind output.

use std::sync::Arc;

use greenroom_protocol::{Response, WorkerOp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Bytes of output that may wait for the socket, all commands together.
const BUDGET: usize = 4 * 1024 * 1024;
/// Least room one message takes; bounds their number.
const LEAST: usize = 1024;
/// Responses that may wait for the socket; beyond it requests are no longer read.
const RESPONSES: usize = 1024;

/// The connection is gone; whatever was to be sent is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection to the master is gone")]
pub(crate) struct Gone;

/// What the writer of the socket sends.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A request of ours; its room is free again once it is dropped.
    Request(WorkerOp, #[allow(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>),
    /// An answer.
    Response(Response),
    /// Close the connection after everything before it.
    Close,
}

/// Handle of those who have something to send.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    room: Arc<Semaphore>,
    requests: mpsc::UnboundedSender<Outgoing>,
    responses: mpsc::Sender<Outgoing>,
}

/// The other end, held by the writer of the socket.
#[derive(Debug)]
pub(crate) struct OutboxReader {
    requests: mpsc::UnboundedReceiver<Outgoing>,
    responses: mpsc::Receiver<Outgoing>,
}

/// Room for one request.
#[derive(Debug)]
pub(crate) struct Slot {
    permit: OwnedSemaphorePermit,
    requests: mpsc::UnboundedSender<Outgoing>,
}

impl Slot {
    /// Queues a request. Never waits.
    pub(crate) fn send(self, op: WorkerOp) -> Result<(), Gone> {
        self.requests.send(Outgoing::Request(op, Some(self.permit))).map_err(|_| Gone)
    }

    /// Queues a request that shares its room with the next.
    pub(crate) fn send_part(&self, op: WorkerOp) -> Result<(), Gone> {
        self.requests.send(Outgoing::Request(op, None)).map_err(|_| Gone)
    }
}

impl Outbox {
    pub(crate) fn new() -> (Self, OutboxReader) {
        // Unbounded in type only: each message in it holds a permit.
        let (request_tx, request_rx) = mpsc::unbounded_channel();
        let (response_tx, response_rx) = mpsc::channel(RESPONSES);
        let outbox =
            Self { room: Arc::new(Semaphore::new(BUDGET)), requests: request_tx, responses: response_tx };
        (outbox, OutboxReader { requests: request_rx, responses: response_rx })
    }

    /// Waits for room for a request of about `bytes`. Nothing is lost if the wait is given up.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Slot, Gone> {
        let permits = bytes.clamp(LEAST, BUDGET) as u32;
        let permit = Arc::clone(&self.room).acquire_many_owned(permits).await.map_err(|_| Gone)?;
        Ok(Slot { permit, requests: self.requests.clone() })
    }

    /// Queues an answer; waits only if a thousand of them do already.
    pub(crate) async fn respond(&self, response: Response) -> Result<(), Gone> {
        self.responses.send(Outgoing::Response(response)).await.map_err(|_| Gone)
    }

    /// Ends the connection after the answers queued so far.
    pub(crate) async fn close(&self) -> Result<(), Gone> {
        self.responses.send(Outgoing::Close).await.map_err(|_| Gone)
    }
}

impl OutboxReader {
    /// The next message, answers first. `None` when every [`Outbox`] is gone.
    pub(crate) async fn next(&mut self) -> Option<Outgoing> {
        tokio::select! {
            biased;
            Some(answer) = self.responses.recv() => Some(answer),
            Some(request) = self.requests.recv() => Some(request),
            else => None,
        }
    }

    /// The next message, if there is one right now.
    pub(crate) fn try_next(&mut self) -> Option<Outgoing> {
        self.responses.try_recv().ok().or_else(|| self.requests.try_recv().ok())
    }
}

#[cfg(test)]
mod tests {
    use greenroom_protocol::CommandId;

    use super::*;

    fn complete(id: i64) -> WorkerOp {
        WorkerOp::Complete { command_id: CommandId::Int(id), failure: None, totals: None }
    }

    #[tokio::test]
    async fn room_is_free_again_when_a_message_was_sent() {
        let (outbox, mut reader) = Outbox::new();
        outbox.reserve(BUDGET * 2).await.unwrap().send(complete(1)).unwrap();
        let mut waiting = Box::pin(outbox.reserve(1));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(reader.next().await);
        waiting.await.unwrap().send(complete(2)).unwrap();
    }

    #[tokio::test]
    async fn answers_overtake_output() {
        let (outbox, mut reader) = Outbox::new();
        outbox.reserve(1).await.unwrap().send(complete(1)).unwrap();
        outbox.respond(Response::nil(7)).await.unwrap();
        assert!(matches!(reader.next().await, Some(Outgoing::Response(_))));
        assert!(matches!(reader.try_next(), Some(Outgoing::Request(..))));
        assert!(reader.try_next().is_none());
    }
}
