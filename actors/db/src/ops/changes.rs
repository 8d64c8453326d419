//! Changes, and whether one is known already; source stamps, found again by their values.

use std::sync::Arc;

use greenroom_model::write::{ChangeOrigin, NewChange, NewSourceStamp};
use greenroom_model::*;

use crate::engine::{Cond, Row, Select, Value};
use crate::rows::{RowMapped, change_row, stamp_hash, stamp_row};
use crate::schema::*;
use crate::work::{Fault, Newest, Unit};

pub async fn add(unit: &mut Unit<'_>, new: &NewChange) -> Result<Outcome, Fault> {
    let keys = origin_key(new);
    if let Some(key) = &keys
        && let Some(id) = change_of_key(unit, key).await?
    {
        return match &new.origin {
            ChangeOrigin::Hook { delivery: Some(delivery), .. } if is_other(unit, id, new).await? => {
                Err(Refusal::KeyUsed(delivery.clone()).into())
            }
            _ => Ok(Outcome::Change { id, new: false }),
        };
    }
    let newest = newest(unit, new).await?;
    let origin = origin_word(&new.origin);
    let merged = newest.as_ref().filter(|n| may_merge(n, new, origin)).map(|n| n.change);
    if let Some(key) = keys {
        let id = merged.unwrap_or(new.id);
        unit.insert(&CHANGE_ORIGINS, vec![key.as_str().into(), id.0.into()]);
        unit.cache.origins.put(key, id);
    }
    if let Some(id) = merged {
        return Ok(Outcome::Change { id, new: false });
    }
    let stamp = NewSourceStamp {
        branch: new.branch.clone(),
        revision: new.revision.clone(),
        project: new.project.clone(),
        repository: new.repository.clone(),
        codebase: new.codebase.clone(),
        patch: None,
    };
    let stamp = find_or_add_stamp(unit, &stamp).await?;
    let change = change(new, newest.map(|n| n.change), stamp);
    unit.insert(&CHANGES, change_row(&change, origin)?);
    let now = Newest { change: new.id, revision: new.revision.clone(), origin: origin.into() };
    unit.cache.newest.put((new.repository.clone(), new.branch.clone()), Some(now));
    unit.announce(EventName::New, Record::Change(Arc::new(change)));
    Ok(Outcome::Change { id: new.id, new: true })
}

/// Whether a delivery's id brought another change before. One that a poller saw first may have been told otherwise.
async fn is_other(unit: &mut Unit<'_>, id: ChangeId, new: &NewChange) -> Result<bool, Fault> {
    // PostgreSQL keeps U+FFFD for a zero character.
    let stored = |text: &str| text.replace('\0', "\u{fffd}");
    let same = |a: &str, b: &str| a == b || stored(a) == stored(b);
    let differs = |it: &Change| {
        let pairs = [
            (it.author.as_str(), new.author.as_str()),
            (&it.comments, &new.comments),
            (it.branch.as_deref().unwrap_or_default(), new.branch.as_deref().unwrap_or_default()),
            (it.revision.as_deref().unwrap_or_default(), new.revision.as_deref().unwrap_or_default()),
            (&it.repository, &new.repository),
            (&it.codebase, &new.codebase),
            (&it.project, &new.project),
        ];
        !pairs.iter().all(|(known, new)| same(known, new))
    };
    // It may have come in this very group.
    let fresh = unit.out.events.iter().find_map(|(_, it)| match &it.record {
        Record::Change(change) if change.id == id => Some(differs(change)),
        _ => None,
    });
    if let Some(differs) = fresh {
        return Ok(differs);
    }
    let by_hook =
        Select::from(&CHANGES).filter(Cond::eq("changeid", id.0)).filter(Cond::eq("origin", "hook"));
    Ok(unit.load_one::<Change>(by_hook).await?.is_some_and(|known| differs(&known)))
}

/// A hook and a poller that saw the same revision mean one change, as long as the branch has not moved on since.
fn may_merge(newest: &Newest, new: &NewChange, origin: &str) -> bool {
    let other = matches!((newest.origin.as_str(), origin), ("hook", "poll") | ("poll", "hook"));
    other && new.revision.is_some() && newest.revision == new.revision
}

fn origin_word(origin: &ChangeOrigin) -> &'static str {
    match origin {
        ChangeOrigin::Hook { .. } => "hook",
        ChangeOrigin::Poll { .. } => "poll",
        ChangeOrigin::Manual => "manual",
    }
}

/// What makes two sightings one; none: nothing does.
fn origin_key(new: &NewChange) -> Option<String> {
    let parts = match &new.origin {
        ChangeOrigin::Hook { source, delivery: Some(delivery) } => {
            serde_json::json!(["hook", source, delivery])
        }
        // By repository, not by poller: two pollers that see the same move mean one change.
        ChangeOrigin::Poll { old_tip, new_tip, .. } => {
            serde_json::json!(["poll", new.repository, new.branch, old_tip, new_tip])
        }
        ChangeOrigin::Hook { delivery: None, .. } | ChangeOrigin::Manual => return None,
    };
    Some(parts.to_string())
}

async fn change_of_key(unit: &mut Unit<'_>, key: &str) -> Result<Option<ChangeId>, Fault> {
    if let Some(id) = unit.cache.origins.get(&key.to_owned()) {
        return Ok(Some(*id));
    }
    match unit.first(Select::from(&CHANGE_ORIGINS).filter(Cond::eq("origin_key", key))).await? {
        Some(mut fields) => {
            fields.skip();
            Ok(Some(fields.id()?))
        }
        None => Ok(None),
    }
}

/// The newest change of the same branch.
async fn newest(unit: &mut Unit<'_>, new: &NewChange) -> Result<Option<Newest>, Fault> {
    let place = (new.repository.clone(), new.branch.clone());
    if let Some(known) = unit.cache.newest.get(&place) {
        return Ok(known.clone());
    }
    let branch = new.branch.as_deref().map_or(Cond::Null("branch"), |b| Cond::eq("branch", b));
    let select = Select::from(&CHANGES)
        .filter(Cond::eq("repository", new.repository.as_str()))
        .filter(branch)
        .order("changeid", true);
    let rows = unit.tx.select(&select.limit(1)).await?;
    let newest = rows.first().and_then(newest_of);
    unit.cache.newest.learn(place, newest.clone());
    Ok(newest)
}

fn newest_of(row: &Row) -> Option<Newest> {
    let column = |name| CHANGES.position(name).and_then(|i| row.get(i));
    let text = |value: Option<&Value>| match value {
        Some(Value::Text(text)) => Some(text.to_string()),
        _ => None,
    };
    let Some(Value::Int(id)) = column("changeid") else { return None };
    let origin = text(column("origin")).unwrap_or_default();
    Some(Newest { change: ChangeId(*id), revision: text(column("revision")), origin })
}

fn change(new: &NewChange, parent: Option<ChangeId>, sourcestamp: Arc<SourceStamp>) -> Change {
    Change {
        id: new.id,
        author: new.author.clone(),
        committer: new.committer.clone(),
        comments: new.comments.clone(),
        branch: new.branch.clone(),
        revision: new.revision.clone(),
        revlink: new.revlink.clone(),
        when: new.when,
        category: new.category.clone(),
        parents: parent.into_iter().collect(),
        repository: new.repository.clone(),
        codebase: new.codebase.clone(),
        project: new.project.clone(),
        files: new.files.clone(),
        properties: new.properties.clone(),
        sourcestamp,
    }
}

/// The equal source stamp that exists, or a new one.
pub async fn find_or_add_stamp(unit: &mut Unit<'_>, new: &NewSourceStamp) -> Result<Arc<SourceStamp>, Fault> {
    let hash = stamp_hash(new)?;
    if let Some(known) = unit.cache.stamps.get(&hash) {
        return Ok(Arc::clone(known));
    }
    let select = Select::from(SourceStamp::TABLE).filter(Cond::eq("hash", hash.as_str()));
    if let Some(known) = unit.load_one::<SourceStamp>(select).await? {
        unit.cache.stamps.learn(hash, Arc::clone(&known));
        return Ok(known);
    }
    let patch = match &new.patch {
        Some(p) => Some(Patch {
            id: unit.new_id()?,
            level: p.level,
            subdir: p.subdir.clone(),
            author: p.author.clone(),
            comment: p.comment.clone(),
            body: p.body.clone(),
        }),
        None => None,
    };
    if let Some(patch) = &patch {
        unit.insert(&PATCHES, patch.to_row()?);
    }
    let stamp = Arc::new(SourceStamp {
        id: unit.new_id()?,
        branch: new.branch.clone(),
        revision: new.revision.clone(),
        project: new.project.clone(),
        repository: new.repository.clone(),
        codebase: new.codebase.clone(),
        created_at: unit.at,
        patch,
    });
    unit.insert(&SOURCESTAMPS, stamp_row(&stamp, &hash));
    unit.cache.stamps.put(hash, Arc::clone(&stamp));
    Ok(stamp)
}
