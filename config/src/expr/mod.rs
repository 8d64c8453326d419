//! `${{ … }}` in strings, and bare conditions: both are CEL over `prop`, `src`, `worker`, `builder`, `build` and `change`.
//!
//! Everything is read and checked when the configuration loads: syntax, size (4 KiB, 32 nested brackets), names. What is
//! left for run time is evaluation over a [`Scope`]. CEL has no limit of cost, so evaluation is bounded by the length of
//! lists and the nesting of `map`, `filter` and the like; still, **call `render` and `evaluate` from `spawn_blocking`**, never
//! on an actor's thread.
//!
//! In a `run` string an expression becomes an environment variable, never shell text: see [`RunString`].

mod program;
mod run;
mod scope;
mod shell;
mod template;

pub(crate) use program::on_big_stack;
pub use program::{Expr, NAMES};
pub use run::{Rendered, Run, RunArgv, RunString};
pub use scope::Scope;
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
