//! Answers from the state. Each is bounded: what is longer ends in a link to the page.

use std::collections::BTreeSet;

use greenroom_data::{DataError, Hot, Shown};
use greenroom_model::*;

use super::parse::{Listed, Scope};
use super::{Desk, MOST_LINES, enumerate, named};
use crate::irc::announce::{Style, duration, joined, short_revision};
use crate::irc::text::brief;

/// How many builds `status` and `last` show when nothing is asked for in particular.
const FEW: usize = 5;
/// How many waiting requests of one builder are explained.
const EXPLAINED: usize = 3;

/// What people are told when the database does not answer.
pub(super) fn unreadable(error: DataError) -> String {
    format!("the state cannot be read now: {error}")
}

impl Desk {
    pub(super) async fn list(&self, what: Listed, all: bool, rows: usize) -> Result<Vec<String>, String> {
        let hot = self.ro.hot();
        Ok(match what {
            Listed::Builders => {
                let known = hot.builders.values().filter(|it| all || !it.masters.is_empty());
                let names: Vec<String> = known.map(|it| named(&it.name)).collect();
                self.listed("builders", names, rows)
            }
            Listed::Workers => {
                let known = hot.workers.values().filter(|it| all || !it.connected_to.is_empty());
                let names: Vec<String> = known.map(|it| worker_in_words(it)).collect();
                let kind = if all { "workers" } else { "connected workers" };
                self.listed(kind, names, rows)
            }
            Listed::Changes => self.changes(rows).await?,
        })
    }

    fn listed(&self, kind: &str, names: Vec<String>, rows: usize) -> Vec<String> {
        if names.is_empty() {
            return vec![format!("no {kind}")];
        }
        let (count, link) = (names.len(), self.page(if kind == "builders" { "builders" } else { "workers" }));
        let link = if count > rows { link } else { String::new() };
        vec![joined(&[format!("{count} {kind}: {}", enumerate(names, rows)), link])]
    }

    async fn changes(&self, rows: usize) -> Result<Vec<String>, String> {
        let rows = rows.min(MOST_LINES - 1) as u64;
        let query = Query::default().order_by("changeid", true).limit(rows);
        let page = self.ro.list::<Change>(query).await.map_err(unreadable)?.value;
        let mut lines: Vec<String> = page.items.iter().map(|it| change_in_words(it)).collect();
        if lines.is_empty() {
            return Ok(vec!["no changes".to_owned()]);
        }
        if page.total > rows {
            let more = format!("… of {} changes", page.total);
            lines.push(joined(&[more, self.page("")]));
        }
        Ok(lines)
    }

    pub(super) async fn status(&self, scope: Scope) -> Result<Vec<String>, String> {
        let hot = self.ro.hot();
        match scope {
            Scope::Builder(name) => {
                let builder = self.builder(&hot, &name)?;
                self.status_of(&hot, &builder).await
            }
            Scope::Whole => Ok(self.running(&hot, FEW)),
            Scope::All => Ok(self.running(&hot, MOST_LINES - 2)),
        }
    }

    fn running(&self, hot: &Hot, rows: usize) -> Vec<String> {
        let running: Vec<_> = hot.running_builds().collect();
        let waiting = hot.waiting_requests().count();
        let connected = hot.workers.values().filter(|it| !it.connected_to.is_empty()).count();
        let mut lines = vec![format!(
            "{} running, {} waiting, {connected} of {} workers connected",
            counted(running.len(), "build"),
            counted(waiting, "request"),
            hot.workers.size()
        )];
        lines.extend(running.iter().take(rows).map(|it| self.running_build(hot, it)));
        if running.len() > rows {
            lines.push(joined(&[format!("… and {} more", running.len() - rows), self.page("")]));
        }
        lines
    }

    fn running_build(&self, hot: &Hot, build: &Build) -> String {
        let name = builder_name(hot, build.builder);
        let worker = hot.workers.get(&build.worker.0).map_or_else(|| "?".to_owned(), |it| named(&it.name));
        let now = Timestamp(self.now());
        let since = duration(now.micros_since(build.started_at));
        let step = hot
            .steps
            .values()
            .find(|it| it.build == build.id && it.started_at.is_some() && it.complete_at.is_none());
        let step = step.map(|it| format!("step {}", named(&it.name))).unwrap_or_default();
        let head = format!("{name} #{} has been running for {since} on {worker}", build.number);
        joined(&[head, step, self.build_page(hot, build)])
    }

    async fn status_of(&self, hot: &Hot, builder: &Builder) -> Result<Vec<String>, String> {
        let waiting = hot.waiting_requests().filter(|it| it.builder == builder.id).count();
        let running: Vec<_> = hot.running_builds().filter(|it| it.builder == builder.id).collect();
        let mut lines: Vec<String> = running.iter().take(FEW).map(|it| self.running_build(hot, it)).collect();
        if running.is_empty() {
            lines.push(self.last_of(hot, builder).await?);
        }
        if waiting > 0 {
            lines.push(format!("{} waiting for {}", counted(waiting, "request"), named(&builder.name)));
        }
        Ok(lines)
    }

    pub(super) async fn last(&self, scope: Scope) -> Result<Vec<String>, String> {
        let hot = self.ro.hot();
        let rows = match scope {
            Scope::Builder(name) => {
                let builder = self.builder(&hot, &name)?;
                return Ok(vec![self.last_of(&hot, &builder).await?]);
            }
            Scope::Whole => FEW,
            Scope::All => MOST_LINES - 1,
        };
        // The newest of each builder, among those that are kept in memory.
        let mut seen = BTreeSet::new();
        let finished = hot.builds.values().rev().filter(|it| it.complete_at.is_some());
        let newest: Vec<_> = finished.filter(|it| seen.insert(it.builder)).take(rows + 1).collect();
        if newest.is_empty() {
            return Ok(vec!["no build has ended yet".to_owned()]);
        }
        let mut lines: Vec<String> = newest.iter().take(rows).map(|it| self.ended_build(&hot, it)).collect();
        if newest.len() > rows {
            lines.push(joined(&["… and more".to_owned(), self.page("builders")]));
        }
        Ok(lines)
    }

    async fn last_of(&self, hot: &Hot, builder: &Builder) -> Result<String, String> {
        Ok(match self.last_ended(builder.id).await? {
            Some(build) => self.ended_build(hot, &build),
            None => format!("no build of {} has ended yet", named(&builder.name)),
        })
    }

    /// The last build of a builder that has ended.
    pub(super) async fn last_ended(&self, builder: BuilderId) -> Result<Option<Shown<Build>>, String> {
        let query = Query::default()
            .eq("builderid", builder.0)
            .eq("complete", true)
            .order_by("buildid", true)
            .limit(1);
        let page = self.ro.list::<Build>(query).await.map_err(unreadable)?.value;
        Ok(page.items.into_iter().next())
    }

    /// How a build ended: `linux #42 failure 3 m ago (test failed) · https://…`.
    pub(crate) fn ended_build(&self, hot: &Hot, build: &Build) -> String {
        let style = Style { colors: self.config.colors };
        let name = style.bold(&builder_name(hot, build.builder));
        let result = build.results.map_or_else(|| "ended".to_owned(), |it| style.result(it));
        let now = Timestamp(self.now());
        let ago = build.complete_at.map(|at| format!(" {} ago", duration(now.micros_since(at))));
        let said = Some(brief(&build.state_string, 120)).filter(|it| !it.is_empty() && it != "finished");
        let head = format!("{name} #{} {result}{}", build.number, ago.unwrap_or_default());
        joined(&[head, said.unwrap_or_default(), self.build_page(hot, build)])
    }

    pub(super) async fn why_waits(&self, what: &str) -> Result<Vec<String>, String> {
        let hot = self.ro.hot();
        if hot.builder_named(what).is_none()
            && let Ok(id) = what.strip_prefix('#').unwrap_or(what).parse()
        {
            return Ok(vec![self.why_request(BuildRequestId(id)).await?]);
        }
        let builder = self.builder(&hot, what)?;
        let waiting: Vec<_> = hot.waiting_requests().filter(|it| it.builder == builder.id).collect();
        if waiting.is_empty() {
            return Ok(vec![format!("no request waits for {}", named(&builder.name))]);
        }
        let mut lines = Vec::new();
        for request in waiting.iter().take(EXPLAINED) {
            lines.push(self.why_request(request.id).await?);
        }
        if waiting.len() > EXPLAINED {
            lines.push(format!("… and {} more", waiting.len() - EXPLAINED));
        }
        Ok(lines)
    }

    async fn why_request(&self, id: BuildRequestId) -> Result<String, String> {
        let found = self.ro.get::<BuildRequest>(id.0).await.map_err(unreadable)?.value;
        let request = found.ok_or_else(|| format!("there is no build request {id}"))?;
        let builder = builder_name(&self.ro.hot(), request.builder);
        let head = format!("request {id} for {builder}");
        Ok(match (request.complete_at, request.claimed_at) {
            (Some(_), _) => {
                let result = request.results.map_or("done", Results::word);
                format!("{head} does not wait: it has ended, {result}")
            }
            (None, Some(_)) => format!("{head} does not wait: it is being built"),
            (None, None) => match self.about.why_waits(id).await {
                Some(why) => format!("{head} waits: {}", brief(&why, 300)),
                None => format!("{head} waits to be looked at"),
            },
        })
    }

    /// The builder of a name.
    pub(super) fn builder(&self, hot: &Hot, name: &str) -> Result<Shown<Builder>, String> {
        let found = hot.builder_named(name).cloned();
        found.ok_or_else(|| format!("there is no builder {}", named(name)))
    }

    fn now(&self) -> i64 {
        self.clock.now_micros()
    }
}

fn builder_name(hot: &Hot, id: BuilderId) -> String {
    hot.builders.get(&id.0).map_or_else(|| format!("builder {id}"), |it| named(&it.name))
}

fn worker_in_words(worker: &Worker) -> String {
    let mut states = Vec::new();
    if worker.connected_to.is_empty() {
        states.push("away");
    }
    if worker.paused {
        states.push("paused");
    }
    let name = named(&worker.name);
    if states.is_empty() { name } else { format!("{name} ({})", states.join(", ")) }
}

fn change_in_words(change: &Change) -> String {
    let branch = change.branch.as_deref().map(|it| brief(it, 60)).unwrap_or_default();
    let revision = change.revision.as_deref().map(|it| format!("@{}", short_revision(it)));
    let author = brief(change.author.split('<').next().unwrap_or("").trim(), 40);
    let subject = brief(change.comments.lines().next().unwrap_or(""), 120);
    format!("{} {branch}{} {author}: {subject}", change.id, revision.unwrap_or_default())
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
