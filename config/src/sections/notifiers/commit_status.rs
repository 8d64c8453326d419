//! `kind = "github-status"`, `"gitlab-status"` and `"gitea-status"`: the state of a build beside its commit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::samples::checked_with_builds;
use crate::values::{Escape, Secret, Template, WebUrl, serde_fault, template_fault};

/// The keys of a notifier that shows the state of commits.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CommitStatus {
    /// The API's URL; the public forge's when left out (Gitea and Forgejo have none).
    pub base_url: Option<WebUrl>,
    /// What it proves itself with.
    pub token: Secret,
    /// Template of the status's name: statuses of the same name replace each other.
    #[serde(default = "context", deserialize_with = "template")]
    pub context: Template,
    /// Template of the text beside it; what the forge does not take is cut off.
    #[serde(default = "description", deserialize_with = "template")]
    pub description: Template,
    /// `owner/name`, when all builds are of one repository whose URL does not tell it.
    #[serde(default, deserialize_with = "repository")]
    pub repository: Option<String>,
    /// `owner/name` of repositories whose URL does not tell it, by their URL.
    #[serde(default, deserialize_with = "repositories")]
    pub repositories: BTreeMap<String, String>,
    /// Whether it may talk to private and loopback addresses.
    #[serde(default)]
    pub allow_private: bool,
    /// Authorities to trust beside the system's: a PEM file.
    pub tls_ca: Option<PathBuf>,
}

/// Whether a text names a repository: `owner/name`, or deeper for groups in groups.
pub fn is_repository(text: &str) -> bool {
    let part = |it: &str| {
        let fits = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '_' | '-');
        !it.is_empty() && it != "." && it != ".." && it.chars().all(fits)
    };
    text.contains('/') && text.len() <= 500 && text.split('/').all(part)
}

fn repository<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if is_repository(&text) { Ok(Some(text)) } else { Err(no_repository(&text)) }
}

fn repositories<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let map = BTreeMap::<String, String>::deserialize(deserializer)?;
    match map.values().find(|it| !is_repository(it)) {
        Some(text) => Err(no_repository(text)),
        None => Ok(map),
    }
}

fn no_repository<E: serde::de::Error>(text: &str) -> E {
    serde_fault(format_args!("`{}` names no repository", text.escape_debug()), "write it like \"owner/name\"")
}

fn template<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Template, D::Error> {
    let source = String::deserialize(deserializer)?;
    checked_with_builds(Template::parse("template", &source, Escape::Plain).map_err(template_fault)?)
}

fn built_in(source: &str) -> Template {
    // A test renders both.
    Template::parse("template", source, Escape::Plain).unwrap_or_else(|_| Template::empty())
}

fn context() -> Template {
    built_in("greenroom/{{ build.builder.name }}")
}

fn description() -> Template {
    built_in(
        "{% if build.result %}{{ build.result }}{% if build.duration_s %} in {{ build.duration_s }} s{% endif %}\
         {% if build.step %}: {{ build.step.name }}{% if build.step.first_error %}: {{ build.step.first_error }}{% endif %}{% endif %}\
         {% else %}running on {{ build.worker }}{% endif %}",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_templates_fit_every_build() {
        for built_in in [context(), description()] {
            assert!(!built_in.source().is_empty());
            checked_with_builds::<serde::de::value::Error>(built_in).unwrap();
        }
    }

    #[test]
    fn a_repository_has_an_owner_and_no_tricks() {
        assert!(is_repository("octo/hello") && is_repository("group/sub.group/hello_x-1"));
        for bad in [
            "",
            "hello",
            "/hello",
            "octo/",
            "octo/../admin",
            "octo/hello?x",
            "octo/he llo",
            "a//b",
            "octo/%2e%2e",
        ] {
            assert!(!is_repository(bad), "{bad}");
        }
    }
}
