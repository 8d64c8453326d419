//! The values of an entity's public fields, as filters, sorting and stores see them.

use crate::entities::*;
use crate::query::{FieldValue, Resource};

/// An entity of a [`Resource`].
pub trait Entity {
    /// Which collection it belongs to.
    const RESOURCE: Resource;

    /// The value of a public field; `Null` for one that it has not. Nested fields give lists of plain values where
    /// `contains` makes sense, else `Null`.
    fn field(&self, name: &str) -> FieldValue;

    /// Its id as a number.
    fn id(&self) -> i64;
}

fn list(items: impl IntoIterator<Item = FieldValue>) -> FieldValue {
    FieldValue::List(items.into_iter().collect())
}

macro_rules! entity {
    ($ty:ty, $resource:ident, |$e:ident| $id:expr, { $($name:literal => $value:expr),* $(,)? }) => {
        impl Entity for $ty {
            const RESOURCE: Resource = Resource::$resource;

            fn field(&self, name: &str) -> FieldValue {
                let $e = self;
                match name { $($name => FieldValue::from($value),)* _ => FieldValue::Null }
            }

            fn id(&self) -> i64 {
                let $e = self;
                $id
            }
        }
    };
}

entity!(Master, Masters, |e| e.id.0, {
    "masterid" => e.id.0, "name" => e.name.as_str(), "active" => e.active, "last_active" => e.last_active,
});
entity!(Builder, Builders, |e| e.id.0, {
    "builderid" => e.id.0, "name" => e.name.as_str(), "masterids" => list(e.masters.iter().map(|m| m.0.into())),
    "description" => e.description.as_deref(), "projectid" => e.project.map(|p| p.0),
    "tags" => list(e.tags.iter().map(|t| t.as_str().into())),
});
entity!(Worker, Workers, |e| e.id.0, {
    "workerid" => e.id.0, "name" => e.name.as_str(), "paused" => e.paused, "pause_reason" => e.pause_reason.as_deref(),
    "graceful" => e.graceful, "connected_to" => list(e.connected_to.iter().map(|m| m.0.into())),
    "configured_on" => list(e.configured_on.iter().map(|(_, b)| b.0.into())),
});
entity!(Scheduler, Schedulers, |e| e.id.0, {
    "schedulerid" => e.id.0, "name" => e.name.as_str(), "enabled" => e.enabled, "master" => e.master.map(|m| m.0),
});
entity!(ChangeSource, ChangeSources, |e| e.id.0, {
    "changesourceid" => e.id.0, "name" => e.name.as_str(), "master" => e.master.map(|m| m.0),
});
entity!(Project, Projects, |e| e.id.0, {
    "projectid" => e.id.0, "name" => e.name.as_str(), "slug" => e.name.as_str(), "description" => e.description.as_deref(),
});
entity!(Change, Changes, |e| e.id.0, {
    "changeid" => e.id.0, "author" => e.author.as_str(), "committer" => e.committer.as_deref(),
    "comments" => e.comments.as_str(), "branch" => e.branch.as_deref(), "revision" => e.revision.as_deref(),
    "revlink" => e.revlink.as_deref(), "when_timestamp" => e.when, "category" => e.category.as_deref(),
    "parent_changeids" => list(e.parents.iter().map(|p| p.0.into())), "repository" => e.repository.as_str(),
    "codebase" => e.codebase.as_str(), "project" => e.project.as_str(),
    "files" => list(e.files.iter().map(|f| f.as_str().into())),
});
entity!(SourceStamp, SourceStamps, |e| e.id.0, {
    "ssid" => e.id.0, "branch" => e.branch.as_deref(), "revision" => e.revision.as_deref(), "project" => e.project.as_str(),
    "repository" => e.repository.as_str(), "codebase" => e.codebase.as_str(), "created_at" => e.created_at,
});
entity!(Buildset, Buildsets, |e| e.id.0, {
    "bsid" => e.id.0, "external_idstring" => e.external_id.as_deref(), "reason" => e.reason.as_str(),
    "submitted_at" => e.submitted_at, "complete" => e.complete_at.is_some(), "complete_at" => e.complete_at,
    "results" => e.results.map(|r| r.code()), "parent_buildid" => e.parent_build.map(|b| b.0),
    "parent_relationship" => e.parent_relationship.as_deref(), "rebuilt_buildid" => e.rebuilt_build.map(|b| b.0),
});
entity!(BuildRequest, BuildRequests, |e| e.id.0, {
    "buildrequestid" => e.id.0, "buildsetid" => e.buildset.0, "builderid" => e.builder.0, "priority" => e.priority,
    "claimed" => e.claimed_at.is_some(), "claimed_at" => e.claimed_at, "claimed_by_masterid" => e.claimed_by.map(|m| m.0),
    "complete" => e.complete_at.is_some(), "complete_at" => e.complete_at,
    "results" => e.results.map_or(-1, |r| r.code()), "submitted_at" => e.submitted_at, "waited_for" => e.waited_for,
});
entity!(Build, Builds, |e| e.id.0, {
    "buildid" => e.id.0, "number" => e.number, "builderid" => e.builder.0, "buildrequestid" => e.request.0,
    "workerid" => e.worker.0, "masterid" => e.master.0, "started_at" => e.started_at,
    "complete" => e.complete_at.is_some(), "complete_at" => e.complete_at, "locks_duration_s" => e.locks_duration_s,
    "results" => e.results.map(|r| r.code()), "state_string" => e.state_string.as_str(),
});
entity!(Step, Steps, |e| e.id.0, {
    "stepid" => e.id.0, "number" => e.number, "name" => e.name.as_str(), "buildid" => e.build.0, "started_at" => e.started_at,
    "locks_acquired_at" => e.locks_acquired_at, "complete" => e.complete_at.is_some(), "complete_at" => e.complete_at,
    "results" => e.results.map(|r| r.code()), "state_string" => e.state_string.as_str(), "hidden" => e.hidden,
});
entity!(Log, Logs, |e| e.id.0, {
    "logid" => e.id.0, "name" => e.name.as_str(), "slug" => e.slug.as_str(), "stepid" => e.step.0, "complete" => e.complete,
    "num_lines" => e.num_lines, "type" => e.kind.letter(),
});
entity!(ConfigurationVersion, Configurations, |e| e.id.0, {
    "configurationid" => e.id.0, "masterid" => e.master.0, "number" => e.number, "digest" => e.digest.as_str(),
    "cause" => e.cause.word(), "restores" => e.restores, "who" => e.who.as_str(), "created_at" => e.created_at,
});
entity!(Notifier, Notifiers, |e| e.id.0, {
    "notifierid" => e.id.0, "name" => e.name.as_str(), "kind" => e.kind.as_str(), "masterid" => e.master.map(|m| m.0),
});
// A target is compared as it is stored.
entity!(ControlAct, Audit, |e| e.id.0, {
    "controlid" => e.id.0, "requested_at" => e.requested_at, "identity" => e.identity.as_str(),
    "came_from" => e.came_from.as_deref(), "action" => e.action.as_str(), "target" => e.target.stored().as_str(),
    "act_key" => e.key.as_deref(), "answered_at" => e.answered_at,
});
entity!(Delivery, Deliveries, |e| e.id.0, {
    "deliveryid" => e.id.0, "notifier" => e.notifier.as_str(), "created_at" => e.created_at, "due_at" => e.due_at,
    "dedup_key" => e.dedup_key.as_str(), "subject" => e.subject.as_str(), "buildid" => e.build.map(|b| b.0),
    "state" => e.state.word(), "attempts" => e.attempts, "target" => e.target.as_deref(), "reason" => e.reason.as_deref(),
    "settled_at" => e.settled_at,
});
