//! What templates are tried with when the configuration loads: one message of each sort, as `samples/notices.json` has them. A
//! test of the status layer holds that file against what is really sent.

use std::sync::LazyLock;

use serde_json::Value;

use crate::values::{Template, serde_fault};

/// One message of each sort, as templates and webhooks see it.
static SAMPLES: LazyLock<Vec<Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../samples/notices.json")).unwrap_or_default());

/// The samples.
pub(crate) fn samples() -> &'static [Value] {
    &SAMPLES
}

/// Tries a template with every sample.
pub(crate) fn checked<E: serde::de::Error>(template: Template) -> Result<Template, E> {
    tried(template, |_| true)
}

/// Tries a template with those samples that are of single builds.
pub(crate) fn checked_with_builds<E: serde::de::Error>(template: Template) -> Result<Template, E> {
    tried(template, |it| !it["build"].is_null())
}

fn tried<E: serde::de::Error>(template: Template, of: impl Fn(&Value) -> bool) -> Result<Template, E> {
    for sample in SAMPLES.iter().filter(|it| of(it)) {
        if let Err(fault) = template.render(sample) {
            let event = sample["event"].as_str().unwrap_or_default();
            let help = format!(
                "this happens with the event `{event}`; put what only some messages have into {{% if build %}} … {{% endif %}}"
            );
            return Err(serde_fault(fault, help));
        }
    }
    Ok(template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_sample_of_every_event() {
        let events: Vec<&str> = SAMPLES.iter().filter_map(|it| it["event"].as_str()).collect();
        for event in
            ["build.started", "build.finished", "buildset.finished", "digest", "worker.missing", "test"]
        {
            assert!(events.contains(&event), "{event} in {events:?}");
        }
    }
}
