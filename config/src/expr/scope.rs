//! What expressions can see.

use std::collections::HashMap;
use std::sync::Arc;

use cel::objects::Key;
use cel::{Context, Env};
use serde_json::Value as Json;

use super::{ExprError, NAMES};

/// The longest list that an expression may see.
pub const MAX_LIST: usize = 1_000;

/// The values that expressions see, converted once and shared by all that are evaluated over them.
///
/// Names in kebab case can also be read with `_`: `prop.test_flags` is the property `test-flags`.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    variables: Vec<(&'static str, cel::Value)>,
    /// Kept apart, so that nothing shows them.
    secrets: Vec<(String, crate::values::Secret)>,
    /// The longest text in it, in bytes.
    largest: u64,
}

impl Scope {
    /// An empty scope.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one of [`NAMES`].
    ///
    /// # Errors
    /// When there is no such name, or a list in the value has more than 1,000 elements.
    pub fn set(&mut self, name: &str, value: Json) -> Result<(), ExprError> {
        let Some(name) = NAMES.iter().find(|it| **it == name) else {
            return Err(ExprError::new(format!("expressions have no name `{name}`"), "", 0..0));
        };
        self.largest = self.largest.max(largest(&value));
        let value = to_cel(value, true)
            .map_err(|message| ExprError::new(format!("`{name}`: {message}"), "", 0..0))?;
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name, value));
        Ok(())
    }

    /// Adds a secret, for expressions that name it.
    pub fn set_secret(&mut self, name: &str, secret: crate::values::Secret) {
        self.secrets.push((name.to_owned(), secret));
    }

    pub(super) fn largest(&self) -> u64 {
        self.largest
    }

    /// The names with their values, `constants` among them.
    pub(super) fn context(
        &self,
        env: &Arc<Env>,
        constants: &[(&'static str, Json)],
    ) -> Result<Context<'static, 'static>, ExprError> {
        let mut context = Context::with_env(Arc::clone(env));
        for (name, value) in constants {
            let value = to_cel(value.clone(), true)
                .map_err(|message| ExprError::new(format!("`{name}`: {message}"), "", 0..0))?;
            context.add_variable_from_value(*name, value);
        }
        if !self.secrets.is_empty() {
            let secrets = self.secrets.iter();
            let secrets = secrets.map(|(name, it)| (name.clone(), Json::from(it.expose()))).collect();
            let value =
                to_cel(Json::Object(secrets), true).map_err(|message| ExprError::new(message, "", 0..0))?;
            context.add_variable_from_value(super::known::SECRET, value);
        }
        for (name, value) in &self.variables {
            context.add_variable_from_value(*name, value.clone());
        }
        for name in NAMES {
            if !self.variables.iter().any(|(known, _)| known == name) {
                context.add_variable_from_value(
                    *name,
                    cel::Value::Map(HashMap::<Key, cel::Value>::new().into()),
                );
            }
        }
        Ok(context)
    }
}

/// The longest text in a value, in bytes.
fn largest(value: &Json) -> u64 {
    match value {
        Json::String(text) => u64::try_from(text.len()).unwrap_or(u64::MAX),
        Json::Array(list) => list.iter().map(largest).max().unwrap_or(0),
        Json::Object(map) => map.values().map(largest).max().unwrap_or(0),
        _ => 0,
    }
}

fn to_cel(value: Json, aliases: bool) -> Result<cel::Value, String> {
    Ok(match value {
        Json::Null => cel::Value::Null,
        Json::Bool(it) => cel::Value::Bool(it),
        Json::String(it) => cel::Value::String(Arc::new(it)),
        Json::Number(it) => match (it.as_i64(), it.as_u64()) {
            (Some(int), _) => cel::Value::Int(int),
            (None, Some(uint)) => cel::Value::UInt(uint),
            (None, None) => cel::Value::Float(it.as_f64().unwrap_or(f64::NAN)),
        },
        Json::Array(list) if list.len() > MAX_LIST => {
            return Err(format!(
                "a list of {} elements is too long for expressions (at most {MAX_LIST})",
                list.len()
            ));
        }
        Json::Array(list) => cel::Value::List(Arc::new(
            list.into_iter().map(|it| to_cel(it, false)).collect::<Result<_, _>>()?,
        )),
        Json::Object(map) => {
            let mut converted: HashMap<Key, cel::Value> = HashMap::with_capacity(map.len());
            for (key, value) in map {
                let value = to_cel(value, false)?;
                if aliases && key.contains('-') {
                    // A name that is really written with `_` wins over the alias, whichever comes first.
                    converted.entry(Key::from(key.replace('-', "_"))).or_insert_with(|| value.clone());
                }
                converted.insert(Key::from(key), value);
            }
            cel::Value::Map(converted.into())
        }
    })
}

pub(super) fn from_cel(value: &cel::Value) -> Result<Json, String> {
    Ok(match value {
        cel::Value::Null => Json::Null,
        cel::Value::Bool(it) => Json::Bool(*it),
        cel::Value::Int(it) => Json::from(*it),
        cel::Value::UInt(it) => Json::from(*it),
        cel::Value::Float(it) => {
            serde_json::Number::from_f64(*it).map(Json::Number).ok_or("the result is not a number")?
        }
        cel::Value::String(it) => Json::String(it.to_string()),
        cel::Value::List(list) => Json::Array(list.iter().map(from_cel).collect::<Result<_, _>>()?),
        cel::Value::Map(map) => {
            let entries = map.map.iter().map(|(key, value)| Ok((key.to_string(), from_cel(value)?)));
            Json::Object(entries.collect::<Result<_, String>>()?)
        }
        other => return Err(format!("the result is a {}, which no field can hold", other.type_of())),
    })
}
