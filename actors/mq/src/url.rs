//! Which bus, by its URL.

use std::fmt;

/// A bus between masters. It prints without what may be secret.
#[derive(Clone, PartialEq, Eq)]
pub enum BusUrl {
    /// `nats://host:4222`, `tls://…`
    Nats(String),
    /// `amqp://user:password@host:5672/vhost`, `amqps://…`
    Amqp(String),
    /// `postgres://user:password@host/database`: LISTEN and NOTIFY.
    Postgres(String),
}

/// The text names no bus that is built in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a message bus: nats://, tls://, amqp://, amqps:// and postgres:// are (and local: for one master)"
)]
pub struct UnknownBus;

impl BusUrl {
    /// Reads a URL; only its scheme is looked at.
    pub fn parse(url: &str) -> Result<Self, UnknownBus> {
        match url.split_once("://").map(|it| it.0) {
            Some("nats" | "tls") => Ok(BusUrl::Nats(url.to_owned())),
            Some("amqp" | "amqps") => Ok(BusUrl::Amqp(url.to_owned())),
            Some("postgres" | "postgresql") => Ok(BusUrl::Postgres(url.to_owned())),
            _ => Err(UnknownBus),
        }
    }

    /// The kind of bus, for people.
    pub fn name(&self) -> &'static str {
        match self {
            BusUrl::Nats(_) => "nats",
            BusUrl::Amqp(_) => "amqp",
            BusUrl::Postgres(_) => "postgres",
        }
    }
}

impl fmt::Debug for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BusUrl({}://…)", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_names_the_bus_and_nothing_of_the_rest_is_printed() {
        for (url, name) in [
            ("nats://h:4222", "nats"),
            ("tls://h", "nats"),
            ("amqp://u:secret@h/%2f", "amqp"),
            ("postgresql://u:secret@h/db", "postgres"),
        ] {
            let url = BusUrl::parse(url).unwrap();
            assert_eq!(url.name(), name);
            assert!(!format!("{url:?}").contains("secret"));
        }
        for url in ["", "local:", "redis://h", "nats"] {
            assert_eq!(BusUrl::parse(url), Err(UnknownBus), "{url}");
        }
    }
}
