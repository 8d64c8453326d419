//! Rows from entities and entities from rows, once for all engines. To store a new field: a column in `schema`, a
//! migration, and its place in the two functions here.

mod nested;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use greenroom_model::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{CHUNK, Cond, EngineError, ReadTx, Row, Select, Table, Value};
use crate::schema::*;

pub use nested::{change_row, stamp_hash, stamp_row};

/// An entity that has a row.
#[async_trait]
pub trait RowMapped: Sized + Send + Sync + 'static {
    /// Its table.
    const TABLE: &'static Table;

    /// Its row, all columns.
    fn to_row(&self) -> Result<Row, EngineError>;

    /// Entities from rows; those that hold others read them here.
    async fn from_rows(rows: Vec<Row>, tx: &mut dyn ReadTx) -> Result<Vec<Self>, EngineError>;
}

/// Reads the selected entities.
pub async fn load<E: RowMapped>(tx: &mut dyn ReadTx, select: &Select) -> Result<Vec<Arc<E>>, EngineError> {
    let rows = tx.select(select).await?;
    Ok(E::from_rows(rows, tx).await?.into_iter().map(Arc::new).collect())
}

/// Reads the entities of several selections, together in no order.
pub async fn load_each<E: RowMapped>(
    tx: &mut dyn ReadTx,
    selects: &[Select],
) -> Result<Vec<Arc<E>>, EngineError> {
    let rows = tx.select_each(selects).await?;
    Ok(E::from_rows(rows, tx).await?.into_iter().map(Arc::new).collect())
}

/// Reads the entities whose column has one of these values, in the order of their ids.
pub async fn load_where<E: RowMapped>(
    tx: &mut dyn ReadTx,
    column: &'static str,
    values: &[i64],
    also: &[Cond],
) -> Result<Vec<Arc<E>>, EngineError> {
    let mut found = Vec::new();
    for piece in values.chunks(CHUNK) {
        let mut select = Select::from(E::TABLE).filter(Cond::ids(column, piece.iter().copied()));
        select.conds.extend(also.iter().cloned());
        found.extend(load(tx, &select.order(E::TABLE.columns[0].0, false)).await?);
    }
    Ok(found)
}

/// Takes the values of a row in the order of the columns.
pub struct Fields {
    table: &'static Table,
    values: std::vec::IntoIter<Value>,
}

impl Fields {
    pub fn new(table: &'static Table, row: Row) -> Self {
        Self { table, values: row.into_iter() }
    }

    fn bad(&self, found: &Option<Value>) -> EngineError {
        let at = self.table.columns.len() - 1 - self.values.len().min(self.table.columns.len() - 1);
        EngineError::Damaged(format!("{}.{} holds {found:?}", self.table.name, self.table.columns[at].0))
    }

    pub fn int(&mut self) -> Result<i64, EngineError> {
        self.opt_int()?.ok_or_else(|| self.bad(&None))
    }

    pub fn opt_int(&mut self) -> Result<Option<i64>, EngineError> {
        match self.values.next() {
            Some(Value::Int(v)) => Ok(Some(v)),
            Some(Value::Null) => Ok(None),
            other => Err(self.bad(&other)),
        }
    }

    pub fn id<T: From<i64>>(&mut self) -> Result<T, EngineError> {
        self.int().map(T::from)
    }

    pub fn opt_id<T: From<i64>>(&mut self) -> Result<Option<T>, EngineError> {
        Ok(self.opt_int()?.map(T::from))
    }

    pub fn bool(&mut self) -> Result<bool, EngineError> {
        Ok(self.int()? != 0)
    }

    pub fn time(&mut self) -> Result<Timestamp, EngineError> {
        self.int().map(Timestamp)
    }

    pub fn opt_time(&mut self) -> Result<Option<Timestamp>, EngineError> {
        Ok(self.opt_int()?.map(Timestamp))
    }

    /// Null and negative mean unfinished.
    pub fn results(&mut self) -> Result<Option<Results>, EngineError> {
        match self.opt_int()? {
            None | Some(-1) => Ok(None),
            Some(code) => Results::from_code(code).map(Some).ok_or_else(|| self.bad(&Some(Value::Int(code)))),
        }
    }

    pub fn text(&mut self) -> Result<String, EngineError> {
        self.opt_text()?.ok_or_else(|| self.bad(&None))
    }

    pub fn opt_text(&mut self) -> Result<Option<String>, EngineError> {
        match self.values.next() {
            Some(Value::Text(v)) => Ok(Some(v.as_ref().to_owned())),
            Some(Value::Null) => Ok(None),
            other => Err(self.bad(&other)),
        }
    }

    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T, EngineError> {
        match self.values.next() {
            Some(Value::Text(v)) => serde_json::from_str(&v).map_err(|_| self.bad(&Some(Value::Text(v)))),
            other => Err(self.bad(&other)),
        }
    }

    pub fn opt_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, EngineError> {
        match self.values.next() {
            Some(Value::Null) => Ok(None),
            Some(Value::Text(v)) => {
                serde_json::from_str(&v).map(Some).map_err(|_| self.bad(&Some(Value::Text(v))))
            }
            other => Err(self.bad(&other)),
        }
    }

    pub fn blob(&mut self) -> Result<bytes::Bytes, EngineError> {
        match self.values.next() {
            Some(Value::Blob(v)) => Ok(v),
            other => Err(self.bad(&other)),
        }
    }

    pub fn skip(&mut self) {
        self.values.next();
    }
}

/// A value as JSON text.
pub fn json(value: &(impl Serialize + ?Sized)) -> Result<Value, EngineError> {
    serde_json::to_string(value).map(Value::from).map_err(|e| EngineError::Rejected(e.to_string()))
}

fn opt_json(value: &Option<impl Serialize>) -> Result<Value, EngineError> {
    value.as_ref().map_or(Ok(Value::Null), |v| json(v))
}

fn time(t: Timestamp) -> Value {
    Value::Int(t.0)
}

fn opt_time(t: Option<Timestamp>) -> Value {
    t.map(|t| t.0).into()
}

fn text(s: &str) -> Value {
    s.into()
}

fn opt_text(s: &Option<String>) -> Value {
    s.as_deref().into()
}

fn results(r: Option<Results>) -> Value {
    r.map(Results::code).into()
}

/// An entity whose row is all there is to it.
macro_rules! plain {
    ($ty:ty, $table:expr, |$e:ident| [$($value:expr),* $(,)?], |$f:ident| $make:expr) => {
        #[async_trait]
        impl RowMapped for $ty {
            const TABLE: &'static Table = &$table;

            fn to_row(&self) -> Result<Row, EngineError> {
                let $e = self;
                Ok(vec![$($value),*])
            }

            async fn from_rows(rows: Vec<Row>, _tx: &mut dyn ReadTx) -> Result<Vec<Self>, EngineError> {
                rows.into_iter().map(|row| { let mut $f = Fields::new(&$table, row); Ok($make) }).collect()
            }
        }
    };
}

plain!(
    Master,
    MASTERS,
    |e| [
        e.id.0.into(),
        text(&e.name),
        e.active.into(),
        time(e.last_active),
        e.epoch.into(),
        e.version.into(),
    ],
    |f| Master {
        id: f.id()?,
        name: f.text()?,
        active: f.bool()?,
        last_active: f.time()?,
        epoch: f.int()?,
        version: f.int()?,
    }
);

plain!(
    Builder,
    BUILDERS,
    |e| [
        e.id.0.into(),
        text(&e.name),
        opt_text(&e.description),
        e.project.map(|p| p.0).into(),
        json(&e.tags)?,
        json(&e.masters)?,
        e.version.into(),
    ],
    |f| Builder {
        id: f.id()?,
        name: f.text()?,
        description: f.opt_text()?,
        project: f.opt_id()?,
        tags: f.json()?,
        masters: f.json()?,
        version: f.int()?,
    }
);

plain!(
    Worker,
    WORKERS,
    |e| [
        e.id.0.into(),
        text(&e.name),
        opt_json(&e.info)?,
        e.paused.into(),
        opt_text(&e.pause_reason),
        e.graceful.into(),
        json(&e.connected_to)?,
        json(&e.configured_on)?,
        opt_time(e.changed_at),
        e.version.into(),
    ],
    |f| Worker {
        id: f.id()?,
        name: f.text()?,
        info: f.opt_json()?,
        paused: f.bool()?,
        pause_reason: f.opt_text()?,
        graceful: f.bool()?,
        connected_to: f.json()?,
        configured_on: f.json()?,
        changed_at: f.opt_time()?,
        version: f.int()?,
    }
);

plain!(
    Scheduler,
    SCHEDULERS,
    |e| [e.id.0.into(), text(&e.name), e.enabled.into(), e.master.map(|m| m.0).into(), e.version.into(),],
    |f| Scheduler {
        id: f.id()?,
        name: f.text()?,
        enabled: f.bool()?,
        master: f.opt_id()?,
        version: f.int()?,
    }
);

plain!(
    ChangeSource,
    CHANGE_SOURCES,
    |e| [e.id.0.into(), text(&e.name), e.master.map(|m| m.0).into(), e.version.into(),],
    |f| ChangeSource { id: f.id()?, name: f.text()?, master: f.opt_id()?, version: f.int()? }
);

plain!(
    Project,
    PROJECTS,
    |e| [e.id.0.into(), text(&e.name), text(&e.name), opt_text(&e.description), e.version.into(),],
    |f| Project {
        id: f.id()?,
        name: {
            let name = f.text()?;
            f.skip();
            name
        },
        description: f.opt_text()?,
        version: f.int()?,
    }
);

plain!(
    Patch,
    PATCHES,
    |e| [e.id.0.into(), e.level.into(), text(&e.subdir), text(&e.author), text(&e.comment), text(&e.body),],
    |f| Patch {
        id: f.id()?,
        level: f.int()?,
        subdir: f.text()?,
        author: f.text()?,
        comment: f.text()?,
        body: f.text()?,
    }
);

plain!(
    BuildRequest,
    BUILDREQUESTS,
    |e| [
        e.id.0.into(),
        e.buildset.0.into(),
        e.builder.0.into(),
        e.priority.into(),
        e.claimed_at.is_some().into(),
        opt_time(e.claimed_at),
        e.claimed_by.map(|m| m.0).into(),
        e.complete_at.is_some().into(),
        opt_time(e.complete_at),
        e.results.map_or(-1, Results::code).into(),
        time(e.submitted_at),
        e.waited_for.into(),
        e.retries.into(),
        e.version.into(),
    ],
    |f| BuildRequest {
        id: f.id()?,
        buildset: f.id()?,
        builder: f.id()?,
        priority: f.int()?,
        claimed_at: {
            f.skip();
            f.opt_time()?
        },
        claimed_by: f.opt_id()?,
        complete_at: {
            f.skip();
            f.opt_time()?
        },
        results: f.results()?,
        submitted_at: f.time()?,
        waited_for: f.bool()?,
        retries: f.int()?,
        version: f.int()?,
    }
);

plain!(
    Build,
    BUILDS,
    |e| [
        e.id.0.into(),
        e.number.into(),
        e.builder.0.into(),
        e.request.0.into(),
        e.worker.0.into(),
        e.master.0.into(),
        time(e.started_at),
        e.complete_at.is_some().into(),
        opt_time(e.complete_at),
        e.locks_duration_s.into(),
        results(e.results),
        text(&e.state_string),
        e.version.into(),
    ],
    |f| Build {
        id: f.id()?,
        number: f.int()?,
        builder: f.id()?,
        request: f.id()?,
        worker: f.id()?,
        master: f.id()?,
        started_at: f.time()?,
        complete_at: {
            f.skip();
            f.opt_time()?
        },
        locks_duration_s: f.int()?,
        results: f.results()?,
        state_string: f.text()?,
        version: f.int()?,
    }
);

plain!(
    Step,
    STEPS,
    |e| [
        e.id.0.into(),
        e.number.into(),
        text(&e.name),
        e.build.0.into(),
        opt_time(e.started_at),
        opt_time(e.locks_acquired_at),
        e.complete_at.is_some().into(),
        opt_time(e.complete_at),
        results(e.results),
        text(&e.state_string),
        json(&e.urls)?,
        e.hidden.into(),
        opt_text(&e.command),
        e.version.into(),
    ],
    |f| Step {
        id: f.id()?,
        number: f.int()?,
        name: f.text()?,
        build: f.id()?,
        started_at: f.opt_time()?,
        locks_acquired_at: f.opt_time()?,
        complete_at: {
            f.skip();
            f.opt_time()?
        },
        results: f.results()?,
        state_string: f.text()?,
        urls: f.json()?,
        hidden: f.bool()?,
        command: f.opt_text()?,
        version: f.int()?,
    }
);

plain!(
    Log,
    LOGS,
    |e| [
        e.id.0.into(),
        text(&e.name),
        text(&e.slug),
        e.step.0.into(),
        e.complete.into(),
        e.num_lines.into(),
        e.kind.letter().into(),
        e.version.into(),
    ],
    |f| Log {
        id: f.id()?,
        name: f.text()?,
        slug: f.text()?,
        step: f.id()?,
        complete: f.bool()?,
        num_lines: f.int()?,
        kind: LogKind::from_letter(&f.text()?).ok_or_else(|| f.bad(&None))?,
        version: f.int()?,
    }
);

plain!(
    ControlAct,
    CONTROL_ACTS,
    |e| [
        e.id.0.into(),
        text(&e.identity),
        opt_text(&e.key),
        json(&e.target)?,
        text(&e.action),
        json(&e.params)?,
        time(e.requested_at),
        opt_json(&e.answer)?,
        opt_time(e.answered_at),
        e.version.into(),
        opt_text(&e.came_from),
    ],
    |f| ControlAct {
        id: f.id()?,
        identity: f.text()?,
        key: f.opt_text()?,
        target: f.json()?,
        action: f.text()?,
        params: f.json()?,
        requested_at: f.time()?,
        answer: f.opt_json()?,
        answered_at: f.opt_time()?,
        version: f.int()?,
        came_from: f.opt_text()?,
    }
);

plain!(
    ConfigurationVersion,
    CONFIGURATIONS,
    |e| [
        e.id.0.into(),
        e.master.0.into(),
        e.number.into(),
        text(&e.digest),
        e.cause.word().into(),
        e.restores.into(),
        text(&e.who),
        time(e.created_at),
        json(&e.difference)?,
        e.act.map(|act| act.0).into(),
    ],
    |f| ConfigurationVersion {
        id: f.id()?,
        master: f.id()?,
        number: f.int()?,
        digest: f.text()?,
        cause: ConfigurationCause::from_word(&f.text()?).ok_or_else(|| f.bad(&None))?,
        restores: f.opt_int()?,
        who: f.text()?,
        created_at: f.time()?,
        difference: f.json()?,
        act: f.opt_id()?,
    }
);

plain!(
    Notifier,
    NOTIFIERS,
    |e| [e.id.0.into(), text(&e.name), text(&e.kind), e.master.map(|m| m.0).into(), e.version.into(),],
    |f| Notifier { id: f.id()?, name: f.text()?, kind: f.text()?, master: f.opt_id()?, version: f.int()? }
);

plain!(
    Delivery,
    DELIVERIES,
    |e| [
        e.id.0.into(),
        text(&e.notifier),
        time(e.created_at),
        time(e.due_at),
        text(&e.dedup_key),
        text(&e.subject),
        e.build.map(|b| b.0).into(),
        json(&e.notice)?,
        e.state.word().into(),
        e.attempts.into(),
        opt_text(&e.target),
        opt_text(&e.reason),
        opt_time(e.settled_at),
        e.version.into(),
    ],
    |f| Delivery {
        id: f.id()?,
        notifier: f.text()?,
        created_at: f.time()?,
        due_at: f.time()?,
        dedup_key: f.text()?,
        subject: f.text()?,
        build: f.opt_id()?,
        notice: f.json()?,
        state: DeliveryState::from_word(&f.text()?).ok_or_else(|| f.bad(&None))?,
        attempts: f.int()?,
        target: f.opt_text()?,
        reason: f.opt_text()?,
        settled_at: f.opt_time()?,
        version: f.int()?,
    }
);
