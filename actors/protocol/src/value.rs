//! Values without a fixed type: results of requests and ids of commands.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;

use crate::error::{DecodeError, Problem};
use crate::reader::{Head, Reader};
use crate::writer::Writer;

/// Deepest nesting of a [`Value`].
const MAX_DEPTH: usize = 32;
/// Most elements in one [`Value`], all levels together.
const MAX_ELEMENTS: usize = 1 << 16;

/// A MessagePack value. Texts and binary data are slices of the received frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value.
    Nil,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A text.
    Text(ByteString),
    /// Contents of a file.
    Bin(Bytes),
    /// A list.
    Array(Vec<Value>),
    /// A map in the order of the wire.
    Map(Vec<(ByteString, Value)>),
}

impl Value {
    /// The value under a key of a map.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Map(entries) => entries.iter().find(|(name, _)| &**name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut budget = MAX_ELEMENTS;
        Self::read_within(reader, MAX_DEPTH, &mut budget)
    }

    fn read_within(reader: &mut Reader<'_>, depth: usize, budget: &mut usize) -> Result<Self, DecodeError> {
        if depth == 0 {
            return Err(reader.error(Problem::TooDeep));
        }
        *budget = budget.checked_sub(1).ok_or_else(|| reader.error(Problem::TooManyItems))?;
        match reader.peek()? {
            Head::Str(_) => reader.text().map(Value::Text),
            Head::Bin(_) => reader.bin().map(Value::Bin),
            Head::Array(_) => {
                let mut list = Vec::new();
                for _ in 0..reader.array()? {
                    list.push(Self::read_within(reader, depth - 1, budget)?);
                }
                Ok(Value::Array(list))
            }
            Head::Map(_) => {
                let mut entries = Vec::new();
                for _ in 0..reader.map()? {
                    let key = reader.text()?;
                    entries.push((key, Self::read_within(reader, depth - 1, budget)?));
                }
                Ok(Value::Map(entries))
            }
            Head::Ext(_) => {
                Err(reader.error(Problem::WrongType { expected: "a value", found: "an extension" }))
            }
            Head::Big(_) => Err(reader.error(Problem::OutOfRange)),
            Head::Nil | Head::Bool(_) | Head::Int(_) | Head::Float(_) => match reader.head()? {
                Head::Bool(value) => Ok(Value::Bool(value)),
                Head::Int(value) => Ok(Value::Int(value)),
                Head::Float(value) => Ok(Value::Float(value)),
                _ => Ok(Value::Nil),
            },
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        match self {
            Value::Nil => writer.nil(),
            Value::Bool(value) => writer.bool(*value),
            Value::Int(value) => writer.int(*value),
            Value::Float(value) => writer.float(*value),
            Value::Text(text) => writer.text(text),
            Value::Bin(bytes) => writer.bin(bytes),
            Value::Array(list) => {
                writer.array(list.len());
                for value in list {
                    value.write(writer);
                }
            }
            Value::Map(entries) => {
                writer.map(entries.len());
                for (key, value) in entries {
                    writer.text(key);
                    value.write(writer);
                }
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(ByteString::from(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(ByteString::from(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int(number)
    }
}

/// The master's name of a command. A worker echoes it unchanged, whatever scalar it is.
///
/// Ids live in a table of the worker that survives reconnects: they must be unique over all connections
/// and over restarts of the master.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CommandId {
    /// A text; what masters use.
    Text(ByteString),
    /// An integer.
    Int(i64),
}

impl CommandId {
    /// The id as a text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            CommandId::Text(text) => Some(text),
            CommandId::Int(_) => None,
        }
    }

    /// A copy that does not keep the received frame alive; for ids that are stored.
    pub fn detached(&self) -> Self {
        match self {
            CommandId::Text(text) => CommandId::Text(ByteString::from(&**text)),
            CommandId::Int(number) => CommandId::Int(*number),
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.peek()? {
            Head::Int(_) => reader.int().map(CommandId::Int),
            _ => reader.text().map(CommandId::Text),
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        match self {
            CommandId::Text(text) => writer.text(text),
            CommandId::Int(number) => writer.int(*number),
        }
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandId::Text(text) => f.write_str(text),
            CommandId::Int(number) => write!(f, "{number}"),
        }
    }
}

impl From<&str> for CommandId {
    fn from(text: &str) -> Self {
        CommandId::Text(ByteString::from(text))
    }
}

impl From<String> for CommandId {
    fn from(text: String) -> Self {
        CommandId::Text(ByteString::from(text))
    }
}

impl From<i64> for CommandId {
    fn from(number: i64) -> Self {
        CommandId::Int(number)
    }
}
