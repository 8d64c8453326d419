//! A master's configuration: rows that are new, changed or gone are written and announced, all others are left alone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use greenroom_model::write::{Configuration, ConfiguredBuilder, Duty, NewConfiguration};
use greenroom_model::*;

use super::claims;
use crate::engine::{Cond, Select};
use crate::rows::RowMapped;
use crate::schema::CONFIGURATIONS;
use crate::work::{Fault, Unit};

pub async fn configure(unit: &mut Unit<'_>, new: &Configuration) -> Result<(), Fault> {
    unique("builder", new.builders.iter().map(|b| &b.name))?;
    unique("worker", &new.workers)?;
    unique("scheduler", &new.schedulers)?;
    unique("change source", &new.change_sources)?;
    unique("project", new.projects.iter().map(|(name, _)| name))?;
    let projects = projects(unit, &new.projects).await?;
    let builders = builders(unit, &new.builders, &projects).await?;
    workers(unit, new, &builders).await?;
    schedulers(unit, &new.schedulers).await?;
    change_sources(unit, &new.change_sources).await
}

/// Numbers a version of this master's configuration.
pub async fn number(unit: &mut Unit<'_>, new: &NewConfiguration) -> Result<(), Fault> {
    let select = Select::from(&CONFIGURATIONS)
        .filter(Cond::eq("masterid", unit.master.0))
        .filter(Cond::eq("number", new.number));
    if unit.first(select).await?.is_some() {
        return Err(Refusal::Invalid(format!("there is a configuration {} already", new.number)).into());
    }
    let version = ConfigurationVersion {
        id: new.id,
        master: unit.master,
        number: new.number,
        digest: new.digest.clone(),
        cause: new.cause,
        restores: new.restores,
        who: new.who.clone(),
        created_at: unit.at,
        difference: new.difference.clone(),
        act: new.act,
    };
    unit.insert(&CONFIGURATIONS, version.to_row()?);
    unit.announce(EventName::New, Record::Configuration(Arc::new(version)));
    Ok(())
}

fn unique<'a>(what: &str, names: impl IntoIterator<Item = &'a String>) -> Result<(), Fault> {
    let mut seen = HashSet::new();
    match names.into_iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(Refusal::Invalid(format!("two {what}s are named {name:?}")).into()),
        None => Ok(()),
    }
}

async fn projects(
    unit: &mut Unit<'_>,
    new: &[(String, Option<String>)],
) -> Result<HashMap<String, ProjectId>, Fault> {
    let known: HashMap<String, Arc<Project>> =
        unit.every::<Project>().await?.into_iter().map(|p| (p.name.clone(), p)).collect();
    let mut ids: HashMap<String, ProjectId> = known.iter().map(|(name, p)| (name.clone(), p.id)).collect();
    for (name, description) in new {
        match known.get(name) {
            Some(p) if p.description == *description => {}
            Some(p) => drop(unit.change(p, EventName::Update, |p| p.description.clone_from(description))),
            None => {
                let (name, description) = (name.clone(), description.clone());
                let project = Project { id: unit.new_id()?, name, description, version: 1 };
                let project = unit.add(project, EventName::Update);
                ids.insert(project.name.clone(), project.id);
            }
        }
    }
    Ok(ids)
}

async fn builders(
    unit: &mut Unit<'_>,
    new: &[ConfiguredBuilder],
    projects: &HashMap<String, ProjectId>,
) -> Result<HashMap<String, BuilderId>, Fault> {
    let master = unit.master;
    let mut known: HashMap<String, Arc<Builder>> =
        unit.every::<Builder>().await?.into_iter().map(|b| (b.name.clone(), b)).collect();
    let mut ids = HashMap::new();
    for wanted in new {
        let project = match &wanted.project {
            Some(name) => {
                Some(*projects.get(name).ok_or_else(|| Refusal::NotFound(format!("project {name:?}")))?)
            }
            None => None,
        };
        let builder = match known.remove(&wanted.name) {
            Some(old) => change_builder(unit, &old, wanted, project),
            None => {
                let builder = Builder {
                    id: unit.new_id()?,
                    name: wanted.name.clone(),
                    description: wanted.description.clone(),
                    project,
                    tags: wanted.tags.clone(),
                    masters: vec![master],
                    version: 1,
                };
                unit.add(builder, EventName::Started)
            }
        };
        ids.insert(wanted.name.clone(), builder.id);
    }
    let mut gone: Vec<_> = known.into_values().filter(|b| b.masters.contains(&master)).collect();
    gone.sort_unstable_by_key(|b| b.id);
    for builder in gone {
        unit.change(&builder, EventName::Stopped, |b| b.masters.retain(|m| *m != master));
    }
    Ok(ids)
}

fn change_builder(
    unit: &mut Unit<'_>,
    old: &Arc<Builder>,
    wanted: &ConfiguredBuilder,
    project: Option<ProjectId>,
) -> Arc<Builder> {
    let master = unit.master;
    let here = old.masters.contains(&master);
    let same = (&old.description, old.project, &old.tags) == (&wanted.description, project, &wanted.tags);
    if here && same {
        return Arc::clone(old);
    }
    unit.change(old, if here { EventName::Update } else { EventName::Started }, |b| {
        b.description.clone_from(&wanted.description);
        b.project = project;
        b.tags.clone_from(&wanted.tags);
        if !here {
            b.masters.push(master);
        }
    })
}

async fn workers(
    unit: &mut Unit<'_>,
    new: &Configuration,
    builders: &HashMap<String, BuilderId>,
) -> Result<(), Fault> {
    let master = unit.master;
    let mut may_run: HashMap<&str, Vec<(MasterId, BuilderId)>> =
        new.workers.iter().map(|name| (name.as_str(), Vec::new())).collect();
    for builder in &new.builders {
        for name in &builder.workers {
            let list = may_run
                .get_mut(name.as_str())
                .ok_or_else(|| Refusal::NotFound(format!("worker {name:?} of builder {:?}", builder.name)))?;
            list.extend(builders.get(&builder.name).map(|id| (master, *id)));
        }
    }
    let known: HashMap<String, Arc<Worker>> =
        unit.every::<Worker>().await?.into_iter().map(|w| (w.name.clone(), w)).collect();
    for name in new.workers.iter().filter(|name| !known.contains_key(*name)) {
        let configured_on = may_run.remove(name.as_str()).unwrap_or_default();
        let worker = new_worker(unit.new_id()?, name, configured_on);
        unit.add(worker, EventName::StateUpdated);
    }
    let mut known: Vec<_> = known.into_values().collect();
    known.sort_unstable_by_key(|w| w.id);
    for old in known {
        let mine = may_run.remove(old.name.as_str()).unwrap_or_default();
        let others = old.configured_on.iter().copied().filter(|(m, _)| *m != master);
        let all: Vec<_> = others.chain(mine).collect();
        if all != old.configured_on {
            unit.change(&old, EventName::StateUpdated, |w| w.configured_on = all);
        }
    }
    Ok(())
}

fn new_worker(id: WorkerId, name: &str, configured_on: Vec<(MasterId, BuilderId)>) -> Worker {
    Worker {
        id,
        name: name.to_owned(),
        info: None,
        paused: false,
        pause_reason: None,
        graceful: false,
        connected_to: Vec::new(),
        configured_on,
        changed_at: None,
        version: 1,
    }
}

/// The rows of what is configured here: what is new is this master's, and so is what nobody runs; what is not configured here any
/// more, it gives up.
async fn schedulers(unit: &mut Unit<'_>, names: &[String]) -> Result<(), Fault> {
    let known = unit.every::<Scheduler>().await?;
    for name in names {
        match known.iter().find(|s| s.name == *name) {
            Some(known) => claims::take_if_free(unit, known).await?,
            None => {
                let (id, name, master) = (unit.new_id()?, name.clone(), Some(unit.master));
                unit.add(Scheduler { id, name, enabled: true, master, version: 1 }, EventName::Updated);
            }
        }
    }
    for gone in known.iter().filter(|s| !names.contains(&s.name)) {
        claims::release(unit, &Duty::Scheduler(gone.id)).await?;
    }
    Ok(())
}

async fn change_sources(unit: &mut Unit<'_>, names: &[String]) -> Result<(), Fault> {
    let known = unit.every::<ChangeSource>().await?;
    for name in names {
        match known.iter().find(|s| s.name == *name) {
            Some(known) => claims::take_if_free(unit, known).await?,
            None => {
                let (id, name, master) = (unit.new_id()?, name.clone(), Some(unit.master));
                unit.add(ChangeSource { id, name, master, version: 1 }, EventName::Updated);
            }
        }
    }
    for gone in known.iter().filter(|s| !names.contains(&s.name)) {
        claims::release(unit, &Duty::ChangeSource(gone.id)).await?;
    }
    Ok(())
}
