//! The in-memory engine: persistent trees, so that a snapshot is a cheap clone and a rollback is a drop.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use rpds::RedBlackTreeMapSync;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::*;

type Tree<V> = RedBlackTreeMapSync<Row, V>;
type Tables = HashMap<&'static str, MemoryTable>;

/// One table: rows by key, and for each index its columns' values and the key → the key.
#[derive(Clone)]
struct MemoryTable {
    table: &'static Table,
    rows: Tree<Arc<Row>>,
    indexes: Vec<Index>,
}

#[derive(Clone)]
struct Index {
    columns: Vec<usize>,
    unique: bool,
    entries: Tree<Row>,
}

/// A database that lives as long as the process.
pub struct Memory {
    state: Arc<RwLock<Tables>>,
    writer: Arc<Mutex<()>>,
}

impl Memory {
    /// An empty database with these tables.
    pub fn new(tables: &[&'static Table]) -> Self {
        let tables = tables.iter().map(|t| (t.name, MemoryTable::new(t))).collect();
        Self { state: Arc::new(RwLock::new(tables)), writer: Arc::default() }
    }

    fn snapshot(&self) -> Tables {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Engine for Memory {
    async fn write(&self) -> Result<Box<dyn WriteTx>, EngineError> {
        let guard = Arc::clone(&self.writer).lock_owned().await;
        Ok(Box::new(MemoryTx { tables: self.snapshot(), home: Some((Arc::clone(&self.state), guard)) }))
    }

    async fn read(&self) -> Result<Box<dyn ReadTx>, EngineError> {
        Ok(Box::new(MemoryTx { tables: self.snapshot(), home: None }))
    }

    fn exclusive(&self) -> bool {
        true
    }
}

struct MemoryTx {
    tables: Tables,
    home: Option<(Arc<RwLock<Tables>>, OwnedMutexGuard<()>)>,
}

impl MemoryTx {
    fn table(&self, table: &'static Table) -> Result<&MemoryTable, EngineError> {
        self.tables.get(table.name).ok_or_else(|| missing(table.name))
    }

    fn table_mut(&mut self, table: &'static Table) -> Result<&mut MemoryTable, EngineError> {
        self.tables.get_mut(table.name).ok_or_else(|| missing(table.name))
    }
}

fn missing(what: &str) -> EngineError {
    EngineError::Damaged(format!("no table or column {what}"))
}

impl MemoryTable {
    fn new(table: &'static Table) -> Self {
        let index = |unique: bool| {
            move |columns: &&[&str]| Index {
                columns: columns.iter().filter_map(|c| table.position(c)).collect(),
                unique,
                entries: Tree::new_sync(),
            }
        };
        let indexes =
            table.unique.iter().map(index(true)).chain(table.indexes.iter().map(index(false))).collect();
        Self { table, rows: Tree::new_sync(), indexes }
    }

    fn remove(&mut self, key: &Row) {
        if let Some(row) = self.rows.get(key).cloned() {
            for index in &mut self.indexes {
                index.entries.remove_mut(&entry(&index.columns, &row, key));
            }
            self.rows.remove_mut(key);
        }
    }

    fn put(&mut self, row: Row) -> Result<(), EngineError> {
        let key = row[..self.table.key].to_vec();
        if self.rows.contains_key(&key) {
            return Err(EngineError::Conflict(format!("{} {key:?} exists", self.table.name)));
        }
        for index in &self.indexes {
            let values: Row = index.columns.iter().map(|i| row[*i].clone()).collect();
            if index.unique
                && !values.contains(&Value::Null)
                && with_prefix(&index.entries, &values).next().is_some()
            {
                return Err(EngineError::Conflict(format!("{} {values:?} is not unique", self.table.name)));
            }
        }
        for index in &mut self.indexes {
            index.entries.insert_mut(entry(&index.columns, &row, &key), key.clone());
        }
        self.rows.insert_mut(key, Arc::new(row));
        Ok(())
    }

    /// The rows that fulfil all conditions, by key.
    fn find(&self, conds: &[Cond]) -> Result<Vec<Arc<Row>>, EngineError> {
        let mut found = Vec::new();
        let mut check = |row: &Arc<Row>| -> Result<(), EngineError> {
            if all(self.table, row, conds)? {
                found.push(Arc::clone(row));
            }
            Ok(())
        };
        if let Some(keys) = self.keys(conds) {
            for row in keys.iter().filter_map(|key| self.rows.get(key)) {
                check(row)?;
            }
        } else {
            let fixed: Row = self.table.columns[..self.table.key]
                .iter()
                .map_while(|(name, _)| equal_to(conds, name))
                .collect();
            for row in with_prefix(&self.rows, &fixed) {
                check(row)?;
            }
        }
        Ok(found)
    }

    /// The keys of few candidates, if the conditions fix an index's first column or list keys.
    fn keys(&self, conds: &[Cond]) -> Option<Vec<Row>> {
        let first_key = self.table.columns[0].0;
        for cond in conds {
            if let Cond::In(column, values) = cond {
                let mut values = values.clone();
                values.sort();
                values.dedup();
                if *column == first_key && self.table.key == 1 {
                    return Some(values.into_iter().map(|v| vec![v]).collect());
                }
                if let Some(index) = self.index_on(column) {
                    let mut keys: Vec<Row> = values
                        .into_iter()
                        .flat_map(|v| with_prefix(&index.entries, &[v]).cloned().collect::<Vec<_>>())
                        .collect();
                    keys.sort();
                    return Some(keys);
                }
            }
        }
        if equal_to(conds, first_key).is_some() {
            return None;
        }
        let best = self.indexes.iter().max_by_key(|i| self.prefix(i, conds).len())?;
        let prefix = self.prefix(best, conds);
        if prefix.is_empty() {
            return None;
        }
        let mut keys: Vec<Row> = with_prefix(&best.entries, &prefix).cloned().collect();
        keys.sort();
        Some(keys)
    }

    fn index_on(&self, column: &str) -> Option<&Index> {
        let position = self.table.position(column)?;
        self.indexes.iter().find(|i| i.columns[0] == position)
    }

    fn prefix(&self, index: &Index, conds: &[Cond]) -> Row {
        index.columns.iter().map_while(|i| equal_to(conds, self.table.columns[*i].0)).collect()
    }
}

fn entry(columns: &[usize], row: &Row, key: &Row) -> Row {
    columns.iter().map(|i| row[*i].clone()).chain(key.iter().cloned()).collect()
}

fn equal_to(conds: &[Cond], column: &str) -> Option<Value> {
    conds.iter().find_map(|cond| match cond {
        Cond::Is(c, Comparison::Eq, value) if *c == column => Some(value.clone()),
        _ => None,
    })
}

/// The values of all keys that begin with `prefix`, in order.
fn with_prefix<'a, V>(tree: &'a Tree<V>, prefix: &[Value]) -> impl Iterator<Item = &'a V> {
    let prefix = prefix.to_vec();
    tree.range((Bound::Included(prefix.clone()), Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(&prefix))
        .map(|(_, value)| value)
}

fn all(table: &Table, row: &Row, conds: &[Cond]) -> Result<bool, EngineError> {
    for cond in conds {
        if !holds(table, row, cond)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holds(table: &Table, row: &Row, cond: &Cond) -> Result<bool, EngineError> {
    let value = |column: &str| table.position(column).map(|i| &row[i]).ok_or_else(|| missing(column));
    Ok(match cond {
        Cond::Is(column, comparison, right) => compare(value(column)?, *comparison, right),
        Cond::In(column, values) => values.contains(value(column)?),
        Cond::Null(column) => *value(column)? == Value::Null,
        Cond::NotNull(column) => *value(column)? != Value::Null,
        Cond::All(conds) => all(table, row, conds)?,
        Cond::Any(conds) => {
            for cond in conds {
                if holds(table, row, cond)? {
                    return Ok(true);
                }
            }
            false
        }
    })
}

fn compare(left: &Value, comparison: Comparison, right: &Value) -> bool {
    if *left == Value::Null || *right == Value::Null {
        return comparison == Comparison::Ne && *left != *right;
    }
    match comparison {
        Comparison::Eq => left == right,
        Comparison::Ne => left != right,
        Comparison::Lt => left < right,
        Comparison::Le => left <= right,
        Comparison::Gt => left > right,
        Comparison::Ge => left >= right,
        Comparison::Contains => match (left, right) {
            (Value::Text(l), Value::Text(r)) => l.contains(&**r),
            _ => false,
        },
    }
}

fn in_order(order: &[(usize, bool)], a: &Row, b: &Row) -> Ordering {
    order
        .iter()
        .map(|(i, descending)| if *descending { b[*i].cmp(&a[*i]) } else { a[*i].cmp(&b[*i]) })
        .find(|o| o.is_ne())
        .unwrap_or(Ordering::Equal)
}

#[async_trait]
impl ReadTx for MemoryTx {
    async fn select(&mut self, select: &Select) -> Result<Vec<Row>, EngineError> {
        let mut rows = self.table(select.table)?.find(&select.conds)?;
        let order: Vec<(usize, bool)> = select
            .order
            .iter()
            .map(|(c, d)| select.table.position(c).map(|i| (i, *d)).ok_or_else(|| missing(c)))
            .collect::<Result<_, _>>()?;
        rows.sort_by(|a, b| in_order(&order, a, b));
        let skip = usize::try_from(select.offset).unwrap_or(usize::MAX);
        let take = select.limit.map_or(usize::MAX, |l| usize::try_from(l).unwrap_or(usize::MAX));
        Ok(rows.into_iter().skip(skip).take(take).map(|r| (*r).clone()).collect())
    }

    async fn count(&mut self, select: &Select) -> Result<u64, EngineError> {
        let found = self.table(select.table)?.find(&select.conds)?.len() as u64;
        Ok(select.limit.map_or(found, |limit| found.min(limit)))
    }

    async fn max(
        &mut self,
        table: &'static Table,
        column: &'static str,
        conds: &[Cond],
    ) -> Result<Option<i64>, EngineError> {
        let position = table.position(column).ok_or_else(|| missing(column))?;
        let largest = self.table(table)?.find(conds)?.iter().map(|row| row[position].clone()).max();
        Ok(largest.and_then(|v| if let Value::Int(v) = v { Some(v) } else { None }))
    }

    async fn sum(
        &mut self,
        table: &'static Table,
        column: &'static str,
        conds: &[Cond],
    ) -> Result<i64, EngineError> {
        let position = table.position(column).ok_or_else(|| missing(column))?;
        let rows = self.table(table)?.find(conds)?;
        Ok(rows.iter().map(|row| if let Value::Int(v) = row[position] { v } else { 0 }).sum())
    }
}

#[async_trait]
impl WriteTx for MemoryTx {
    async fn insert(&mut self, table: &'static Table, rows: &[Row]) -> Result<(), EngineError> {
        let table = self.table_mut(table)?;
        rows.iter().try_for_each(|row| table.put(row.clone()))
    }

    async fn upsert(&mut self, table: &'static Table, rows: &[Row]) -> Result<(), EngineError> {
        let into = self.table_mut(table)?;
        for row in rows {
            into.remove(&row[..table.key].to_vec());
            into.put(row.clone())?;
        }
        Ok(())
    }

    async fn update(&mut self, table: &'static Table, rows: &[(i64, Row)]) -> Result<u64, EngineError> {
        let version = table.position("version").ok_or_else(|| missing("version"))?;
        let into = self.table_mut(table)?;
        let mut done = 0;
        for (expected, row) in rows {
            let key = row[..table.key].to_vec();
            if into.rows.get(&key).is_some_and(|old| old[version] == Value::Int(*expected)) {
                into.remove(&key);
                into.put(row.clone())?;
                done += 1;
            }
        }
        Ok(done)
    }

    async fn set(
        &mut self,
        table: &'static Table,
        values: &[(&'static str, Value)],
        conds: &[Cond],
    ) -> Result<u64, EngineError> {
        let into = self.table_mut(table)?;
        let rows = into.find(conds)?;
        for row in &rows {
            let mut new = (**row).clone();
            for (column, value) in values {
                new[table.position(column).ok_or_else(|| missing(column))?] = value.clone();
            }
            into.remove(&row[..table.key].to_vec());
            into.put(new)?;
        }
        Ok(rows.len() as u64)
    }

    async fn delete(&mut self, table: &'static Table, conds: &[Cond]) -> Result<u64, EngineError> {
        let from = self.table_mut(table)?;
        let rows = from.find(conds)?;
        for row in &rows {
            from.remove(&row[..table.key].to_vec());
        }
        Ok(rows.len() as u64)
    }

    async fn commit(self: Box<Self>) -> Result<(), EngineError> {
        let Some((state, _guard)) = self.home else {
            return Err(EngineError::Rejected("a read transaction cannot commit".into()));
        };
        *state.write().unwrap_or_else(PoisonError::into_inner) = self.tables;
        Ok(())
    }
}
