//! What clients send, and what is wrong with it.

use serde_json::{Map, Value, json};

/// The longest path pattern, in bytes.
const MAX_PATH: usize = 1024;

/// A command with the `_id` that its reply echoes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Command {
    pub(super) id: Value,
    pub(super) act: Act,
}

/// What a command asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    /// A sign of life.
    Ping,
    /// Events, please.
    Start {
        /** Patterns of routing keys. */
        paths: Vec<String>,
        /** After which clock; none: the stock form, from now on and without clocks. */
        since: Option<Since>,
    },
    /// No more events of this path, or of the subscription of this `_id`.
    Stop(Stop),
}

/// Where a resumable subscription begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Since {
    /// Now.
    Now,
    /// After this clock, as text.
    Clock(String),
}

/// Which subscription to stop.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stop {
    /// The one of this path.
    Path(String),
    /// The one started with this command's own `_id`.
    Id,
}

/// What cannot be understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    /// Not a JSON object: the connection ends.
    NotJson,
    /// Answered by this text.
    Refused(String),
}

/// Reads a command.
pub(super) fn parse(text: &[u8]) -> Result<Command, Fault> {
    let Ok(Value::Object(mut map)) = serde_json::from_slice(text) else { return Err(Fault::NotJson) };
    let id = map.remove("_id");
    if id.is_none() && !map.contains_key("type") {
        return Err(refuse(&Value::Null, 400, "no '_id' or 'type' in websocket frame"));
    }
    map.remove("type");
    let id = id.unwrap_or(Value::Null);
    let command = match map.remove("cmd") {
        None => return Err(refuse(&id, 400, "no 'cmd' in websocket frame")),
        Some(command) => command,
    };
    let act = match command.as_str() {
        Some("ping") => no_more(map, &id, Act::Ping),
        Some("startConsuming") => start(map, &id),
        Some("stopConsuming") => stop(map, &id),
        _ => {
            let shown = command.as_str().map_or_else(|| command.to_string(), str::to_owned);
            Err(refuse(&id, 404, &format!("no such command type '{shown}'")))
        }
    };
    Ok(Command { act: act?, id })
}

fn start(mut map: Map<String, Value>, id: &Value) -> Result<Act, Fault> {
    let since = match map.remove("since") {
        None => None,
        Some(Value::Null) => Some(Since::Now),
        Some(Value::String(clock)) => Some(Since::Clock(clock)),
        Some(other) => return Err(refuse(id, 400, &format!("Invalid method argument 'since': {other}"))),
    };
    let mut paths: Vec<String> = Vec::new();
    match map.remove("paths") {
        None => {}
        Some(Value::Array(list)) if !list.is_empty() => {
            for path in list {
                let path = text(path, id)?;
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        }
        Some(other) => return Err(refuse(id, 400, &format!("invalid path format '{other}'"))),
    }
    match map.remove("path") {
        Some(path) => paths.push(text(path, id)?),
        None if paths.is_empty() => return Err(refuse(id, 400, "Invalid method argument 'path' is missing")),
        None => {}
    }
    no_more(map, id, Act::Start { paths, since })
}

fn stop(mut map: Map<String, Value>, id: &Value) -> Result<Act, Fault> {
    let stop = match map.remove("path") {
        Some(path) => Stop::Path(text(path, id)?),
        None => Stop::Id,
    };
    no_more(map, id, Act::Stop(stop))
}

fn text(path: Value, id: &Value) -> Result<String, Fault> {
    match path {
        Value::String(path) if path.len() <= MAX_PATH => Ok(path),
        Value::String(_) => Err(refuse(id, 400, "invalid path format: longer than 1024 bytes")),
        other => Err(refuse(id, 400, &format!("invalid path format '{other}'"))),
    }
}

fn no_more(rest: Map<String, Value>, id: &Value, act: Act) -> Result<Act, Fault> {
    match rest.keys().next() {
        Some(name) => Err(refuse(id, 400, &format!("Invalid method argument '{name}'"))),
        None => Ok(act),
    }
}

fn refuse(id: &Value, code: u16, message: &str) -> Fault {
    Fault::Refused(error(id, code, message))
}

/// The reply of a command that failed.
pub(super) fn error(id: &Value, code: u16, message: &str) -> String {
    json!({ "error": message, "code": code, "_id": id }).to_string()
}

/// The reply of a command that was carried out.
pub(super) fn done(id: &Value, message: &str) -> String {
    json!({ "msg": message, "code": 200, "_id": id }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Value {
        match parse(text.as_bytes()) {
            Err(Fault::Refused(reply)) => serde_json::from_str(&reply).unwrap(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn errors_are_those_of_the_contract() {
        for (text, error, code, id) in [
            (r#"{"cmd":"ping"}"#, "no '_id' or 'type' in websocket frame", 400, Value::Null),
            (r#"{"_id":1}"#, "no 'cmd' in websocket frame", 400, json!(1)),
            (r#"{"_id":3,"cmd":"bogus"}"#, "no such command type 'bogus'", 404, json!(3)),
            (r#"{"_id":"a","cmd":"ping","x":1}"#, "Invalid method argument 'x'", 400, json!("a")),
            (
                r#"{"_id":4,"cmd":"startConsuming"}"#,
                "Invalid method argument 'path' is missing",
                400,
                json!(4),
            ),
            (r#"{"_id":5,"cmd":"startConsuming","path":5}"#, "invalid path format '5'", 400, json!(5)),
            (r#"{"_id":5,"cmd":"startConsuming","paths":[]}"#, "invalid path format '[]'", 400, json!(5)),
        ] {
            assert_eq!(refused(text), json!({"error": error, "code": code, "_id": id}), "{text}");
        }
        for text in ["", "{", "[]", "5", "\u{1}"] {
            assert_eq!(parse(text.as_bytes()), Err(Fault::NotJson), "{text}");
        }
    }

    #[test]
    fn both_forms_of_starting_are_understood() {
        let act = |text: &str| parse(text.as_bytes()).unwrap().act;
        assert_eq!(
            act(r#"{"_id":1,"cmd":"startConsuming","path":"builds/*/*"}"#),
            Act::Start { paths: vec!["builds/*/*".into()], since: None }
        );
        assert_eq!(
            act(r#"{"_id":1,"cmd":"startConsuming","paths":["a","b","a"],"since":"c"}"#),
            Act::Start { paths: vec!["a".into(), "b".into()], since: Some(Since::Clock("c".into())) }
        );
        assert_eq!(
            act(r#"{"_id":1,"cmd":"startConsuming","path":"","since":null}"#),
            Act::Start { paths: vec!["".into()], since: Some(Since::Now) }
        );
        assert_eq!(act(r#"{"_id":1,"cmd":"stopConsuming"}"#), Act::Stop(Stop::Id));
        assert_eq!(act(r#"{"_id":1,"cmd":"stopConsuming","path":"a"}"#), Act::Stop(Stop::Path("a".into())));
        assert_eq!(act(r#"{"type":"x","cmd":"ping"}"#), Act::Ping);
    }
}
