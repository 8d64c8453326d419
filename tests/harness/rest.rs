//! REST, as any client speaks it.

use std::io::Read;
use std::time::Duration;

use serde_json::{Value, json};

/// What a master answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub text: String,
    pub headers: Vec<(String, String)>,
}

impl Answer {
    /// A header's value; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

fn headers_of(answer: &ureq::http::Response<ureq::Body>) -> Vec<(String, String)> {
    let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    answer.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// A client of one master. Masters that are away are an error, not a failure of the story.
#[derive(Clone)]
pub struct Rest {
    agent: ureq::Agent,
    base: String,
    port: u16,
}

impl Rest {
    pub fn new(port: u16) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(30)))
            .http_status_as_error(false)
            .build()
            .into();
        Self { agent, base: format!("http://127.0.0.1:{port}"), port }
    }

    /// The port of its master.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// GETs a path such as `/health`.
    pub fn try_get(&self, path: &str) -> Result<Answer, ureq::Error> {
        let mut answer = self.agent.get(format!("{}{path}", self.base)).call()?;
        let (status, headers) = (answer.status().as_u16(), headers_of(&answer));
        let text = answer.body_mut().with_config().limit(256 << 20).read_to_vec()?;
        Ok(Answer { status, headers, text: String::from_utf8_lossy(&text).into_owned() })
    }

    /// The bytes that are at a path such as `/api/v2/logs/1/raw`; it must be answered with 200.
    #[track_caller]
    pub fn bytes(&self, path: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.reader(path).read_to_end(&mut bytes).unwrap_or_else(|e| panic!("{path}: {e}"));
        bytes
    }

    /// The same, as they come; they may take a long time.
    #[track_caller]
    pub fn reader(&self, path: &str) -> impl Read + use<> {
        let request = self.agent.get(format!("{}{path}", self.base));
        let patient = request.config().timeout_global(Some(Duration::from_secs(900))).build();
        let answer = patient.call().unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(answer.status(), 200, "{path}");
        answer.into_body().into_with_config().limit(u64::MAX).reader()
    }

    /// GETs a path of `/api/v2`; it must be answered with 200.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let answer = self.try_get(&format!("/api/v2/{path}")).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }

    /// The entities below a path of `/api/v2`; its last word that is no number names them.
    #[track_caller]
    pub fn list(&self, path: &str) -> Vec<Value> {
        let plain = path.split('?').next().unwrap_or_default();
        let plural = plain.rsplit('/').find(|part| part.parse::<i64>().is_err()).unwrap_or_default();
        self.list_of(path, plural)
    }

    /// The entities below a path of `/api/v2`, under this name.
    #[track_caller]
    pub fn list_of(&self, path: &str, plural: &str) -> Vec<Value> {
        match self.get(path).get_mut(plural).map(Value::take) {
            Some(Value::Array(all)) => all,
            other => panic!("{path}: no list of {plural}: {other:?}"),
        }
    }

    /// Posts a body of any type.
    pub fn try_post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, ureq::Error> {
        let mut request = self.agent.post(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = request.send(body)?;
        let (status, headers) = (answer.status().as_u16(), headers_of(&answer));
        Ok(Answer { status, headers, text: answer.body_mut().read_to_string()? })
    }

    /// Asks for an act by JSON-RPC; `key` makes asking again harmless.
    pub fn try_call(
        &self,
        path: &str,
        method: &str,
        params: &Value,
        key: Option<&str>,
    ) -> Result<Answer, ureq::Error> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        self.try_post(&format!("/api/v2/{path}"), &headers, body.as_bytes())
    }

    /// Asks for an act that must be granted.
    #[track_caller]
    pub fn call(&self, path: &str, method: &str, params: &Value) -> Value {
        let answer =
            self.try_call(path, method, params, None).unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text);
        answer.json()["result"].clone()
    }
}
