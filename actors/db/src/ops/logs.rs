//! Logs: what is announced of them. Their text is in the log store.

use std::sync::Arc;

use greenroom_model::*;

use super::steps;
use crate::engine::Cond;
use crate::work::{Fault, Unit};

pub async fn add(
    unit: &mut Unit<'_>,
    id: LogId,
    step: StepId,
    name: &str,
    kind: LogKind,
) -> Result<(), Fault> {
    steps::open(unit, step).await?;
    let open = open_of(unit, step).await?;
    let slug = free_slug(unit, step, name).await?;
    let log = Log { id, name: name.to_owned(), slug, step, kind, num_lines: 0, complete: false, version: 1 };
    unit.add(log, EventName::New);
    unit.cache.logs_of.put(step.0, Arc::new(open.iter().copied().chain([id.0]).collect()));
    Ok(())
}

/// The name as an identifier of at most 50 characters, unique in the step.
async fn free_slug(unit: &mut Unit<'_>, step: StepId, name: &str) -> Result<String, Fault> {
    let taken = slugs_of(unit, step).await?;
    let first = slug(name);
    let numbered = (2..).map(|n: usize| format!("{}_{n}", &first[..first.len().min(46)]));
    let free = std::iter::once(first.clone()).chain(numbered).find(|s| !taken.contains(s)).unwrap_or(first);
    unit.cache.slugs_of.put(step.0, Arc::new(taken.iter().cloned().chain([free.clone()]).collect()));
    Ok(free)
}

async fn slugs_of(unit: &mut Unit<'_>, step: StepId) -> Result<Arc<Vec<String>>, Fault> {
    if let Some(known) = unit.cache.slugs_of.get(&step.0) {
        return Ok(Arc::clone(known));
    }
    let logs = unit.find_where::<Log>("stepid", &[step.0], &[]).await?;
    let slugs = Arc::new(logs.iter().map(|l| l.slug.clone()).collect());
    Ok(Arc::clone(unit.cache.slugs_of.learn(step.0, slugs)))
}

fn slug(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    let mut slug: String = name.chars().take(50).map(letter).collect();
    if !slug.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        slug.insert(0, '_');
        slug.truncate(50);
    }
    slug
}

/// Reads the open logs of steps at once.
pub async fn foresee(unit: &mut Unit<'_>, steps: &[i64]) -> Result<(), Fault> {
    let open = unit.find_where::<Log>("stepid", steps, &[Cond::eq("complete", 0)]).await?;
    for step in steps {
        let ids = open.iter().filter(|log| log.step.0 == *step).map(|log| log.id.0).collect();
        unit.cache.logs_of.learn(*step, Arc::new(ids));
    }
    Ok(())
}

/// The ids of a step's open logs.
async fn open_of(unit: &mut Unit<'_>, step: StepId) -> Result<Arc<Vec<i64>>, Fault> {
    if let Some(known) = unit.cache.logs_of.get(&step.0) {
        return Ok(Arc::clone(known));
    }
    let open = unit.find_where::<Log>("stepid", &[step.0], &[Cond::eq("complete", 0)]).await?;
    let ids = Arc::new(open.iter().map(|l| l.id.0).collect());
    Ok(Arc::clone(unit.cache.logs_of.learn(step.0, ids)))
}

pub async fn grow(unit: &mut Unit<'_>, id: LogId, num_lines: i64) -> Result<(), Fault> {
    let log = unit.get::<Log>(id).await?;
    // A late announcement of an ended log is no fault of anyone's.
    if !log.complete && num_lines > log.num_lines {
        unit.change(&log, EventName::Append, |l| l.num_lines = num_lines);
    }
    Ok(())
}

pub async fn finish(unit: &mut Unit<'_>, id: LogId, num_lines: i64) -> Result<(), Fault> {
    let log = unit.get::<Log>(id).await?;
    if log.complete {
        return Err(Refusal::Final(format!("log {id}")).into());
    }
    unit.change(&log, EventName::Finished, |l| {
        l.num_lines = l.num_lines.max(num_lines);
        l.complete = true;
    });
    let open = open_of(unit, log.step).await?;
    unit.cache.logs_of.put(log.step.0, Arc::new(open.iter().copied().filter(|l| *l != id.0).collect()));
    Ok(())
}

/// Ends a step's open logs with it, as long as they were announced to be.
pub async fn finish_open(unit: &mut Unit<'_>, step: StepId) -> Result<(), Fault> {
    for id in open_of(unit, step).await?.iter() {
        let lines = unit.get::<Log>(LogId(*id)).await?.num_lines;
        finish(unit, LogId(*id), lines).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn slugs_are_identifiers() {
        assert_eq!(slug("stdio"), "stdio");
        assert_eq!(slug("test log (1).html"), "test_log__1__html");
        assert_eq!(slug("1st"), "_1st");
        assert_eq!(slug(""), "_");
        assert_eq!(slug(&"ä".repeat(80)).len(), 50);
    }
}
