//! What a worker says about itself.

use std::collections::BTreeMap;

use bytestring::ByteString;

use crate::value::Value;

/// Version announced for each command of the stock protocol.
pub const COMMAND_VERSION: &str = "3.3";

/// Key under which our agent announces its extensions: a map from their names to version numbers.
pub const EXTENSIONS_KEY: &str = "greenroom";

/// Result of `get_worker_info`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WorkerInfo {
    /// One text a file of the worker's `info` directory (`admin`, `host`, `access_uri`), and the `os_…` facts.
    pub texts: BTreeMap<String, String>,
    /// The worker's environment. May hold secrets: do not publish.
    pub environ: BTreeMap<String, String>,
    /// `posix` or `nt`: which rules its paths follow.
    pub system: String,
    /// Its absolute directory; every path sent to it is built from this.
    pub basedir: String,
    /// Processors it may use.
    pub numcpus: i64,
    /// Version of the worker program.
    pub version: String,
    /// Version of each command it knows.
    pub worker_commands: BTreeMap<String, String>,
    /// It wants directories that no builder uses to be removed.
    pub delete_leftover_dirs: bool,
    /// Extensions of our agent, by name with their version; empty for a stock worker.
    pub extensions: BTreeMap<String, i64>,
}

/// A result of `get_worker_info` that is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InfoError {
    /// The result is no map.
    #[error("the worker's info is not a map")]
    NotAMap,
    /// A key without which the worker cannot be used is missing or of a wrong type.
    #[error("the worker's info has no valid `{0}`")]
    Invalid(&'static str),
}

fn texts_of(value: &Value) -> Option<BTreeMap<String, String>> {
    let Value::Map(entries) = value else { return None };
    entries.iter().map(|(key, value)| Some((key.to_string(), value.as_str()?.to_owned()))).collect()
}

fn text_map(entries: &BTreeMap<String, String>) -> Value {
    Value::Map(
        entries.iter().map(|(key, text)| (ByteString::from(key.as_str()), text.as_str().into())).collect(),
    )
}

impl WorkerInfo {
    /// Reads the result of `get_worker_info`. Unknown keys that are not texts are ignored.
    ///
    /// # Errors
    /// If `basedir` or another part that every worker sends has a wrong type.
    pub fn from_value(value: &Value) -> Result<Self, InfoError> {
        let Value::Map(entries) = value else { return Err(InfoError::NotAMap) };
        let mut info = WorkerInfo { system: "posix".to_owned(), numcpus: 1, ..WorkerInfo::default() };
        for (key, value) in entries {
            info.set(key, value)?;
        }
        if info.basedir.is_empty() { Err(InfoError::Invalid("basedir")) } else { Ok(info) }
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), InfoError> {
        let text = |key| value.as_str().map(str::to_owned).ok_or(InfoError::Invalid(key));
        match key {
            "environ" => self.environ = texts_of(value).ok_or(InfoError::Invalid("environ"))?,
            "system" => self.system = text("system")?,
            "basedir" => self.basedir = text("basedir")?,
            "numcpus" => self.numcpus = value.as_int().ok_or(InfoError::Invalid("numcpus"))?,
            "version" => self.version = text("version")?,
            "worker_commands" => {
                self.worker_commands = texts_of(value).ok_or(InfoError::Invalid("worker_commands"))?;
            }
            // Stock workers send 0 or 1 here.
            "delete_leftover_dirs" => {
                self.delete_leftover_dirs = matches!(value, Value::Bool(true) | Value::Int(1..));
            }
            EXTENSIONS_KEY => {
                if let Value::Map(entries) = value {
                    let versions = entries.iter().filter_map(|(k, v)| Some((k.to_string(), v.as_int()?)));
                    self.extensions = versions.collect();
                }
            }
            _ => {
                if let Some(text) = value.as_str() {
                    self.texts.insert(key.to_owned(), text.to_owned());
                }
            }
        }
        Ok(())
    }

    /// The result of `get_worker_info`.
    pub fn to_value(&self) -> Value {
        let mut entries: Vec<(ByteString, Value)> =
            self.texts.iter().map(|(key, text)| (key.as_str().into(), text.as_str().into())).collect();
        let mut put = |key: &'static str, value: Value| entries.push((ByteString::from_static(key), value));
        put("environ", text_map(&self.environ));
        put("system", self.system.as_str().into());
        put("basedir", self.basedir.as_str().into());
        put("numcpus", Value::Int(self.numcpus));
        put("version", self.version.as_str().into());
        put("worker_commands", text_map(&self.worker_commands));
        put("delete_leftover_dirs", Value::Bool(self.delete_leftover_dirs));
        if !self.extensions.is_empty() {
            let versions = self.extensions.iter().map(|(key, v)| (key.as_str().into(), Value::Int(*v)));
            put(EXTENSIONS_KEY, Value::Map(versions.collect()));
        }
        Value::Map(entries)
    }
}
