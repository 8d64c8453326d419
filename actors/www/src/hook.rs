//! Change hooks: `/change_hook/<dialect>`. So far the dialect `base`: form fields or JSON in Buildbot's words.

use actix_web::http::header::{self, HeaderMap};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use greenroom_data::{DataError, SentChange};
use greenroom_model::{Properties, Property, Refusal, Timestamp, write::ChangeOrigin};
use serde_json::{Map, Value};

use crate::body::{self, BodyError};
use crate::identity::identity;
use crate::query;
use crate::reply::{CLOCK, HTML, Reply, retry_after_header};
use crate::www::Www;

/// The largest body of a hook.
const MAX_BODY: usize = 10 << 20;
/// Headers in which senders name a delivery, so that sending it again adds nothing.
const DELIVERY_HEADERS: [&str; 5] = [
    "x-greenroom-delivery",
    "x-github-delivery",
    "x-gitea-delivery",
    "x-gitlab-event-uuid",
    "idempotency-key",
];
/// The longest delivery id.
const MAX_DELIVERY: usize = 255;
/// The fields of the dialect.
const FIELDS: [&str; 15] = [
    "author",
    "who",
    "committer",
    "comments",
    "branch",
    "revision",
    "category",
    "revlink",
    "repository",
    "project",
    "codebase",
    "files",
    "properties",
    "when_timestamp",
    "when",
];

/// `/change_hook`: the dialect `base`.
pub(crate) async fn base(request: HttpRequest, payload: web::Payload, www: web::Data<Www>) -> HttpResponse {
    answer(&request, payload, &www, "base").await.respond(&request).await
}

/// `/change_hook/<dialect>`.
pub(crate) async fn dialect(
    request: HttpRequest,
    payload: web::Payload,
    www: web::Data<Www>,
    name: web::Path<String>,
) -> HttpResponse {
    answer(&request, payload, &www, &name).await.respond(&request).await
}

async fn answer(request: &HttpRequest, payload: web::Payload, www: &Www, dialect: &str) -> Reply {
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "a hook takes GET and POST")
            .with(header::ALLOW, "GET, POST");
    }
    if !www.configured().origins.may_act(request.headers()) {
        return refuse(StatusCode::FORBIDDEN, "pages of other sites may not send changes");
    }
    if !www.configured().settings.www.change_hooks.iter().any(|hook| hook.as_str() == dialect) {
        let message = format!("The dialect specified, '{dialect}', wasn't whitelisted in change_hook");
        return refuse(StatusCode::BAD_REQUEST, &message);
    }
    match change(request, payload, dialect).await {
        Err((status, message)) => refuse(status, &message),
        Ok(change) => add(request, www, change).await,
    }
}

fn refuse(status: StatusCode, message: &str) -> Reply {
    Reply::text(status, message)
}

async fn add(request: &HttpRequest, www: &Www, change: SentChange) -> Reply {
    let bound = www.control.bind(identity(www, request));
    // On its own: a sender that hangs up must not decide whether its change is added.
    let added = actix_web::rt::spawn(async move { bound.add_change(change).await }).await;
    match added {
        Ok(Ok(_)) => Reply::new(StatusCode::OK, HTML, "1 change found").with(CLOCK, &www.ro.hot().clock_text),
        Ok(Err(DataError::Unavailable { why, retry_after })) => {
            retry_after_header(refuse(StatusCode::SERVICE_UNAVAILABLE, &why), retry_after)
        }
        Ok(Err(DataError::Refused(Refusal::KeyUsed(id)))) => {
            let message = format!("the delivery {id:?} brought another change before: take a new id");
            refuse(StatusCode::UNPROCESSABLE_ENTITY, &message)
        }
        Ok(Err(DataError::Refused(Refusal::Invalid(why)))) => refuse(StatusCode::BAD_REQUEST, &why),
        Ok(Err(error)) => {
            tracing::error!(error = %error, "failed to add a change from a hook");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "Error processing changes.")
        }
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "Error processing changes."),
    }
}

type Fault = (StatusCode, String);

fn bad(message: impl Into<String>) -> Fault {
    (StatusCode::BAD_REQUEST, message.into())
}

async fn change(request: &HttpRequest, payload: web::Payload, dialect: &str) -> Result<SentChange, Fault> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or("");
    let json = kind.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/json");
    let body = body::read(request, payload, MAX_BODY).await.map_err(|error| match error {
        BodyError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        BodyError::Broken => bad(error.to_string()),
    })?;
    let mut fields = if json { json_fields(&body)? } else { form_fields(&String::from_utf8_lossy(&body))? };
    for (name, value) in form_fields(request.uri().query().unwrap_or(""))? {
        fields.entry(name).or_insert(value);
    }
    let delivery = delivery(request.headers())?;
    sent_change(fields, ChangeOrigin::Hook { source: dialect.to_owned(), delivery })
}

fn delivery(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    let Some(id) = DELIVERY_HEADERS.iter().find_map(|name| headers.get(*name)) else { return Ok(None) };
    match id.to_str() {
        Ok(id) if (1..=MAX_DELIVERY).contains(&id.len()) => Ok(Some(id.to_owned())),
        _ => Err(bad(format!("a delivery id has 1 to {MAX_DELIVERY} ASCII characters"))),
    }
}

/// The fields of a JSON body; a field that is not known is a fault.
fn json_fields(body: &[u8]) -> Result<Map<String, Value>, Fault> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| bad(format!("the body is not JSON: {error}")))?;
    let Value::Object(fields) = value else { return Err(bad("the body is not a JSON object")) };
    match fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        Some(name) => Err(bad(format!("unknown field '{name}'; there are {}", FIELDS.join(", ")))),
        None => Ok(fields),
    }
}

/// The fields of a form; those that are not known are ignored, as stock masters do. `files` and `properties`
/// hold JSON.
fn form_fields(form: &str) -> Result<Map<String, Value>, Fault> {
    let mut fields = Map::new();
    for (name, value) in query::params(form) {
        if !FIELDS.contains(&name.as_str()) || fields.contains_key(&name) {
            continue;
        }
        let value = match name.as_str() {
            "files" | "properties" if value.trim().is_empty() => continue,
            "files" | "properties" => {
                serde_json::from_str(&value).map_err(|error| bad(format!("'{name}' is not JSON: {error}")))?
            }
            _ => Value::String(value),
        };
        fields.insert(name, value);
    }
    Ok(fields)
}

fn sent_change(mut fields: Map<String, Value>, origin: ChangeOrigin) -> Result<SentChange, Fault> {
    let mut text = |name: &str| match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(bad(format!("'{name}' is not a text"))),
    };
    let some = |text: Option<String>| text.filter(|it| !it.is_empty());
    let (author, who) = (text("author")?, text("who")?);
    Ok(SentChange {
        origin,
        author: author.or(who).unwrap_or_default(),
        committer: some(text("committer")?),
        comments: text("comments")?.unwrap_or_default(),
        branch: some(text("branch")?),
        revision: some(text("revision")?),
        revlink: Some(text("revlink")?.unwrap_or_default()),
        category: some(text("category")?),
        repository: text("repository")?.unwrap_or_default(),
        codebase: text("codebase")?.unwrap_or_default(),
        project: text("project")?.unwrap_or_default(),
        when: when(&mut fields)?,
        files: files(fields.remove("files"))?,
        properties: properties(fields.remove("properties"))?,
    })
}

/// Seconds, perhaps with a fraction, as a number or a text.
fn when(fields: &mut Map<String, Value>) -> Result<Option<Timestamp>, Fault> {
    let value = [fields.remove("when_timestamp"), fields.remove("when")]
        .into_iter()
        .flatten()
        .find(|it| !it.is_null());
    let seconds = match value {
        None => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => text.trim().parse::<f64>().ok(),
        Some(value) => value.as_f64(),
    };
    match seconds {
        Some(seconds) if seconds.is_finite() && seconds.abs() < 1e11 => {
            Ok(Some(Timestamp((seconds * 1e6).round() as i64)))
        }
        _ => Err(bad("'when_timestamp' is not a number of seconds since 1970")),
    }
}

fn files(value: Option<Value>) -> Result<Vec<String>, Fault> {
    let wrong = || bad("'files' is not a list of texts");
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => {
            items.into_iter().map(|it| it.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

fn properties(value: Option<Value>) -> Result<Properties, Fault> {
    match value {
        None | Some(Value::Null) => Ok(Properties::new()),
        Some(Value::Object(map)) => {
            Ok(map.into_iter().map(|(name, value)| (name, Property(value, "Change".to_owned()))).collect())
        }
        Some(_) => Err(bad("'properties' is not an object")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn origin() -> ChangeOrigin {
        ChangeOrigin::Hook { source: "base".into(), delivery: None }
    }

    fn of_form(form: &str) -> Result<SentChange, Fault> {
        sent_change(form_fields(form)?, origin())
    }

    #[test]
    fn a_form_becomes_a_change() {
        let change = of_form(
            "who=Al+%3Ca%40b%3E&comments=h%C3%A9&branch=main&revision=abc&files=%5B%22a.c%22%5D&src=git\
             &properties=%7B%22p%22%3A1%7D&when_timestamp=1795300000.5&category=",
        )
        .unwrap();
        assert_eq!((change.author.as_str(), change.comments.as_str()), ("Al <a@b>", "h\u{e9}"));
        assert_eq!((change.branch.as_deref(), change.category), (Some("main"), None));
        assert_eq!(change.files, ["a.c"]);
        assert_eq!(change.properties["p"], Property(json!(1), "Change".into()));
        assert_eq!(change.when, Some(Timestamp(1_795_300_000_500_000)));
    }

    #[test]
    fn an_empty_form_is_a_change_too() {
        let change = of_form("").unwrap();
        assert_eq!((change.author.as_str(), change.branch, change.when), ("", None, None));
    }

    #[test]
    fn faults_name_the_field() {
        for (form, wanted) in [
            ("files=%5B", "'files' is not JSON"),
            ("files=%5B1%5D", "'files' is not a list"),
            ("properties=%5B%5D", "'properties' is not an object"),
            ("when=tomorrow", "'when_timestamp' is not a number"),
            ("when=1e99", "'when_timestamp' is not a number"),
        ] {
            let (status, message) = of_form(form).unwrap_err();
            assert!(status == 400 && message.starts_with(wanted), "{form}: {message}");
        }
        assert!(json_fields(b"{\"auhtor\": 1}").unwrap_err().1.contains("unknown field 'auhtor'"));
        assert!(json_fields(b"{").unwrap_err().1.starts_with("the body is not JSON"));
        assert!(json_fields(b"[]").unwrap_err().1.contains("not a JSON object"));
        let fields = json_fields(b"{\"author\": 1}").unwrap();
        assert_eq!(sent_change(fields, origin()).unwrap_err().1, "'author' is not a text");
    }
}
