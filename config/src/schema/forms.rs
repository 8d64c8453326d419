//! What the values that check themselves look like in a file, and how their defaults are written.
//!
//! `x-form` is a word for people: the reference shows it as the type.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::expr::{Expr, Run, Template, TemplateValue};
use crate::sections::database::DatabaseUrl;
use crate::sections::mq::MqUrl;
use crate::sections::notifiers::{AddressRule, Channel, MailAddress, MailDomain, Relay};
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
form!(DatabaseUrl, "DatabaseUrl", { "type": ["string", "object"], "x-form": "URL, as text or as a secret" });
form!(MqUrl, "MqUrl", { "type": ["string", "object"], "x-form": "URL, as text or as a secret" });
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
            "type": "object", "additionalProperties": false, "required": ["command"],
            "properties": { "command": {
                "type": "array", "minItems": 1, "items": { "type": "string" },
                "description": "A program with its arguments that prints the secret."
            } }
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

form!(crate::values::Template, "MessageTemplate", { "type": "string", "x-form": "template" });
form!(Relay, "Relay", { "type": "string", "pattern": "^(smtp://|smtps://|smtp\\+starttls://|sendmail:)", "x-form": "URL" });
form!(MailAddress, "MailAddress", { "type": "string", "pattern": "@", "x-form": "mail address" });
form!(MailDomain, "MailDomain", { "type": "string", "x-form": "domain" });
form!(AddressRule, "AddressRule", {
    "type": "object", "additionalProperties": false, "required": ["address"],
    "properties": {
        "match": {
            "type": ["string", "array"], "items": { "type": "string" }, "x-form": "glob or list of globs",
            "description": "Whom it is for: matched against the whole text, the name in it and the address in it. Either this or `regex`."
        },
        "regex": { "type": "string", "x-form": "regular expression", "description": "The same, as a regular expression that matches all of it." },
        "address": {
            "type": "string",
            "description": "The address; `{name}` stands for the name, `$1` for what the first group matched. Empty: such people get no mail."
        }
    }
});

/// `true`, `false` or a number of commits.
pub(crate) struct Depth;
form!(Depth, "Depth", {
    "anyOf": [{ "type": "boolean" }, { "type": "integer", "minimum": 1 }], "x-form": "true, false or a number of commits"
});

/// One or a list.
pub(crate) struct OneOrMore<T>(std::marker::PhantomData<T>);

impl<T: JsonSchema> JsonSchema for OneOrMore<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMore{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = T::json_schema(generator);
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// A channel's name, or a table with its key.
impl JsonSchema for Channel {
    fn schema_name() -> Cow<'static, str> {
        "Channel".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut key = Secret::json_schema(generator);
        key.insert("description".to_owned(), "What opens it.".into());
        json_schema!({
            "x-form": "name, or `{ name = text, key = secret }`",
            "oneOf": [
                { "type": "string", "pattern": "^[#&+!]." },
                {
                    "type": "object", "additionalProperties": false, "required": ["name"],
                    "properties": { "name": { "type": "string", "pattern": "^[#&+!].", "description": "Its name, with its sign." }, "key": key }
                }
            ]
        })
    }
}

impl Serialize for crate::values::Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.source())
    }
}

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
