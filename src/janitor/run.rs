//! One look through the whole history, in small pieces with pauses between.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_config::Retention as Section;
use greenroom_data::DataError;
use greenroom_data::retention::{Remove, Removed, Retention};
use greenroom_model::{BuildId, BuilderId, BuildsetId, ChangeId, Timestamp};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::policy::{Verdict, Walk};

/// Builds that one read looks at.
const PAGE: u64 = 250;
/// Builds that one transaction removes. A write that comes meanwhile waits for it.
const STEP: usize = 3;
/// How many times as long as a transaction the pause after it is: so much more of the writer's time is left to builds.
const PAUSES: u32 = 3;
/// The longest pause after a transaction.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What goes of a builder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfBuilder {
    /// Builds that go.
    pub builds: u64,
    /// Builds that stay and lose their logs.
    pub logs_of_builds: u64,
    /// Bytes of log text that go, before compression; known in a dry run, and where bytes decide.
    pub log_bytes: u64,
}

/// What went, or would go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// By name; builders of which nothing goes are left out.
    pub builders: BTreeMap<String, OfBuilder>,
    /// Changes that no build is about.
    pub changes: u64,
    /// Buildsets without a build.
    pub buildsets: u64,
}

impl Report {
    /// As an act's answer has it.
    pub fn json(&self) -> Value {
        let of = |it: &OfBuilder| json!({ "builds": it.builds, "logs_of_builds": it.logs_of_builds, "log_bytes": it.log_bytes });
        let builders: BTreeMap<&String, Value> =
            self.builders.iter().map(|(name, it)| (name, of(it))).collect();
        json!({ "builders": builders, "changes": self.changes, "buildsets": self.buildsets })
    }
}

/// What is told of rows as they go.
pub type Told<'a> = dyn Fn(&Removed) + Send + Sync + 'a;

/// Looks, and removes unless it is only to be said what would go.
pub async fn run(
    data: &Retention,
    section: &Section,
    dry_run: bool,
    told: &Told<'_>,
) -> Result<Report, DataError> {
    let mut work = Work { data, section, dry_run, told, report: Report::default() };
    let hot = data.ro().hot();
    let builders: Vec<(BuilderId, String)> = hot.builders.values().map(|b| (b.id, b.name.clone())).collect();
    drop(hot);
    for (id, name) in builders {
        work.builder(id, name).await?;
    }
    if section.enabled {
        work.loose(false).await?;
        work.loose(true).await?;
        work.acts().await?;
    }
    Ok(work.report)
}

struct Work<'a> {
    data: &'a Retention,
    section: &'a Section,
    dry_run: bool,
    told: &'a Told<'a>,
    report: Report,
}

impl Work<'_> {
    async fn builder(&mut self, id: BuilderId, name: String) -> Result<(), DataError> {
        let policy = self.section.of(&name);
        if !policy.enabled {
            return Ok(());
        }
        let (mut walk, mut goes) = (Walk::new(policy, self.data.now()), OfBuilder::default());
        let mut below = i64::MAX;
        loop {
            let page = self.data.facts(id, below, PAGE).await?;
            let Some(last) = page.last() else { break };
            below = last.number;
            let bytes = match self.dry_run || walk.needs_bytes() {
                true => self.data.log_bytes(page.iter().map(|b| b.id).collect()).await?,
                false => Default::default(),
            };
            let (mut builds, mut logs_of) = (Vec::new(), Vec::new());
            for build in &page {
                let bytes = bytes.get(&build.id).copied().unwrap_or(0);
                let verdict = walk.next(build, bytes);
                match verdict {
                    Verdict::Keep => continue,
                    Verdict::Drop => builds.push(build.id),
                    Verdict::DropLogs => logs_of.push(build.id),
                }
                goes.log_bytes += bytes;
            }
            goes.builds += builds.len() as u64;
            goes.logs_of_builds += logs_of.len() as u64;
            self.remove(builds, logs_of).await?;
        }
        if goes != OfBuilder::default() {
            self.report.builders.insert(name, goes);
        }
        Ok(())
    }

    /// Removes builds and logs in small pieces.
    async fn remove(&self, builds: Vec<BuildId>, logs_of: Vec<BuildId>) -> Result<(), DataError> {
        for piece in builds.chunks(STEP) {
            self.step(Remove { builds: piece.to_vec(), ..Remove::default() }).await?;
        }
        for piece in logs_of.chunks(STEP) {
            self.step(Remove { logs_of: piece.to_vec(), ..Remove::default() }).await?;
        }
        Ok(())
    }

    /// One transaction, then a pause.
    async fn step(&self, what: Remove) -> Result<Removed, DataError> {
        if self.dry_run {
            return Ok(Removed::default());
        }
        let begun = Instant::now();
        let removed = self.data.remove(Remove { at: self.data.now(), ..what }).await?;
        (self.told)(&removed);
        pause_after(begun).await;
        Ok(removed)
    }

    /// Old entries of the audit log.
    async fn acts(&self) -> Result<(), DataError> {
        let acts_before = Some(self.older_than(self.section.audit_age));
        while self.step(Remove { acts_before, ..Remove::default() }).await?.acts > 0 {}
        Ok(())
    }

    fn older_than(&self, age: greenroom_config::values::Duration) -> Timestamp {
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.data.now().0.saturating_sub(age))
    }

    /// Changes that no build is about, or buildsets that never had a build.
    async fn loose(&mut self, changes: bool) -> Result<(), DataError> {
        let before = self.older_than(self.section.change_age);
        let mut after = Some(0);
        while let Some(from) = after {
            let page = self.data.loose_ends(changes, before, from, PAGE).await?;
            after = page.next;
            for piece in page.ids.chunks(STEP) {
                let what = match changes {
                    true => Remove {
                        changes: piece.iter().map(|id| ChangeId(*id)).collect(),
                        ..Remove::default()
                    },
                    false => Remove {
                        buildsets: piece.iter().map(|id| BuildsetId(*id)).collect(),
                        ..Remove::default()
                    },
                };
                self.step(what).await?;
            }
            let count = page.ids.len() as u64;
            if changes {
                self.report.changes += count;
            } else {
                self.report.buildsets += count;
            }
        }
        Ok(())
    }
}

async fn pause_after(begun: Instant) {
    sleep((begun.elapsed() * PAUSES).min(LONGEST_PAUSE)).await;
}

/// Removes the text of logs that are gone, in pieces with pauses. Answers of how many.
pub async fn sweep(data: &Retention) -> Result<u64, DataError> {
    let mut logs = 0;
    loop {
        let begun = Instant::now();
        let (swept, more) = data.sweep_logs().await?;
        logs += swept;
        if !more {
            return Ok(logs);
        }
        pause_after(begun).await;
    }
}
