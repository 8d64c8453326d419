//! Control by JSON-RPC 2.0: `POST` to the URL of an entity.

use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, web};
use greenroom_data::DataError;
use greenroom_model::{
    Build, BuildId, BuildRequestId, ControlAnswer, ControlTarget, Refusal, SchedulerId, WorkerId,
};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use crate::api::{self, IDEMPOTENCY_KEY};
use crate::body::{self, BodyError};
use crate::identity::{address, identity};
use crate::reply::{JSON, Reply, retry_after_header};
use crate::www::Www;

/// The largest body of a call.
const MAX_BODY: usize = 1 << 20;
/// The longest idempotency key.
const MAX_KEY: usize = 255;
/// Longer than a write is asked for while the database goes away (ten seconds, and a last try that waits behind another one), and longer than
/// an owner's answer is waited for; the last resort.
const DEADLINE: Duration = Duration::from_secs(25);

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const NO_METHOD: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const INTERNAL: i64 = -32603;

/// A call that was refused or failed.
#[derive(Debug, Clone, PartialEq)]
struct Fault {
    status: StatusCode,
    code: i64,
    message: Value,
    retry_after: Option<Duration>,
}

impl Fault {
    fn new(status: StatusCode, code: i64, message: impl Into<Value>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    fn bad(message: impl Into<Value>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, message)
    }

    fn internal(message: impl Into<Value>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL, message)
    }

    fn not_supported(target: &Target, method: &str) -> Self {
        let message = format!("action: {method} is not supported");
        match target {
            // Stock masters answer so here, and clients were written against them.
            Target::BuildRequest(_) => Self::internal(message),
            _ => Self::new(StatusCode::NOT_IMPLEMENTED, NO_METHOD, message),
        }
    }

    /// As HTTP; `id` is that of the call, if it was understood.
    fn reply(self, id: Option<&Value>) -> Reply {
        let mut body = json!({ "jsonrpc": "2.0", "error": { "code": self.code, "message": self.message } });
        if let Some(id) = id {
            body["id"] = id.clone();
        }
        let reply = Reply::json(self.status, &body);
        match self.retry_after {
            Some(after) => retry_after_header(reply, after),
            None => reply,
        }
    }
}

impl From<DataError> for Fault {
    fn from(error: DataError) -> Self {
        let text = error.to_string();
        match error {
            DataError::Refused(Refusal::Invalid(_)) => {
                Self::new(StatusCode::BAD_REQUEST, INVALID_PARAMS, text)
            }
            DataError::Refused(Refusal::KeyUsed(_)) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, INVALID_REQUEST, text)
            }
            DataError::Unavailable { retry_after, .. } => Self {
                retry_after: Some(retry_after),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, INTERNAL, text)
            },
            DataError::Fenced => Self {
                retry_after: Some(Duration::from_secs(5)),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, INTERNAL, text)
            },
            DataError::NoAnswer(waited) => no_answer(waited),
            DataError::Refused(_) | DataError::Gone => Self::internal(text),
        }
    }
}

fn no_answer(waited: Duration) -> Fault {
    let message = format!(
        "no answer within {} s: the request stands and may still be carried out; ask again with the same \
         Idempotency-Key to learn its outcome",
        waited.as_secs()
    );
    Fault::new(StatusCode::GATEWAY_TIMEOUT, INTERNAL, message)
}

/// What a path names for control.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Build(i64),
    /// Builder (id or name) and number.
    BuildOf(String, i64),
    BuildRequest(i64),
    /// Id or name.
    Worker(String),
    Scheduler(i64),
    ForceScheduler(String),
    Master(i64),
    Notifier(String),
    /// An endpoint that nothing can be asked of.
    Other,
}

impl Target {
    /// The target of a path below `/api/v2`; none if there is no such endpoint.
    fn of(path: &str) -> Option<Self> {
        if !api::is_endpoint(path) {
            return None;
        }
        let parts: Vec<_> = path.split('/').map(|it| percent_decode_str(it).decode_utf8_lossy()).collect();
        let parts: Vec<&str> = parts.iter().map(|it| &**it).collect();
        let number = |text: &str| text.parse::<i64>().ok();
        let target = match parts.as_slice() {
            ["builds", id] => number(id).map(Target::Build),
            ["builders", builder, "builds", n] => {
                number(n).map(|n| Target::BuildOf((*builder).to_owned(), n))
            }
            ["buildrequests", id] => number(id).map(Target::BuildRequest),
            ["workers", worker] => Some(Target::Worker((*worker).to_owned())),
            ["schedulers", id] => number(id).map(Target::Scheduler),
            ["forceschedulers", name] => Some(Target::ForceScheduler((*name).to_owned())),
            ["masters", id] => number(id).map(Target::Master),
            ["notifiers", name] => Some(Target::Notifier((*name).to_owned())),
            _ => None,
        };
        Some(target.unwrap_or(Target::Other))
    }

    /// What can be asked of it.
    fn methods(&self) -> &'static [&'static str] {
        match self {
            Target::Build(_) | Target::BuildOf(..) => &["stop", "rebuild", "pin", "unpin"],
            Target::BuildRequest(_) => &["cancel"],
            Target::Worker(_) => &["pause", "unpause", "stop", "kill"],
            Target::Scheduler(_) => &["enable"],
            Target::ForceScheduler(_) => &["force"],
            Target::Master(_) => &["reload", "rollback", "gc", "kill-actor", "restart-actor"],
            Target::Notifier(_) => &["test"],
            Target::Other => &[],
        }
    }
}

/// A call that was understood.
#[derive(Debug, Clone, PartialEq)]
struct Rpc {
    id: Value,
    method: String,
    params: Map<String, Value>,
}

impl Rpc {
    fn parse(body: &[u8]) -> Result<Self, Fault> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            Fault::new(StatusCode::BAD_REQUEST, PARSE_ERROR, format!("JSON parse error: {error}"))
        })?;
        let mut map = match value {
            Value::Object(map) => map,
            Value::Array(_) => return Err(Fault::bad("JSONRPC batch requests are not supported")),
            _ => return Err(Fault::bad("JSONRPC root object must be an object")),
        };
        if let Some(key) = ["jsonrpc", "method", "id", "params"].iter().find(|key| !map.contains_key(**key)) {
            return Err(Fault::bad(format!("missing key '{key}'")));
        }
        if map["jsonrpc"] != "2.0" {
            return Err(Fault::bad("only JSONRPC 2.0 is supported"));
        }
        let id = map["id"].take();
        if !(id.is_string() || id.is_number() || id.is_null()) {
            return Err(Fault::bad("'id' must be a string, number, or null"));
        }
        let Value::String(method) = map["method"].take() else {
            return Err(Fault::bad("'method' must be a string"));
        };
        match map["params"].take() {
            Value::Object(params) => Ok(Self { id, method, params }),
            _ => Err(Fault::bad("'params' must be an object")),
        }
    }
}

/// Answers a call to `path` (below `/api/v2`).
pub(crate) async fn post(request: &HttpRequest, payload: web::Payload, www: &Www, path: &str) -> Reply {
    debug_assert_eq!(request.method(), Method::POST);
    match read(request, payload).await {
        Err(fault) => fault.reply(None),
        Ok(call) => {
            let id = call.id.clone();
            match answer(request, www, path, call).await {
                Ok(result) => {
                    let body = json!({ "id": id, "jsonrpc": "2.0", "result": result });
                    Reply::new(StatusCode::OK, JSON, crate::json::compact(&body))
                }
                Err(fault) => fault.reply(Some(&id)),
            }
        }
    }
}

async fn read(request: &HttpRequest, payload: web::Payload) -> Result<Rpc, Fault> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Fault::bad("Invalid content-type (use application/json)"));
    }
    let body = body::read(request, payload, MAX_BODY).await.map_err(|error| match error {
        BodyError::TooLarge(_) => {
            Fault::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, error.to_string())
        }
        BodyError::Broken => Fault::bad(error.to_string()),
    })?;
    Rpc::parse(&body)
}

async fn answer(request: &HttpRequest, www: &Www, path: &str, mut call: Rpc) -> Result<Value, Fault> {
    let Some(target) = Target::of(path) else {
        let message = format!("Invalid path: {path}");
        return Err(Fault::new(StatusCode::NOT_FOUND, INVALID_REQUEST, message));
    };
    if !target.methods().contains(&call.method.as_str()) {
        return Err(Fault::not_supported(&target, &call.method));
    }
    let key = idempotency_key(request)?;
    let identity = identity(www, request);
    call.params.insert("owner".to_owned(), identity.clone().into());
    if call.method == "enable" && !call.params.get("enabled").is_some_and(Value::is_boolean) {
        return Err(Fault::internal("'enabled' must be true or false"));
    }
    let Some(target) = resolve(www, &target).await? else {
        // Stopping what is not there (any more) is done.
        return if call.method == "stop" {
            Ok(Value::Null)
        } else {
            Err(Fault::internal("there is no such build"))
        };
    };
    // On its own: a client that goes away must not leave the act half asked for.
    let bound = www.control.bind(identity).from_address(address(request));
    let act = actix_web::rt::spawn(async move {
        bound.act(target, &call.method, Value::Object(call.params), key).await
    });
    match tokio::time::timeout(DEADLINE, act).await {
        Err(_) => Err(no_answer(DEADLINE)),
        Ok(Err(_)) => Err(Fault::internal("the act broke off; its outcome is not known")),
        Ok(Ok(answer)) => match answer? {
            ControlAnswer::Done(result) => Ok(result),
            ControlAnswer::Invalid(why) => Err(Fault::new(StatusCode::BAD_REQUEST, INVALID_PARAMS, why)),
            ControlAnswer::Failed(why) => Err(Fault::internal(why)),
        },
    }
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Fault> {
    let Some(key) = request.headers().get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match key.to_str() {
        Ok(key) if (1..=MAX_KEY).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Fault::bad(format!("an Idempotency-Key has 1 to {MAX_KEY} ASCII characters"))),
    }
}

/// The act's target by id; none for a build that is not there.
async fn resolve(www: &Www, target: &Target) -> Result<Option<ControlTarget>, Fault> {
    let hot = www.ro.hot();
    let none = |what: &str| Err(Fault::internal(format!("there is no {what}")));
    Ok(Some(match target {
        Target::Build(id) => match www.ro.get::<Build>(*id).await?.value {
            Some(build) => ControlTarget::Build(build.id),
            None => return Ok(None),
        },
        Target::BuildOf(builder, number) => {
            let by_id = builder.parse::<i64>().ok().and_then(|id| hot.builders.get(&id));
            let Some(builder) = by_id.or_else(|| hot.builder_named(builder)) else { return Ok(None) };
            let query = greenroom_model::Query::default().eq("builderid", builder.id.0).eq("number", *number);
            match www.ro.list::<Build>(query.limit(1)).await?.value.items.first() {
                Some(build) => ControlTarget::Build(BuildId(build.id.0)),
                None => return Ok(None),
            }
        }
        Target::BuildRequest(id) => match www.ro.get::<greenroom_model::BuildRequest>(*id).await?.value {
            Some(request) => ControlTarget::BuildRequest(BuildRequestId(request.id.0)),
            None => return none(&format!("build request {id}")),
        },
        Target::Worker(worker) => {
            let by_id = worker.parse::<i64>().ok().and_then(|id| hot.workers.get(&id));
            match by_id.or_else(|| hot.worker_named(worker)) {
                Some(worker) => ControlTarget::Worker(WorkerId(worker.id.0)),
                None => return none(&format!("worker {worker}")),
            }
        }
        Target::Scheduler(id) if hot.schedulers.contains_key(id) => {
            ControlTarget::Scheduler(SchedulerId(*id))
        }
        Target::Scheduler(id) => return none(&format!("scheduler {id}")),
        Target::ForceScheduler(name) => match www.configured().settings.schedulers.get(name) {
            Some(greenroom_config::Scheduler::Force(_)) => ControlTarget::ForceScheduler(name.clone()),
            // Another master may have it: that one answers.
            None if hot.scheduler_named(name).is_some() => ControlTarget::ForceScheduler(name.clone()),
            _ => return none(&format!("force scheduler {name}")),
        },
        Target::Master(id) => match www.ro.get::<greenroom_model::Master>(*id).await?.value {
            Some(master) => ControlTarget::Master(master.id),
            None => return none(&format!("master {id}")),
        },
        Target::Notifier(name) => ControlTarget::Notifier(name.clone()),
        Target::Other => return none("way to act on this"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_are_not_understood_are_answered_as_the_contract_says() {
        for (body, code, message) in [
            ("[]", INVALID_REQUEST, "JSONRPC batch requests are not supported"),
            ("3", INVALID_REQUEST, "JSONRPC root object must be an object"),
            (r#"{"id":3,"jsonrpc":"2.0","method":"x"}"#, INVALID_REQUEST, "missing key 'params'"),
            (
                r#"{"id":3,"jsonrpc":"1.0","method":"x","params":{}}"#,
                INVALID_REQUEST,
                "only JSONRPC 2.0 is supported",
            ),
            (
                r#"{"id":[],"jsonrpc":"2.0","method":"x","params":{}}"#,
                INVALID_REQUEST,
                "'id' must be a string, number, or null",
            ),
            (
                r#"{"id":3,"jsonrpc":"2.0","method":"x","params":[]}"#,
                INVALID_REQUEST,
                "'params' must be an object",
            ),
        ] {
            let fault = Rpc::parse(body.as_bytes()).unwrap_err();
            assert_eq!((fault.code, fault.message), (code, message.into()), "{body}");
        }
        let fault = Rpc::parse(b"{bad").unwrap_err();
        assert_eq!(fault.code, PARSE_ERROR);
        assert!(fault.message.as_str().unwrap().starts_with("JSON parse error: "));
        let deep = "[".repeat(40_000);
        assert_eq!(Rpc::parse(deep.as_bytes()).unwrap_err().code, PARSE_ERROR);
    }

    #[test]
    fn a_path_names_what_is_acted_on() {
        for (path, wanted) in [
            ("builds/5", Some(Target::Build(5))),
            ("builders/a%20b/builds/2", Some(Target::BuildOf("a b".into(), 2))),
            ("buildrequests/1", Some(Target::BuildRequest(1))),
            ("workers/w1", Some(Target::Worker("w1".into()))),
            ("schedulers/1", Some(Target::Scheduler(1))),
            ("forceschedulers/force", Some(Target::ForceScheduler("force".into()))),
            ("builders", Some(Target::Other)),
            ("nosuch", None),
            ("builds/abc", None),
        ] {
            assert_eq!(Target::of(path), wanted, "{path}");
        }
    }

    #[test]
    fn what_went_wrong_decides_the_status() {
        let status = |error: DataError| Fault::from(error).status.as_u16();
        assert_eq!(status(DataError::unavailable("disk full")), 503);
        assert_eq!(status(DataError::NoAnswer(Duration::from_secs(10))), 504);
        assert_eq!(status(DataError::Refused(Refusal::Invalid("x".into()))), 400);
        assert_eq!(status(DataError::Refused(Refusal::NotFound("x".into()))), 500);
        assert_eq!(Fault::not_supported(&Target::Build(1), "x").status, 501);
        assert_eq!(Fault::not_supported(&Target::BuildRequest(1), "x").status, 500);
    }
}
