//! Queries over collections: the same description is turned into SQL by a store and into a filter over cached entities by
//! the data layer.
//!
//! Fields bear the names of the public API (`contracts`: `builderid`, `complete_at`, …), and a stored field's column bears
//! the same name.

use crate::time::Timestamp;

/// A collection of entities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Resource {
    Masters,
    Builders,
    Workers,
    Schedulers,
    ChangeSources,
    Projects,
    Changes,
    SourceStamps,
    Buildsets,
    BuildRequests,
    Builds,
    Steps,
    Logs,
    Configurations,
    Notifiers,
    Deliveries,
    Audit,
}

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// A number.
    Int,
    /// A text.
    Text,
    /// Yes or no.
    Bool,
    /// A point in time; seconds outside, microseconds inside.
    Time,
    /// A list or map: computed, filtered in memory only.
    Nested,
}

/// A field of a resource.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its public name, and its column's.
    pub name: &'static str,
    /// Its type.
    pub ty: FieldType,
}

/// A field's value, in an entity or a filter.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// Not there.
    Null,
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
    /// Yes or no.
    Bool(bool),
    /// A point in time.
    Time(Timestamp),
    /// Elements of a list, for `contains`.
    List(Vec<FieldValue>),
}

impl From<i64> for FieldValue {
    fn from(v: i64) -> Self {
        FieldValue::Int(v)
    }
}
impl From<bool> for FieldValue {
    fn from(v: bool) -> Self {
        FieldValue::Bool(v)
    }
}
impl From<&str> for FieldValue {
    fn from(v: &str) -> Self {
        FieldValue::Text(v.to_owned())
    }
}
impl From<Timestamp> for FieldValue {
    fn from(v: Timestamp) -> Self {
        FieldValue::Time(v)
    }
}
impl<T: Into<FieldValue>> From<Option<T>> for FieldValue {
    fn from(v: Option<T>) -> Self {
        v.map_or(FieldValue::Null, Into::into)
    }
}

/// How a filter compares. Repeated values: any of for `Eq` and `Contains`, none of for `Ne`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Contains,
}

/// One condition. A [`FieldType::Time`] field is compared by whole seconds, as the public API counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// A field of the resource.
    pub field: &'static str,
    /// How to compare.
    pub compare: Compare,
    /// With what; at least one.
    pub values: Vec<FieldValue>,
}

/// Which entities, in which order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query {
    /// All must hold.
    pub filters: Vec<Filter>,
    /// Sort keys: field and whether descending. Nulls first ascending. Empty: the resource's default order.
    pub order: Vec<(&'static str, bool)>,
    /// At most so many.
    pub limit: Option<u64>,
    /// After so many.
    pub offset: u64,
}

impl Query {
    /// Adds `field = value`.
    #[must_use]
    pub fn eq(mut self, field: &'static str, value: impl Into<FieldValue>) -> Self {
        self.filters.push(Filter { field, compare: Compare::Eq, values: vec![value.into()] });
        self
    }

    /// Adds `field` is one of these numbers.
    #[must_use]
    pub fn any(mut self, field: &'static str, values: impl IntoIterator<Item = i64>) -> Self {
        let values = values.into_iter().map(FieldValue::Int).collect();
        self.filters.push(Filter { field, compare: Compare::Eq, values });
        self
    }

    /// Adds a sort key.
    #[must_use]
    pub fn order_by(mut self, field: &'static str, descending: bool) -> Self {
        self.order.push((field, descending));
        self
    }

    /// Sets the limit.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// A page of entities and how many there are without limit and offset.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The page.
    pub items: Vec<T>,
    /// The whole.
    pub total: u64,
    /// Whether the whole was counted only so far, and is at least that.
    pub at_least: bool,
}

macro_rules! fields {
    ($($name:literal: $ty:ident),* $(,)?) => { &[$(Field { name: $name, ty: FieldType::$ty }),*] };
}

impl Resource {
    /// Every resource.
    pub const ALL: [Resource; 17] = [
        Resource::Masters,
        Resource::Builders,
        Resource::Workers,
        Resource::Schedulers,
        Resource::ChangeSources,
        Resource::Projects,
        Resource::Changes,
        Resource::SourceStamps,
        Resource::Buildsets,
        Resource::BuildRequests,
        Resource::Builds,
        Resource::Steps,
        Resource::Logs,
        Resource::Configurations,
        Resource::Notifiers,
        Resource::Deliveries,
        Resource::Audit,
    ];

    /// The key of its entities in replies, and its path element: `builds`.
    pub fn plural(self) -> &'static str {
        match self {
            Resource::Masters => "masters",
            Resource::Builders => "builders",
            Resource::Workers => "workers",
            Resource::Schedulers => "schedulers",
            Resource::ChangeSources => "changesources",
            Resource::Projects => "projects",
            Resource::Changes => "changes",
            Resource::SourceStamps => "sourcestamps",
            Resource::Buildsets => "buildsets",
            Resource::BuildRequests => "buildrequests",
            Resource::Builds => "builds",
            Resource::Steps => "steps",
            Resource::Logs => "logs",
            Resource::Configurations => "configurations",
            Resource::Notifiers => "notifiers",
            Resource::Deliveries => "deliveries",
            Resource::Audit => "audit",
        }
    }

    /// The field that is its id.
    pub fn id_field(self) -> &'static str {
        self.fields()[0].name
    }

    /// The field that sorts it by default.
    pub fn default_order(self) -> &'static str {
        match self {
            Resource::Steps => "number",
            Resource::Projects => "name",
            other => other.id_field(),
        }
    }

    /// The field of that public name.
    pub fn field(self, name: &str) -> Option<&'static Field> {
        self.fields().iter().find(|f| f.name == name)
    }

    /// Its public fields; the id first.
    pub fn fields(self) -> &'static [Field] {
        match self {
            Resource::Masters => fields!["masterid": Int, "name": Text, "active": Bool, "last_active": Time],
            Resource::Builders => fields![
                "builderid": Int, "name": Text, "masterids": Nested, "description": Text, "description_format": Text,
                "description_html": Text, "projectid": Int, "tags": Nested,
            ],
            Resource::Workers => fields![
                "workerid": Int, "name": Text, "workerinfo": Nested, "paused": Bool, "pause_reason": Text, "graceful": Bool,
                "connected_to": Nested, "configured_on": Nested,
            ],
            Resource::Schedulers => {
                fields!["schedulerid": Int, "name": Text, "enabled": Bool, "master": Nested]
            }
            Resource::ChangeSources => fields!["changesourceid": Int, "name": Text, "master": Nested],
            Resource::Projects => fields![
                "projectid": Int, "name": Text, "slug": Text, "active": Bool, "description": Text, "description_format": Text,
                "description_html": Text,
            ],
            Resource::Changes => fields![
                "changeid": Int, "author": Text, "committer": Text, "comments": Text, "branch": Text, "revision": Text,
                "revlink": Text, "when_timestamp": Time, "category": Text, "parent_changeids": Nested, "repository": Text,
                "codebase": Text, "project": Text, "files": Nested, "properties": Nested, "sourcestamp": Nested,
            ],
            Resource::SourceStamps => fields![
                "ssid": Int, "branch": Text, "revision": Text, "project": Text, "repository": Text, "codebase": Text,
                "created_at": Time, "patch": Nested,
            ],
            Resource::Buildsets => fields![
                "bsid": Int, "external_idstring": Text, "reason": Text, "submitted_at": Time, "complete": Bool,
                "complete_at": Time, "results": Int, "parent_buildid": Int, "parent_relationship": Text,
                "rebuilt_buildid": Int, "sourcestamps": Nested,
            ],
            Resource::BuildRequests => fields![
                "buildrequestid": Int, "buildsetid": Int, "builderid": Int, "priority": Int, "claimed": Bool,
                "claimed_at": Time, "claimed_by_masterid": Int, "complete": Bool, "complete_at": Time, "results": Int,
                "submitted_at": Time, "waited_for": Bool, "properties": Nested,
            ],
            Resource::Builds => fields![
                "buildid": Int, "number": Int, "builderid": Int, "buildrequestid": Int, "workerid": Int, "masterid": Int,
                "started_at": Time, "complete": Bool, "complete_at": Time, "locks_duration_s": Int, "results": Int,
                "state_string": Text, "properties": Nested,
            ],
            Resource::Steps => fields![
                "stepid": Int, "number": Int, "name": Text, "buildid": Int, "started_at": Time, "locks_acquired_at": Time,
                "complete": Bool, "complete_at": Time, "results": Int, "state_string": Text, "urls": Nested, "hidden": Bool,
            ],
            Resource::Configurations => fields![
                "configurationid": Int, "masterid": Int, "number": Int, "digest": Text, "cause": Text, "restores": Int,
                "who": Text, "created_at": Time, "difference": Nested,
            ],
            Resource::Notifiers => {
                fields!["notifierid": Int, "name": Text, "kind": Text, "masterid": Int]
            }
            Resource::Deliveries => fields![
                "deliveryid": Int, "notifier": Text, "created_at": Time, "due_at": Time, "dedup_key": Text, "subject": Text,
                "buildid": Int, "state": Text, "attempts": Int, "target": Text, "reason": Text, "settled_at": Time,
            ],
            Resource::Audit => fields![
                "controlid": Int, "requested_at": Time, "identity": Text, "came_from": Text, "action": Text, "target": Text,
                "params": Nested, "act_key": Text, "answer": Nested, "answered_at": Time,
            ],
            Resource::Logs => fields![
                "logid": Int, "name": Text, "slug": Text, "stepid": Int, "complete": Bool, "num_lines": Int, "type": Text,
            ],
        }
    }
}
