//! Properties: named values with their source, carried from change to build.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The largest value of one property, as JSON text, in bytes.
pub const MAX_PROPERTY_BYTES: usize = 64 * 1024;

/// A property's value and where it came from; in JSON `[value, source]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Property(
    /// The value.
    pub Value,
    /// Where it came from, such as `Change` or `Force Build Form`.
    pub String,
);

/// Properties by name.
pub type Properties = BTreeMap<String, Property>;
