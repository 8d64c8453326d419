//! What `greenroom check` does.

use serde_json::json;

use crate::fault::render;
use crate::layers::LoadOptions;
use crate::load::load;

/// How to show the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people; with a terminal's colours or without.
    Text {
        /// Whether to colour.
        color: bool,
    },
    /// For editors and CI: `{"ok": …, "faults": […]}`.
    Json,
}

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What to print, with a line end.
    pub text: String,
    /// 0 when the configuration can be used, 1 when not.
    pub exit_code: u8,
}

/// Loads a configuration and says what is wrong with it.
pub fn run(options: &LoadOptions, format: Format) -> Outcome {
    let (ok, faults, summary) = match load(options) {
        Ok(loaded) => {
            let settings = &loaded.settings;
            let counts = [
                (settings.builders.len(), "builder"),
                (settings.workers.len(), "worker"),
                (settings.schedulers.len(), "scheduler"),
                (settings.change_sources.len(), "change source"),
            ];
            let counts =
                counts.map(|(count, word)| format!("{count} {word}{}", if count == 1 { "" } else { "s" }));
            (true, loaded.warnings, format!("the configuration is good: {}\n", counts.join(", ")))
        }
        Err(faults) => (false, faults.into_vec(), String::new()),
    };
    let text = match format {
        Format::Json => {
            let faults: serde_json::Value = faults.iter().map(crate::Fault::to_json).collect();
            format!("{}\n", json!({ "ok": ok, "faults": faults }))
        }
        Format::Text { .. } if faults.is_empty() => summary,
        Format::Text { color } => format!("{}\n{summary}", render(&faults, color)),
    };
    Outcome { text, exit_code: u8::from(!ok) }
}
