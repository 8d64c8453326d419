//! What changes the farm, asked for through `Control` under the account that spoke.

use greenroom_config::{ForceScheduler, Scheduler};
use greenroom_data::{BoundControl, Hot};
use greenroom_model::*;
use serde_json::{Map, Value, json};

use super::look::unreadable;
use super::parse::Force;
use super::{Asker, Desk, named};
use crate::irc::announce::joined;
use crate::irc::authz::identity;
use crate::irc::text::brief;

/// The most builds that one `stop` stops.
const MOST_STOPPED: usize = 20;

impl Desk {
    /// `Control` for whoever asks. Only accounts come here.
    fn bound(&self, asker: &Asker) -> Result<BoundControl, String> {
        let account = asker.account.as_deref().ok_or("that needs a services account")?;
        Ok(self.control.bind(identity(account, &self.notifier)))
    }

    async fn act(
        &self,
        asker: &Asker,
        target: ControlTarget,
        action: &str,
        params: Value,
    ) -> Result<Value, String> {
        let answer = self.bound(asker)?.act(target, action, params, None).await;
        match answer {
            Ok(ControlAnswer::Done(value)) => Ok(value),
            Ok(ControlAnswer::Invalid(faults)) => Err(faults_in_words(&faults)),
            Ok(ControlAnswer::Failed(why)) => Err(brief(&why, 300)),
            Err(error) => Err(brief(&error.to_string(), 300)),
        }
    }

    pub(super) async fn force(&self, force: Force, asker: &Asker) -> Result<String, String> {
        let hot = self.ro.hot();
        let builder = self.builder(&hot, &force.builder)?;
        let scheduler = self.scheduler_for(&hot, &force)?;
        let mut params = Map::new();
        params.insert("builderNames".to_owned(), json!([builder.name]));
        for (name, value) in force.properties {
            params.insert(name, Value::String(value));
        }
        let reason = if force.reason.is_empty() { None } else { Some(force.reason) };
        let fixed = [
            ("reason", reason),
            ("branch", force.branch),
            ("revision", force.revision),
            ("project", force.project),
            ("repository", force.repository),
        ];
        for (name, value) in fixed {
            if let Some(value) = value {
                params.insert(name.to_owned(), Value::String(value));
            }
        }
        let target = ControlTarget::ForceScheduler(scheduler);
        let done = self.act(asker, target, "force", Value::Object(params)).await?;
        let request = done[1].as_object().and_then(|it| it.values().next()).and_then(Value::as_i64);
        let name = named(&builder.name);
        Ok(match request {
            Some(id) => joined(&[
                format!("a build of {name} was asked for: request {id}"),
                self.page(&format!("requests/{id}")),
            ]),
            None => format!("a build of {name} was asked for"),
        })
    }

    /// The force scheduler that offers the builder and knows all given properties.
    fn scheduler_for(&self, hot: &Hot, force: &Force) -> Result<String, String> {
        let settings = self.about.settings();
        let all = settings.schedulers.iter().filter_map(|(name, it)| match it {
            Scheduler::Force(it) => Some((name, it)),
            _ => None,
        });
        let offering: Vec<_> = all.filter(|(_, it)| it.builders.contains(&force.builder)).collect();
        if offering.is_empty() {
            return Err(format!("no force scheduler offers {}", named(&force.builder)));
        }
        let knows = |it: &ForceScheduler, name: &str| it.parameters.iter().any(|p| p.name == name);
        let unknown =
            force.properties.iter().find(|(name, _)| !offering.iter().any(|(_, it)| knows(it, name)));
        if let Some((name, _)) = unknown {
            return Err(format!("no force scheduler of {} asks for {}", named(&force.builder), named(name)));
        }
        let fits = |it: &ForceScheduler| force.properties.iter().all(|(name, _)| knows(it, name));
        let enabled = |name: &str| hot.scheduler_named(name).is_none_or(|it| it.enabled);
        let fitting: Vec<_> = offering.into_iter().filter(|(_, it)| fits(it)).collect();
        let best = fitting.iter().find(|(name, _)| enabled(name)).or(fitting.first());
        best.map(|(name, _)| (*name).clone())
            .ok_or_else(|| "no force scheduler asks for all of these properties together".to_owned())
    }

    pub(super) async fn stop(
        &self,
        builder: &str,
        number: Option<i64>,
        reason: &str,
        asker: &Asker,
    ) -> Result<Vec<String>, String> {
        let hot = self.ro.hot();
        let builder = self.builder(&hot, builder)?;
        let ours = hot.running_builds().filter(|it| it.builder == builder.id);
        let builds: Vec<_> =
            ours.filter(|it| number.is_none_or(|n| it.number == n)).take(MOST_STOPPED).collect();
        if builds.is_empty() {
            let which = number.map(|n| format!(" #{n}")).unwrap_or_default();
            return Err(format!("no build {}{which} is running", named(&builder.name)));
        }
        let mut lines = Vec::new();
        for build in builds {
            let params = json!({ "reason": reason });
            let said = match self.act(asker, ControlTarget::Build(build.id), "stop", params).await {
                Ok(_) => "is being stopped".to_owned(),
                Err(why) => format!("was not stopped: {why}"),
            };
            lines.push(format!("{} #{} {said}", named(&builder.name), build.number));
        }
        Ok(lines)
    }

    pub(super) async fn rebuild(
        &self,
        builder: &str,
        number: Option<i64>,
        asker: &Asker,
    ) -> Result<String, String> {
        let builder = self.builder(&self.ro.hot(), builder)?;
        let name = named(&builder.name);
        let build = match number {
            Some(number) => {
                let query = Query::default().eq("builderid", builder.id.0).eq("number", number).limit(1);
                let page = self.ro.list::<Build>(query).await.map_err(unreadable)?.value;
                page.items.into_iter().next().ok_or_else(|| format!("there is no build {name} #{number}"))?
            }
            None => self
                .last_ended(builder.id)
                .await?
                .ok_or_else(|| format!("no build of {name} has ended yet"))?,
        };
        self.act(asker, ControlTarget::Build(build.id), "rebuild", json!({})).await?;
        Ok(format!("{name} #{} will be built again", build.number))
    }

    pub(super) async fn pause(
        &self,
        worker: &str,
        pause: bool,
        reason: &str,
        asker: &Asker,
    ) -> Result<String, String> {
        let hot = self.ro.hot();
        let name = named(worker);
        let worker = hot.worker_named(worker).ok_or_else(|| format!("there is no worker {name}"))?;
        let (action, said) = if pause { ("pause", "is paused") } else { ("unpause", "takes builds again") };
        let params = if reason.is_empty() { json!({}) } else { json!({ "reason": reason }) };
        self.act(asker, ControlTarget::Worker(worker.id), action, params).await?;
        Ok(format!("worker {name} {said}"))
    }
}

/// `branch: must be a text; x: …`.
fn faults_in_words(faults: &Value) -> String {
    let text = |it: &Value| it.as_str().map_or_else(|| it.to_string(), str::to_owned);
    let words = match faults {
        Value::Object(fields) => {
            fields.iter().map(|(field, why)| format!("{field}: {}", text(why))).collect::<Vec<_>>().join("; ")
        }
        other => text(other),
    };
    brief(&words, 300)
}
