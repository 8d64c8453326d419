//! Remembers which statements are run, with their values, so that a test can ask the database how it would run each of them.
//!
//! Off unless a test turns it on: then it costs one relaxed load a statement.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::sql::{Bound, Dialect, Sql};
use super::{ColumnType, Table, Value};

static ON: AtomicBool = AtomicBool::new(false);
static SEEN: Mutex<BTreeMap<(u8, String), Vec<Given>>> = Mutex::new(BTreeMap::new());

/// One line of a plan.
pub static PLAN: Table =
    Table { name: "plan", columns: &[("plan", ColumnType::Text)], key: 1, unique: &[], indexes: &[] };

/// A value as it was bound.
#[derive(Debug, Clone)]
enum Given {
    One(Value, ColumnType),
    Many(Vec<Value>, ColumnType),
}

/// A statement that was run.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Its text.
    pub text: String,
    values: Vec<Given>,
}

impl Statement {
    /// It with something before it, as a statement of its own. `short`: its page has one row, so that an index that has its order is
    /// used however small the table is.
    pub fn after<'v>(&'v self, dialect: Dialect, before: &str, short: bool) -> Sql<'v> {
        let text = match self.text.split_once(" LIMIT ") {
            Some((rest, page)) if short && page.contains("OFFSET") && !page.contains(" AS part") => {
                format!("{rest} LIMIT 1 OFFSET 0")
            }
            _ => self.text.clone(),
        };
        let mut sql = Sql::new(dialect, &PLAN, &format!("{before}{text}"));
        sql.values = self
            .values
            .iter()
            .map(|given| match given {
                Given::One(value, ty) => Bound::One(value, *ty),
                Given::Many(values, ty) => Bound::Many(values.iter().collect(), *ty),
            })
            .collect();
        sql
    }
}

/// Notes a statement that reads.
pub fn note(dialect: Dialect, sql: &Sql<'_>) {
    if !ON.load(Ordering::Relaxed) || !sql.text.starts_with("SELECT") {
        return;
    }
    let given = |bound: &Bound<'_>| match bound {
        Bound::One(value, ty) => Given::One((*value).clone(), *ty),
        Bound::Many(values, ty) => Given::Many(values.iter().map(|v| (*v).clone()).collect(), *ty),
    };
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    seen.entry((dialect as u8, sql.text.clone())).or_insert_with(|| sql.values.iter().map(given).collect());
}

/// Begins to remember; what was remembered before is kept.
pub fn begin() {
    ON.store(true, Ordering::Relaxed);
}

/// What was run on engines of a dialect.
pub fn seen(dialect: Dialect) -> Vec<Statement> {
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let of = seen.iter().filter(|((of, _), _)| *of == dialect as u8);
    of.map(|((_, text), values)| Statement { text: text.clone(), values: values.clone() }).collect()
}
