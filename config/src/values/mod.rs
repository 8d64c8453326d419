//! Values that check themselves while they are read, so that a [`Settings`](crate::Settings) cannot hold a bad one.

mod address;
mod duration;
mod patterns;
mod secret;
mod size;
mod template;
mod url_password;

pub use address::{Listen, Name, WebUrl};
pub use duration::Duration;
pub use patterns::{FilePatterns, NameList, Patterns, Regex};
pub use secret::Secret;
pub(crate) use secret::{HERE, READ};
pub use size::Size;
pub(crate) use template::template_fault;
pub use template::{Escape, Template, TemplateFault};
pub(crate) use url_password::url_passwords;

use std::fmt::Display;
use std::ops::Range;

/// Between the parts of a message made by [`serde_fault`].
const SEPARATOR: char = '\u{1f}';

/// A serde error with a help line. Serde carries a fault as one string, so the parts travel in it, and [`split_fault`] takes them
/// apart again.
pub(crate) fn serde_fault<E: serde::de::Error>(message: impl Display, help: impl Display) -> E {
    E::custom(format_args!("{message}{SEPARATOR}{help}"))
}

/// A serde error about a part of a string: `span` is in bytes of the string's value.
pub(crate) fn serde_fault_at<E: serde::de::Error>(
    message: impl Display,
    help: &str,
    span: Range<usize>,
) -> E {
    E::custom(format_args!("{message}{SEPARATOR}{help}{SEPARATOR}{}{SEPARATOR}{}", span.start, span.end))
}

/// The parts of a message that came through serde: the message, the help, the span within the value.
pub(crate) fn split_fault(text: &str) -> (String, Option<String>, Option<Range<usize>>) {
    let mut parts = text.split(SEPARATOR);
    let message = parts.next().unwrap_or_default().to_owned();
    let help = parts.next().filter(|it| !it.is_empty()).map(str::to_owned);
    let start = parts.next().and_then(|it| it.parse().ok());
    let end = parts.next().and_then(|it| it.parse().ok());
    (message, help, start.zip(end).map(|(start, end)| start..end))
}
