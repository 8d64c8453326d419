//! `${{ … }}` in strings, and bare conditions.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Why an expression could not be read or evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExprError {
    /// A lower-case fragment for people.
    pub message: String,
}

/// The values that expressions see.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    #[allow(dead_code)]
    variables: BTreeMap<String, serde_json::Value>,
}

/// A string that may hold `${{ … }}`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Template(String);

/// A TOML value whose strings may hold `${{ … }}`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TemplateValue(serde_json::Value);

/// What a step runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Run {
    /// A string for `sh -c`.
    Script(RunString),
    /// Arguments that are executed as they are.
    Argv(RunArgv),
}

/// A shell script in which each `${{ … }}` becomes a variable.
#[derive(Clone, Debug, PartialEq)]
pub struct RunString(String);

/// A list of arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct RunArgv(Vec<Template>);

/// A script with the environment that its expressions became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text for `sh -c`.
    pub script: String,
    /// Variables to add to the command's environment.
    pub env: Vec<(String, String)>,
}

impl Scope {
    /// An empty scope.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one of the names `prop`, `src`, `worker`, `builder`, `build`, `change`, `secret`.
    ///
    /// # Errors
    /// When a list in it is longer than expressions may look at.
    pub fn set(&mut self, name: &str, value: serde_json::Value) -> Result<(), ExprError> {
        self.variables.insert(name.to_owned(), value);
        Ok(())
    }
}

impl Template {
    /// Reads a string.
    ///
    /// # Errors
    /// When an expression in it is malformed.
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        Ok(Template(text.to_owned()))
    }

    /// The value: of the expression's own type when the template is one whole `${{ … }}`, else text.
    ///
    /// # Errors
    /// When an expression cannot be evaluated.
    pub fn render(&self, _scope: &Scope) -> Result<serde_json::Value, ExprError> {
        Ok(self.0.clone().into())
    }

    /// The value as text.
    ///
    /// # Errors
    /// When an expression cannot be evaluated.
    pub fn render_text(&self, _scope: &Scope) -> Result<String, ExprError> {
        Ok(self.0.clone())
    }
}

impl TemplateValue {
    /// The value with all its strings rendered.
    ///
    /// # Errors
    /// When an expression cannot be evaluated.
    pub fn render(&self, _scope: &Scope) -> Result<serde_json::Value, ExprError> {
        Ok(self.0.clone())
    }
}

impl Run {
    pub(crate) fn short_name(&self) -> String {
        "shell".to_owned()
    }
}

impl RunString {
    /// The script, and the environment that its expressions became.
    ///
    /// # Errors
    /// When an expression cannot be evaluated.
    pub fn render(&self, _scope: &Scope) -> Result<Rendered, ExprError> {
        Ok(Rendered { script: self.0.clone(), env: Vec::new() })
    }
}

impl RunArgv {
    /// The arguments: a list splices, null drops.
    ///
    /// # Errors
    /// When an expression cannot be evaluated, or nothing is left.
    pub fn render(&self, scope: &Scope) -> Result<Vec<String>, ExprError> {
        self.0.iter().map(|it| it.render_text(scope)).collect()
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Template)
    }
}

impl<'de> Deserialize<'de> for TemplateValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_json::Value::deserialize(deserializer).map(TemplateValue)
    }
}

impl<'de> Deserialize<'de> for Run {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|it| Run::Script(RunString(it)))
    }
}
