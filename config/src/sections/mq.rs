//! `[mq]`: the bus that carries hints of new events.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::values::{Secret, serde_fault};

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
    /// `nats://`, `tls://` (NATS), `amqp://`, `amqps://` or `postgres://`: between the masters of one database. It may hold a password.
    Bus(Secret),
}

impl<'de> Deserialize<'de> for MqUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let url = Secret::deserialize(deserializer)?;
        match url.expose().split_once(':').map(|it| it.0) {
            Some("local") if url.expose() == "local:" => Ok(MqUrl::Local),
            Some("nats" | "tls" | "amqp" | "amqps") if !names_server(url.expose()) => {
                Err(serde_fault("the url of the bus names no server", "write \"nats://HOST:4222\", say"))
            }
            Some("nats" | "tls" | "amqp" | "amqps" | "postgres" | "postgresql") => Ok(MqUrl::Bus(url)),
            _ => Err(serde_fault(
                "not a message bus this version knows",
                "use \"local:\", \"nats://HOST:4222\", \"amqp://USER:PASSWORD@HOST/%2f\" or \"postgres://USER:PASSWORD@HOST/DATABASE\"; \
                 { env = \"VARIABLE\" } and { file = \"PATH\" } keep a password out of this file",
            )),
        }
    }
}

/// Whether a host stands where one belongs.
fn names_server(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    !host.is_empty() && !host.starts_with(':')
}
