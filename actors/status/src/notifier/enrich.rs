//! From what the outbox stores to what a message says.
//!
//! It happens when a message is sent, off the path of builds, and reads a bounded amount: the builds before it on its branch (see
//! `history`), its steps, one log's end, the changes in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use greenroom_config::Notifier;
use greenroom_config::mask::Masks;
use greenroom_data::error_line::{error_line, plain};
use greenroom_data::{DataError, Ro};
use greenroom_model::{
    Build, Buildset, Change, Log, Properties, Query, Results, SourceStamp, Step, Timestamp, Worker,
};

use super::decide::{detected, is_good};
use super::facts::Facts;
use super::history::{History, changes_since, deciding_step, with_buildsets};
use super::links;
use super::seed::Seed;
use crate::notice::*;
use crate::transport::Farm;

/// The most lines of a log's end that a message holds.
const TAIL: usize = 100;
/// The longest of them, in characters.
const LINE: usize = 1_000;
/// How many lines of a log's end are searched for the error.
const SEARCHED: i64 = 400;
/// The longest commit message, in characters.
const COMMENTS: usize = 4_096;
/// The most files of a change.
const FILES: usize = 50;
/// The largest properties in a message, as JSON, in bytes each.
const PROPERTY: usize = 1_024;
/// The most properties in a message.
const PROPERTIES: usize = 200;
/// The most lines of a digest.
const DIGEST_LINES: usize = 100;
/// The most people that a line of a digest names.
const DIGEST_BLAME: usize = 10;

/// Writes messages.
pub struct Enrich<'a> {
    /// Where everything is read.
    pub ro: &'a Ro,
    /// Whose messages they are.
    pub notifier: &'a Notifier,
    /// Who speaks.
    pub farm: &'a Farm,
    /// What must not be told.
    pub masks: Masks,
}

impl Enrich<'_> {
    /// What a message says; none if what it is about is gone.
    pub async fn notice(&self, seed: &Seed) -> Result<Option<Notice>, DataError> {
        Ok(match seed {
            Seed::Build { build, event, .. } => {
                let Some(build) = self.ro.get::<Build>(build.0).await?.value else { return Ok(None) };
                let Some(facts) = Facts::read(self.ro, &build.entity).await? else { return Ok(None) };
                Some(Notice::Build(Box::new(self.build(&facts, *event).await?)))
            }
            Seed::Buildset { buildset, modes, builds, more, .. } => {
                let Some(set) = self.ro.get::<Buildset>(buildset.0).await?.value else { return Ok(None) };
                let mut notices = Vec::new();
                for build in builds {
                    let Some(build) = self.ro.get::<Build>(build.0).await?.value else { continue };
                    let Some(facts) = Facts::read(self.ro, &build.entity).await? else { continue };
                    notices.push(self.build(&facts, BuildEvent::Finished).await?);
                }
                Some(Notice::Buildset(Box::new(BuildsetNotice {
                    buildset: *buildset,
                    results: set.results.unwrap_or(Results::Exception),
                    modes: modes.clone(),
                    reason: set.reason.clone(),
                    scheduler: set.scheduler.clone(),
                    sources: sources(&set.sourcestamps, &Properties::new()),
                    builds: notices,
                    more_builds: *more,
                    submitted_at: set.submitted_at,
                    complete_at: set.complete_at,
                })))
            }
            Seed::Worker { worker, since } => {
                let worker = self.ro.get::<Worker>(worker.0).await?.value;
                worker.map(|it| Notice::WorkerMissing(self.worker(&it, *since)))
            }
            Seed::Test { by, at } => Some(Notice::Test(TestNotice { by: by.clone(), at: *at })),
            Seed::Digest { .. } => Some(Notice::Digest(self.digest(seed).await?)),
        })
    }

    fn worker(&self, worker: &Worker, since: Timestamp) -> WorkerNotice {
        let info = worker.info.clone().unwrap_or_default();
        WorkerNotice {
            worker: worker.id,
            name: worker.name.clone(),
            url: links::worker(self.farm, &worker.name),
            since,
            admin: info.admin.map(|it| it.trim().to_owned()),
            host: info.host.map(|it| it.trim().to_owned()),
        }
    }

    fn build_ref(&self, facts: &Facts) -> BuildRef {
        BuildRef {
            build: facts.build.id,
            number: facts.build.number,
            url: links::build(self.farm, &facts.builder.name, facts.build.number),
            results: facts.build.results.unwrap_or(Results::Exception),
        }
    }

    /// What a message about a build says.
    pub async fn build(&self, facts: &Facts, event: BuildEvent) -> Result<BuildNotice, DataError> {
        let (build, builder, buildset) = (&facts.build, &facts.builder, &facts.buildset);
        let story = Story::read(self.ro, self.notifier, facts).await?;
        let bad = build.results.is_some_and(|it| !is_good(it));
        let base =
            if bad { story.last_good.as_ref().or(story.oldest.as_ref()) } else { story.previous.as_ref() };
        let (changes, more_changes) = changes_since(self.ro, base, facts).await?;
        let properties = self.ro.build_properties(&[build.id]).await?.value;
        let properties = properties.get(&build.id).cloned().unwrap_or_default();
        let first_failure = bad.then(|| story.first_failure.as_ref().unwrap_or(facts));
        let begun = first_failure.or(story.run_start.as_ref()).unwrap_or(facts);
        let hot = self.ro.hot();
        let project = builder.project.and_then(|it| hot.projects.get(&it.0)).map(|it| it.name.clone());
        let previous = story.previous.as_ref().and_then(|it| it.build.results);
        Ok(BuildNotice {
            event,
            build: build.id,
            number: build.number,
            url: links::build(self.farm, &builder.name, build.number),
            builder: builder.id,
            builder_name: builder.name.clone(),
            builder_url: links::builder(self.farm, &builder.name),
            tags: builder.tags.clone(),
            project,
            worker: hot.workers.get(&build.worker.0).map(|it| it.name.clone()).unwrap_or_default(),
            results: build.results.filter(|_| event == BuildEvent::Finished),
            modes: match event {
                BuildEvent::Started => vec![greenroom_config::Mode::Started],
                BuildEvent::Finished => build.results.map(|it| detected(it, previous)).unwrap_or_default(),
            },
            state_string: self.masks.mask(&build.state_string).into_owned(),
            previous: story.previous.as_ref().map(|it| self.build_ref(it)),
            last_good: story.last_good.as_ref().map(|it| self.build_ref(it)),
            first_failure: first_failure.map(|it| self.build_ref(it)),
            thread: format!("{}.{}", builder.id, begun.build.id),
            sources: sources(&buildset.sourcestamps, &properties),
            buildset: buildset.id,
            reason: buildset.reason.clone(),
            scheduler: buildset.scheduler.clone(),
            owners: owners(&properties),
            blame: blame(&changes),
            changes: changes.iter().map(|it| change(it)).collect(),
            more_changes,
            step: match event {
                BuildEvent::Started => None,
                BuildEvent::Finished => self.step(facts).await?,
            },
            properties: short(&properties),
            started_at: build.started_at,
            complete_at: build.complete_at.filter(|_| event == BuildEvent::Finished),
        })
    }

    async fn step(&self, facts: &Facts) -> Result<Option<StepNotice>, DataError> {
        let Some(step) = deciding_step(self.ro, &facts.build).await? else { return Ok(None) };
        let logs = self.ro.list::<Log>(Query::default().eq("stepid", step.id.0)).await?.value.items;
        let log = logs.iter().find(|it| it.slug == "stdio").or(logs.first());
        let Some(log) = log else { return Ok(Some(self.step_notice(&step, None, Vec::new()))) };
        let first = (log.num_lines - SEARCHED).max(0);
        let text = self.ro.log_lines(log.id, first, SEARCHED).await?.text;
        let text = String::from_utf8_lossy(&text);
        let masked = self.masks.mask(&text);
        let lines = masked.lines().filter_map(|line| plain(line, log.kind, LINE)).collect();
        let notice = LogNotice {
            log: log.id,
            name: log.name.clone(),
            slug: log.slug.clone(),
            num_lines: log.num_lines,
            url: links::log(self.farm, &facts.builder.name, facts.build.number, step.number, &log.slug),
        };
        Ok(Some(self.step_notice(&step, Some(notice), lines)))
    }

    fn step_notice(&self, step: &Step, log: Option<LogNotice>, mut lines: Vec<String>) -> StepNotice {
        let error = error_line(lines.iter().map(String::as_str)).map(|at| lines[at].trim().to_owned());
        StepNotice {
            step: step.id,
            number: step.number,
            name: step.name.clone(),
            state_string: self.masks.mask(&step.state_string).into_owned(),
            results: step.results,
            log,
            first_error: error,
            tail: lines.split_off(lines.len().saturating_sub(TAIL)),
        }
    }

    async fn digest(&self, seed: &Seed) -> Result<DigestNotice, DataError> {
        let Seed::Digest { since, until, reason, total, builds, workers } = seed else {
            return Err(DataError::unavailable("not a digest"));
        };
        let ids: Vec<i64> = builds.iter().map(|it| it.0).collect();
        let mut found = Vec::new();
        for piece in ids.chunks(500) {
            let page = self
                .ro
                .list::<Build>(Query::default().any("buildid", piece.iter().copied()))
                .await?
                .value
                .items;
            found.extend(page.into_iter().map(|it| it.entity));
        }
        let mut counts = BTreeMap::new();
        let mut lines: BTreeMap<i64, (u64, Results, Arc<Build>)> = BTreeMap::new();
        for build in found {
            let results = build.results.unwrap_or(Results::Exception);
            *counts.entry(results.word().to_owned()).or_insert(0) += 1;
            let line = lines.entry(build.builder.0).or_insert((0, results, build.clone()));
            line.0 += 1;
            line.1 = line.1.worst_of(results);
            if build.number > line.2.number {
                line.2 = build;
            }
        }
        let mut lines: Vec<_> = lines.into_values().collect();
        lines.sort_by_key(|(messages, _, last)| (std::cmp::Reverse(*messages), last.builder));
        let more_lines = (lines.len() + workers.len()).saturating_sub(DIGEST_LINES);
        lines.truncate(DIGEST_LINES);
        let mut shown = Vec::new();
        for (messages, worst, last) in lines {
            shown.extend(self.digest_line(messages, worst, last).await?);
        }
        for worker in workers.iter().take(DIGEST_LINES.saturating_sub(shown.len())) {
            let Some(worker) = self.ro.get::<Worker>(worker.0).await?.value else { continue };
            shown.push(DigestLine {
                name: format!("worker {} is missing", worker.name),
                url: links::worker(self.farm, &worker.name),
                messages: 1,
                worst: None,
                last: None,
                step: None,
                blame: Vec::new(),
            });
        }
        Ok(DigestNotice {
            since: *since,
            until: *until,
            total: *total,
            counts,
            lines: shown,
            more_lines,
            reason: reason.clone(),
            url: self.farm.url.clone(),
        })
    }

    async fn digest_line(
        &self,
        messages: u64,
        worst: Results,
        last: Arc<Build>,
    ) -> Result<Option<DigestLine>, DataError> {
        let Some(builder) = self.ro.hot().builders.get(&last.builder.0).map(|it| it.entity.clone()) else {
            return Ok(None);
        };
        let Some((last, buildset)) = with_buildsets(self.ro, vec![last]).await?.pop() else {
            return Ok(None);
        };
        let facts = Facts { build: last, builder, buildset };
        let (changes, _) = changes_since(self.ro, None, &facts).await?;
        let mut blame = blame(&changes);
        blame.truncate(DIGEST_BLAME);
        let step = deciding_step(self.ro, &facts.build).await?;
        Ok(Some(DigestLine {
            name: facts.builder.name.clone(),
            url: links::builder(self.farm, &facts.builder.name),
            messages,
            worst: Some(worst),
            last: Some(self.build_ref(&facts)),
            step: step.map(|it| it.name.clone()),
            blame,
        }))
    }
}

/// What came before a build.
#[derive(Default)]
struct Story {
    previous: Option<Facts>,
    last_good: Option<Facts>,
    /// The first failure since the last good build.
    first_failure: Option<Facts>,
    /// The first failure of the run that this (good) build ends.
    run_start: Option<Facts>,
    /// The oldest that was looked at.
    oldest: Option<Facts>,
}

impl Story {
    async fn read(ro: &Ro, notifier: &Notifier, facts: &Facts) -> Result<Self, DataError> {
        let mut history = History::before(ro, notifier, facts);
        let mut story = Story::default();
        let good = facts.build.results.is_none_or(is_good);
        while let Some(past) = history.next().await? {
            story.oldest = Some(past.clone());
            story.previous.get_or_insert_with(|| past.clone());
            if past.build.results.is_some_and(is_good) {
                story.last_good = Some(past);
                break;
            }
            if good {
                story.run_start = Some(past);
            } else {
                story.first_failure = Some(past);
            }
        }
        Ok(story)
    }
}

/// The sources of a build: what was asked for, and the revision that it got.
pub(crate) fn sources(stamps: &[Arc<SourceStamp>], properties: &Properties) -> Vec<SourceNotice> {
    let got = properties.get("got_revision").map(|it| &it.0);
    let found = |codebase: &str| {
        let value = got.and_then(|it| if it.is_object() { it.get(codebase) } else { Some(it) });
        value.and_then(serde_json::Value::as_str).map(str::to_owned)
    };
    let notice = |stamp: &Arc<SourceStamp>| SourceNotice {
        codebase: stamp.codebase.clone(),
        repository: without_user(&stamp.repository),
        project: stamp.project.clone(),
        branch: stamp.branch.clone(),
        revision: found(&stamp.codebase).or_else(|| stamp.revision.clone()),
        patched: stamp.patch.is_some(),
    };
    stamps.iter().map(notice).collect()
}

/// A URL without the user and password that may stand in it.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(a, p)| (a, Some(p)));
    match (authority.rsplit_once('@'), path) {
        (Some((user, host)), Some(path)) if user.contains(':') => format!("{scheme}://{host}/{path}"),
        (Some((user, host)), None) if user.contains(':') => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    }
}

fn owners(properties: &Properties) -> Vec<String> {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).filter(|it| !it.is_empty());
    let list = properties.get("owners").and_then(|it| it.0.as_array());
    let mut owners: Vec<String> = list.into_iter().flatten().filter_map(text).collect();
    owners.extend(properties.get("owner").and_then(|it| text(&it.0)));
    let mut seen = std::collections::BTreeSet::new();
    owners.retain(|it| seen.insert(it.clone()));
    owners
}

/// The authors, in the order of their newest change, each once.
fn blame(changes: &[Arc<Change>]) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    changes.iter().map(|it| it.author.clone()).filter(|it| seen.insert(it.clone())).collect()
}

fn change(change: &Change) -> ChangeNotice {
    ChangeNotice {
        change: change.id,
        author: change.author.clone(),
        committer: change.committer.clone(),
        comments: change.comments.chars().take(COMMENTS).collect(),
        revision: change.revision.clone(),
        revlink: change.revlink.clone().filter(|it| !it.is_empty()),
        branch: change.branch.clone(),
        files: change.files.iter().take(FILES).cloned().collect(),
        when: change.when,
    }
}

/// Properties that are short enough.
fn short(properties: &Properties) -> BTreeMap<String, serde_json::Value> {
    let fits = |value: &serde_json::Value| value.to_string().len() <= PROPERTY;
    let all = properties.iter().filter(|(_, it)| fits(&it.0));
    all.take(PROPERTIES).map(|(name, it)| (name.clone(), it.0.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::without_user;

    #[test]
    fn passwords_in_addresses_are_not_told() {
        assert_eq!(without_user("https://ann:pw@x.org/r"), "https://x.org/r");
        assert_eq!(without_user("https://ann:pw@x.org"), "https://x.org");
        for fine in ["ssh://git@x.org/r", "https://x.org/r@2", "git@x.org:r"] {
            assert_eq!(without_user(fine), fine);
        }
    }
}
