//! The text of a log, in memory bounded by a piece of it however long it is.

use std::io::Write;

use actix_web::http::StatusCode;
use actix_web::http::header;
use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::LocalBoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt, future, stream};
use greenroom_data::{DataError, Shown};
use greenroom_model::{Build, Log, LogKind, Step};

use super::log_stream::Pick;
use crate::error::ApiError;
use crate::json;
use crate::query::not_a_collection;
use crate::reply::{HTML, JSON, Reply, TEXT};
use crate::router::{Answer, Call};

/// `Content-Type` of a compressed log.
const GZIP: &str = "application/gzip";
/// Raw text is served as what it is, whatever a browser believes to see in it.
const RAW_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

/// A log's lines from `offset`, at most `limit`.
pub(super) async fn contents(call: &Call, log: Option<Shown<Log>>) -> Result<Answer, ApiError> {
    let log = log.ok_or_else(|| call.not_found())?;
    let Asked { offset, limit, gz, stream: only } = Asked::of(call)?;
    if gz || only.is_some() {
        return Err(not_a_collection());
    }
    let around = Around::of(&log, offset, call.wants_json);
    let mut text = call.www.ro.log_text(log.id, offset..offset.saturating_add(limit));
    let first = text.try_next().await?.unwrap_or_default();
    is_there(&log, offset, !first.is_empty())?;
    if let Some(second) = text.try_next().await? {
        let begun = stream::iter([Ok(first), Ok(second)]);
        return Ok(Answer::Other(streamed(around, begun.chain(text))));
    }
    let mut body = around.before.into_bytes();
    json::escape_into(&mut body, &String::from_utf8_lossy(&first));
    body.extend_from_slice(around.after.as_bytes());
    Ok(Answer::Other(Reply::new(StatusCode::OK, around.kind, body).with_etag()))
}

/// Lines that were announced and are not there were lost with the file that held them, or are just being removed.
pub(super) fn is_there(log: &Log, offset: i64, found: bool) -> Result<(), ApiError> {
    if !found && offset < log.num_lines {
        return Err(ApiError::Gone(format!("the text of log {} is not stored any more", log.id)));
    }
    Ok(())
}

/// Which lines of a log are asked for, and in which form.
struct Asked {
    offset: i64,
    /// All, if none was named.
    limit: i64,
    gz: bool,
    /// One stream of a log of streams, as the bytes that it is.
    stream: Option<Pick>,
}

impl Asked {
    fn of(call: &Call) -> Result<Self, ApiError> {
        let (mut offset, mut limit, mut gz, mut stream) = (None, None, false, None);
        for (name, value) in call.params.iter() {
            let slot = match name.as_str() {
                "offset" => &mut offset,
                "limit" => &mut limit,
                "gz" => {
                    gz = super::log_search::flag(name, value)?;
                    continue;
                }
                "stream" => {
                    let unknown = || ApiError::BadQuery("stream is stdout, stderr or header".to_owned());
                    stream = Some(Pick::of(value).ok_or_else(unknown)?);
                    continue;
                }
                "field" | "property" | "order" => continue,
                _ => return Err(not_a_collection()),
            };
            let number =
                value.trim().parse::<i64>().map_err(|_| ApiError::BadQuery(format!("invalid {name}")))?;
            slot.get_or_insert(number);
        }
        let (offset, limit) = (offset.unwrap_or(0), limit.unwrap_or(i64::MAX));
        if offset < 0 || limit <= 0 { Err(call.not_found()) } else { Ok(Self { offset, limit, gz, stream }) }
    }
}

/// The envelope around a log's text.
struct Around {
    kind: &'static str,
    before: String,
    after: String,
}

impl Around {
    fn of(log: &Log, first: i64, wants_json: bool) -> Self {
        let id = log.id;
        if wants_json {
            let before = "{\"logchunks\":[{\"content\":\"".to_owned();
            let after = format!("\",\"firstline\":{first},\"logid\":{id}}}],\"meta\":{{}}}}");
            return Self { kind: JSON, before, after };
        }
        let before = "{\n  \"logchunks\": [\n    {\n      \"content\": \"".to_owned();
        let after = format!(
            "\",\n      \"firstline\": {first},\n      \"logid\": {id}\n    }}\n  ],\n  \"meta\": {{}}\n}}"
        );
        Self { kind: TEXT, before, after }
    }
}

/// More text than one piece, as it is read: whole lines, so that no character is divided.
fn streamed(around: Around, text: impl Stream<Item = Result<Bytes, DataError>> + 'static) -> Reply {
    let begin = stream::once(async move { Ok(Bytes::from(around.before)) });
    let lines = text.map_err(broken).map_ok(|piece| {
        let mut out = Vec::with_capacity(piece.len() + piece.len() / 8);
        json::escape_into(&mut out, &String::from_utf8_lossy(&piece));
        Bytes::from(out)
    });
    let end = stream::once(async move { Ok(Bytes::from(around.after)) });
    Reply::stream(around.kind, begin.chain(lines).chain(end).boxed_local())
}

/// The headers are out: all that can be done is to end the connection, so that the client sees a torso.
fn broken(error: DataError) -> actix_web::Error {
    tracing::warn!(error = %error, "log text ended before its end");
    actix_web::error::ErrorServiceUnavailable("the log could not be read to its end")
}

/// A log's text as a download or to look at: all of it, or as `offset` and `limit` say; a download by gzip with `gz`; with `stream` the
/// bytes of one stream alone, without a head.
pub(super) async fn raw(call: &Call, log: Option<Shown<Log>>, attachment: bool) -> Result<Answer, ApiError> {
    let log = log.ok_or_else(|| call.not_found())?;
    let asked = Asked::of(call)?;
    let origin = Origin::of(call, &log).await?;
    let mut text = call.www.ro.log_text(log.id, asked.offset..asked.offset.saturating_add(asked.limit));
    // A store that is away is told by the status, as long as that can be told.
    let first = text.try_next().await?.unwrap_or_default();
    is_there(&log, asked.offset, !first.is_empty())?;
    let first = stream::iter((!first.is_empty()).then_some(Ok(first)));
    let text = first.chain(text).boxed();
    let text = if let (LogKind::Stdio, Some(mut pick)) = (log.kind, asked.stream) {
        let pieces = text.map(Some).chain(stream::once(future::ready(None)));
        let picked = move |piece: Option<Result<Bytes, DataError>>| match piece {
            Some(piece) => piece.map(|piece| pick.apply(&piece)),
            None => Ok(Bytes::from_static(pick.finish())),
        };
        // An empty piece would end the reply.
        pieces.map(picked).try_filter(|piece| future::ready(!piece.is_empty())).boxed_local()
    } else if log.kind == LogKind::Stdio {
        let mut strip = Strip::default();
        let head = if asked.offset == 0 { origin.head() } else { String::new() };
        let head = stream::iter((!head.is_empty()).then(|| Ok(Bytes::from(head))));
        head.chain(text.map_ok(move |piece| strip.apply(&piece))).boxed_local()
    } else {
        text.boxed_local()
    };
    let (kind, text) = match (asked.gz, log.kind) {
        (true, _) => (GZIP, zipped(text)),
        (false, LogKind::Html) => (HTML, text),
        (false, _) => (TEXT, text),
    };
    let reply = Reply::stream(kind, text.map_err(broken).boxed_local());
    let mut reply = reply.with(header::CONTENT_SECURITY_POLICY, RAW_POLICY);
    if attachment || asked.gz {
        let ending = if asked.gz { ".gz" } else { "" };
        let disposition = format!("attachment; filename={}{ending}", origin.file_name(&log.slug));
        reply = reply.with(header::CONTENT_DISPOSITION, &disposition);
    }
    Ok(Answer::Other(reply))
}

/// A text by gzip, compressed piece by piece on threads of their own as it is taken.
fn zipped(
    text: LocalBoxStream<'static, Result<Bytes, DataError>>,
) -> LocalBoxStream<'static, Result<Bytes, DataError>> {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let pieces = stream::try_unfold(Some((text, encoder)), |state| async move {
        let Some((mut text, encoder)) = state else { return Ok(None) };
        let piece = text.try_next().await?;
        let zipping = tokio::task::spawn_blocking(move || zip(encoder, piece));
        let (out, encoder) =
            zipping.await.map_err(DataError::unavailable)?.map_err(DataError::unavailable)?;
        Ok(Some((out, encoder.map(|encoder| (text, encoder)))))
    });
    // An empty piece would end the reply.
    pieces.try_filter(|piece| future::ready(!piece.is_empty())).boxed_local()
}

type Zipper = GzEncoder<Vec<u8>>;

/// What a piece adds to the compressed text; none: its end.
fn zip(mut encoder: Zipper, piece: Option<Bytes>) -> std::io::Result<(Bytes, Option<Zipper>)> {
    let Some(piece) = piece else { return Ok((encoder.finish()?.into(), None)) };
    encoder.write_all(&piece)?;
    Ok((std::mem::take(encoder.get_mut()).into(), Some(encoder)))
}

/// Where a log comes from, for its head and its file name.
struct Origin {
    builder: String,
    number: i64,
    step: String,
    worker: String,
}

impl Origin {
    async fn of(call: &Call, log: &Log) -> Result<Self, ApiError> {
        let step = call.www.ro.get::<Step>(log.step.0).await?.value.ok_or_else(|| call.not_found())?;
        let build = call.www.ro.get::<Build>(step.build.0).await?.value.ok_or_else(|| call.not_found())?;
        let name = |name: Option<&str>| name.unwrap_or("unknown").to_owned();
        Ok(Self {
            builder: name(call.hot.builders.get(&build.builder.0).map(|b| b.name.as_str())),
            number: build.number,
            step: step.name.clone(),
            worker: name(call.hot.workers.get(&build.worker.0).map(|w| w.name.as_str())),
        })
    }

    fn head(&self) -> String {
        format!("Builder: {}\nBuild number: {}\nWorker name: {}\n", self.builder, self.number, self.worker)
    }

    /// Only characters that need no quoting in a header.
    fn file_name(&self, slug: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let name = format!("{}_build_{}_step_{}_log_{slug}", self.builder, self.number, self.step);
        name.chars().map(plain).collect()
    }
}

/// Takes the first character off each line, over pieces that end anywhere.
#[derive(Default)]
struct Strip {
    within_line: bool,
}

impl Strip {
    fn apply(&mut self, piece: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(piece.len());
        let mut rest = piece;
        while !rest.is_empty() {
            if !self.within_line {
                self.within_line = true;
                rest = &rest[1..];
                continue;
            }
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (line, after) = rest.split_at(end);
            self.within_line = !line.ends_with(b"\n");
            out.extend_from_slice(line);
            rest = after;
        }
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_letters_are_taken_off_wherever_pieces_end() {
        let text = b"hhead\noout\ne\noend";
        for cut in 0..=text.len() {
            let mut strip = Strip::default();
            let mut out = strip.apply(&text[..cut]).to_vec();
            out.extend_from_slice(&strip.apply(&text[cut..]));
            assert_eq!(out, b"head\nout\n\nend", "cut at {cut}");
        }
    }

    #[test]
    fn a_file_name_needs_no_quotes() {
        let origin =
            Origin { builder: "a b\"\r\n/".into(), number: 3, step: "sh".into(), worker: "w".into() };
        assert_eq!(origin.file_name("stdio"), "a_b_____build_3_step_sh_log_stdio");
    }

    #[test]
    fn both_forms_of_the_envelope_are_the_same_json() {
        let log = Log {
            id: greenroom_model::LogId(29),
            name: "stdio".into(),
            slug: "stdio".into(),
            step: greenroom_model::StepId(1),
            kind: LogKind::Stdio,
            num_lines: 1,
            complete: true,
            version: 1,
        };
        let text = |wants_json| {
            let around = Around::of(&log, 5, wants_json);
            format!("{}x\\n{}", around.before, around.after)
        };
        assert_eq!(json::pretty(&text(true)), text(false));
    }
}
