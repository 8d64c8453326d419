//! Requests to other systems, for webhooks and commit statuses: no redirects, no proxies, bounded in time and size, and only to
//! public addresses unless private ones are allowed.
//!
//! The check of addresses is made where a name is resolved for the connection itself, on the very addresses that are then
//! connected to. So a name that resolves to a public address first and to a private one later (DNS rebinding) gains nothing.

mod address;
mod wait;

use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderMap;
use reqwest::{Certificate, Request, Response, Url};

pub(crate) use wait::wait_of;

/// How much of an answer is read, in bytes. Reasons stand at its begin.
const MAX_ANSWER: usize = 16 * 1024;
/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// Sends requests.
#[derive(Clone)]
pub(crate) struct Client {
    inner: reqwest::Client,
    allow_private: bool,
}

/// What a server answered.
pub(crate) struct Answer {
    /// The status.
    pub status: u16,
    /// The wait that it asks for.
    pub wait: Option<Duration>,
    /// The headers.
    pub headers: HeaderMap,
    /// The first 16 KiB of the body, as far as they are text.
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The address is not for us.
    #[error("{0} is a private address; set allow-private = true if that is meant")]
    Private(String),
    /// The connection could not be made, broke, or took too long.
    #[error("{0}")]
    Failed(String),
    /// The client cannot be set up.
    #[error("{0}")]
    SetUp(String),
}

impl Client {
    /// A client; `ca` names a PEM file with authorities to trust beside the system's.
    pub fn new(allow_private: bool, ca: Option<&Path>, timeout: Duration) -> Result<Self, HttpError> {
        // Refused when one is installed already, which then is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("greenroom/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .pool_max_idle_per_host(0)
            .http1_only()
            .connect_timeout(CONNECT_WITHIN.min(timeout))
            .timeout(timeout);
        if !allow_private {
            builder = builder.dns_resolver(Arc::new(PublicOnly));
        }
        if let Some(path) = ca {
            let set_up = |error: String| HttpError::SetUp(format!("{}: {error}", path.display()));
            let pem = std::fs::read(path).map_err(|it| set_up(it.to_string()))?;
            let found = Certificate::from_pem_bundle(&pem).map_err(|it| set_up(told(&it)))?;
            builder = builder.tls_certs_merge(found);
        }
        let inner = builder.build().map_err(|it| HttpError::SetUp(told(&it)))?;
        Ok(Self { inner, allow_private })
    }

    /// The client underneath, to make requests with.
    pub fn builder(&self) -> &reqwest::Client {
        &self.inner
    }

    /// Sends a request and reads the begin of the answer.
    pub async fn send(&self, request: Request) -> Result<Answer, HttpError> {
        if !self.allow_private {
            refuse_private_literal(request.url())?;
        }
        let response = self.inner.execute(request).await.map_err(|error| because(&error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let wait = wait_of(&headers, SystemTime::now());
        let body = begin_of(response).await;
        Ok(Answer { status, wait, headers, body })
    }
}

/// An address that stands in the URL is never resolved.
fn refuse_private_literal(url: &Url) -> Result<(), HttpError> {
    let literal = url.host_str().and_then(|it| it.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    match literal {
        Some(address) if !address::is_public(address) => Err(HttpError::Private(address.to_string())),
        _ => Ok(()),
    }
}

/// The begin of a body; what breaks off is as good as what ends.
async fn begin_of(mut response: Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let left = MAX_ANSWER - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(left)]);
        if body.len() == MAX_ANSWER {
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// Resolves names to public addresses only.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let (public, private): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|it| address::is_public(it.ip()));
            match private.first() {
                Some(address) if public.is_empty() => {
                    Err(PrivateAddress(format!("{} of {}", address.ip(), name.as_str())).into())
                }
                _ => Ok(Box::new(public.into_iter()) as Addrs),
            }
        })
    }
}

/// A name has private addresses only.
#[derive(Debug, thiserror::Error)]
#[error("{0} is a private address")]
struct PrivateAddress(String);

fn because(error: &reqwest::Error) -> HttpError {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(PrivateAddress(which)) = inner.downcast_ref::<PrivateAddress>() {
            return HttpError::Private(which.clone());
        }
        source = inner.source();
    }
    HttpError::Failed(told(error))
}

/// An error with its causes, without the URL: that may hold secrets.
fn told(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "the server did not answer in time".to_owned();
    }
    let mut causes = Vec::new();
    let mut source = error.source();
    while let Some(inner) = source {
        causes.push(inner.to_string());
        source = inner.source();
    }
    match causes.last() {
        Some(root) if error.is_connect() => format!("cannot connect: {root}"),
        Some(root) => root.clone(),
        None => "the request failed".to_owned(),
    }
}

/// The begin of a text on one line, for records and logs.
pub(crate) fn one_line(text: &str) -> String {
    let clean: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).take(300).collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}
