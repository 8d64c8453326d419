//! `[mq]`: the bus that carries hints of new events.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::values::serde_fault;

/// The `[mq]` section.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mq {
    /// Which bus.
    pub url: MqUrl,
}

/// A message bus, named by a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MqUrl {
    /// `local:`: inside this process; enough for one master.
    Local,
}

impl<'de> Deserialize<'de> for MqUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "local:" => Ok(MqUrl::Local),
            _ => Err(serde_fault("not a message bus this version knows", "use \"local:\"")),
        }
    }
}
