//! Webhooks: each message as a JSON request to a URL.

mod signature;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use greenroom_config::Webhook;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Request, Url};
use serde_json::{Value, json};

use self::signature::signature;
use crate::http::{Answer, Client, HttpError, one_line};
use crate::payload::payload;
use crate::transport::{Outgoing, SendError, Sent, Transport};

/// The largest body, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// Posts messages.
pub struct WebhookTransport {
    config: Webhook,
    client: Client,
    url: Url,
    sent: u64,
}

impl WebhookTransport {
    /// `timeout` is for one request.
    ///
    /// # Errors
    /// A reason for people, without the URL.
    pub fn new(config: Webhook, timeout: Duration) -> Result<Self, String> {
        let url = Url::parse(config.url.expose()).map_err(|it| format!("the url: {it}"))?;
        let client = Client::new(config.allow_private, config.tls_ca.as_deref(), timeout);
        Ok(Self { client: client.map_err(|it| it.to_string())?, config, url, sent: 0 })
    }

    async fn post(&mut self, message: &Outgoing) -> Result<Sent, SendError> {
        let request = self.request(message, SystemTime::now()).map_err(SendError::never)?;
        let answer = self.client.send(request).await.map_err(|error| match error {
            HttpError::Private(_) => SendError::never(error.to_string()),
            HttpError::Failed(_) | HttpError::SetUp(_) => SendError::later(error.to_string()),
        })?;
        judge(&answer)?;
        self.sent += 1;
        Ok(Sent { target: self.target(), note: None })
    }

    /// The request; a new one at each attempt, since the time is signed.
    fn request(&self, message: &Outgoing, now: SystemTime) -> Result<Request, String> {
        let body = self.body(message)?;
        let mut headers = HeaderMap::new();
        let value = |text: &str| HeaderValue::from_str(text).map_err(|it| it.to_string());
        headers.insert(CONTENT_TYPE, value(&self.config.content_type)?);
        headers.insert("greenroom-event", value(crate::payload::event(&message.notice))?);
        headers.insert("greenroom-delivery", value(&message.dedup_key)?);
        headers.insert("greenroom-attempt", HeaderValue::from(message.attempt));
        if let Some(secret) = &self.config.secret {
            let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
            let signed = signature(secret, seconds, &body).ok_or("the body cannot be signed")?;
            headers.insert("greenroom-signature", value(&signed)?);
        }
        let mut secret = |name: HeaderName, text: &str| {
            let mut it = value(text)?;
            it.set_sensitive(true);
            headers.insert(name, it);
            Ok::<(), String>(())
        };
        if let Some(token) = &self.config.token {
            secret(AUTHORIZATION, &format!("Bearer {}", token.expose()))?;
        }
        for (name, text) in &self.config.headers {
            secret(name.parse().map_err(|_| format!("{name} is no header"))?, text.expose())?;
        }
        let builder = self.client.builder().post(self.url.clone()).headers(headers).body(body);
        builder.build().map_err(|it| it.without_url().to_string())
    }

    fn body(&self, message: &Outgoing) -> Result<Vec<u8>, String> {
        let mut whole = payload(message);
        if let Some(template) = self.config.template() {
            return template.render(&whole).map(String::into_bytes).map_err(|it| it.to_string());
        }
        let mut body = bytes_of(&whole)?;
        if body.len() > MAX_BODY {
            shorten(&mut whole);
            body = bytes_of(&whole)?;
        }
        if body.len() > MAX_BODY { Err("the message is larger than 1 MiB".to_owned()) } else { Ok(body) }
    }

    /// Whither, without what may be secret: paths of hooks often are.
    fn target(&self) -> String {
        let port = self.url.port().map(|it| format!(":{it}")).unwrap_or_default();
        format!("{}://{}{port}", self.url.scheme(), self.url.host_str().unwrap_or_default())
    }
}

fn bytes_of(value: &Value) -> Result<Vec<u8>, String> {
    serde_json::to_vec(value).map_err(|it| it.to_string())
}

/// Leaves out what makes a message large; `truncated` says so.
fn shorten(whole: &mut Value) {
    let shorten = |build: &mut Value| {
        if let Some(build) = build.as_object_mut() {
            build.insert("changes".to_owned(), json!([]));
            build.insert("properties".to_owned(), json!({}));
        }
        if let Some(tail) = build.pointer_mut("/step/tail") {
            *tail = json!([]);
        }
    };
    shorten(&mut whole["build"]);
    if let Some(builds) = whole.pointer_mut("/buildset/builds").and_then(Value::as_array_mut) {
        builds.iter_mut().for_each(shorten);
    }
    whole["truncated"] = json!(true);
}

/// 2xx is success. What may pass by itself is tried again: timeouts, limits, faults of the server.
fn judge(answer: &Answer) -> Result<(), SendError> {
    let why = || {
        let said = one_line(&answer.body);
        if said.is_empty() {
            format!("status {}", answer.status)
        } else {
            format!("status {}: {said}", answer.status)
        }
    };
    match answer.status {
        200..300 => Ok(()),
        300..400 => Err(SendError::never(format!("status {}: redirects are not followed", answer.status))),
        408 | 421 | 425 | 429 | 500.. => Err(SendError::Later { why: why(), retry_after: answer.wait }),
        _ => Err(SendError::never(why())),
    }
}

impl Transport for WebhookTransport {
    fn send(&mut self, message: Arc<Outgoing>) -> BoxFuture<'_, Result<Sent, SendError>> {
        async move { self.post(&message).await }.boxed()
    }

    fn observe(&self) -> Value {
        json!({"target": self.target(), "sent": self.sent})
    }
}

#[cfg(test)]
mod request_tests {
    use super::*;
    use crate::examples;
    use crate::notice::Notice;

    fn transport(more: Value) -> WebhookTransport {
        let mut all = json!({"url": "https://hooks.example.org/services/T0P/S3CRET?key=K3Y"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        WebhookTransport::new(serde_json::from_value(all).unwrap(), Duration::from_secs(5)).unwrap()
    }

    fn failed() -> Outgoing {
        examples::outgoing(Notice::Build(Box::new(examples::failed())))
    }

    #[test]
    fn a_request_has_what_a_receiver_needs() {
        let transport = transport(json!({
            "secret": "key", "token": "t0ken", "headers": {"X-Team": "core"},
        }));
        let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let request = transport.request(&failed(), at).unwrap();
        let header =
            |name: &str| request.headers().get(name).map(|it| it.to_str().unwrap().to_owned()).unwrap();
        assert_eq!(header("greenroom-event"), "build.finished");
        assert_eq!(header("greenroom-delivery"), "post-1042-finished");
        assert_eq!(header("greenroom-attempt"), "1");
        assert_eq!(header("content-type"), "application/json");
        assert_eq!((header("authorization"), header("x-team")), ("Bearer t0ken".into(), "core".into()));
        let body = request.body().and_then(|it| it.as_bytes()).unwrap();
        let signed = signature(&greenroom_config::values::Secret::new("key"), 1_700_000_000, body).unwrap();
        assert_eq!(header("greenroom-signature"), signed);
        let sent: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(sent["build"]["result"], "failure");
        assert!(!format!("{request:?}").contains("t0ken"), "{request:?}");
    }

    #[test]
    fn people_see_the_host_and_no_secret() {
        assert_eq!(transport(json!({})).target(), "https://hooks.example.org");
        assert!(!transport(json!({})).observe().to_string().contains("S3CRET"));
    }

    #[test]
    fn a_template_makes_the_body() {
        let transport = transport(json!({"body": "{\"text\": {{ headline }}}"}));
        let body: Value = serde_json::from_slice(&transport.body(&failed()).unwrap()).unwrap();
        assert_eq!(body, json!({"text": "linux failed on main: test"}));
    }

    #[test]
    fn a_huge_message_is_shortened() {
        let mut notice = examples::failed();
        let change = notice.changes[0].clone();
        notice.changes = (0..400)
            .map(|_| crate::notice::ChangeNotice { comments: "x".repeat(4_096), ..change.clone() })
            .collect();
        let body = transport(json!({})).body(&examples::outgoing(Notice::Build(Box::new(notice)))).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["truncated"], &body["build"]["changes"]), (&json!(true), &json!([])));
        assert_eq!(body["build"]["number"], 42);
    }
}
