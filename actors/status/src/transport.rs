//! What carries a notice to its readers: a connection to a chat, a mail relay, a URL.
//!
//! A transport sends one message at a time and says how that went; waiting, retrying, counting and recording are the
//! notifier's. It is born with its notifier and dies with it, so what it must not forget it reads again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use greenroom_config::Mode;
use greenroom_model::Timestamp;
use tokio::sync::watch;

use crate::notice::Notice;

/// Carries notices.
pub trait Transport: Send + 'static {
    /// Sends a message, or hands it to a server that has taken it for good. Dropping the future gives the attempt up (the
    /// notifier does so after its `timeout`); the same message then comes again with a higher `attempt`.
    ///
    /// # Errors
    /// [`SendError`] says whether trying again can help.
    fn send(&mut self, message: Arc<Outgoing>) -> BoxFuture<'_, Result<Sent, SendError>>;

    /// The modes that its readers have chosen by themselves, such as by a chat's `notify on`; they are told beside those of the
    /// configuration. None: the configuration alone says.
    fn wishes(&self) -> Option<watch::Receiver<Vec<Mode>>> {
        None
    }

    /// Told at each birth of the notifier: whether this master is the one that runs it. What keeps a connection open keeps it while
    /// that is true.
    fn while_claimed(&mut self, _claimed: watch::Receiver<bool>) {}

    /// What it wants to say of itself in the tree of actors, such as whether it is connected.
    fn observe(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

/// Makes a transport for each birth of its notifier.
pub type MakeTransport = Arc<dyn Fn() -> Result<Box<dyn Transport>, String> + Send + Sync>;

/// The farm that speaks, as messages name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farm {
    /// What the page calls it.
    pub title: String,
    /// Where the page is, with `/` at its end.
    pub url: String,
}

/// A message to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The delivery's id.
    pub id: i64,
    /// The notifier's name.
    pub notifier: String,
    /// The same over every attempt, and different for each message: for servers that leave out what they have seen. Letters,
    /// digits, `.` and `-` only.
    pub dedup_key: String,
    /// From 1. Above 1 an earlier attempt may have arrived.
    pub attempt: u32,
    /// When it was due first.
    pub at: Timestamp,
    /// Who speaks.
    pub farm: Arc<Farm>,
    /// What it says.
    pub notice: Notice,
}

/// It has been sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sent {
    /// To whom, for people, such as `#builds` or `ada@example.org, 2 more`. It holds no secret.
    pub target: String,
    /// What else is worth recording, such as that an address was refused.
    pub note: Option<String>,
}

/// It has not been sent, as far as is known. The texts are shown to people and hold no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The server is away or busy: try again, after `retry_after` if it said so.
    #[error("{why}")]
    Later {
        /** For people. */
        why: String,
        /** What the server asked for. */
        retry_after: Option<Duration>,
    },
    /// The server said no for good, or the message cannot be sent at all.
    #[error("{why}")]
    Never {
        /** For people. */
        why: String,
    },
    /// There is nobody to send it to, which is no failure: recorded as silenced.
    #[error("{why}")]
    Nobody {
        /** For people. */
        why: String,
    },
}

impl SendError {
    /// Worth another attempt.
    pub fn later(why: impl Into<String>) -> Self {
        SendError::Later { why: why.into(), retry_after: None }
    }

    /// Not worth another.
    pub fn never(why: impl Into<String>) -> Self {
        SendError::Never { why: why.into() }
    }
}
