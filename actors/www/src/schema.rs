//! `/api/v2/schema/config`: the JSON schema of a configuration file, for editors.

use std::sync::{Arc, LazyLock};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;

use crate::reply::{Reply, etag_of};

/// `Content-Type` of a JSON schema.
const SCHEMA: &str = "application/schema+json; charset=utf-8";

/// The text and its version; they change with the program only.
static TEXT: LazyLock<(Bytes, Arc<str>)> = LazyLock::new(|| {
    let text = Bytes::from(greenroom_config::schema::text());
    let etag = etag_of(&text);
    (text, etag)
});

/// Answers it.
pub(crate) async fn config(request: HttpRequest) -> HttpResponse {
    let (text, etag) = &*TEXT;
    let mut reply = Reply::new(StatusCode::OK, SCHEMA, text.clone());
    reply.etag = Some(etag.clone());
    reply.respond(&request).await
}
