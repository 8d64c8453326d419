//! `${{ … }}` in strings, and bare conditions: both are CEL over `prop`, `src`, `worker`, `builder`, `build` and `change`.
//!
//! Everything is read and checked when the configuration loads: syntax, size (4 KiB, 32 nested brackets), names, types as far
//! as they are certain. Where a recipe or a matrix says it, `param` and `matrix` are known then too, and `secret.NAME` may stand
//! where its value stays out of sight: in a `run` text and in `env`.
//!
//! What is left for run time is evaluation over a [`Scope`]. It is bounded by the length of lists, the nesting of `map`,
//! `filter` and the like, and the turns that they take; still, **call `render` and `evaluate` from `spawn_blocking`**, never on an
//! actor's thread.
//!
//! In a `run` string an expression becomes an environment variable, never shell text: see [`RunString`].

mod known;
mod meter;
mod program;
mod run;
mod scope;
mod shell;
mod template;
mod types;

pub(crate) use known::{Constants, with_constants, with_secrets, with_shell};
pub(crate) use program::on_big_stack;
pub use program::{Expr, NAMES};
pub use run::{Rendered, Run, RunArgv, RunString};
pub use scope::{MAX_LIST, Scope};
pub use shell::Shell;
pub(crate) use template::{Secrets, Segment, environment, split, to_text};
pub use template::{Template, TemplateValue};

use std::ops::Range;

/// Why an expression cannot be read, or could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExprError {
    /// A lower-case fragment for people.
    pub message: String,
    /// What to do about it; may be empty.
    pub help: String,
    /// Where, in bytes of the string that was parsed.
    pub span: Range<usize>,
}

impl ExprError {
    pub(crate) fn new(message: impl Into<String>, help: impl Into<String>, span: Range<usize>) -> Self {
        ExprError { message: message.into(), help: help.into(), span }
    }

    /// The same error, further right.
    pub(crate) fn shifted(mut self, by: usize) -> Self {
        self.span = self.span.start + by..self.span.end + by;
        self
    }

    pub(crate) fn into_serde<E: serde::de::Error>(self) -> E {
        crate::values::serde_fault_at(&self.message, &self.help, self.span)
    }
}
