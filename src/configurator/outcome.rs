//! What came of a wish for another configuration, for whoever asked.

use greenroom_config::{Difference, Faults};
use greenroom_model::{ConfigurationVersion, ControlAnswer};
use serde_json::{Value, json};

/// The most faults that an answer holds as data, and the longest text of them, in bytes.
const MOST_FAULTS: usize = 200;
const LONGEST_TEXT: usize = 64 * 1024;

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The files have faults; nothing was changed.
    Refused {
        /// As `greenroom check` shows them.
        text: String,
        /// As data.
        faults: Value,
    },
    /// It was not possible, or not finished.
    Failed(String),
    /// What is in force, or would be.
    Told(Box<Told>),
}

/// What is in force after a wish, or would be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    /// The number in force.
    pub number: i64,
    /// The number that was in force before.
    pub previous: i64,
    /// Only looked at.
    pub dry_run: bool,
    /// What differs.
    pub difference: Difference,
    /// Keys whose new values take effect at the next start.
    pub next_start: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// Warnings, as `greenroom check` shows them.
    pub warnings: String,
}

impl Outcome {
    /// Of faults.
    pub fn refused(faults: &Faults) -> Self {
        let text = text(faults);
        let faults = faults.iter().take(MOST_FAULTS).map(greenroom_config::Fault::to_json).collect();
        Outcome::Refused { text, faults }
    }

    /// Of an act that was carried out before, and only not answered.
    pub fn carried_out(version: &ConfigurationVersion) -> Self {
        let difference = serde_json::from_value(version.difference.clone()).unwrap_or_default();
        let (number, previous) = (version.number, version.number - 1);
        Outcome::Told(Box::new(Told { number, previous, difference, ..Told::default() }))
    }

    /// As the answer of a control act.
    pub fn answer(self) -> ControlAnswer {
        match self {
            Outcome::Refused { text, faults } => {
                ControlAnswer::Invalid(json!({ "text": text, "faults": faults }))
            }
            Outcome::Failed(why) => ControlAnswer::Failed(why),
            Outcome::Told(told) => ControlAnswer::Done(json!({
                "number": told.number, "previous": told.previous, "dry_run": told.dry_run,
                "changed": !told.difference.is_empty(), "difference": told.difference,
                "text": told.difference.to_string(), "next_start": told.next_start, "notes": told.notes,
                "warnings": told.warnings,
            })),
        }
    }

    /// For the log: whoever reads it learns what is in force since when, and by whom.
    pub fn log(&self, who: &str) {
        match self {
            Outcome::Refused { text, .. } => {
                tracing::error!(who, "the configuration was refused, the one in force stays\n{text}");
            }
            Outcome::Failed(why) => tracing::error!(who, %why, "the configuration was not reloaded"),
            Outcome::Told(told) => tracing::info!(
                who,
                configuration.number = told.number,
                next_start = ?told.next_start,
                "reloaded: {}",
                told.difference.summary()
            ),
        }
    }
}

/// Faults as `greenroom check` shows them, cut off where nobody reads on.
pub(super) fn text(faults: &Faults) -> String {
    let mut text = faults.render(false);
    if text.len() > LONGEST_TEXT {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
        text.push_str("\n…\n");
    }
    text
}
