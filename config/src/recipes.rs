//! `[recipes.NAME]`: keys and steps that several builders have in common, with parameters.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::effect::unused_parameters;
use crate::extract::Report;
use crate::fault::{Fault, suggest};
use crate::fold::to_json;

/// The keys of a builder's table that recipes cannot have.
const NOT_IN_RECIPES: &[&str] = &["recipe", "with", "matrix", "enabled"];
/// Tables that are merged key by key when the builder has them too.
const MERGED: &[&str] = &["env", "properties"];

/// One parameter: `NAME = default`, or a table with these keys.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Parameter {
    /// What it holds; that of the default when left out, or else text.
    pub kind: Option<ParameterKind>,
    /// What it holds when a builder says nothing; without it every builder must.
    pub default: Option<Json>,
    /// The only values that it may hold.
    pub choices: Option<Vec<Json>>,
    /// What it is for.
    pub description: Option<String>,
}

/// What a parameter of a recipe holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ParameterKind {
    /// Text.
    String,
    /// A whole number.
    Int,
    /// Any number.
    Number,
    /// true or false.
    Bool,
    /// A list.
    List,
    /// A table.
    Map,
}

impl ParameterKind {
    fn of(value: &Json) -> Option<Self> {
        Some(match value {
            Json::String(_) => ParameterKind::String,
            Json::Bool(_) => ParameterKind::Bool,
            Json::Number(it) if it.is_f64() => ParameterKind::Number,
            Json::Number(_) => ParameterKind::Int,
            Json::Array(_) => ParameterKind::List,
            Json::Object(_) => ParameterKind::Map,
            Json::Null => return None,
        })
    }

    fn takes(self, value: &Json) -> bool {
        Self::of(value) == Some(self) || (self == ParameterKind::Number && value.is_number())
    }

    fn words(self) -> &'static str {
        match self {
            ParameterKind::String => "a string",
            ParameterKind::Int => "a whole number",
            ParameterKind::Number => "a number",
            ParameterKind::Bool => "true or false",
            ParameterKind::List => "a list",
            ParameterKind::Map => "a table",
        }
    }
}

impl Parameter {
    fn kind(&self) -> ParameterKind {
        let choice = self.choices.as_ref().and_then(|it| it.first());
        let of_value = self.default.as_ref().or(choice).and_then(ParameterKind::of);
        self.kind.or(of_value).unwrap_or(ParameterKind::String)
    }

    /// What keeps a value from being one of this parameter.
    fn refuses(&self, value: &Json) -> Option<(String, String)> {
        if !self.kind().takes(value) {
            return Some((format!("expected {}", self.kind().words()), String::new()));
        }
        let choices = self.choices.as_ref().filter(|it| !it.contains(value))?;
        let words: Vec<String> = choices.iter().map(Json::to_string).collect();
        Some((format!("{value} is none of the choices"), format!("there are: {}", words.join(", "))))
    }
}

/// A recipe that can be used.
pub(crate) struct Recipe {
    parameters: BTreeMap<String, Parameter>,
    /// What it gives to a builder.
    body: Dict,
}

/// Reads all recipes; those with faults are left out.
pub(crate) fn read(tables: &Dict, report: &mut Report<'_>) -> BTreeMap<String, Recipe> {
    let mut recipes = BTreeMap::new();
    for (name, value) in tables {
        let at = path(&["recipes", name]);
        let Some(table) = value.as_dict() else {
            let fault = Fault::error("wrong-type", format!("expected a table, `[recipes.{name}]`"));
            report.push(&at, false, fault);
            continue;
        };
        let mut body = table.clone();
        let parameters = parameters(body.remove("parameters"), &at, report);
        for key in NOT_IN_RECIPES.iter().filter(|it| body.remove(**it).is_some()) {
            let fault = Fault::error("unknown-key", format!("a recipe has no `{key}`"));
            report.push(
                &[at.as_slice(), &[(*key).to_owned()]].concat(),
                true,
                fault.help("it belongs to the builders"),
            );
        }
        if let Some(parameters) = parameters {
            unused_parameters(parameters.keys(), &body, &at, report);
            recipes.insert(name.clone(), Recipe { parameters, body });
        }
    }
    recipes
}

fn parameters(
    value: Option<Value>,
    at: &[String],
    report: &mut Report<'_>,
) -> Option<BTreeMap<String, Parameter>> {
    let mut parameters = BTreeMap::new();
    let at = [at, &["parameters".to_owned()]].concat();
    let table = match value {
        None => return Some(parameters),
        Some(Value::Dict(_, table)) => table,
        Some(_) => {
            let fault = Fault::error("wrong-type", "expected a table, NAME = DEFAULT");
            report.push(&at, false, fault);
            return None;
        }
    };
    let mut complete = true;
    for (name, value) in table {
        let at = [at.as_slice(), std::slice::from_ref(&name)].concat();
        let parameter = match &value {
            Value::Dict(..) => report.read::<Parameter>(&value, &at, &[]),
            default => Some(Parameter {
                kind: None,
                default: Some(to_json(default)),
                choices: None,
                description: None,
            }),
        };
        let Some(parameter) = parameter else {
            complete = false;
            continue;
        };
        let refused = parameter.default.as_ref().and_then(|it| parameter.refuses(it));
        if let Some((message, help)) = refused {
            let at = if value.as_dict().is_some() {
                [at.as_slice(), &["default".to_owned()]].concat()
            } else {
                at
            };
            report.push(&at, false, Fault::error("bad-value", message).help(help));
            complete = false;
        }
        parameters.insert(name, parameter);
    }
    Some(parameters).filter(|_| complete)
}

impl Recipe {
    /// The values of all parameters: what the builder says, or else the defaults. None, with faults, if something is missing
    /// or does not fit; `at` is the builder.
    pub fn values(&self, name: &str, with: &Dict, at: &[String], report: &mut Report<'_>) -> Option<Json> {
        let mut values = serde_json::Map::new();
        let mut complete = true;
        for (key, value) in with {
            let at = [at, &["with".to_owned(), key.clone()]].concat();
            let value = to_json(value);
            match self.parameters.get(key).map(|it| it.refuses(&value)) {
                None => {
                    let fault =
                        Fault::error("unknown-key", format!("the recipe `{name}` has no parameter `{key}`"));
                    report.push(
                        &at,
                        true,
                        fault.help(suggest(key, self.parameters.keys().map(String::as_str))),
                    );
                    complete = false;
                }
                Some(Some((message, help))) => {
                    let note = path(&["recipes", name, "parameters", key]);
                    let note = report.place(&note, true);
                    let fault = Fault::error("bad-value", message).help(help);
                    report.push(&at, false, fault.note(format!("the parameter `{key}` of the recipe"), note));
                    complete = false;
                }
                Some(None) => drop(values.insert(key.clone(), value)),
            }
        }
        for (key, parameter) in &self.parameters {
            match &parameter.default {
                _ if with.contains_key(key) => {}
                Some(default) => drop(values.insert(key.clone(), default.clone())),
                None => {
                    let message = format!("the recipe `{name}` needs the parameter `{key}`");
                    let note = report.place(&path(&["recipes", name, "parameters", key]), true);
                    let fault =
                        Fault::error("missing-key", message).help(format!("add with = {{ {key} = … }}"));
                    report.push(
                        &[at, &["recipe".to_owned()]].concat(),
                        false,
                        fault.note(format!("`{key}` has no default"), note),
                    );
                    complete = false;
                }
            }
        }
        complete.then_some(Json::Object(values))
    }

    /// Adds to a builder's table what it does not say itself. `from` is told each path below the builder that comes from
    /// the recipe, and where it stands there.
    pub fn apply(&self, table: &mut Dict, mut from: impl FnMut(Vec<String>)) {
        for (key, value) in &self.body {
            match (table.get_mut(key), value) {
                (None, value) => {
                    table.insert(key.clone(), value.clone());
                    from(vec![key.clone()]);
                }
                (Some(Value::Dict(_, own)), Value::Dict(_, common)) if MERGED.contains(&key.as_str()) => {
                    for (name, value) in common {
                        if !own.contains_key(name) {
                            own.insert(name.clone(), value.clone());
                            from(vec![key.clone(), name.clone()]);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether it says something about a key.
    pub fn has(&self, key: &str) -> bool {
        self.body.contains_key(key)
    }
}

fn path(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|it| (*it).to_owned()).collect()
}
