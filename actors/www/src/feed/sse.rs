//! `/sse`: server-sent events in the form of stock masters, for their clients. Without clocks: who wants to resume takes
//! `/api/v2/events`.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use greenroom_data::{Delivered, Delivery, Ro};
use greenroom_model::Pattern;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use uuid::Uuid;

use super::events::EVENT_STREAM;
use super::feeds::{Feeds, Name, Turn};
use super::{Place, escape_key};
use crate::reply::{Reply, retry_after_header};
use crate::www::Www;

/// Paths of one stream.
const MAX_PATHS: usize = 200;
/// Changes of a stream's paths that wait to be carried out.
const MAX_CHANGES: usize = 16;
/// A stream must carry out a change within this time; one whose peer does not read cannot.
const CHANGED_WITHIN: Duration = Duration::from_secs(5);
/// How often a quiet stream shows that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(15);
/// The data layer must take a subscription within this time.
const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(10);

/// What another request asks of a stream.
enum Change {
    Add(String),
    Remove(String),
}

/// A change and where its outcome goes: a status and a text.
type Asked = (Change, oneshot::Sender<(StatusCode, &'static str)>);

/// The open streams by the id that their handshake told.
#[derive(Default)]
pub(crate) struct Streams(Mutex<HashMap<Uuid, mpsc::Sender<Asked>>>);

impl Streams {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, mpsc::Sender<Asked>>> {
        // A map is whole whatever panicked while it was held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers `/sse/…`.
pub(crate) async fn serve(
    request: HttpRequest,
    www: web::Data<Www>,
    tail: web::Path<String>,
) -> HttpResponse {
    if !www.configured().origins.may_act(request.headers()) {
        let reply = Reply::text(StatusCode::FORBIDDEN, "pages of other sites may not listen");
        return reply.respond(&request).await;
    }
    let tail = tail.into_inner();
    let (command, rest) = tail.split_once('/').unwrap_or((&tail, ""));
    let reply = match command {
        "listen" => listen(&www, rest).await,
        "add" | "remove" => change(&www, command, rest).await,
        _ => Reply::text(StatusCode::NOT_FOUND, "listen, add and remove are"),
    };
    reply.with(header::CACHE_CONTROL, "no-cache").respond(&request).await
}

async fn change(www: &Www, command: &str, rest: &str) -> Reply {
    let (id, path) = rest.split_once('/').unwrap_or((rest, ""));
    if id.is_empty() {
        return Reply::text(StatusCode::BAD_REQUEST, "need uuid");
    }
    let stream = Uuid::parse_str(id).ok().and_then(|id| www.streams.lock().get(&id).cloned());
    let Some(stream) = stream else { return Reply::text(StatusCode::BAD_REQUEST, "unknown uuid") };
    let change =
        if command == "add" { Change::Add(path.to_owned()) } else { Change::Remove(path.to_owned()) };
    let (answer, answered) = oneshot::channel();
    if stream.try_send((change, answer)).is_err() {
        return retry_after_header(
            Reply::text(StatusCode::SERVICE_UNAVAILABLE, "the stream does not keep up"),
            Duration::from_secs(1),
        );
    }
    match timeout(CHANGED_WITHIN, answered).await {
        Ok(Ok((status, text))) => Reply::text(status, text),
        Ok(Err(_)) => Reply::text(StatusCode::BAD_REQUEST, "unknown uuid"),
        Err(_) => Reply::text(StatusCode::SERVICE_UNAVAILABLE, "the stream does not keep up"),
    }
}

async fn listen(www: &Www, path: &str) -> Reply {
    let Some(place) = Place::take(www) else {
        let reply = Reply::text(StatusCode::SERVICE_UNAVAILABLE, "too many open connections to the feed");
        return retry_after_header(reply, Duration::from_secs(30));
    };
    let (asks, asked) = mpsc::channel(MAX_CHANGES);
    let id = Uuid::new_v4();
    let mut beats = interval_at(Instant::now() + BEAT_EVERY, BEAT_EVERY);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stream = Stream {
        ro: www.ro.clone(),
        feeds: Feeds::new(),
        asked,
        stopping: www.stopping.subscribe(),
        beats,
        handshake: Some(format!("event: handshake\ndata: {id}\n\n")),
        ended: false,
        _listed: Listed { www: www.clone(), id, _place: place },
    };
    if !path.is_empty() {
        let (status, text) = stream.add(path.to_owned()).await;
        if status != StatusCode::OK {
            return Reply::text(status, text);
        }
    }
    www.streams.lock().insert(id, asks);
    let chunks = unfold(stream, |mut stream| async move {
        let chunk = stream.next().await?;
        Some((Ok(Bytes::from(chunk)), stream))
    });
    Reply::stream(EVENT_STREAM, chunks.boxed_local())
        .with(header::HeaderName::from_static("x-accel-buffering"), "no")
}

/// A stream's entry in the list, removed with it.
struct Listed {
    www: Www,
    id: Uuid,
    _place: Place,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.www.streams.lock().remove(&self.id);
    }
}

/// What a stream waits for.
enum Step {
    Asked(Asked),
    Fed(Turn),
}

struct Stream {
    ro: Ro,
    feeds: Feeds,
    asked: mpsc::Receiver<Asked>,
    stopping: watch::Receiver<bool>,
    beats: Interval,
    handshake: Option<String>,
    ended: bool,
    _listed: Listed,
}

impl Stream {
    async fn add(&mut self, path: String) -> (StatusCode, &'static str) {
        let name = Name::Path(path.clone());
        if self.feeds.has(&name) {
            return (StatusCode::OK, "ok");
        }
        if self.feeds.paths() >= MAX_PATHS {
            return (StatusCode::TOO_MANY_REQUESTS, "a stream has at most 200 paths");
        }
        match timeout(SUBSCRIBE_WITHIN, self.ro.subscribe(vec![Pattern::parse(&path)], None)).await {
            Ok(Ok(subscription)) => {
                self.feeds.add(name, None, 1, subscription);
                (StatusCode::OK, "ok")
            }
            _ => (StatusCode::SERVICE_UNAVAILABLE, "the data layer did not answer"),
        }
    }

    fn remove(&mut self, path: String) -> (StatusCode, &'static str) {
        match self.feeds.remove(&Name::Path(path)) {
            true => (StatusCode::OK, "ok"),
            false => (StatusCode::NOT_FOUND, "not listening to this path"),
        }
    }

    /// What goes out next; none: the stream is over.
    async fn next(&mut self) -> Option<String> {
        if let Some(handshake) = self.handshake.take() {
            return Some(handshake);
        }
        while !self.ended {
            let step = tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stop| *stop) => return None,
                // The list holds the other end as long as this lives.
                Some(asked) = self.asked.recv() => Step::Asked(asked),
                turn = self.feeds.next() => Step::Fed(turn),
                _ = self.beats.tick() => return Some(":\n\n".to_owned()),
            };
            match step {
                Step::Asked((change, answer)) => {
                    let outcome = match change {
                        Change::Add(path) => self.add(path).await,
                        Change::Remove(path) => self.remove(path),
                    };
                    // Whoever asked may have given up.
                    let _ = answer.send(outcome);
                }
                Step::Fed(turn) => {
                    let chunk = self.render(turn);
                    if !chunk.is_empty() {
                        return Some(chunk);
                    }
                }
            }
        }
        None
    }

    fn render(&mut self, turn: Turn) -> String {
        let mut chunk = String::new();
        turn.runs.iter().flat_map(|run| run.deliveries()).for_each(|it| push_event(&mut chunk, &it));
        for delivery in turn.deliveries {
            match delivery {
                Delivery::Event(delivered) => push_event(&mut chunk, &delivered),
                // Without clocks nobody could resume: only the end of the stream tells the client that it missed something.
                Delivery::Ended(_) => self.ended = true,
            }
        }
        chunk
    }
}

/// `{"key": ["builds", "11", "update"], "message": {…}}`
fn push_event(out: &mut String, delivered: &Delivered) {
    out.push_str("event: event\ndata: {\"key\": [");
    for (index, element) in delivered.key().to_string().split('/').enumerate() {
        out.push_str(if index > 0 { ", \"" } else { "\"" });
        escape_key(out, element);
        out.push('"');
    }
    let _ = write!(out, "], \"message\": {}}}\n\n", delivered.frame.json);
}
