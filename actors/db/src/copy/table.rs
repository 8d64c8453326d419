//! Rows of one table from one engine to another: page by page, in bounded memory, with a sum over all of them.

use sha2::{Digest, Sha256};

use crate::engine::{Comparison, Cond, EngineError, ReadTx, Row, Select, Table, Value};

/// About so much is held of a table at a time, unless one row alone has more.
const PAGE_BYTES: usize = 4 << 20;
/// The first page of a table, before it is known how large its rows are; and the most of one page.
const FIRST_PAGE: u64 = 16;
const LARGEST_PAGE: u64 = 2000;

/// How many rows there are, and a checksum over them that does not depend on their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Rows.
    pub rows: u64,
    /// The sum of the rows' SHA-256, cut to 128 bits.
    pub checksum: u128,
}

impl Sum {
    pub(crate) fn add(&mut self, row: &Row) {
        let mut hash = Sha256::new();
        for value in row {
            // Each value says its kind and size, so that no two rows are the same bytes.
            let (kind, bytes): (u8, &[u8]) = match value {
                Value::Null => (0, &[]),
                Value::Int(v) => (1, &v.to_be_bytes()),
                Value::Text(v) => (2, v.as_bytes()),
                Value::Blob(v) => (3, v),
            };
            hash.update([kind]);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
        let digest = hash.finalize();
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        self.checksum = self.checksum.wrapping_add(u128::from_be_bytes(half));
        self.rows += 1;
    }
}

fn size(row: &Row) -> usize {
    let value = |v: &Value| match v {
        Value::Null | Value::Int(_) => 8,
        Value::Text(v) => v.len(),
        Value::Blob(v) => v.len(),
    };
    row.iter().map(value).sum()
}

/// A table's rows in the order of its key.
pub struct Pages {
    table: &'static Table,
    last: Option<Row>,
    limit: u64,
    /// The largest row seen.
    largest: usize,
}

impl Pages {
    pub fn of(table: &'static Table) -> Self {
        Self { table, last: None, limit: FIRST_PAGE, largest: 1 }
    }

    /// The next rows; none: that was all.
    pub async fn next(&mut self, tx: &mut dyn ReadTx) -> Result<Vec<Row>, EngineError> {
        let mut rows = Vec::new();
        for conds in self.after() {
            let left = self.limit - rows.len() as u64;
            if left > 0 {
                let mut select = Select::from(self.table).limit(left);
                select.conds = conds;
                for (column, _) in &self.table.columns[..self.table.key] {
                    select = select.order(column, false);
                }
                rows.extend(tx.select(&select).await?);
            }
        }
        self.largest = rows.iter().map(size).fold(self.largest, usize::max);
        let fit = (PAGE_BYTES / self.largest) as u64;
        self.limit = (self.limit * 4).min(fit).clamp(1, LARGEST_PAGE);
        if let Some(last) = rows.last() {
            self.last = Some(last[..self.table.key].to_vec());
        }
        Ok(rows)
    }

    /// The conditions of what comes after the last key, each served by the key's index: first the rest of what begins as it
    /// does, then what begins later.
    fn after(&self) -> Vec<Vec<Cond>> {
        let Some(last) = &self.last else { return vec![Vec::new()] };
        let is = |i: usize, how| Cond::Is(self.table.columns[i].0, how, last[i].clone());
        let upto = |n: usize| {
            let mut conds: Vec<Cond> = (0..n).map(|i| is(i, Comparison::Eq)).collect();
            conds.push(is(n, Comparison::Gt));
            conds
        };
        (0..last.len()).rev().map(upto).collect()
    }
}

/// The sum of a table as it is.
pub async fn sum(tx: &mut dyn ReadTx, table: &'static Table) -> Result<Sum, EngineError> {
    let (mut pages, mut sum) = (Pages::of(table), Sum::default());
    loop {
        let rows = pages.next(tx).await?;
        if rows.is_empty() {
            return Ok(sum);
        }
        rows.iter().for_each(|row| sum.add(row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::memory::Memory;
    use crate::engine::{Engine, WriteTx};
    use crate::schema::{BUILDSET_SOURCESTAMPS, LOG_SEGMENTS};

    fn row(key: i64, next: i64) -> Row {
        vec![key.into(), next.into(), (key * 7 + next).into()]
    }

    async fn all(table: &'static Table, rows: &[Row]) -> (Vec<Row>, usize) {
        let memory = Memory::new(&[table]);
        let mut tx: Box<dyn WriteTx> = memory.write().await.unwrap();
        tx.insert(table, rows).await.unwrap();
        tx.commit().await.unwrap();
        let (mut pages, mut found, mut most) = (Pages::of(table), Vec::new(), 0);
        let mut tx = memory.read().await.unwrap();
        loop {
            let page = pages.next(&mut *tx).await.unwrap();
            if page.is_empty() {
                return (found, most);
            }
            most = most.max(page.len());
            found.extend(page);
        }
    }

    #[tokio::test]
    async fn every_row_comes_once_also_where_keys_begin_alike() {
        let rows: Vec<Row> = (0..40).flat_map(|key| (0..(key * 13) % 90).map(move |n| row(key, n))).collect();
        assert!(rows.len() > 1000, "several pages");
        assert_eq!(all(&BUILDSET_SOURCESTAMPS, &rows).await.0, rows);
    }

    #[tokio::test]
    async fn large_rows_come_few_at_a_time() {
        let data = || Value::Blob(vec![1; PAGE_BYTES / 3].into());
        let rows: Vec<Row> = (0..30).map(|n| vec![1.into(), n.into(), 1.into(), 1.into(), data()]).collect();
        let (found, most) = all(&LOG_SEGMENTS, &rows).await;
        assert_eq!(found.len(), 30);
        assert!(most <= FIRST_PAGE as usize, "{most}");
    }

    #[test]
    fn a_sum_tells_rows_apart_and_not_their_order() {
        let sum = |rows: &[Row]| {
            let mut sum = Sum::default();
            rows.iter().for_each(|row| sum.add(row));
            sum
        };
        let (a, b) = (vec![Value::from("ab"), Value::from("c")], vec![Value::from("a"), Value::from("bc")]);
        assert_ne!(sum(std::slice::from_ref(&a)), sum(std::slice::from_ref(&b)));
        assert_ne!(sum(&[vec![Value::Null]]), sum(&[vec![Value::from("")]]));
        assert_eq!(sum(&[a.clone(), b.clone()]), sum(&[b.clone(), a.clone()]));
        assert_ne!(sum(&[a.clone(), a.clone()]), sum(&[b.clone(), b]), "{a:?}");
    }
}
