//! `kind = "webhook"`: a JSON request to a URL.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::samples::{checked, samples};
use crate::values::{Escape, Secret, Template, serde_fault, template_fault};

/// Headers that belong to the connection, to Greenroom or to another key.
const OWN_HEADERS: &[&str] =
    &["host", "content-type", "content-length", "transfer-encoding", "connection", "user-agent"];

/// The keys of a webhook notifier.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Webhook {
    /// Where each message is posted. Kept as a secret, since the paths of many services' hooks are passwords.
    #[serde(deserialize_with = "url")]
    pub url: Secret,
    /// What signs the body (HMAC-SHA256).
    pub secret: Option<Secret>,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<Secret>,
    /// More headers; their values may be secrets.
    #[serde(default, deserialize_with = "headers")]
    pub headers: BTreeMap<String, Secret>,
    /// Template of the body, in which values are written as JSON; everything that is known, as JSON, when left out.
    #[serde(default, deserialize_with = "body")]
    pub body: Option<Template>,
    /// File with that template.
    #[serde(default, deserialize_with = "body_file")]
    pub body_file: Option<Template>,
    /// The body's `Content-Type`.
    #[serde(default = "json", deserialize_with = "content_type")]
    pub content_type: String,
    /// Whether it may be posted to private and loopback addresses.
    #[serde(default)]
    pub allow_private: bool,
    /// Authorities to trust beside the system's: a PEM file.
    pub tls_ca: Option<PathBuf>,
}

impl Webhook {
    /// What does not fit together: the key, what is wrong with it, and help.
    pub(crate) fn faults(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        let mut faults = Vec::new();
        let key = if self.body.is_some() { "body" } else { "body-file" };
        if self.body.is_some() && self.body_file.is_some() {
            faults.push(("body-file", "there is a `body` already", "remove one of them"));
        }
        if let Some(template) = self.template()
            && self.content_type.contains("json")
            && samples().iter().any(|it| !makes_json(template, it))
        {
            let help = "write {{ name }} without quotes around it, or set content-type";
            faults.push((key, "what the template makes is not JSON", help));
        }
        faults
    }

    /// The template of the body, from whichever key.
    pub fn template(&self) -> Option<&Template> {
        self.body.as_ref().or(self.body_file.as_ref())
    }
}

fn makes_json(template: &Template, sample: &serde_json::Value) -> bool {
    template.render(sample).is_ok_and(|it| serde_json::from_str::<serde::de::IgnoredAny>(&it).is_ok())
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    let secret = Secret::deserialize(deserializer)?;
    let url = secret.expose();
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let odd = |it: char| it.is_control() || it.is_whitespace();
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with(['/', '?', '#']) && !url.contains(odd) => {
            Ok(secret)
        }
        _ => Err(serde_fault(
            "this is no http or https URL",
            "write it like \"https://hooks.example.org/greenroom\"",
        )),
    }
}

fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Secret>, D::Error> {
    let headers = BTreeMap::<String, Secret>::deserialize(deserializer)?;
    for (name, value) in &headers {
        let lower = name.to_ascii_lowercase();
        let token = |it: char| it.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(it);
        if name.is_empty() || !name.chars().all(token) {
            return Err(serde_fault(format_args!("`{}` is no name of a header", name.escape_debug()), ""));
        }
        if OWN_HEADERS.contains(&lower.as_str()) || lower.starts_with("greenroom-") {
            return Err(serde_fault(format_args!("`{name}` is written by Greenroom"), ""));
        }
        if value.expose().chars().any(|it| it.is_control() || !it.is_ascii()) {
            return Err(serde_fault(format_args!("the value of `{name}` must be printable ASCII"), ""));
        }
    }
    Ok(headers)
}

fn body<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Template>, D::Error> {
    let source = String::deserialize(deserializer)?;
    let template = Template::parse("body", &source, Escape::Json).map_err(template_fault)?;
    checked(template).map(Some)
}

fn body_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Template>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    checked(Template::read(&path, Escape::Json).map_err(template_fault)?).map(Some)
}

fn content_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let printable = |it: char| it.is_ascii_graphic() || it == ' ';
    match text.split_once('/') {
        Some((kind, rest)) if !kind.is_empty() && !rest.is_empty() && text.chars().all(printable) => Ok(text),
        _ => Err(serde_fault("this is no content type", "write it like \"application/json\"")),
    }
}

fn json() -> String {
    "application/json".to_owned()
}
