//! The middleware around everything: limits and the Host check before, headers, panics and the deadline after.

use std::future::{Ready, ready};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::error::InternalError;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{Error, HttpResponse};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use greenroom_config::Auth;

use crate::feed::events::MAX_WAIT;
use crate::page;
use crate::reply::TEXT;
use crate::www::Www;

/// The longest URL, and the most bytes of headers.
const MAX_URL: usize = 8 << 10;
const MAX_HEADERS: usize = 32 << 10;
/// A whole request, a slow body included.
const DEADLINE: Duration = Duration::from_secs(30);
/// The same of a request that waits for events.
const POLL_DEADLINE: Duration = Duration::from_secs(MAX_WAIT.as_secs() + 15);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The number of the last request of this process.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// Wraps the whole application.
#[derive(Clone)]
pub(crate) struct Gate(pub(crate) Www);

impl<S, B> Transform<S, ServiceRequest> for Gate
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Transform = Gated<S>;
    type InitError = ();
    type Future = Ready<Result<Gated<S>, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(Gated { service: Rc::new(service), www: self.0.clone() }))
    }
}

/// An application behind the [`Gate`].
pub(crate) struct Gated<S> {
    service: Rc<S>,
    www: Www,
}

impl<S, B> Service<ServiceRequest> for Gated<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Error>>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let id = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some((status, why)) = refusal(&request, &self.www) {
            let mut response = plain(status, why);
            // The rest of what was sent is not worth reading.
            response.head_mut().set_connection_type(actix_http::ConnectionType::Close);
            decorate(response.headers_mut(), id);
            return Box::pin(ready(Ok(request.into_response(response.map_into_right_body()))));
        }
        let (service, counters, began) = (self.service.clone(), self.www.counters.clone(), Instant::now());
        let method = request.method().clone();
        let deadline = if request.path().ends_with("/events") { POLL_DEADLINE } else { DEADLINE };
        let line = format!("{} {}", request.method(), request.path());
        Box::pin(async move {
            // The inner service is called within the guard: it may panic before its first await.
            let inner = AssertUnwindSafe(async move { service.call(request).await }).catch_unwind();
            let outcome = match tokio::time::timeout(deadline, inner).await {
                Ok(Ok(Ok(mut response))) => {
                    decorate(response.headers_mut(), id);
                    Ok(response.map_into_left_body())
                }
                Ok(Ok(Err(error))) => Err(failed(error.as_response_error().error_response(), id)),
                Ok(Err(panic)) => {
                    let message = panic_text(&*panic);
                    tracing::error!(
                        request.id = id,
                        request.line = line,
                        panic = message,
                        "request handler panicked"
                    );
                    Err(failed(
                        plain(StatusCode::INTERNAL_SERVER_ERROR, "an error of ours; it was logged"),
                        id,
                    ))
                }
                Err(_) => Err(failed(plain(StatusCode::REQUEST_TIMEOUT, "the request took too long"), id)),
            };
            let status = match &outcome {
                Ok(response) => response.status(),
                Err(error) => error.as_response_error().status_code(),
            };
            counters.count(&method, status, began.elapsed());
            outcome
        })
    }
}

/// Why a request is not even looked at.
fn refusal(request: &ServiceRequest, www: &Www) -> Option<(StatusCode, &'static str)> {
    let uri = request.uri();
    if uri.path_and_query().map_or(0, |it| it.as_str().len()) > MAX_URL {
        return Some((StatusCode::URI_TOO_LONG, "the URL is longer than 8 KiB"));
    }
    let size: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > MAX_HEADERS {
        return Some((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are larger than 32 KiB"));
    }
    let by_name = match www.configured().settings.www.auth {
        Auth::None => !is_worker(request.headers()),
    };
    if by_name
        && !www.configured().origins.hosts_allowed(request.headers(), uri.authority().map(|it| it.as_str()))
    {
        return Some((StatusCode::MISDIRECTED_REQUEST, "this server is not known by that name"));
    }
    None
}

/// Whether a worker knocks: an upgrade with a name and password. It proves itself to `link`, and no browser sends that.
fn is_worker(headers: &HeaderMap) -> bool {
    let basic =
        |it: &HeaderValue| it.as_bytes().get(..6).is_some_and(|it| it.eq_ignore_ascii_case(b"basic "));
    headers.contains_key(header::UPGRADE)
        && !headers.contains_key(header::ORIGIN)
        && headers.get(header::AUTHORIZATION).is_some_and(basic)
}

fn plain(status: StatusCode, text: &'static str) -> HttpResponse {
    HttpResponse::build(status).insert_header((header::CONTENT_TYPE, TEXT)).body(text)
}

/// An error whose response is finished.
fn failed(mut response: HttpResponse, id: u64) -> Error {
    decorate(response.headers_mut(), id);
    InternalError::from_response("", response).into()
}

/// The headers of every answer. What an endpoint said itself stays.
fn decorate(headers: &mut HeaderMap, id: u64) {
    const FIXED: [(HeaderName, HeaderValue); 5] = [
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (header::CROSS_ORIGIN_OPENER_POLICY, HeaderValue::from_static("same-origin")),
        (header::CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
        (
            header::PERMISSIONS_POLICY,
            HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
        ),
    ];
    for (name, value) in FIXED {
        headers.insert(name, value);
    }
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY)
        && let Ok(policy) = HeaderValue::from_str(&page::POLICY)
    {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(REQUEST_ID, HeaderValue::from(id));
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_upgrade_with_a_password_and_no_page_is_a_worker() {
        let headers = |pairs: &[(HeaderName, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
        };
        let upgrade = (header::UPGRADE, "websocket");
        let basic = (header::AUTHORIZATION, "Basic eDp5");
        assert!(is_worker(&headers(&[upgrade.clone(), basic.clone()])));
        assert!(!is_worker(&headers(std::slice::from_ref(&basic))));
        assert!(!is_worker(&headers(&[upgrade.clone(), (header::AUTHORIZATION, "Bearer x")])));
        assert!(!is_worker(&headers(&[upgrade, basic, (header::ORIGIN, "http://evil.org")])));
    }

    #[test]
    fn what_an_endpoint_said_stays() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
        decorate(&mut headers, 7);
        assert_eq!(headers.get(header::CONTENT_SECURITY_POLICY).unwrap(), "sandbox");
        assert_eq!(headers.get(REQUEST_ID).unwrap(), "7");
        assert_eq!(headers.get(header::X_CONTENT_TYPE_OPTIONS).unwrap(), "nosniff");
    }
}
