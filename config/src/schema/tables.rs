//! The tables of the configuration: which sections there are, which kinds, which keys.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::recipes::Parameter;
use crate::sections::builders::BuilderOptions;
use crate::sections::change_sources::GitPoller;
use crate::sections::database::Database;
use crate::sections::logs::Logs;
use crate::sections::master::Master;
use crate::sections::mq::Mq;
use crate::sections::notifiers::{CommitStatus, Irc, Mail, NotifierOptions, Webhook};
use crate::sections::retention::Retention;
use crate::sections::schedulers::{ChangeScheduler, ForceScheduler};
use crate::sections::steps::{GitStep, SetPropertyStep, ShellStep, StepOptions};
use crate::sections::supervision::Supervision;
use crate::sections::workers::Worker;
use crate::sections::www::Www;
use crate::values::Secret;

/// A section, `[NAME]` or `[NAME.…]`.
pub(super) struct Section {
    pub name: &'static str,
    /// Whether its tables are `[NAME.KEY]`, with names that people choose.
    pub keyed: bool,
    /// What it is, in a sentence or two.
    pub about: &'static str,
    /// The keys that all kinds have.
    pub common: Option<Value>,
    /// The kinds of table; one without a word where there are none.
    pub kinds: Vec<Kind>,
}

/// One kind of table.
pub(super) struct Kind {
    /// The word in `kind`.
    pub word: Option<&'static str>,
    /// Whether it is the kind of a table without `kind`.
    pub is_default: bool,
    /// What it is.
    pub about: &'static str,
    /// The schema of its keys: an object with `properties` and `required`.
    pub keys: Value,
}

/// Makes schemas without references, for each editor follows those in its own way.
struct Maker(SchemaGenerator);

impl Maker {
    fn new() -> Self {
        let settings = SchemaSettings::draft07().with(|it| {
            it.inline_subschemas = true;
            it.meta_schema = None;
        });
        Maker(settings.into_generator())
    }

    fn keys<T: JsonSchema>(&mut self) -> Value {
        let mut schema = T::json_schema(&mut self.0).to_value();
        tidy(&mut schema);
        schema
    }

    fn kind<T: JsonSchema>(&mut self, word: &'static str, about: &'static str) -> Kind {
        Kind { word: Some(word), is_default: false, about, keys: self.keys::<T>() }
    }

    /// A section `[NAME]` whose every key has a default in `defaults.toml`.
    fn single<T: JsonSchema>(&mut self, name: &'static str, about: &'static str) -> Section {
        let mut section = self.keyed::<T>(name, about);
        section.keyed = false;
        for kind in &mut section.kinds {
            add_defaults(&mut kind.keys, name);
        }
        section
    }

    fn keyed<T: JsonSchema>(&mut self, name: &'static str, about: &'static str) -> Section {
        let kind = Kind { word: None, is_default: true, about, keys: self.keys::<T>() };
        Section { name, keyed: true, about, common: None, kinds: vec![kind] }
    }
}

/// All sections, in the order of the reference.
pub(super) fn sections() -> Vec<Section> {
    let make = &mut Maker::new();
    vec![
        make.single::<Master>("master", "Who this master is and where it keeps its data."),
        make.single::<Database>("database", "Where builds, logs and events are kept."),
        make.single::<Mq>("mq", "The bus that carries hints of new events."),
        make.single::<Www>("www", "The page, the API and the port that workers share with them."),
        make.keyed::<Worker>("workers", "The machines that run commands."),
        change_sources(make),
        schedulers(make),
        builders(make),
        recipes(make),
        secrets(make),
        notifiers(make),
        supervision(make),
        make.single::<Logs>("logs", "Where the text of logs is kept."),
        retention(make),
    ]
}

/// `include`, which stands before all sections.
pub(super) fn include() -> Value {
    json!({
        "type": ["string", "array"], "items": { "type": "string" }, "x-form": "file or list of files",
        "description": "Files that this one brings along, relative to it; `*` stands for any. They are layers right before this file, which wins.",
    })
}

/// The key that every table with a free name has.
pub(super) fn enabled() -> Value {
    json!({ "type": "boolean", "default": true, "description": "Whether this table counts; false is as if it were not there." })
}

fn change_sources(make: &mut Maker) -> Section {
    let poller =
        make.kind::<GitPoller>("git-poller", "Asks a git repository for new commits at an interval.");
    Section {
        name: "change-sources",
        keyed: true,
        about: "What finds new commits.",
        common: None,
        kinds: vec![poller],
    }
}

fn schedulers(make: &mut Maker) -> Section {
    let single = "Follows changes, with one tree-stable timer for all that pass the filter.";
    let any =
        "Follows changes, with one tree-stable timer for each codebase, project, repository and branch.";
    let kinds = vec![
        make.kind::<ChangeScheduler>("single-branch", single),
        make.kind::<ChangeScheduler>("any-branch", any),
        make.kind::<ForceScheduler>("force", "Started by a person or a program."),
    ];
    let about = "What turns changes, or a person's wish, into builds.";
    Section { name: "schedulers", keyed: true, about, common: None, kinds }
}

/// What a step may be.
pub(super) fn steps() -> Section {
    let make = &mut Maker::new();
    let shell = make.kind::<ShellStep>("shell", "Runs a command. A step with `run` and no `kind` is one.");
    let kinds = vec![
        Kind { is_default: true, ..shell },
        make.kind::<GitStep>("git", "Checks out sources."),
        make.kind::<SetPropertyStep>(
            "set-property",
            "Sets a property, to a value or to what a command prints.",
        ),
    ];
    let common = Some(make.keys::<StepOptions>());
    Section {
        name: "builders.NAME.steps",
        keyed: false,
        about: "What a build does, in order.",
        common,
        kinds,
    }
}

/// `steps`, in a builder or a recipe.
fn list_of_steps() -> Value {
    let steps = steps();
    let entries: Vec<Value> = steps.kinds.iter().map(|kind| super::entry_schema(&steps, kind)).collect();
    json!({
        "type": "array", "minItems": 1, "items": { "oneOf": entries }, "x-form": "list of steps",
        "description": "What a build does, in order: each `[[….steps]]` is a step. A builder needs some, its own or those of its recipe.",
    })
}

fn builders(make: &mut Maker) -> Section {
    let mut section =
        make.keyed::<BuilderOptions>("builders", "What is built, step by step, and who may build it.");
    let Some(kind) = section.kinds.first_mut() else { return section };
    let keys = &mut kind.keys["properties"];
    keys["steps"] = list_of_steps();
    keys["recipe"] = json!({ "type": "string", "description": "The recipe that gives what this table does not say itself." });
    keys["with"] = json!({ "type": "object", "description": "Values for the recipe's parameters." });
    keys["matrix"] = json!({
        "type": "object",
        "x-form": "table of lists",
        "description": "Makes a builder for each combination of values: each key is an axis, known as `matrix.AXIS` in expressions.",
        "properties": {
            "include": { "type": "array", "items": { "type": "object" }, "description": "Combinations besides those of the axes." },
            "exclude": { "type": "array", "items": { "type": "object" }, "description": "Combinations (or parts of some) that are left out." },
            "name": { "type": "string", "description": "The builders' names; made from the values when left out." },
        },
        "additionalProperties": { "type": "array" },
    });
    kind.keys["anyOf"] = json!([{ "required": ["steps"] }, { "required": ["recipe"] }]);
    section
}

fn recipes(make: &mut Maker) -> Section {
    let mut section = make.keyed::<BuilderOptions>(
        "recipes",
        "Keys and steps that several builders have in common, with parameters.",
    );
    let parameter = make.keys::<Parameter>();
    let Some(kind) = section.kinds.first_mut() else { return section };
    kind.keys["properties"]["steps"] = list_of_steps();
    kind.keys["properties"]["parameters"] = json!({
        "type": "object",
        "description": "What a builder may say by `with`, known as `param.NAME` in expressions: `NAME = DEFAULT`, or a table.",
        "x-form": "table of defaults or tables",
        "additionalProperties": { "anyOf": [{ "type": ["string", "number", "boolean", "array"] }, {
            "type": "object", "additionalProperties": false, "properties": parameter["properties"],
        }] },
    });
    section
}

fn secrets(make: &mut Maker) -> Section {
    let about = "Values that are masked in logs and shown nowhere, known as `secret.NAME` in `env` and in `run` texts.";
    let mut secret = make.keys::<Secret>();
    secret["description"] = "A secret; its name has letters, digits, `-` and `_`.".into();
    let keys = json!({ "additionalProperties": secret });
    let kind = Kind { word: None, is_default: true, about, keys };
    Section { name: "secrets", keyed: false, about, common: None, kinds: vec![kind] }
}

fn notifiers(make: &mut Maker) -> Section {
    let kinds = vec![
        make.kind::<Irc>("irc", "Announces in channels of IRC, and takes commands there."),
        make.kind::<Mail>("mail", "Sends mail."),
        make.kind::<Webhook>("webhook", "Posts JSON to a URL."),
        make.kind::<CommitStatus>("github-status", "Shows the state of commits at GitHub."),
        make.kind::<CommitStatus>("gitlab-status", "Shows the state of commits at GitLab."),
        make.kind::<CommitStatus>("gitea-status", "Shows the state of commits at Gitea or Forgejo."),
    ];
    let common = Some(make.keys::<NotifierOptions>());
    Section { name: "notifiers", keyed: true, about: "Who is told of what, and how.", common, kinds }
}

/// What a kind or a name may differ in is what the section has, without defaults.
fn supervision(make: &mut Maker) -> Section {
    let mut section =
        make.single::<Supervision>("supervision", "When and how actors that ended are started again.");
    let Some(keys) = section.kinds.first_mut().map(|it| &mut it.keys) else { return section };
    let mut patch: Map<String, Value> = keys["properties"].as_object().cloned().unwrap_or_default();
    patch.retain(|name, _| name != "kinds" && name != "names");
    for key in patch.values_mut().filter_map(Value::as_object_mut) {
        key.remove("default");
    }
    for map in ["kinds", "names"] {
        keys["properties"][map]["additionalProperties"] =
            json!({ "type": "object", "additionalProperties": false, "properties": patch });
    }
    section
}

fn retention(make: &mut Maker) -> Section {
    let mut section = make.single::<Retention>("retention", "How long builds, logs and changes are kept.");
    let Some(keys) = section.kinds.first_mut().map(|it| &mut it.keys) else { return section };
    let mut patch: Map<String, Value> = keys["properties"].as_object().cloned().unwrap_or_default();
    patch.retain(|name, _| !["builders", "every", "change-age", "audit-age"].contains(&name.as_str()));
    for key in patch.values_mut().filter_map(Value::as_object_mut) {
        key.remove("default");
    }
    keys["properties"]["builders"]["additionalProperties"] =
        json!({ "type": "object", "additionalProperties": false, "properties": patch });
    section
}

/// Puts in what `defaults.toml` says; what has a default there is not needed.
fn add_defaults(keys: &mut Value, section: &str) {
    let defaults: toml::Table = include_str!("../../defaults.toml").parse().unwrap_or_default();
    let defaults = serde_json::to_value(defaults.get(section)).unwrap_or_default();
    for (name, value) in defaults.as_object().into_iter().flatten() {
        if let Some(key) = keys["properties"].get_mut(name)
            && *value != json!({})
        {
            key["default"] = value.clone();
        }
    }
    if let Some(keys) = keys.as_object_mut() {
        keys.remove("required");
    }
}

/// Leaves out what TOML has not (null), what says nothing (formats of integers) and the links of doc comments.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(tidy),
        Value::Object(table) => {
            table.values_mut().for_each(tidy);
            without_null(table);
            table.retain(|name, it| {
                !(name == "default" && (it.is_null() || *it == json!({}) || *it == json!([])))
                    && !(name == "format" && it.is_string())
                    && !(name == "title" && it.is_string())
            });
            if let Some(Value::String(text)) = table.get_mut("description") {
                *text = plain(text);
            }
        }
        _ => {}
    }
}

/// `null` as one of the types, words or alternatives is how `Option` shows.
fn without_null(table: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = table.get_mut("type") {
        types.retain(|it| it != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            table.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(words)) = table.get_mut("enum") {
        words.retain(|it| !it.is_null());
    }
    let is_null = |it: &Value| it["type"] == "null" || it.get("const").is_some_and(Value::is_null);
    for name in ["anyOf", "oneOf"] {
        let Some(Value::Array(choices)) = table.get_mut(name) else { continue };
        let before = choices.len();
        choices.retain(|it| !is_null(it));
        if before != choices.len()
            && let [Value::Object(one)] = choices.as_slice()
        {
            let one = one.clone();
            table.remove(name);
            for (key, value) in one {
                table.entry(key).or_insert(value);
            }
        }
    }
}

/// A doc comment as a sentence for people: one line, `[X](…)` and [`X`] as `X`.
fn plain(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.replace("[`", "`").replace("`]", "`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_left_out_wherever_an_option_puts_it() {
        for (given, tidied) in [
            (json!({"type": ["string", "null"], "default": null}), json!({"type": "string"})),
            (
                json!({"anyOf": [{"type": "object"}, {"type": "null"}], "description": "A."}),
                json!({"type": "object", "description": "A."}),
            ),
            (json!({"enum": ["a", null]}), json!({"enum": ["a"]})),
            (
                json!({"anyOf": [{"type": "string"}, {"type": "boolean"}]}),
                json!({"anyOf": [{"type": "string"}, {"type": "boolean"}]}),
            ),
        ] {
            let mut schema = given;
            tidy(&mut schema);
            assert_eq!(schema, tidied);
        }
    }
}
