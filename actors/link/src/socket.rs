//! The WebSocket of a worker: two thin pumps on the thread of the HTTP server, and the bounded ways between them and
//! the session.
//!
//! The handshake is that of `actix-web-actors`; its socket actor is not used, for two reasons seen in it: it stops
//! altogether while its peer does not read, and its parser keeps a frame of any announced length until it is whole. Here
//! reading and writing are independent, and a frame past the limit is skipped as it arrives.
//!
//! **What bounds memory is credit**, not the channels: a frame is read only when the session has credit left (4 MiB), and
//! it keeps its credit until its log text is accepted *and* its response is handed to the socket. When the credit is used
//! up the pump stops reading, TCP stops the worker, and what the master sends is not held up by it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use actix_http::ws::{CloseReason, OpCode, Parser};
use actix_web::web::Payload;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use greenroom_protocol::MAX_FRAME;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, WeakUnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::oversize::{Envelope, Skipper, over_limit};

/// Credit of one session, in units of a KiB; a frame takes at least one.
const CREDIT: usize = 4096;
/// The longest frame that is skipped; past it the connection ends.
const MAX_SKIPPED: u64 = 1 << 30;
/// Bytes after which waiting frames go out as one write.
const WRITE_SIZE: usize = 64 * 1024;

/// A share of a session's credit; given back when its last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Credit(#[allow(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

/// What comes from the socket.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// A binary message.
    Message { bytes: Bytes, credit: Credit },
    /// Only a sign of life.
    Alive(#[allow(dead_code, reason = "held, not read")] Credit),
    /// A message past the limit, which was skipped.
    Oversize { length: u64, envelope: Envelope, credit: Credit },
    /// The last thing: the connection is over.
    Gone(String),
}

/// What goes to the socket.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A binary message; the credit of the request that it answers.
    Message {
        bytes: Bytes,
        #[allow(dead_code, reason = "held, not read")]
        credit: Option<Credit>,
    },
    /// A protocol ping.
    Ping,
    /// The answer to one.
    Pong(Bytes, #[allow(dead_code, reason = "held, not read")] Credit),
    /// The closing frame; nothing goes out after it.
    Close(CloseReason),
}

/// What the pumps tell the session beside the channels.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    starved: AtomicBool,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Gauge {
    /// The pump does not read now, since the session's credit is used up: silence is our own doing.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }

    /// Bytes read and written so far.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.bytes_in.load(Ordering::Relaxed), self.bytes_out.load(Ordering::Relaxed))
    }
}

/// The session's end of a socket. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) inbound: UnboundedReceiver<Inbound>,
    pub(crate) outbound: UnboundedSender<Outgoing>,
    pub(crate) gauge: Arc<Gauge>,
    /// Address of the peer, for logs.
    pub(crate) peer: String,
}

/// The HTTP server's end of a socket.
pub(crate) struct Pumps {
    reader: Reader,
    writer: Writer,
}

/// A pair of ends.
pub(crate) fn pair(peer: String) -> (Socket, Pumps) {
    let (to_session, inbound) = mpsc::unbounded_channel();
    let (outbound, from_session) = mpsc::unbounded_channel();
    let gauge = Arc::new(Gauge::default());
    let reader = Reader {
        to_session,
        pongs: outbound.downgrade(),
        credit: Arc::new(Semaphore::new(CREDIT)),
        gauge: Arc::clone(&gauge),
    };
    let writer = Writer { from_session, gauge: Arc::clone(&gauge), closed: false };
    (Socket { inbound, outbound, gauge, peer }, Pumps { reader, writer })
}

impl Pumps {
    /// Starts reading `payload` and gives the stream that is the body of the response.
    pub(crate) fn start(
        self,
        payload: Payload,
    ) -> impl Stream<Item = Result<Bytes, actix_web::Error>> + 'static {
        let reader = self.reader;
        // It ends with the payload, or when the session drops its end.
        actix_rt::spawn(async move {
            let session = reader.to_session.clone();
            tokio::select! {
                () = reader.run(payload) => {}
                () = session.closed() => {}
            }
        });
        self.writer
    }
}

struct Reader {
    to_session: UnboundedSender<Inbound>,
    pongs: WeakUnboundedSender<Outgoing>,
    credit: Arc<Semaphore>,
    gauge: Arc<Gauge>,
}

impl Reader {
    async fn run(self, payload: Payload) {
        let why = self.read(payload).await;
        // A session that is gone needs no news.
        let _ = self.to_session.send(Inbound::Gone(why));
    }

    /// Reads until the connection is over, and says why it is.
    async fn read(&self, mut payload: Payload) -> String {
        let mut buf = BytesMut::new();
        let mut fragments: Option<BytesMut> = None;
        loop {
            if let Some(header) = over_limit(&buf, MAX_FRAME) {
                if header.payload > MAX_SKIPPED {
                    return format!("a frame of {} bytes was announced", header.payload);
                }
                buf.advance(header.length);
                let mut skipper = Skipper::new(header);
                while !skipper.take(&mut buf) {
                    if let Err(why) = self.fill(&mut payload, &mut buf).await {
                        return why;
                    }
                }
                self.skipped(header.payload, skipper.envelope()).await;
                continue;
            }
            match Parser::parse(&mut buf, true, MAX_FRAME) {
                Ok(Some((finished, opcode, data))) => {
                    let data = data.unwrap_or_default();
                    if let Err(why) = self.frame(finished, opcode, data, &mut fragments).await {
                        return why;
                    }
                }
                Ok(None) => {
                    if let Err(why) = self.fill(&mut payload, &mut buf).await {
                        return why;
                    }
                }
                Err(error) => return format!("broken WebSocket frame: {error}"),
            }
        }
    }

    /// Reads one more piece into `buf`.
    async fn fill(&self, payload: &mut Payload, buf: &mut BytesMut) -> Result<(), String> {
        match payload.next().await {
            Some(Ok(piece)) => {
                self.gauge.bytes_in.fetch_add(piece.len() as u64, Ordering::Relaxed);
                buf.extend_from_slice(&piece);
                Ok(())
            }
            Some(Err(error)) => Err(format!("the connection broke: {error}")),
            None => Err("the connection was closed".to_owned()),
        }
    }

    async fn frame(
        &self,
        finished: bool,
        opcode: OpCode,
        data: BytesMut,
        fragments: &mut Option<BytesMut>,
    ) -> Result<(), String> {
        match (opcode, fragments.as_mut(), finished) {
            (OpCode::Binary | OpCode::Text, Some(_), _) => {
                Err("a fragmented message was not finished".to_owned())
            }
            (OpCode::Binary, None, true) => {
                self.message(data.freeze()).await;
                Ok(())
            }
            // No worker sends text; it counts as a sign of life only.
            (OpCode::Text, None, true) => self.alive().await,
            (OpCode::Binary, None, false) => {
                *fragments = Some(data);
                Ok(())
            }
            (OpCode::Continue, Some(whole), _) => {
                if whole.len() + data.len() > MAX_FRAME {
                    let length = (whole.len() + data.len()) as u64;
                    self.skipped(length, Envelope::default()).await;
                    return Err(format!("a fragmented message grew past {MAX_FRAME} bytes"));
                }
                whole.extend_from_slice(&data);
                if finished && let Some(whole) = fragments.take() {
                    self.message(whole.freeze()).await;
                }
                Ok(())
            }
            (OpCode::Ping, _, _) => {
                let credit = self.credit(data.len()).await;
                if let Some(outbound) = self.pongs.upgrade() {
                    // The session's end may be gone: then nobody needs a pong.
                    let _ = outbound.send(Outgoing::Pong(data.freeze(), credit));
                }
                self.alive().await
            }
            (OpCode::Pong, _, _) => self.alive().await,
            (OpCode::Close, _, _) => Err("the worker closed the connection".to_owned()),
            _ => Err("WebSocket frames out of order".to_owned()),
        }
    }

    async fn message(&self, bytes: Bytes) {
        let credit = self.credit(bytes.len()).await;
        let _ = self.to_session.send(Inbound::Message { bytes, credit });
    }

    async fn alive(&self) -> Result<(), String> {
        let credit = self.credit(0).await;
        let _ = self.to_session.send(Inbound::Alive(credit));
        Ok(())
    }

    async fn skipped(&self, length: u64, envelope: Envelope) {
        let credit = self.credit(0).await;
        let _ = self.to_session.send(Inbound::Oversize { length, envelope, credit });
    }

    /// Waits until the session can take a frame of that size.
    async fn credit(&self, size: usize) -> Credit {
        let units = size.div_ceil(1024).clamp(1, CREDIT) as u32;
        if let Ok(permit) = Arc::clone(&self.credit).try_acquire_many_owned(units) {
            return Credit(Arc::new(permit));
        }
        self.gauge.starved.store(true, Ordering::Relaxed);
        let permit = Arc::clone(&self.credit).acquire_many_owned(units).await;
        self.gauge.starved.store(false, Ordering::Relaxed);
        match permit {
            Ok(permit) => Credit(Arc::new(permit)),
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }
}

/// The body of the response: frames that are due together go out as one write.
struct Writer {
    from_session: UnboundedReceiver<Outgoing>,
    gauge: Arc<Gauge>,
    closed: bool,
}

impl Writer {
    fn encode(&mut self, frame: Outgoing, buf: &mut BytesMut) {
        match frame {
            Outgoing::Message { bytes, credit: _ } => {
                Parser::write_message(buf, bytes, OpCode::Binary, true, false);
            }
            Outgoing::Ping => Parser::write_message(buf, b"", OpCode::Ping, true, false),
            Outgoing::Pong(data, _) => Parser::write_message(buf, data, OpCode::Pong, true, false),
            Outgoing::Close(reason) => {
                Parser::write_close(buf, Some(reason), false);
                self.closed = true;
            }
        }
    }
}

impl Stream for Writer {
    type Item = Result<Bytes, actix_web::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut buf = BytesMut::new();
        while !this.closed && buf.len() < WRITE_SIZE {
            match this.from_session.poll_recv(cx) {
                Poll::Ready(Some(frame)) => this.encode(frame, &mut buf),
                Poll::Ready(None) => this.closed = true,
                Poll::Pending => break,
            }
        }
        if !buf.is_empty() {
            this.gauge.bytes_out.fetch_add(buf.len() as u64, Ordering::Relaxed);
            return Poll::Ready(Some(Ok(buf.freeze())));
        }
        if this.closed { Poll::Ready(None) } else { Poll::Pending }
    }
}

/// Credit outside a socket.
#[cfg(test)]
pub(crate) async fn test_credit(semaphore: &Arc<Semaphore>) -> Credit {
    Credit(Arc::new(Arc::clone(semaphore).acquire_owned().await.unwrap()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use actix_web::FromRequest;
    use actix_web::error::PayloadError;
    use actix_web::test::TestRequest;
    use futures_util::stream;

    use super::*;

    fn masked(opcode: OpCode, payload: &[u8]) -> Bytes {
        let mut buf = BytesMut::new();
        Parser::write_message(&mut buf, payload, opcode, true, true);
        buf.freeze()
    }

    /// A payload of these pieces that counts how many were taken, and then stays open.
    async fn payload(pieces: Vec<Bytes>, taken: Rc<Cell<usize>>) -> Payload {
        let pieces = stream::iter(pieces).map(move |piece| {
            taken.set(taken.get() + 1);
            Ok::<_, PayloadError>(piece)
        });
        let boxed: Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>> =
            Box::pin(pieces.chain(stream::pending()));
        let mut payload = actix_web::dev::Payload::Stream { payload: boxed };
        let request = TestRequest::default().to_http_request();
        Payload::from_request(&request, &mut payload).await.unwrap()
    }

    async fn started(
        pieces: Vec<Bytes>,
    ) -> (Socket, Pin<Box<dyn Stream<Item = Result<Bytes, actix_web::Error>>>>, Rc<Cell<usize>>) {
        let taken = Rc::new(Cell::new(0));
        let (socket, pumps) = pair("test".into());
        let body = Box::pin(pumps.start(payload(pieces, Rc::clone(&taken)).await));
        (socket, body, taken)
    }

    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[actix_web::test]
    async fn reading_stops_without_credit_and_writing_does_not() {
        let frame = masked(OpCode::Binary, &vec![7; 1 << 20]);
        let (mut socket, mut body, taken) = started(vec![frame; 10]).await;
        settle().await;
        // Four frames hold all the credit, the fifth waits for some.
        assert_eq!(taken.get(), 5);
        assert!(socket.gauge.is_starved());
        socket.outbound.send(Outgoing::Ping).unwrap();
        assert_eq!(&body.next().await.unwrap().unwrap()[..], b"\x89\x00");

        let Some(Inbound::Message { bytes, credit }) = socket.inbound.recv().await else {
            panic!("no message")
        };
        assert_eq!(bytes.len(), 1 << 20);
        let clone = credit.clone();
        drop(credit);
        settle().await;
        assert_eq!(taken.get(), 5, "the last clone counts");
        drop(clone);
        settle().await;
        assert_eq!(taken.get(), 6);
        for _ in 1..10 {
            assert!(matches!(socket.inbound.recv().await, Some(Inbound::Message { .. })));
        }
        settle().await;
        assert!(!socket.gauge.is_starved());
        assert_eq!(taken.get(), 10);
    }

    #[actix_web::test]
    async fn a_frame_past_the_limit_is_skipped_and_the_next_one_is_read() {
        let mut large = vec![b'x'; MAX_FRAME + 1];
        let end = b"\xaacommand_id\xa2m1\xaaseq_number\x05";
        let at = large.len() - end.len();
        large[at..].copy_from_slice(end);
        let mut bytes = BytesMut::from(&masked(OpCode::Binary, &large)[..]);
        bytes.extend_from_slice(&masked(OpCode::Binary, b"next"));
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            pieces.push(bytes.split_to(bytes.len().min(100_003)).freeze());
        }
        let (mut socket, _body, _) = started(pieces).await;
        let Some(Inbound::Oversize { length, envelope, .. }) = socket.inbound.recv().await else {
            panic!("not told");
        };
        assert_eq!(length, MAX_FRAME as u64 + 1);
        assert_eq!(envelope, Envelope { command_id: Some("m1".into()), seq: Some(5) });
        let Some(Inbound::Message { bytes, .. }) = socket.inbound.recv().await else { panic!("no message") };
        assert_eq!(&bytes[..], b"next");
    }

    #[actix_web::test]
    async fn fragments_are_joined_pings_answered_and_disorder_ends_it() {
        let fragment = |opcode, fin, payload: &[u8]| {
            let mut buf = BytesMut::new();
            Parser::write_message(&mut buf, payload, opcode, fin, true);
            buf.freeze()
        };
        let pieces = vec![
            fragment(OpCode::Binary, false, b"one "),
            masked(OpCode::Ping, b"hi"),
            fragment(OpCode::Continue, false, b"two "),
            fragment(OpCode::Continue, true, b"three"),
            fragment(OpCode::Continue, true, b"four"),
        ];
        let (mut socket, mut body, _) = started(pieces).await;
        assert!(matches!(socket.inbound.recv().await, Some(Inbound::Alive(_))));
        let Some(Inbound::Message { bytes, .. }) = socket.inbound.recv().await else { panic!("no message") };
        assert_eq!(&bytes[..], b"one two three");
        assert!(matches!(socket.inbound.recv().await, Some(Inbound::Gone(_))));
        assert_eq!(&body.next().await.unwrap().unwrap()[..], b"\x8a\x02hi");
    }

    #[actix_web::test]
    async fn hostile_frames_end_the_connection() {
        let endless = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
        let huge = [&[0x82, 0xff][..], &(MAX_SKIPPED + 1).to_be_bytes(), &[0; 4]].concat();
        for piece in [
            &endless[..],
            &huge,
            b"\x82\x02hi",
            b"\xf2\x82\0\0\0\0hi",
            b"\x83\x80\0\0\0\0",
            b"\x88\x80\0\0\0\0",
        ] {
            let (mut socket, _body, _) = started(vec![Bytes::copy_from_slice(piece)]).await;
            assert!(matches!(socket.inbound.recv().await, Some(Inbound::Gone(_))), "{piece:?}");
        }
    }

    #[actix_web::test]
    async fn dropping_the_session_s_end_ends_both_pumps() {
        let (socket, mut body, _) = started(vec![]).await;
        socket.outbound.send(Outgoing::Message { bytes: Bytes::from_static(b"a"), credit: None }).unwrap();
        socket.outbound.send(Outgoing::Message { bytes: Bytes::from_static(b"b"), credit: None }).unwrap();
        drop(socket);
        assert_eq!(&body.next().await.unwrap().unwrap()[..], b"\x82\x01a\x82\x01b", "one write");
        assert!(body.next().await.is_none());
    }
}
