//! Answers before they become HTTP: status, type, body, and what every one of them has in common.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::Arc;

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::LocalBoxStream;

use crate::error::ApiError;
use crate::json;

/// `Content-Type` of JSON.
pub(crate) const JSON: &str = "application/json; charset=utf-8";
/// `Content-Type` of plain text, and of JSON for people.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
/// `Content-Type` of HTML.
pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// Bears the clock of a reply.
pub(crate) const CLOCK: HeaderName = HeaderName::from_static("greenroom-clock");

/// Bears, while the database's server is away, for how many seconds it has been: the reply may be stale.
pub(crate) const STALE: HeaderName = HeaderName::from_static("greenroom-stale");

/// Bodies up to this size are never compressed.
const GZIP_FROM: usize = 1024;
/// Bodies from this size are compressed on a thread of their own.
const GZIP_ASIDE: usize = 64 * 1024;

/// What stands in a reply.
pub(crate) enum Body {
    /// All of it.
    Whole(Bytes),
    /// Pieces of bounded size.
    Stream(LocalBoxStream<'static, Result<Bytes, actix_web::Error>>),
}

/// An answer.
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// The `Content-Type`.
    pub(crate) kind: &'static str,
    /// The body.
    pub(crate) body: Body,
    /// The body's version, if it may be asked for conditionally.
    pub(crate) etag: Option<Arc<str>>,
    /// The body by gzip, if somebody has it at hand.
    pub(crate) gzipped: Option<Bytes>,
    /// Further headers.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Reply {
    /// An answer with a whole body.
    pub(crate) fn new(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, kind, body: Body::Whole(body.into()), etag: None, gzipped: None, headers: Vec::new() }
    }

    /// An answer that streams.
    pub(crate) fn stream(
        kind: &'static str,
        body: LocalBoxStream<'static, Result<Bytes, actix_web::Error>>,
    ) -> Self {
        Self { body: Body::Stream(body), ..Self::new(StatusCode::OK, kind, Bytes::new()) }
    }

    /// JSON for programs.
    pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        Self::new(status, JSON, json::compact(value))
    }

    /// Text for people.
    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::new(status, TEXT, text.into())
    }

    /// The contract's form of an error: JSON that says it is text.
    pub(crate) fn error(status: StatusCode, message: &str) -> Self {
        Self::new(status, TEXT, json::compact(&serde_json::json!({ "error": message })))
    }

    /// Adds a header; a value that HTTP cannot carry is left out.
    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// Gives the body its version.
    pub(crate) fn with_etag(mut self) -> Self {
        if let Body::Whole(bytes) = &self.body {
            self.etag = Some(etag_of(bytes));
        }
        self
    }

    /// As HTTP, with what the request asks for: 304 for a version it has, gzip if it can.
    pub(crate) async fn respond(mut self, request: &HttpRequest) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        for (name, value) in self.headers.drain(..) {
            response.append_header((name, value));
        }
        response.insert_header((header::VARY, "Accept, Accept-Encoding, Origin"));
        if self.status == StatusCode::PAYLOAD_TOO_LARGE {
            // The rest of the body is on its way and not worth reading.
            response.force_close();
        }
        if let Some(etag) = self.etag.take() {
            let known = request.headers().get(header::IF_NONE_MATCH).and_then(|it| it.to_str().ok());
            response.insert_header((header::ETAG, &*etag));
            if known.is_some_and(|known| matches_etag(known, &etag)) {
                return response.status(StatusCode::NOT_MODIFIED).finish();
            }
        }
        response.insert_header((header::CONTENT_TYPE, self.kind));
        match self.body {
            Body::Stream(stream) if request.method() == Method::HEAD => {
                drop(stream);
                response.finish()
            }
            Body::Stream(stream) => response.streaming(stream),
            Body::Whole(bytes) if bytes.len() > GZIP_FROM && accepts_gzip(request) => {
                let zipped = match self.gzipped {
                    Some(zipped) => Some(zipped),
                    None => gzip(bytes.clone()).await,
                };
                match zipped {
                    Some(zipped) => response.insert_header((header::CONTENT_ENCODING, "gzip")).body(zipped),
                    None => response.body(bytes),
                }
            }
            Body::Whole(bytes) => response.body(bytes),
        }
    }
}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Self {
        let reply = Reply::error(error.status(), &error.to_string());
        match error {
            ApiError::Unavailable { retry_after, .. } => retry_after_header(reply, retry_after),
            _ => reply,
        }
    }
}

/// Adds `Retry-After`, at least a second.
pub(crate) fn retry_after_header(reply: Reply, after: std::time::Duration) -> Reply {
    reply.with(header::RETRY_AFTER, &after.as_secs().max(1).to_string())
}

/// The version of a body: weak, since gzip is another form of the same.
pub(crate) fn etag_of(body: &[u8]) -> Arc<str> {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("W/\"{:016x}-{:x}\"", hasher.finish(), body.len()).into()
}

/// Whether an `If-None-Match` names this version.
fn matches_etag(known: &str, etag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    known.trim() == "*" || known.split(',').any(|tag| opaque(tag) == opaque(etag))
}

/// Whether the client asked for gzip (and did not forbid it by `q=0`).
pub(crate) fn accepts_gzip(request: &HttpRequest) -> bool {
    let lists = request.headers().get_all(header::ACCEPT_ENCODING).filter_map(|it| it.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let quality = parts.find_map(|it| it.strip_prefix("q=")).and_then(|q| q.parse::<f32>().ok());
        named && quality.unwrap_or(1.0) > 0.0
    })
}

/// The body by gzip; none if that failed.
pub(crate) async fn gzip(bytes: Bytes) -> Option<Bytes> {
    if bytes.len() < GZIP_ASIDE {
        return gzip_now(&bytes);
    }
    actix_web::web::block(move || gzip_now(&bytes)).await.ok().flatten()
}

/// The body by gzip as small as it gets, for what is compressed once.
pub(crate) fn gzip_best(bytes: &[u8]) -> Option<Bytes> {
    zip(bytes, Compression::best())
}

fn gzip_now(bytes: &[u8]) -> Option<Bytes> {
    zip(bytes, Compression::fast())
}

fn zip(bytes: &[u8], level: Compression) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), level);
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn versions_are_recognised_in_lists_and_weakly() {
        let etag = etag_of(b"body");
        let strong = etag.trim_start_matches("W/");
        for known in [&*etag, strong, "*", &format!("\"x\", {etag}")] {
            assert!(matches_etag(known, &etag), "{known}");
        }
        assert!(!matches_etag(&etag_of(b"other"), &etag));
        assert!(!matches_etag("", &etag));
    }

    #[test]
    fn gzip_is_for_those_who_ask() {
        let asks = |value: &'static str| {
            accepts_gzip(
                &TestRequest::default().insert_header((header::ACCEPT_ENCODING, value)).to_http_request(),
            )
        };
        assert!(asks("gzip, deflate") && asks("br;q=1, GZIP;q=0.5"));
        assert!(!asks("gzip;q=0") && !asks("identity") && !asks(""));
    }
}
