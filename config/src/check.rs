//! What `greenroom check` does.

use serde_json::{Value, json};

use crate::Settings;
use crate::fault::{Fault, Severity, render};
use crate::layers::LoadOptions;
use crate::load::load;

/// The version of the form that `--json` prints. It grows when a field goes or changes its meaning, not when one is added.
const JSON_VERSION: u32 = 1;

/// How to show the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people; with a terminal's colours or without.
    Text {
        /// Whether to colour.
        color: bool,
    },
    /// For editors and CI: `{"version": 1, "ok": …, "faults": […]}`; see `docs/reference/check.md`.
    Json,
}

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What to print, with a line end.
    pub text: String,
    /// 0 when the configuration can be used, 1 when not (or when it has warnings, if these are denied).
    pub exit_code: u8,
}

/// Loads a configuration and says what is wrong with it.
pub fn run(options: &LoadOptions, format: Format, deny_warnings: bool) -> Outcome {
    let (settings, faults) = match load(options) {
        Ok(loaded) => (Some(loaded.settings), loaded.warnings),
        Err(faults) => (None, faults.into_vec()),
    };
    let ok = settings.is_some() && (faults.is_empty() || !deny_warnings);
    let text = match format {
        Format::Json => format!("{}\n", to_json(ok, &faults, settings.as_ref())),
        Format::Text { color } => to_text(ok, &faults, settings.as_ref(), color),
    };
    Outcome { text, exit_code: u8::from(!ok) }
}

fn to_text(ok: bool, faults: &[Fault], settings: Option<&Settings>, color: bool) -> String {
    let mut text = String::new();
    if !faults.is_empty() {
        text = render(faults, color);
        text.push('\n');
    }
    match settings {
        Some(settings) if ok => {
            let counts = counts(settings).map(|(word, count)| {
                format!("{count} {}{}", word.replace('_', " "), if count == 1 { "" } else { "s" })
            });
            text.push_str(&format!("the configuration is good: {}\n", counts.join(", ")));
        }
        Some(_) => text.push_str("the configuration can be used, but warnings are denied\n"),
        None => {}
    }
    let worst = faults.iter().min_by_key(|it| it.severity);
    if let Some(fault) = worst {
        text.push_str(&format!("`greenroom check --explain {}` says more about such a fault\n", fault.code));
    }
    text
}

fn to_json(ok: bool, faults: &[Fault], settings: Option<&Settings>) -> Value {
    let of = |severity| faults.iter().filter(|it| it.severity == severity).count();
    let counts =
        settings.map(|it| counts(it).into_iter().map(|(word, count)| (format!("{word}s"), json!(count))));
    json!({
        "version": JSON_VERSION,
        "ok": ok,
        "errors": of(Severity::Error),
        "warnings": of(Severity::Warning),
        "counts": counts.map(serde_json::Map::from_iter),
        "faults": faults.iter().map(Fault::to_json).collect::<Value>(),
    })
}

/// How much of what there is.
fn counts(settings: &Settings) -> [(&'static str, usize); 4] {
    [
        ("builder", settings.builders.len()),
        ("worker", settings.workers.len()),
        ("scheduler", settings.schedulers.len()),
        ("change_source", settings.change_sources.len()),
    ]
}
