//! REST: `/api/v2` (also `/api/latest`). One family of endpoints per file; here they meet HTTP.

mod actors;
mod after;
mod audit;
mod builders;
mod buildrequests;
mod builds;
mod buildsets;
mod change_sources;
mod changes;
mod configurations;
mod console;
mod forceschedulers;
pub(crate) mod log_search;
mod log_stream;
mod log_text;
mod logs;
mod masters;
mod notifiers;
mod projects;
mod root;
mod schedulers;
mod sourcestamps;
mod steps;
mod unused;
mod workers;

use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use actix_web::http::header::{self, HeaderName};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};

use crate::cache::{self, Basis, Form, Rendered};
use crate::error::ApiError;
use crate::feed::events;
use crate::reply::{self, CLOCK, JSON, Reply, STALE, TEXT};
use crate::router::{Answer, Call, Items, Route, Router};
use crate::www::Www;
use crate::{control, json, query};

/// Every family of endpoints; where two patterns fit a path, the earlier counts.
const FAMILIES: &[&[Route]] = &[
    root::ROUTES,
    builders::ROUTES,
    builds::ROUTES,
    steps::ROUTES,
    logs::ROUTES,
    buildrequests::ROUTES,
    buildsets::ROUTES,
    changes::ROUTES,
    change_sources::ROUTES,
    sourcestamps::ROUTES,
    workers::ROUTES,
    masters::ROUTES,
    configurations::ROUTES,
    console::ROUTES,
    notifiers::ROUTES,
    audit::ROUTES,
    schedulers::ROUTES,
    forceschedulers::ROUTES,
    projects::ROUTES,
    actors::ROUTES,
    unused::ROUTES,
];

static ROUTER: LazyLock<Router> = LazyLock::new(|| Router::new(FAMILIES));

/// Answers `/api`: which versions there are.
pub(crate) async fn versions(request: HttpRequest, www: web::Data<Www>) -> HttpResponse {
    let url = format!("{}api/v2", www.configured().settings.master.url.as_str());
    let body = serde_json::json!({ "api_versions": { "v2": url } });
    let kind = "application/json";
    Reply::new(StatusCode::OK, kind, json::compact(&body)).respond(&request).await
}

/// Answers everything below `/api/`.
pub(crate) async fn serve(request: HttpRequest, payload: web::Payload, www: web::Data<Www>) -> HttpResponse {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut reply = match guard(&request, &www) {
        Some(refused) => refused,
        None => dispatch(&request, payload, &www).await,
    };
    let allowed = origin.filter(|_| www.configured().origins.origin_allowed(request.headers()));
    if let Some(Ok(origin)) = allowed.as_ref().map(|it| it.to_str()) {
        reply = reply
            .with(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)
            .with(header::ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type")
            .with(header::ACCESS_CONTROL_EXPOSE_HEADERS, "Greenroom-Clock, ETag, Link")
            .with(header::ACCESS_CONTROL_MAX_AGE, "3600");
    }
    if let Some(time) = www.ro.stale_for() {
        reply = reply.with(STALE, &time.as_secs().to_string());
    }
    if !reply.headers.iter().any(|(name, _)| *name == CLOCK) {
        reply = reply.with(CLOCK, &www.ro.hot().clock_text);
    }
    reply.with(header::CACHE_CONTROL, "private, no-cache").respond(&request).await
}

/// What is refused before its path is looked at: foreign origins, and preflights, which end here.
fn guard(request: &HttpRequest, www: &Www) -> Option<Reply> {
    let refuse = |message| Some(Reply::error(StatusCode::BAD_REQUEST, message));
    let headers = request.headers();
    let allowed = match *request.method() {
        Method::POST => www.configured().origins.may_act(headers),
        _ => www.configured().origins.origin_allowed(headers),
    };
    if !allowed {
        return refuse("invalid origin");
    }
    if request.method() != Method::OPTIONS {
        return None;
    }
    if !request.headers().contains_key(header::ORIGIN) {
        return refuse("invalid HTTP method");
    }
    let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD).and_then(|it| it.to_str().ok());
    match wanted {
        Some("GET" | "POST" | "HEAD") => Some(Reply::text(StatusCode::OK, "")),
        _ => refuse("invalid method"),
    }
}

async fn dispatch(request: &HttpRequest, payload: web::Payload, www: &Www) -> Reply {
    let path = request.uri().path();
    let Some(path) = below_root(path) else {
        let shown = path.strip_prefix("/api/").unwrap_or(path);
        return ApiError::NoPath(shown.to_owned()).into();
    };
    match *request.method() {
        Method::GET | Method::HEAD if path == "events" => events::answer(request, www).await,
        Method::GET | Method::HEAD => get(request, www, path).await,
        Method::POST => control::post(request, payload, www, path).await,
        _ => Reply::error(StatusCode::BAD_REQUEST, "invalid HTTP method"),
    }
}

/// The path below `/api/v2` or `/api/latest`, without its leading `/`; none if it is not there or ends in `/`.
fn below_root(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/api/v2").or_else(|| path.strip_prefix("/api/latest"))?;
    match rest.strip_prefix('/') {
        Some("") => None,
        Some(below) => Some(below),
        None => rest.is_empty().then_some(""),
    }
}

/// The endpoint of a path, and whether there is one.
pub(crate) fn is_endpoint(path: &str) -> bool {
    ROUTER.find(path).is_some()
}

async fn get(request: &HttpRequest, www: &Www, path: &str) -> Reply {
    let accept = request.headers().get_all(header::ACCEPT).filter_map(|it| it.to_str().ok());
    let wants_json = accept.into_iter().any(|it| it.contains("application/json"));
    let wants_gzip = reply::accepts_gzip(request);
    let question = request.uri().path_and_query().map_or(path, |it| it.as_str());
    let mut basis = Basis { hot: www.ro.hot(), settings: www.configured().settings.clone() };
    let form = if wants_json { Form::Compact } else { Form::Indented };
    if let Some(rendered) = cache::find(&basis, form, question) {
        return from_cache(&basis, form, question, rendered, wants_gzip).await;
    }
    let Some((route, args)) = ROUTER.find(path) else { return ApiError::NoPath(path.to_owned()).into() };
    let mut params = query::params(request.uri().query().unwrap_or(""));
    match after::reach(&www.ro, &mut params).await {
        Ok(reached) => basis.hot = reached.unwrap_or(basis.hot),
        Err(error) => return error.into(),
    }
    let call = Call {
        www: www.clone(),
        hot: basis.hot.clone(),
        settings: basis.settings.clone(),
        args: args.into(),
        params: Rc::new(params),
        path: path.into(),
        wants_json,
    };
    match (route.get)(call).await {
        Ok(Answer::Items(items)) => enveloped(&basis, items, question, form),
        Ok(Answer::Other(reply)) => reply,
        Err(error) => {
            if let ApiError::Internal(why) = &error {
                tracing::error!(request.path = path, error = why, "failed to answer a read");
            }
            Reply::from(error)
        }
    }
}

/// A reply that was rendered before; compressed now, once, if that is asked for.
async fn from_cache(basis: &Basis, form: Form, question: &str, mut rendered: Rendered, zip: bool) -> Reply {
    if zip && rendered.gzipped.is_none() && rendered.body.len() > 1024 {
        rendered.gzipped = reply::gzip(rendered.body.clone()).await;
        cache::keep(basis, form, question, rendered.clone());
    }
    let mut reply =
        Reply::new(StatusCode::OK, kind_of(form), rendered.body).with(CLOCK, &basis.hot.clock_text);
    if let Some(next) = &rendered.next {
        reply = reply.with(header::LINK, next);
    }
    reply.etag = Some(rendered.etag);
    reply.gzipped = rendered.gzipped;
    reply
}

/// The reply with the envelope of the contract; kept if it belongs to the state `hot`.
fn enveloped(basis: &Basis, items: Items, question: &str, form: Form) -> Reply {
    let text = envelope(&items);
    let current = items.clock.as_ref().is_none_or(|clock| *clock == basis.hot.clock);
    let text = if form == Form::Compact { text } else { json::pretty(&text) };
    let mut reply = Reply::new(StatusCode::OK, kind_of(form), text).with_etag();
    reply = match &items.clock {
        Some(clock) if !current => reply.with(CLOCK, &clock.to_string()),
        _ => reply.with(CLOCK, &basis.hot.clock_text),
    };
    let next: Option<Arc<str>> = items.paging.next.as_deref().map(Arc::from);
    if let Some(next) = &next {
        reply = reply.with(header::LINK, next);
    }
    if let (true, reply::Body::Whole(body), Some(etag)) = (items.lasting && current, &reply.body, &reply.etag)
    {
        cache::keep(
            basis,
            form,
            question,
            Rendered { body: body.clone(), etag: etag.clone(), gzipped: None, next },
        );
    }
    reply
}

fn kind_of(form: Form) -> &'static str {
    match form {
        Form::Compact => JSON,
        Form::Indented => TEXT,
    }
}

/// `{"builds":[…],"meta":{"total":2}}`, keys in order.
fn envelope(items: &Items) -> String {
    let size: usize = items.items.iter().map(|it| it.len() + 1).sum();
    let mut out = String::with_capacity(size + items.plural.len() + 48);
    let meta = meta(items);
    let meta_first = "meta" < items.plural;
    out.push('{');
    if meta_first {
        out.push_str(&meta);
        out.push(',');
    }
    out.push('"');
    out.push_str(items.plural);
    out.push_str("\":[");
    for (i, item) in items.items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(item);
    }
    out.push(']');
    if !meta_first {
        out.push(',');
        out.push_str(&meta);
    }
    out.push('}');
    out
}

fn meta(items: &Items) -> String {
    let more = items.paging.more.map(|more| format!("\"more\":{more}"));
    let total = items.total.map(|total| format!("\"total\":{total}"));
    let relation = items.paging.at_least.then(|| "\"total_relation\":\"gte\"".to_owned());
    let all: Vec<String> = [more, total, relation].into_iter().flatten().collect();
    format!("\"meta\":{{{}}}", all.join(","))
}

/// The singular type name of a plural, as `application.spec` calls it.
fn type_of(plural: &'static str) -> &'static str {
    match plural {
        "properties" => "sourcedproperties",
        "_properties" => "_property",
        "branches" => "branch",
        "deliveries" => "delivery",
        "logmatches" => "logmatch",
        "build_data" => "build_data",
        other => other.strip_suffix('s').unwrap_or(other),
    }
}

/// The header by which clients name one of their attempts, so that asking again does not act again.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_no_trailing_slash() {
        assert_eq!(below_root("/api/v2"), Some(""));
        assert_eq!(below_root("/api/latest/builds"), Some("builds"));
        for path in ["/api/v2/", "/api/", "/api/v3/builds", "/api/v2x"] {
            assert_eq!(below_root(path), None, "{path}");
        }
    }

    #[test]
    fn an_envelope_has_its_keys_in_order() {
        let items = |plural, total| Items {
            plural,
            items: vec!["{\"a\":1}".into(), "{}".into()],
            total,
            clock: None,
            lasting: false,
            paging: Default::default(),
        };
        assert_eq!(envelope(&items("builds", Some(2))), "{\"builds\":[{\"a\":1},{}],\"meta\":{\"total\":2}}");
        assert_eq!(envelope(&items("steps", None)), "{\"meta\":{},\"steps\":[{\"a\":1},{}]}");
    }

    #[test]
    fn every_pattern_is_reachable() {
        for route in FAMILIES.iter().flat_map(|it| it.iter()) {
            let example = route.pattern.split('/').map(|part| match part.split_once(':') {
                Some(("n", _)) => "7",
                Some(_) => "name",
                None => part,
            });
            let example = example.collect::<Vec<_>>().join("/");
            let found = ROUTER.find(&example).map(|(found, _)| found.pattern);
            assert_eq!(found, Some(route.pattern), "{example}");
        }
    }
}
