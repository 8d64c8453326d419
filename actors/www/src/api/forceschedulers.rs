//! `forceschedulers`: what can be started by hand and what each asks for. Comes from the configuration.

use greenroom_config::{ForceScheduler, Parameter, ParameterKind, Scheduler};
use greenroom_model::query::Field;
use serde_json::{Value, json};

use super::builders::builder_at;
use crate::collection;
use crate::error::ApiError;
use crate::router::{Answer, Arg, Call, Route, route};
use crate::rows;

pub(super) const ROUTES: &[Route] = &[
    route!("forceschedulers", "forceschedulers", c => all(&c)),
    route!("forceschedulers/i:schedulername", "forceschedulers", c => one(&c)),
    route!("builders/n:builderid/forceschedulers", "forceschedulers", c => of_builder(&c)),
];

const FIELDS: &[Field] = rows::row_fields![
    "name": Text, "button_name": Text, "label": Text, "builder_names": Nested, "enabled": Bool, "all_fields": Nested,
];

async fn all(call: &Call) -> Result<Answer, ApiError> {
    collection::plain(
        call,
        "forceschedulers",
        FIELDS,
        forces(call).map(|(name, it)| row(call, name, it)).collect(),
    )
}

async fn one(call: &Call) -> Result<Answer, ApiError> {
    let Arg::Text(wanted) = call.arg(0)? else { return Err(call.not_found()) };
    let found = forces(call).find(|(name, _)| name == wanted).map(|(name, it)| row(call, name, it));
    collection::plain_one(call, "forceschedulers", FIELDS, found)
}

async fn of_builder(call: &Call) -> Result<Answer, ApiError> {
    let builder = builder_at(call, 0)?;
    let serves = |it: &ForceScheduler| builder.as_ref().is_some_and(|b| it.builders.contains(&b.name));
    let rows = forces(call).filter(|(_, it)| serves(it)).map(|(name, it)| row(call, name, it)).collect();
    collection::plain(call, "forceschedulers", FIELDS, rows)
}

fn forces(call: &Call) -> impl Iterator<Item = (&str, &ForceScheduler)> {
    call.settings.schedulers.iter().filter_map(|(name, it)| match it {
        Scheduler::Force(force) => Some((name.as_str(), force)),
        _ => None,
    })
}

fn row(call: &Call, name: &str, force: &ForceScheduler) -> Value {
    let all = call.settings.builders.keys();
    let button = force.button_name.as_deref().unwrap_or(name);
    json!({
        "all_fields": all_fields(force),
        "builder_names": all.filter(|it| force.builders.contains(it)).collect::<Vec<_>>(),
        "button_name": button,
        "enabled": call.hot.scheduler_named(name).is_none_or(|it| it.enabled),
        "label": force.label.as_deref().unwrap_or(button),
        "name": name,
    })
}

/// The form: who and why, on which source, then what is configured.
fn all_fields(force: &ForceScheduler) -> Vec<Value> {
    let mut username = leaf("username", "username", "Your name:", json!(""), 30);
    username["need_email"] = false.into();
    let who = vec![
        username,
        leaf("text", "reason", "reason", json!(force.reason), 20),
        leaf("int", "priority", "priority", json!(0), 10),
    ];
    let source = ["branch", "project", "repository", "revision"].map(|name| {
        let label = format!("{}{}:", name[..1].to_uppercase(), &name[1..]);
        leaf("text", name, &label, json!(""), 10)
    });
    let mut fields = vec![group(1, who), group(2, source.into())];
    fields.extend(force.parameters.iter().map(parameter));
    fields
}

/// A group without a name: it adds nothing to the full names of its fields.
fn group(columns: u8, fields: Vec<Value>) -> Value {
    let mut group = leaf("nested", "", "", json!(""), 0);
    group["columns"] = columns.into();
    group["fields"] = fields.into();
    group["layout"] = "vertical".into();
    group["fullName"] = Value::Null;
    if let Some(map) = group.as_object_mut() {
        map.remove("size");
    }
    group
}

/// A field with what all kinds have, and a size.
fn leaf(kind: &str, name: &str, label: &str, default: Value, size: u8) -> Value {
    json!({
        "autopopulate": null, "default": default, "fullName": name, "hide": false, "label": label, "maxsize": null,
        "multiple": false, "name": name, "regex": null, "required": false, "size": size, "tablabel": label,
        "tooltip": "", "type": kind,
    })
}

fn parameter(parameter: &Parameter) -> Value {
    let label = parameter.label.as_deref().unwrap_or(&parameter.name);
    let (kind, default, size) = match parameter.kind {
        ParameterKind::String => ("text", json!(""), 10),
        ParameterKind::Text => ("textarea", json!(""), 10),
        ParameterKind::Int => ("int", json!(0), 10),
        ParameterKind::Bool => ("bool", json!(false), 0),
        ParameterKind::Choice => ("list", json!(""), 0),
    };
    let default = parameter.default.clone().unwrap_or(default);
    let mut field = leaf(kind, &parameter.name, label, default, size);
    field["required"] = parameter.required.into();
    field["regex"] = parameter.regex.as_ref().map(|it| it.get().as_str()).into();
    if size == 0
        && let Some(map) = field.as_object_mut()
    {
        map.remove("size");
    }
    match parameter.kind {
        ParameterKind::Text => {
            field["cols"] = 80.into();
            field["rows"] = 20.into();
        }
        ParameterKind::Choice => {
            field["choices"] = parameter.choices.clone().into();
            field["multiple"] = parameter.multiple.into();
            field["strict"] = true.into();
        }
        _ => {}
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduler(settings: Value) -> ForceScheduler {
        serde_json::from_value(settings).unwrap()
    }

    #[test]
    fn the_standard_groups_come_first() {
        let fields = all_fields(&scheduler(json!({"builders": "*", "reason": "because"})));
        let names = |group: &Value| {
            group["fields"].as_array().unwrap().iter().map(|it| it["fullName"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&fields[0]), ["username", "reason", "priority"]);
        assert_eq!(names(&fields[1]), ["branch", "project", "repository", "revision"]);
        assert_eq!(fields[0]["fields"][1]["default"], "because");
        assert_eq!(fields[1]["fields"][0]["label"], "Branch:");
    }

    #[test]
    fn configured_parameters_have_the_types_of_the_contract() {
        let fields = all_fields(&scheduler(json!({"builders": "*", "parameters": [
            {"name": "n", "kind": "int", "default": 5},
            {"name": "flavour", "kind": "choice", "choices": ["a", "b"], "multiple": true, "required": true},
            {"name": "ref", "regex": "^v[0-9]+$", "label": "Tag"},
        ]})));
        let [n, flavour, tag] = &fields[2..] else { panic!("three parameters") };
        assert_eq!((&n["type"], &n["default"]), (&json!("int"), &json!(5)));
        assert_eq!((&flavour["type"], &flavour["choices"]), (&json!("list"), &json!(["a", "b"])));
        assert_eq!((&flavour["multiple"], &flavour["required"]), (&json!(true), &json!(true)));
        assert_eq!((&tag["regex"], &tag["label"]), (&json!("^v[0-9]+$"), &json!("Tag")));
    }
}
