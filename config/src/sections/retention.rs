//! `[retention]`: how long history is kept.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::extract::{Parts, Report};
use crate::fault::Fault;
use crate::values::{Duration, Patterns, Size};

/// Nothing younger than this goes by its age, however it is set.
const YOUNGEST: Duration = Duration::from_secs(3600);
/// The shortest pause between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_secs(60);

/// The `[retention]` section. Ages and counts hold for each builder and branch by itself.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Retention {
    /// Whether anything is removed at all.
    pub enabled: bool,
    /// How often it is looked what may go.
    pub every: Duration,
    /// Builds older than this go, with their steps, logs, properties and requests.
    pub build_age: Duration,
    /// Of each branch so many of a builder's newest builds stay; older ones go however young.
    pub build_count: NonZeroU32,
    /// So many of the newest successful builds of a builder and branch never go, nor do their logs.
    pub keep_good: u32,
    /// Logs of builds older than this go; the builds stay.
    pub log_age: Duration,
    /// Of each branch so many of a builder's newest builds keep their logs.
    pub log_count: NonZeroU32,
    /// The newest logs of a builder and branch stay up to so many bytes of text together, before compression; no limit unless set.
    pub log_bytes: Option<Size>,
    /// Changes that no build is about go when they are older than this, and so do requests that never became a build.
    pub change_age: Duration,
    /// Entries of the audit log older than this go, once they are answered; their idempotency keys with them.
    pub audit_age: Duration,
    /// What differs for builders, by their name or a glob such as `release-*`. Of several that match, the longer glob wins, and the
    /// name itself over all.
    pub builders: BTreeMap<String, RetentionPatch>,
}

/// The part of `[retention]` that differs for some builders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[allow(missing_docs)] // as in `Retention`
pub struct RetentionPatch {
    pub enabled: Option<bool>,
    pub build_age: Option<Duration>,
    pub build_count: Option<NonZeroU32>,
    pub keep_good: Option<u32>,
    pub log_age: Option<Duration>,
    pub log_count: Option<NonZeroU32>,
    pub log_bytes: Option<Size>,
}

/// What holds for one builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // as in `Retention`
pub struct RetentionPolicy {
    pub enabled: bool,
    pub build_age: Duration,
    pub build_count: u32,
    pub keep_good: u32,
    pub log_age: Duration,
    pub log_count: u32,
    pub log_bytes: Option<u64>,
}

impl Retention {
    /// What holds for a builder, configured or not.
    pub fn of(&self, builder: &str) -> RetentionPolicy {
        let mut policy = RetentionPolicy {
            enabled: self.enabled,
            build_age: self.build_age,
            build_count: self.build_count.get(),
            keep_good: self.keep_good,
            log_age: self.log_age,
            log_count: self.log_count.get(),
            log_bytes: self.log_bytes.map(Size::bytes),
        };
        let matches = |glob: &str| {
            glob == builder || Patterns::parse(vec![glob.to_owned()]).is_ok_and(|it| it.matches(builder))
        };
        let mut patches: Vec<_> = self.builders.iter().filter(|(glob, _)| matches(glob)).collect();
        patches.sort_by_key(|(glob, _)| (*glob == builder, glob.len()));
        for (_, patch) in patches {
            // whoever switches all of it off means that for every builder
            policy.enabled = self.enabled && patch.enabled.unwrap_or(policy.enabled);
            policy.build_age = patch.build_age.unwrap_or(policy.build_age);
            policy.build_count = patch.build_count.map_or(policy.build_count, NonZeroU32::get);
            policy.keep_good = patch.keep_good.unwrap_or(policy.keep_good);
            policy.log_age = patch.log_age.unwrap_or(policy.log_age);
            policy.log_count = patch.log_count.map_or(policy.log_count, NonZeroU32::get);
            policy.log_bytes = patch.log_bytes.map(Size::bytes).or(policy.log_bytes);
        }
        policy
    }
}

/// Checks the section.
pub(crate) fn check(parts: &Parts, report: &mut Report<'_>) {
    let Some(it) = &parts.retention else { return };
    let at = |key: &str| vec!["retention".to_owned(), key.to_owned()];
    let ages = [
        ("build-age", it.build_age),
        ("log-age", it.log_age),
        ("change-age", it.change_age),
        ("audit-age", it.audit_age),
    ];
    for (key, age) in ages {
        too_young(&at(key), key, age, report);
    }
    if it.every < SHORTEST_PAUSE {
        let fault = Fault::error("bad-value", format!("`every` is shorter than {SHORTEST_PAUSE}"))
            .help("whatever goes has been kept for long: once an hour is often enough");
        report.push(&at("every"), false, fault);
    }
    if it.log_age > it.build_age && report.is_set(&at("log-age")) {
        outlives(&at("log-age"), it.build_age, report);
    }
    for (name, patch) in &it.builders {
        let at =
            |key: &str| vec!["retention".to_owned(), "builders".to_owned(), name.clone(), key.to_owned()];
        if let Err(why) = Patterns::parse(vec![name.clone()]) {
            let path = ["retention", "builders", name].map(str::to_owned);
            report.push(
                &path,
                true,
                Fault::error("bad-value", why).help("name a builder, or use `*` and `?`"),
            );
        }
        for (key, age) in [("build-age", patch.build_age), ("log-age", patch.log_age)] {
            if let Some(age) = age {
                too_young(&at(key), key, age, report);
            }
        }
        let builds = patch.build_age.unwrap_or(it.build_age);
        if patch.log_age.is_some_and(|logs| logs > builds) {
            outlives(&at("log-age"), builds, report);
        }
    }
}

fn too_young(path: &[String], key: &str, age: Duration, report: &mut Report<'_>) {
    if age < YOUNGEST {
        let fault = Fault::error("bad-value", format!("`{key}` is shorter than {YOUNGEST}"))
            .help("use days: \"30d\"; `enabled = false` keeps everything");
        report.push(path, false, fault);
    }
}

fn outlives(path: &[String], builds: Duration, report: &mut Report<'_>) {
    let message = format!("logs go with their builds, which stay for {builds}");
    report.push(path, false, Fault::warning("no-effect", message).help("raise `build-age`, too"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(more: &str) -> Retention {
        let text = format!(
            "enabled = true\nevery = '1h'\nbuild-age = '365d'\nbuild-count = 1000\nkeep-good = 3\nlog-age = '90d'\n\
             log-count = 500\nchange-age = '365d'\naudit-age = '365d'\n[builders]\n{more}"
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn the_nearest_override_wins() {
        let it = section(
            "'*' = { log-age = '7d', keep-good = 1 }\n'release-*' = { log-age = '30d', log-bytes = '1 GiB' }\n\
             release-1 = { build-count = 5 }",
        );
        let days = |n: u32| Duration::from_secs(n * 86_400);
        let of = it.of("release-1");
        assert_eq!((of.log_age, of.keep_good, of.build_count), (days(30), 1, 5));
        assert_eq!(of.log_bytes, Some(1 << 30));
        let other = it.of("nightly");
        assert_eq!((other.log_age, other.build_count, other.log_bytes), (days(7), 1000, None));
        assert_eq!(other.build_age, days(365));
    }

    #[test]
    fn off_is_off_and_one_builder_can_be_kept() {
        let mut it = section("nightly = { enabled = false }");
        assert!(it.of("b").enabled && !it.of("nightly").enabled);
        it.enabled = false;
        it.builders.insert("b".into(), RetentionPatch { enabled: Some(true), ..Default::default() });
        assert!(!it.of("b").enabled);
    }
}
