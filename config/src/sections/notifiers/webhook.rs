//! `kind = "webhook"`: a JSON request to a URL.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::filled;
use crate::values::Secret;

/// The keys of a webhook notifier.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Webhook {
    /// Where each message is posted.
    #[serde(deserialize_with = "filled")]
    pub url: String,
    /// What signs the body (HMAC-SHA256).
    pub secret: Option<Secret>,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<Secret>,
    /// More headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Template of the body; the whole notice as JSON when left out.
    pub body: Option<String>,
    /// File with that template.
    pub body_file: Option<PathBuf>,
    /// The body's `Content-Type`; `application/json` when left out.
    pub content_type: Option<String>,
    /// Whether it may be posted to private and loopback addresses.
    #[serde(default)]
    pub allow_private: bool,
}
