//! Searching a log: matches as lines of JSON, sent while the search goes on.

use std::time::Duration;

use actix_web::http::header;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use greenroom_data::{DataError, LogMatch, LogPattern, Searched, Shown};
use greenroom_model::{Log, LogKind};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::log_text::is_there;
use crate::error::ApiError;
use crate::reply::Reply;
use crate::router::{Answer, Call};

/// Lines of JSON.
const NDJSON: &str = "application/x-ndjson; charset=utf-8";
/// The most matches that a search gives; the others are counted.
const MOST: i64 = 10_000;
/// How often a search that finds nothing says how far it is.
const PROGRESS: Duration = Duration::from_millis(100);
/// How many searches run at the same time.
pub(crate) const AT_ONCE: usize = 4;

/// What is asked for.
#[derive(Debug)]
struct Question {
    pattern: LogPattern,
    /// The first line to search.
    offset: i64,
    /// At most so many matches.
    limit: i64,
}

/// Searches what is announced of a log.
pub(super) async fn search(call: &Call, log: Option<Shown<Log>>) -> Result<Answer, ApiError> {
    let log = log.ok_or_else(|| call.not_found())?;
    let question = Question::of(&call.params)?;
    let busy = |_| ApiError::Unavailable {
        why: format!("{AT_ONCE} logs are being searched already"),
        retry_after: Duration::from_secs(1),
    };
    let permit = call.www.searches.clone().try_acquire_owned().map_err(busy)?;
    let (range, streams) = (question.offset..log.num_lines, log.kind == LogKind::Stdio);
    let most = usize::try_from(question.limit).unwrap_or(0);
    let mut found = call.www.ro.search_log(log.id, question.pattern, range, streams, most);
    let first = found.next().await;
    is_there(&log, question.offset, first.is_some())?;
    let found = stream::iter(first).chain(found).boxed();
    let lines = Lines::new(found, permit, question.offset).stream();
    // A proxy must not keep matches back to send them together.
    let unbuffered = header::HeaderName::from_static("x-accel-buffering");
    Ok(Answer::Other(Reply::stream(NDJSON, lines.boxed_local()).with(unbuffered, "no")))
}

impl Question {
    fn of(params: &[(String, String)]) -> Result<Self, ApiError> {
        let bad = |why: String| ApiError::BadQuery(why);
        let (mut q, mut regex, mut case, mut offset, mut limit) = (None, false, false, 0, MOST);
        for (name, value) in params {
            let number = || value.parse::<i64>().ok().filter(|it| *it >= 0);
            match name.as_str() {
                "q" => q = Some(value.as_str()),
                "regex" => regex = flag(name, value)?,
                "case" => case = flag(name, value)?,
                "offset" => offset = number().ok_or_else(|| bad("invalid offset".into()))?,
                "limit" => limit = number().ok_or_else(|| bad("invalid limit".into()))?,
                other => return Err(bad(format!("a search has no parameter '{other}'"))),
            }
        }
        let q = q.ok_or_else(|| bad("a search needs q, what to search for".into()))?;
        let pattern = LogPattern::new(q, regex, case).map_err(|error| bad(error.to_string()))?;
        Ok(Self { pattern, offset, limit: limit.min(MOST) })
    }
}

/// A parameter that is on or off.
pub(super) fn flag(name: &str, value: &str) -> Result<bool, ApiError> {
    match value {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(ApiError::BadQuery(format!("invalid {name}: 1 or 0"))),
    }
}

/// A search on its way out.
struct Lines {
    found: BoxStream<'static, Result<Searched, DataError>>,
    /// Counts among those that run.
    permit: Option<OwnedSemaphorePermit>,
    count: u64,
    upto: i64,
    given: usize,
    told_at: Instant,
    ended: bool,
}

impl Lines {
    fn new(
        found: BoxStream<'static, Result<Searched, DataError>>,
        permit: OwnedSemaphorePermit,
        upto: i64,
    ) -> Self {
        Self { found, permit: Some(permit), count: 0, upto, given: 0, told_at: Instant::now(), ended: false }
    }

    fn stream(self) -> impl futures_util::Stream<Item = Result<Bytes, actix_web::Error>> {
        stream::unfold(self, |mut lines| async move {
            let next = lines.next().await?;
            Some((Ok(next), lines))
        })
    }

    /// The next lines; none: all is said.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            let mut out = String::new();
            match self.found.try_next().await {
                Ok(Some(searched)) => {
                    (self.count, self.upto) = (searched.count, searched.upto);
                    self.given += searched.matches.len();
                    searched.matches.iter().for_each(|it| line(&mut out, &matched(it)));
                    if !out.is_empty() || self.told_at.elapsed() >= PROGRESS {
                        self.told_at = Instant::now();
                        line(&mut out, &json!({"type": "progress", "count": self.count, "upto": self.upto}));
                    }
                }
                Ok(None) => {
                    self.ended = true;
                    let all = self.given as u64 == self.count;
                    let summary = json!({
                        "type": "summary", "count": self.count, "upto": self.upto, "all": all,
                    });
                    line(&mut out, &summary);
                }
                Err(error) => {
                    self.ended = true;
                    tracing::warn!(error = %error, "a search ended before its end");
                    line(&mut out, &json!({"type": "error", "error": error.to_string()}));
                }
            }
            if !out.is_empty() {
                return Some(out.into());
            }
        }
        // Whoever waits for a place need not wait for the connection's end.
        self.permit = None;
        None
    }
}

fn matched(it: &LogMatch) -> serde_json::Value {
    let mut row =
        json!({"type": "match", "line": it.line, "text": it.text, "start": it.start, "end": it.end});
    if let Some(stream) = it.stream {
        row["stream"] = stream.to_string().into();
    }
    if it.cut {
        row["cut"] = true.into();
    }
    row
}

fn line(out: &mut String, row: &serde_json::Value) {
    out.push_str(&row.to_string());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(query: &str) -> Result<Question, String> {
        Question::of(&crate::query::params(query)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_no_question_is_said() {
        let asked = question("q=a%2Bb&regex=true&case=0&limit=20000&offset=7").unwrap();
        assert_eq!((asked.limit, asked.offset), (MOST, 7));
        for (query, why) in [
            ("", "a search needs q"),
            ("q=", "empty"),
            ("q=(&regex=1", "unclosed group"),
            ("q=x&regex=maybe", "invalid regex"),
            ("q=x&limit=-1", "invalid limit"),
            ("q=x&offset=y", "invalid offset"),
            ("q=x&word=1", "no parameter 'word'"),
        ] {
            assert!(question(query).unwrap_err().contains(why), "{query}: {:?}", question(query));
        }
    }
}
