//! What the values that check themselves look like in a file, and how their defaults are written.
//!
//! `x-form` is a word for people: the reference shows it as the type.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::expr::{Expr, Run, Template, TemplateValue};
use crate::sections::database::DatabaseUrl;
use crate::sections::mq::MqUrl;
use crate::sections::steps::ExitCode;
use crate::sections::supervision::Backoff;
use crate::values::{Duration, FilePatterns, Listen, Name, NameList, Patterns, Regex, Secret, Size, WebUrl};

/// How a duration is written.
const DURATION: &str = r"^\s*([0-9]+(\.[0-9]+)?\s*(w|d|h|m|s|ms|us)\s*)+$";
/// How a size is written.
const SIZE: &str = r"^\s*[0-9]+\s*(GiB|MiB|KiB|GB|MB|kB|B)\s*$";

/// Gives a type its schema.
macro_rules! form {
    ($type:ty, $name:literal, $($schema:tt)+) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($($schema)+)
            }
        }
    };
}

form!(Duration, "Duration", { "type": "string", "pattern": DURATION, "x-form": "duration" });
form!(Size, "Size", { "type": "string", "pattern": SIZE, "x-form": "size" });
form!(Name, "Name", { "type": "string", "minLength": 1 });
form!(WebUrl, "WebUrl", { "type": "string", "pattern": "^https?://[^\\s?#@]+$", "x-form": "URL" });
form!(Listen, "Listen", { "type": "string", "pattern": ":[0-9]+$", "x-form": "address with port" });
form!(Regex, "Regex", { "type": "string", "x-form": "regular expression" });
form!(Expr, "Expr", { "type": "string", "x-form": "expression (CEL)" });
form!(DatabaseUrl, "DatabaseUrl", { "type": "string", "x-form": "URL" });
form!(MqUrl, "MqUrl", { "type": "string", "x-form": "URL" });
form!(ExitCode, "ExitCode", { "type": "string", "pattern": "^-?[0-9]+$" });
form!(Patterns, "Patterns", {
    "type": ["string", "array"], "items": { "type": "string" }, "x-form": "glob or list of globs"
});
form!(FilePatterns, "FilePatterns", {
    "type": ["string", "array"], "items": { "type": "string" }, "x-form": "glob or list of globs"
});
form!(NameList, "NameList", {
    "type": ["string", "array"], "items": { "type": "string" }, "x-form": "list of names, or `\"*\"`"
});
form!(Template, "Template", {
    "type": ["string", "number", "boolean"], "x-form": "text, may hold `${{ … }}`"
});
form!(TemplateValue, "TemplateValue", { "x-form": "any value, its texts may hold `${{ … }}`" });
form!(Run, "Run", {
    "type": ["string", "array"], "minLength": 1, "minItems": 1,
    "items": { "type": ["string", "number", "boolean"] },
    "x-form": "text for `sh -c`, or list of arguments; may hold `${{ … }}`"
});
form!(Secret, "Secret", {
    "x-form": "secret",
    "oneOf": [
        { "type": "string", "minLength": 1, "description": "The secret itself." },
        {
            "type": "object", "additionalProperties": false, "required": ["file"],
            "properties": { "file": { "type": "string", "description": "A file with the secret; the line end at its end is cut." } }
        },
        {
            "type": "object", "additionalProperties": false, "required": ["env"],
            "properties": { "env": { "type": "string", "description": "An environment variable of the master." } }
        },
        {
            "type": "object", "additionalProperties": true, "required": ["command"],
            "properties": { "command": { "description": "A command that prints the secret." } }
        }
    ]
});
form!(Backoff, "Backoff", {
    "type": "object", "additionalProperties": false, "required": ["min", "max"],
    "x-form": "`{ min = duration, max = duration }`",
    "properties": {
        "min": { "type": "string", "pattern": DURATION, "x-form": "duration", "description": "The first wait." },
        "max": { "type": "string", "pattern": DURATION, "x-form": "duration", "description": "The longest wait." }
    }
});

/// `true`, `false` or a number of commits.
pub(crate) struct Depth;
form!(Depth, "Depth", {
    "anyOf": [{ "type": "boolean" }, { "type": "integer", "minimum": 1 }], "x-form": "true, false or a number of commits"
});

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Patterns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.source() {
            [one] => serializer.serialize_str(one),
            several => serializer.collect_seq(several),
        }
    }
}

impl Serialize for Backoff {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([("min", self.min), ("max", self.max)])
    }
}
