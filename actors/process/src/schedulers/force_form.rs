//! What a person entered in a force dialogue: checked field by field, all faults at once. No I/O.

use std::collections::BTreeMap;

use greenroom_config::{ForceScheduler, Parameter, ParameterKind};
use greenroom_model::properties::MAX_PROPERTY_BYTES;
use greenroom_model::write::NewSourceStamp;
use greenroom_model::{Properties, Property};
use serde_json::{Map, Value, json};

use crate::properties::source;

/// Whoever is not logged in.
const ANONYMOUS: &str = "anonymous";

/// A dialogue that was filled in without fault.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wish {
    pub builders: Wanted,
    pub owner: String,
    pub reason: String,
    pub priority: i64,
    pub stamp: NewSourceStamp,
    pub properties: Properties,
}

/// Which builders are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of the scheduler.
    All,
    /// One by its id.
    Id(i64),
    /// Some by name.
    Names(Vec<String>),
}

/// What is wrong, by field.
pub(crate) type Faults = BTreeMap<String, String>;

/// Checks the parameters of a force act of `identity`.
pub(crate) fn read(scheduler: &ForceScheduler, identity: &str, params: &Value) -> Result<Wish, Faults> {
    let empty = Map::new();
    let mut form = Form { params: params.as_object().unwrap_or(&empty), faults: Faults::new() };
    let username = form.text("username");
    let owner = match identity {
        ANONYMOUS | "" if !username.is_empty() => username,
        "" => ANONYMOUS.to_owned(),
        user => user.to_owned(),
    };
    let reason =
        Some(form.text("reason")).filter(|it| !it.is_empty()).unwrap_or_else(|| scheduler.reason.clone());
    let priority = form.priority();
    let stamp = NewSourceStamp {
        branch: form.optional("branch"),
        revision: form.optional("revision"),
        repository: form.text("repository"),
        project: form.text("project"),
        codebase: String::new(),
        patch: None,
    };
    let builders = form.builders();
    let mut properties = Properties::new();
    for parameter in &scheduler.parameters {
        if let Some(value) = form.parameter(parameter) {
            properties.insert(parameter.name.clone(), Property(value, source::FORCE.to_owned()));
        }
    }
    for (name, text) in [("reason", &reason), ("owner", &owner)] {
        properties.insert(name.to_owned(), Property(json!(text), source::FORCE.to_owned()));
    }
    if !form.faults.is_empty() {
        return Err(form.faults);
    }
    Ok(Wish { builders, owner, reason, priority, stamp, properties })
}

struct Form<'a> {
    params: &'a Map<String, Value>,
    faults: Faults,
}

impl Form<'_> {
    /// A field's value; a list of one is that one, blank is nothing.
    fn value(&self, name: &str) -> Option<&Value> {
        let value = match self.params.get(name)? {
            Value::Array(list) if list.len() == 1 => &list[0],
            other => other,
        };
        match value {
            Value::Null => None,
            Value::String(text) if text.trim().is_empty() => None,
            Value::Array(list) if list.is_empty() => None,
            value => Some(value),
        }
    }

    fn fault(&mut self, name: &str, message: impl Into<String>) {
        self.faults.insert(name.to_owned(), message.into());
    }

    fn text(&mut self, name: &str) -> String {
        match self.value(name) {
            None => String::new(),
            Some(Value::String(text)) if text.len() > MAX_PROPERTY_BYTES => {
                self.fault(name, format!("must be at most {} KiB", MAX_PROPERTY_BYTES / 1024));
                String::new()
            }
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(Value::Number(number)) => number.to_string(),
            Some(_) => {
                self.fault(name, "must be a text");
                String::new()
            }
        }
    }

    fn optional(&mut self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|it| !it.is_empty())
    }

    fn priority(&mut self) -> i64 {
        let value = self.value("priority").map(whole_number);
        match value {
            None => 0,
            Some(Some(number)) => number,
            Some(None) => {
                self.fault("priority", "must be a whole number");
                0
            }
        }
    }

    fn builders(&mut self) -> Wanted {
        if let Some(id) = self.value("builderid") {
            return match whole_number(id) {
                Some(id) => Wanted::Id(id),
                None => {
                    self.fault("builderid", "must be a number");
                    Wanted::All
                }
            };
        }
        let names = match self.params.get("builderNames") {
            None | Some(Value::Null) => return Wanted::All,
            Some(Value::Array(list)) => list.iter().map(|it| it.as_str().map(str::to_owned)).collect(),
            Some(Value::String(name)) => Some(vec![name.clone()]),
            Some(_) => None,
        };
        names.map(Wanted::Names).unwrap_or_else(|| {
            self.fault("builderNames", "must be a list of names");
            Wanted::All
        })
    }

    fn parameter(&mut self, parameter: &Parameter) -> Option<Value> {
        let label = parameter.label.as_ref().unwrap_or(&parameter.name);
        let entered = match parameter.kind {
            ParameterKind::Choice if parameter.multiple => {
                self.params.get(&parameter.name).filter(|it| !it.is_null())
            }
            _ => self.value(&parameter.name),
        };
        let Some(entered) = entered.cloned().or_else(|| parameter.default.clone()) else {
            if parameter.required {
                self.fault(&parameter.name, format!("'{label}' needs to be specified"));
            }
            return match parameter.kind {
                ParameterKind::Bool => Some(json!(false)),
                ParameterKind::String | ParameterKind::Text => Some(json!("")),
                ParameterKind::Choice if parameter.multiple => Some(json!([])),
                ParameterKind::Int | ParameterKind::Choice => None,
            };
        };
        let value = checked(parameter, label, &entered);
        match value {
            Ok(value) if value.to_string().len() > MAX_PROPERTY_BYTES => {
                self.fault(
                    &parameter.name,
                    format!("'{label}' must be at most {} KiB", MAX_PROPERTY_BYTES / 1024),
                );
                None
            }
            Ok(value) => Some(value),
            Err(message) => {
                self.fault(&parameter.name, message);
                None
            }
        }
    }
}

fn whole_number(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_i64(),
    }
}

fn checked(parameter: &Parameter, label: &str, entered: &Value) -> Result<Value, String> {
    match parameter.kind {
        ParameterKind::String | ParameterKind::Text => {
            let text = match entered {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => return Err(format!("'{label}' must be a text")),
            };
            match &parameter.regex {
                Some(regex) if !regex.is_full_match(&text) => {
                    Err(format!("'{label}' does not match the pattern '{}'", regex.get().as_str()))
                }
                _ => Ok(json!(text)),
            }
        }
        ParameterKind::Int => whole_number(entered)
            .map(|it| json!(it))
            .ok_or_else(|| format!("'{label}' must be a whole number")),
        ParameterKind::Bool => Ok(json!(*entered == Value::Bool(true))),
        ParameterKind::Choice => choice(parameter, label, entered),
    }
}

fn choice(parameter: &Parameter, label: &str, entered: &Value) -> Result<Value, String> {
    let chosen: Vec<&str> = match entered {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        Value::String(text) => vec![text],
        _ => return Err(format!("'{label}' must be one of its choices")),
    };
    if let Some(unknown) = chosen.iter().find(|it| !parameter.choices.iter().any(|known| known == *it)) {
        return Err(format!(
            "'{unknown}' does not belong to the choices of '{label}': {}",
            parameter.choices.join(", ")
        ));
    }
    if parameter.required && chosen.is_empty() {
        return Err(format!("'{label}' needs to be specified"));
    }
    match (parameter.multiple, chosen.as_slice()) {
        (true, chosen) => Ok(json!(chosen)),
        (false, [one]) => Ok(json!(one)),
        (false, _) => Err(format!("'{label}' takes one choice")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduler() -> ForceScheduler {
        serde_json::from_value(json!({
            "builders": "*", "reason": "just so",
            "parameters": [
                { "name": "target", "label": "Target", "required": true, "regex": "[a-z]+" },
                { "name": "jobs", "kind": "int", "default": 2 },
                { "name": "clean", "kind": "bool" },
                { "name": "os", "kind": "choice", "choices": ["linux", "mac"], "multiple": true },
            ],
        }))
        .unwrap()
    }

    #[test]
    fn a_filled_in_form_becomes_properties() {
        let params = json!({
            "target": ["all"], "jobs": "4", "clean": true, "os": ["mac"], "branch": "main", "revision": " ",
            "priority": "7", "username": "Al <a@b.org>", "unknown": [1, 2],
        });
        let wish = read(&scheduler(), "anonymous", &params).unwrap();
        let value = |name: &str| wish.properties[name].0.clone();
        assert_eq!(
            [value("target"), value("jobs"), value("clean"), value("os")],
            [json!("all"), json!(4), json!(true), json!(["mac"]),]
        );
        assert_eq!(
            (wish.owner.as_str(), wish.reason.as_str(), wish.priority),
            ("Al <a@b.org>", "just so", 7)
        );
        assert_eq!((wish.stamp.branch.as_deref(), wish.stamp.revision.as_deref()), (Some("main"), None));
        assert_eq!(wish.builders, Wanted::All);
        assert_eq!(wish.properties["owner"], Property(json!("Al <a@b.org>"), "Force Build Form".into()));
    }

    #[test]
    fn a_known_user_is_who_he_is() {
        let params = json!({"target": "x", "username": "somebody else"});
        assert_eq!(read(&scheduler(), "ann", &params).unwrap().owner, "ann");
    }

    #[test]
    fn all_faults_are_told_at_once_by_field() {
        let params = json!({"jobs": "many", "os": ["windows"], "priority": "high", "builderid": "x", "branch": {"a": 1}});
        let faults = read(&scheduler(), "ann", &params).unwrap_err();
        let fields: Vec<&str> = faults.keys().map(String::as_str).collect();
        assert_eq!(fields, ["branch", "builderid", "jobs", "os", "priority", "target"]);
        assert_eq!(faults["target"], "'Target' needs to be specified");
        let faults = read(&scheduler(), "ann", &json!({"target": "ABC"})).unwrap_err();
        assert!(faults["target"].contains("does not match"));
    }

    #[test]
    fn only_true_is_true() {
        for (entered, meant) in
            [(json!(true), true), (json!("true"), false), (json!(1), false), (json!(null), false)]
        {
            let wish = read(&scheduler(), "ann", &json!({"target": "x", "clean": entered})).unwrap();
            assert_eq!(wish.properties["clean"].0, json!(meant));
        }
    }

    #[test]
    fn builders_come_by_id_or_name() {
        let wanted = |params: Value| {
            let mut params = params;
            params["target"] = json!("x");
            read(&scheduler(), "ann", &params).unwrap().builders
        };
        assert_eq!(wanted(json!({"builderid": "3"})), Wanted::Id(3));
        assert_eq!(wanted(json!({"builderid": 3})), Wanted::Id(3));
        assert_eq!(wanted(json!({"builderNames": ["a", "b"]})), Wanted::Names(vec!["a".into(), "b".into()]));
    }
}
