//! The embedded page: its files, and `index.html` for every path that is one of its pages.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock};

use actix_web::http::header;
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use rust_embed::RustEmbed;

use crate::reply::{self, HTML, Reply, TEXT};
use crate::www::Www;

/// The built page, as `build.rs` found it.
#[derive(RustEmbed)]
#[folder = "$OUT_DIR/page"]
struct Dist;

/// Tells the hashes of the page's inline scripts; made with the page, not served.
const POLICY_FILE: &str = "csp.json";
/// Where the files with a hash in their name are.
const HASHED: &str = "assets/";

/// The paths of the page; `*` stands for any element.
const PAGES: &[&[&str]] = &[
    &[],
    &["builders"],
    &["builders", "*"],
    &["builders", "*", "builds", "*"],
    &["builders", "*", "builds", "*", "steps", "*", "logs", "*"],
    &["console"],
    &["queue"],
    &["requests", "*"],
    &["force", "*"],
    &["workers"],
    &["workers", "*"],
    &["actors"],
    &["masters", "*", "actors"],
    &["notifiers"],
    &["notifiers", "*"],
    &["configuration"],
    &["masters", "*", "configuration"],
    &["settings"],
];

struct File {
    body: Bytes,
    kind: &'static str,
    etag: Arc<str>,
    gzipped: OnceLock<Option<Bytes>>,
}

static FILES: LazyLock<HashMap<String, File>> = LazyLock::new(|| {
    let names = Dist::iter().filter(|name| name != POLICY_FILE);
    let files = names.filter_map(|name| {
        let body = Bytes::from(Dist::get(&name)?.data.into_owned());
        let file = File { kind: kind_of(&name), etag: reply::etag_of(&body), body, gzipped: OnceLock::new() };
        Some((name.into_owned(), file))
    });
    files.collect()
});

/// The policy for every answer: nothing from elsewhere, no inline script but the page's own theme line.
pub(crate) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let described = Dist::get(POLICY_FILE).and_then(|file| serde_json::from_slice(&file.data).ok());
    let hashes: Vec<String> = described
        .and_then(|it: serde_json::Value| serde_json::from_value(it["script-src"].clone()).ok())
        .unwrap_or_default();
    policy(&hashes)
});

fn policy(hashes: &[String]) -> String {
    let plain = |it: &&String| it.starts_with("'sha256-") && it.ends_with('\'') && !it.contains([';', ' ']);
    let scripts: String = hashes.iter().filter(plain).flat_map(|it| [" ", it]).collect();
    format!(
        "default-src 'self'; script-src 'self'{scripts}; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
}

/// Answers everything that no other path is for.
pub(crate) async fn serve(request: HttpRequest) -> HttpResponse {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let reply = Reply::text(StatusCode::METHOD_NOT_ALLOWED, "the page is only read");
        return reply.with(header::ALLOW, "GET, HEAD").respond(&request).await;
    }
    let path = request.uri().path().trim_start_matches('/');
    match FILES.get(path).filter(|_| path != "index.html") {
        Some(file) => of_file(path, file).respond(&request).await,
        None => {
            let known = request.app_data::<web::Data<Www>>().is_none_or(|www| names_something(www, path));
            fallback(path, known).respond(&request).await
        }
    }
}

/// Whether what a page's path names is there: a builder, worker, master, notifier or force scheduler. (Whether a build or request is,
/// the page finds out itself.)
fn names_something(www: &Www, path: &str) -> bool {
    let hot = www.ro.hot();
    let mut elements = path.split('/');
    let (kind, Some(name)) = (elements.next().unwrap_or(""), elements.next()) else { return true };
    let name = percent_decode_str(name).decode_utf8_lossy();
    let id = name.parse::<i64>().unwrap_or(-1);
    match kind {
        "builders" => hot.builder_named(&name).is_some() || hot.builders.contains_key(&id),
        "workers" => hot.worker_named(&name).is_some() || hot.workers.contains_key(&id),
        "masters" => hot.masters.contains_key(&id),
        "notifiers" => www.configured().settings.notifiers.contains_key(&*name),
        "force" => www.configured().settings.schedulers.contains_key(&*name),
        _ => true,
    }
}

fn of_file(name: &str, file: &File) -> Reply {
    let caching = if name.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut reply =
        Reply::new(StatusCode::OK, file.kind, file.body.clone()).with(header::CACHE_CONTROL, caching);
    reply.etag = Some(file.etag.clone());
    if is_text(file.kind) {
        reply.gzipped = file.gzipped.get_or_init(|| reply::gzip_best(&file.body)).clone();
    }
    reply
}

/// `index.html`: for a path that is a page with 200, for others with 404, so that people see a page of ours.
fn fallback(path: &str, known: bool) -> Reply {
    let mut reply = match FILES.get("index.html") {
        Some(index) if !path.starts_with(HASHED) => of_file("index.html", index),
        _ => Reply::new(StatusCode::NOT_FOUND, TEXT, "there is nothing here"),
    };
    if !known || !is_page(path) {
        reply.status = StatusCode::NOT_FOUND;
        reply.etag = None;
    }
    reply
}

fn is_page(path: &str) -> bool {
    let elements: Vec<_> = if path.is_empty() { Vec::new() } else { path.split('/').collect() };
    PAGES.iter().any(|page| {
        let fits = |(wanted, found): (&&str, &&str)| *wanted == "*" && !found.is_empty() || wanted == found;
        page.len() == elements.len() && page.iter().zip(&elements).all(fits)
    })
}

fn is_text(kind: &str) -> bool {
    kind.starts_with("text/") || kind.contains("javascript") || kind.contains("json") || kind.contains("svg")
}

fn kind_of(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or("") {
        "html" => HTML,
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "json" | "map" | "webmanifest" => "application/json; charset=utf-8",
        "woff2" => "font/woff2",
        "txt" => TEXT,
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_known_by_their_paths() {
        for path in [
            "",
            "builders",
            "builders/a%20b/builds/3",
            "builders/x/builds/3/steps/1/logs/stdio",
            "workers/w1",
            "notifiers/team",
            "masters/1/configuration",
        ] {
            assert!(is_page(path), "{path}");
        }
        for path in ["nosuch", "builders/", "builders/x/y", "index.html", "workers/w1/x"] {
            assert!(!is_page(path), "{path}");
        }
    }

    #[test]
    fn only_hashes_come_into_the_policy() {
        let hashes = [
            "'sha256-abc='".to_owned(),
            "'unsafe-inline'".to_owned(),
            "'sha256-x'; script-src *'".to_owned(),
        ];
        let policy = policy(&hashes);
        assert!(policy.contains("script-src 'self' 'sha256-abc='; style-src"), "{policy}");
    }

    #[test]
    fn a_page_is_embedded() {
        assert!(FILES.contains_key("index.html") && !FILES.contains_key(POLICY_FILE));
        assert_eq!(fallback("", true).status, StatusCode::OK);
        assert_eq!(fallback("nosuch", true).status, StatusCode::NOT_FOUND);
        assert_eq!(fallback("assets/old-1234.js", true).kind, TEXT);
    }
}
