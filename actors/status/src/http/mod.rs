//! Requests to other systems, for webhooks and commit statuses: no redirects, no proxies, bounded in time and size, and only to
//! public addresses unless private ones are allowed.
//!
//! The check of addresses is made where a name is resolved for the connection itself, on the very addresses that are then
//! connected to. So a name that resolves to a public address first and to a private one later (DNS rebinding) gains nothing.

mod address;
mod shared;
mod wait;

use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderMap;
use reqwest::{Request, Response, Url};

pub(crate) use wait::wait_of;

/// How much of an answer is read, in bytes. Reasons stand at its begin.
const MAX_ANSWER: usize = 16 * 1024;

/// Sends requests. What is costly in it is shared by all that trust the same.
#[derive(Clone)]
pub(crate) struct Client {
    inner: Arc<reqwest::Client>,
    allow_private: bool,
    timeout: Duration,
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
    /// A client; `ca` names a PEM file with authorities to trust beside the system's, `timeout` is for a whole request.
    pub fn new(allow_private: bool, ca: Option<&Path>, timeout: Duration) -> Result<Self, HttpError> {
        let set_up =
            |path: &Path, error: std::io::Error| HttpError::SetUp(format!("{}: {error}", path.display()));
        let pem = ca.map(|it| std::fs::read(it).map_err(|error| set_up(it, error))).transpose()?;
        let inner =
            shared::client(shared::Trust { allow_private, pem }).map_err(|error| match (error, ca) {
                (shared::Unfit::Authorities(why), Some(path)) => {
                    HttpError::SetUp(format!("{}: {why}", path.display()))
                }
                (shared::Unfit::Authorities(why) | shared::Unfit::Client(why), _) => HttpError::SetUp(why),
            })?;
        Ok(Self { inner, allow_private, timeout })
    }

    /// The client underneath, to make requests with.
    pub fn builder(&self) -> &reqwest::Client {
        &self.inner
    }

    /// Sends a request and reads the begin of the answer.
    pub async fn send(&self, mut request: Request) -> Result<Answer, HttpError> {
        *request.timeout_mut() = Some(self.timeout);
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
