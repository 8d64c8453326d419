//! Steps: the parts of a build. Each file here turns one kind of configured step into what it does.
//!
//! *To add one*: its settings in `config`, a file here with an `async fn run(…) -> Result<StepEnd, RunError>`, an arm in
//! [`crate::builds::run`]'s `execute`.

pub(crate) mod git;
pub(crate) mod names;
pub(crate) mod render;
pub(crate) mod set_property;
pub(crate) mod shell;
pub(crate) mod warnings;

use greenroom_model::Results;

/// How a step ended, before it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepEnd {
    pub results: Results,
    /// A short text for people.
    pub text: String,
}

impl StepEnd {
    pub fn new(results: Results, text: impl Into<String>) -> Self {
        Self { results, text: text.into() }
    }

    pub fn exception(why: impl std::fmt::Display) -> Self {
        Self::new(Results::Exception, why.to_string())
    }
}
