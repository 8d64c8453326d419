//! Why an actor ended: a closed list, the only thing that a supervisor decides on.

use std::any::Any;
use std::fmt;

use greenroom_model::restart::Restart;
use serde::Serialize;

/// Why one birth of an actor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It ended itself, its work done.
    Completed,
    /// Its supervisor asked it to stop, and it did.
    Stopped,
    /// It gave up, with a reason.
    Failed(String),
    /// It panicked; the text is the panic's message.
    Panicked(String),
    /// It gave no sign of life for longer than its policy allows; the text says since when.
    Hung(String),
    /// It was ended from outside, without being asked.
    Killed,
}

impl Ending {
    /// One word for it, as reports show it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
            Self::Panicked(_) => "panicked",
            Self::Hung(_) => "hung",
            Self::Killed => "killed",
        }
    }

    /// The reason given, or nothing.
    pub fn message(&self) -> &str {
        match self {
            Self::Failed(why) | Self::Panicked(why) | Self::Hung(why) => why,
            Self::Completed | Self::Stopped | Self::Killed => "",
        }
    }

    /// Whether something went wrong.
    pub fn is_bad(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Panicked(_) | Self::Hung(_) | Self::Killed)
    }

    /// Whether a child of this restart type is born again after this.
    pub fn asks_for(&self, restart: Restart) -> bool {
        match restart {
            Restart::Permanent => *self != Self::Stopped,
            Restart::Transient => self.is_bad(),
            Restart::Temporary => false,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        if !self.message().is_empty() {
            write!(f, ": {}", self.message())?;
        }
        Ok(())
    }
}

/// One past end, for reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Exit {
    /// Who ended: a child's name.
    pub name: String,
    /// [`Ending::kind`].
    pub kind: &'static str,
    /// [`Ending::message`].
    pub message: String,
    /// When, in microseconds UTC.
    pub at: i64,
    /// Which birth it was, counted from one.
    pub birth: u64,
    /// How long that birth lived, in milliseconds.
    pub lived_ms: u64,
    /// How long it took from this end until the next birth ran, in milliseconds; none if none runs yet.
    pub back_ms: Option<f64>,
    /// How long it took from this end until a later birth had handled its first message, in milliseconds.
    pub served_ms: Option<f64>,
}

/// The text of a panic.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_types_differ() {
        let all = [
            Ending::Completed,
            Ending::Stopped,
            Ending::Failed("f".into()),
            Ending::Panicked("p".into()),
            Ending::Killed,
            Ending::Hung("h".into()),
        ];
        let again = |restart| all.clone().map(|ending| ending.asks_for(restart));
        assert_eq!(again(Restart::Permanent), [true, false, true, true, true, true]);
        assert_eq!(again(Restart::Transient), [false, false, true, true, true, true]);
        assert_eq!(again(Restart::Temporary), [false; 6]);
    }

    #[test]
    fn panics_keep_their_words() {
        assert_eq!(panic_message(&"plain"), "plain");
        assert_eq!(panic_message(&String::from("made")), "made");
        assert_eq!(panic_message(&7_u8), "a panic without a message");
    }
}
