//! `GET /api/v2/events`: the feed as server-sent events, or, for programs that ask for JSON, by long polling.
//!
//! Both begin at a clock and give the clock after each event, so a client that resumes misses nothing and gets nothing twice. A
//! stream whose peer does not read is not polled: what comes meanwhile waits in the data layer, which ends the subscription past
//! 1,000 events or 1 MiB.

use std::fmt::Write;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::{StatusCode, header};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use greenroom_data::{DataError, Delivered, Delivery, Ended, Subscription};
use greenroom_model::restart::Span;
use greenroom_model::{Clock, Pattern};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout, timeout_at};

use super::{Place, escape_key};
use crate::query;
use crate::reply::{CLOCK, JSON, Reply, retry_after_header};
use crate::www::Www;

/// Topics of one subscription.
const MAX_TOPICS: usize = 200;
/// The longest poll; the gate grants it.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(60);
/// How much goes out in one write.
const CHUNK: usize = 64 << 10;
/// The most that one answer to a poll holds; the rest comes with the next.
const POLL_EVENTS: usize = 1_000;
const POLL_BYTES: usize = 1 << 20;
/// How often a quiet stream tells its clock, which also keeps proxies from closing it.
const MARK_EVERY: Duration = Duration::from_secs(10);
/// How long a poll reads at most of what came before it was made; then it answers how far it is.
const REPLAY_WITHIN: Duration = Duration::from_secs(5);
/// The data layer must take a subscription within this time.
const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(10);

pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// What a client asks for.
#[derive(Debug, PartialEq)]
struct Ask {
    topics: Vec<String>,
    since: Option<String>,
    /// For long polling: how long to wait for the first event.
    wait: Option<Duration>,
}

impl Ask {
    /// Reads the query's parameters; all that is wrong is told at once.
    fn parse(text: &str) -> Result<Self, String> {
        let (mut ask, mut faults) = (Self { topics: Vec::new(), since: None, wait: None }, Vec::new());
        for (name, value) in query::params(text) {
            match name.as_str() {
                "topic" if value.is_empty() => faults.push("an empty topic selects nothing".to_owned()),
                "topic" => ask.topics.push(value),
                "since" => ask.since = Some(value),
                "wait" => match Span::parse(&value) {
                    Ok(wait) if wait.duration() <= MAX_WAIT => ask.wait = Some(wait.duration()),
                    Ok(_) => faults.push(format!("wait is at most {} s", MAX_WAIT.as_secs())),
                    Err(error) => faults.push(format!("wait: {error}")),
                },
                other => faults.push(format!("no such parameter `{other}`: topic, since and wait are")),
            }
        }
        if ask.topics.is_empty() && faults.is_empty() {
            faults.push("name at least one topic, such as topic=builds/*/*".to_owned());
        }
        if ask.topics.len() > MAX_TOPICS {
            faults.push(format!("at most {MAX_TOPICS} topics"));
        }
        if faults.is_empty() { Ok(ask) } else { Err(faults.join("; ")) }
    }
}

/// Answers.
pub(crate) async fn answer(request: &HttpRequest, www: &Www) -> Reply {
    let mut ask = match Ask::parse(request.query_string()) {
        Ok(ask) => ask,
        Err(why) => return Reply::error(StatusCode::BAD_REQUEST, &why),
    };
    let word = |name| request.headers().get(name).and_then(|it| it.to_str().ok());
    if let Some(last) = word(header::HeaderName::from_static("last-event-id")) {
        // What a stream that broke has seen is newer than what its URL says.
        ask.since = Some(last.to_owned());
    }
    let accept = word(header::ACCEPT).unwrap_or_default();
    let polls = ask.wait.is_some() || (accept.contains("json") && !accept.contains(EVENT_STREAM));
    let Some(place) = Place::take(www) else {
        let reply = Reply::error(StatusCode::SERVICE_UNAVAILABLE, "too many open connections to the feed");
        return retry_after_header(reply, Duration::from_secs(30));
    };
    match (subscribe(www, &ask).await, polls) {
        (Err(DataError::Gone), true) => Reply::error(StatusCode::GONE, "gone: take a new snapshot"),
        // A browser would not hand a page the body of a refusal.
        (Err(DataError::Gone), false) => stream(place, None, www.stopping.subscribe()),
        (Err(error), _) => Reply::from(crate::error::ApiError::from(error)),
        (Ok(subscription), true) => poll(place, subscription, &ask, www.stopping.subscribe()).await,
        (Ok(subscription), false) => stream(place, Some(subscription), www.stopping.subscribe()),
    }
}

async fn subscribe(www: &Www, ask: &Ask) -> Result<Subscription, DataError> {
    let since = match ask.since.as_deref().map(str::parse::<Clock>) {
        Some(Ok(clock)) => Some(clock),
        Some(Err(_)) => return Err(DataError::Gone),
        None => None,
    };
    let patterns = ask.topics.iter().map(|it| Pattern::parse(it)).collect();
    timeout(SUBSCRIBE_WITHIN, www.ro.subscribe(patterns, since))
        .await
        .unwrap_or_else(|_| Err(DataError::unavailable("the data layer did not answer in time")))
}

/// Waits for the first event and gives what else is there; without `since` only the clock to begin with.
async fn poll(
    _place: Place,
    mut subscription: Subscription,
    ask: &Ask,
    mut stopping: watch::Receiver<bool>,
) -> Reply {
    let mut body = String::from("{\"events\":[");
    let mut count = 0;
    let wait = if ask.since.is_some() { ask.wait.unwrap_or_default() } else { Duration::ZERO };
    // What has happened already is no matter of waiting: whoever waits for a moment only gets on, too.
    if ask.since.is_some() {
        let _ = timeout(REPLAY_WITHIN, subscription.replayed()).await;
    }
    let until = Instant::now() + wait;
    let mut next = tokio::select! {
        biased;
        first = timeout_at(until, subscription.next()) => first.ok(),
        _ = stopping.wait_for(|stop| *stop) => None,
    };
    while let Some(delivery) = next.take() {
        match delivery {
            Delivery::Event(delivered) => {
                body.push_str(if count > 0 { "," } else { "" });
                push_event(&mut body, &delivered, true);
                count += 1;
                if count < POLL_EVENTS && body.len() < POLL_BYTES {
                    next = subscription.try_next();
                }
            }
            Delivery::Ended(Ended::Gone) if count == 0 => {
                return Reply::error(StatusCode::GONE, "gone: take a new snapshot");
            }
            // What was given stands; the next poll learns the rest.
            Delivery::Ended(_) => {}
        }
    }
    let clock = subscription.idle_clock().unwrap_or_else(|| subscription.clock_text());
    // Writing to a string cannot fail.
    let _ = write!(body, "],\"clock\":\"{clock}\"}}");
    Reply::new(StatusCode::OK, JSON, body).with(CLOCK, &clock)
}

/// A stream of server-sent events.
struct Line {
    _place: Place,
    /// None: it is gone from the start.
    subscription: Option<Subscription>,
    stopping: watch::Receiver<bool>,
    marks: Interval,
    first: bool,
    ended: bool,
}

fn stream(place: Place, subscription: Option<Subscription>, stopping: watch::Receiver<bool>) -> Reply {
    let mut marks = interval_at(Instant::now() + MARK_EVERY, MARK_EVERY);
    marks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let clock = subscription.as_ref().map(Subscription::clock_text);
    let line = Line { _place: place, subscription, stopping, marks, first: true, ended: false };
    let chunks = unfold(line, |mut line| async move {
        let chunk = line.next().await?;
        Some((Ok(Bytes::from(chunk)), line))
    });
    let reply = Reply::stream(EVENT_STREAM, chunks.boxed_local()).with(
        // Nginx would hold a stream back.
        header::HeaderName::from_static("x-accel-buffering"),
        "no",
    );
    match clock {
        Some(clock) => reply.with(CLOCK, &clock),
        None => reply,
    }
}

impl Line {
    /// What goes out next; none: the stream is over.
    async fn next(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        let mut chunk = String::new();
        let Some(subscription) = &mut self.subscription else {
            self.ended = true;
            push_end(&mut chunk, Ended::Gone);
            return Some(chunk);
        };
        if std::mem::take(&mut self.first) {
            // A client that resumes needs a clock even if nothing ever happens.
            let _ = write!(chunk, "retry: 2000\nid: {}\n\n", subscription.clock_text());
            return Some(chunk);
        }
        tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stop| *stop) => {
                self.ended = true;
                chunk.push_str(": the server stops\n\n");
            }
            delivery = subscription.next() => {
                let mut next = Some(delivery);
                while let Some(delivery) = next.take() {
                    match delivery {
                        Delivery::Event(delivered) => {
                            push_message(&mut chunk, &delivered);
                            if chunk.len() < CHUNK {
                                next = subscription.try_next();
                            }
                        }
                        Delivery::Ended(ended) => {
                            self.ended = true;
                            push_end(&mut chunk, ended);
                        }
                    }
                }
            }
            _ = self.marks.tick() => {
                let clock = subscription.idle_clock().unwrap_or_else(|| subscription.clock_text());
                let _ = write!(chunk, "id: {clock}\n\n");
            }
        }
        Some(chunk)
    }
}

/// `{"k": KEY, "m": ENTITY}` of the contract, with the clock after it if the framing has no place for that.
fn push_event(out: &mut String, delivered: &Delivered, with_clock: bool) {
    out.push_str("{\"k\":\"");
    escape_key(out, &delivered.key().to_string());
    out.push_str("\",\"m\":");
    out.push_str(&delivered.frame.json);
    if with_clock {
        let _ = write!(out, ",\"c\":\"{}\"", delivered.clock);
    }
    out.push('}');
}

fn push_message(out: &mut String, delivered: &Delivered) {
    let _ = write!(out, "id: {}\ndata: ", delivered.clock);
    push_event(out, delivered, false);
    out.push_str("\n\n");
}

/// Why a stream ends, as an event of that name: after `lagging` a client resumes from its last id, after `gone` it takes a new snapshot.
fn push_end(out: &mut String, ended: Ended) {
    let (name, code) = match ended {
        Ended::Lagging => ("lagging", 4410),
        Ended::Gone => ("gone", 410),
    };
    let _ = write!(out, "event: {name}\ndata: {{\"error\":\"{name}\",\"code\":{code}}}\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_with_all_its_faults() {
        let ask = Ask::parse("topic=builds/*/*&topic=changes/*/new&since=abc&wait=30s");
        let topics = vec!["builds/*/*".to_owned(), "changes/*/new".to_owned()];
        let wait = Some(Duration::from_secs(30));
        assert_eq!(ask, Ok(Ask { topics, since: Some("abc".to_owned()), wait }));
        for (query, says) in [
            ("", "at least one topic"),
            ("topic=", "empty topic"),
            ("topic=a&wait=soon", "wait: expected a length of time"),
            ("topic=a&wait=2m", "at most 60 s"),
            ("topics=a&wait=x", "no such parameter `topics`"),
        ] {
            let why = Ask::parse(query).unwrap_err();
            assert!(why.contains(says), "{query}: {why}");
        }
        assert!(Ask::parse("topics=a&wait=x").unwrap_err().contains("; wait:"), "all faults at once");
    }
}
