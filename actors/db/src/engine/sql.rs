//! SQL text from selects and conditions. Values are always bound, names come from the schema.

use super::*;

/// What engines write differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
    MariaDb,
}

/// How many selections one statement is made of: SQLite takes 500.
pub const EACH: usize = 64;

/// The rows of [`Sql::count_each`].
pub static COUNTED: Table = Table {
    name: "counted",
    columns: &[("place", ColumnType::Int), ("count", ColumnType::Int)],
    key: 1,
    unique: &[],
    indexes: &[],
};

/// The counts of so many selections by their places.
pub fn counts(rows: Vec<Row>, selections: usize) -> Result<Vec<u64>, EngineError> {
    let mut counts = vec![0; selections];
    for row in rows {
        let (place, count) = match row[..] {
            [Value::Int(place), Value::Int(count)] => {
                (usize::try_from(place).ok(), u64::try_from(count).ok())
            }
            _ => (None, None),
        };
        let at = place.and_then(|place| counts.get_mut(place));
        let (Some(at), Some(count)) = (at, count) else {
            return Err(EngineError::Damaged(format!("{row:?} is no count of {selections}")));
        };
        *at = count;
    }
    Ok(counts)
}

/// What stands for a placeholder.
pub enum Bound<'v> {
    One(&'v Value, ColumnType),
    /// An array (PostgreSQL).
    Many(Vec<&'v Value>, ColumnType),
}

/// A statement on a table.
pub struct Sql<'v> {
    dialect: Dialect,
    table: &'static Table,
    pub text: String,
    pub values: Vec<Bound<'v>>,
}

impl<'v> Sql<'v> {
    /// `SELECT` of all columns, with conditions, order and page.
    pub fn select(dialect: Dialect, select: &'v Select) -> Self {
        let mut sql = Self::new(dialect, select.table, "SELECT ");
        sql.columns().push(" FROM ").name(select.table.name);
        sql.filter(&select.conds).page(select);
        sql
    }

    /// `SELECT f(column)`, or of all rows if none is given.
    pub fn aggregate(
        dialect: Dialect,
        table: &'static Table,
        before: &str,
        column: Option<&str>,
        after: &str,
        conds: &'v [Cond],
    ) -> Self {
        let mut sql = Self::new(dialect, table, "SELECT ");
        sql.push(before);
        match column {
            Some(column) => sql.name(column),
            None => sql.push("*"),
        };
        sql.push(after).push(" FROM ").name(table.name).filter(conds);
        sql
    }

    /// How many rows there are, counted up to the limit if there is one.
    pub fn count(dialect: Dialect, select: &'v Select) -> Self {
        let Some(limit) = select.limit.and_then(|limit| i64::try_from(limit).ok()) else {
            return Self::aggregate(dialect, select.table, "count(", None, ")", &select.conds);
        };
        let mut sql = Self::new(dialect, select.table, "SELECT count(*) FROM (SELECT 1 AS one FROM ");
        sql.name(select.table.name).filter(&select.conds).push(&format!(" LIMIT {limit}) AS counted"));
        sql
    }

    /// The rows of several selections of one table, together. The table is that of the first.
    pub fn select_each(dialect: Dialect, table: &'static Table, selects: &'v [Select]) -> Self {
        let mut sql = Self::new(dialect, table, "");
        for (i, select) in selects.iter().enumerate() {
            sql.push(if i > 0 { " UNION ALL " } else { "" }).push("SELECT ").columns().push(" FROM (SELECT ");
            sql.columns()
                .push(" FROM ")
                .name(table.name)
                .filter(&select.conds)
                .page(select)
                .push(") AS part");
        }
        sql
    }

    /// The place of each selection and how many rows it has, counted up to its limit ([`COUNTED`]).
    pub fn count_each(dialect: Dialect, table: &'static Table, selects: &'v [Select]) -> Self {
        let mut sql = Self::new(dialect, table, "");
        for (i, select) in selects.iter().enumerate() {
            let limit = select.limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(i64::MAX);
            // As a sum, for a number alone would be of another type than the count on some servers.
            sql.push(if i > 0 { " UNION ALL " } else { "" })
                .push(&format!("SELECT 0 * count(*) + {i}, count(*) "));
            sql.push("FROM (SELECT 1 AS one FROM ").name(table.name).filter(&select.conds);
            sql.push(&format!(" LIMIT {limit}) AS counted"));
        }
        sql
    }

    /// `UPDATE … SET … WHERE …`
    pub fn set(
        dialect: Dialect,
        table: &'static Table,
        values: &'v [(&'static str, Value)],
        conds: &'v [Cond],
    ) -> Self {
        let mut sql = Self::new(dialect, table, "UPDATE ");
        sql.name(table.name).push(" SET ");
        for (i, (column, value)) in values.iter().enumerate() {
            sql.push(if i > 0 { ", " } else { "" }).name(column).push(" = ").bind(column, value);
        }
        sql.filter(conds);
        sql
    }

    /// `DELETE FROM … WHERE …`
    pub fn delete(dialect: Dialect, table: &'static Table, conds: &'v [Cond]) -> Self {
        let mut sql = Self::new(dialect, table, "DELETE FROM ");
        sql.name(table.name).filter(conds);
        sql
    }

    pub fn new(dialect: Dialect, table: &'static Table, text: &str) -> Self {
        Self { dialect, table, text: text.to_owned(), values: Vec::new() }
    }

    pub fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// A name, quoted: some are words of SQL.
    pub fn name(&mut self, name: &str) -> &mut Self {
        let quote = if self.dialect == Dialect::MariaDb { '`' } else { '"' };
        self.text.push(quote);
        self.text.push_str(name);
        self.text.push(quote);
        self
    }

    /// The names of all columns.
    pub fn columns(&mut self) -> &mut Self {
        for (i, (name, _)) in self.table.columns.iter().enumerate() {
            self.push(if i > 0 { ", " } else { "" }).name(name);
        }
        self
    }

    fn placeholder(&mut self) {
        match self.dialect {
            Dialect::Postgres => self.text.push_str(&format!("${}", self.values.len() + 1)),
            Dialect::Sqlite | Dialect::MariaDb => self.text.push('?'),
        }
    }

    /// A value that is compared with a column, or stored in it.
    pub fn bind(&mut self, column: &str, value: &'v Value) -> &mut Self {
        let ty = self.table.position(column).map_or(ColumnType::Int, |i| self.table.columns[i].1);
        self.bind_as(ty, value)
    }

    pub fn bind_as(&mut self, ty: ColumnType, value: &'v Value) -> &mut Self {
        self.placeholder();
        self.values.push(Bound::One(value, ty));
        self
    }

    /// An array of values of one type (PostgreSQL).
    pub fn bind_array(&mut self, ty: ColumnType, values: Vec<&'v Value>) -> &mut Self {
        self.placeholder();
        self.push(match ty {
            ColumnType::Int => "::bigint[]",
            ColumnType::Text => "::text[]",
            ColumnType::Blob => "::bytea[]",
        });
        self.values.push(Bound::Many(values, ty));
        self
    }

    /// The values of a whole row, or of a row and what follows it: `?,?,?`
    pub fn row(&mut self, row: impl IntoIterator<Item = &'v Value>) -> &mut Self {
        for (i, value) in row.into_iter().enumerate() {
            let ty = self.table.columns.get(i).map_or(ColumnType::Int, |c| c.1);
            self.push(if i > 0 { "," } else { "" }).bind_as(ty, value);
        }
        self
    }

    /// `(?,?), (?,?)`
    pub fn rows(&mut self, rows: impl IntoIterator<Item = impl IntoIterator<Item = &'v Value>>) -> &mut Self {
        for (i, row) in rows.into_iter().enumerate() {
            self.push(if i > 0 { ", (" } else { "(" }).row(row).push(")");
        }
        self
    }

    /// ` WHERE …`, if there are conditions.
    pub fn filter(&mut self, conds: &'v [Cond]) -> &mut Self {
        if !conds.is_empty() {
            self.push(" WHERE ").joined(conds, " AND ");
        }
        self
    }

    fn joined(&mut self, conds: &'v [Cond], word: &str) -> &mut Self {
        for (i, cond) in conds.iter().enumerate() {
            self.push(if i > 0 { word } else { "" }).cond(cond);
        }
        self
    }

    fn cond(&mut self, cond: &'v Cond) {
        match cond {
            Cond::Is(column, Comparison::Contains, value) => self.contains(column, value),
            Cond::Is(column, Comparison::Ne, value) => {
                self.push("(").name(column).push(" IS NULL OR ").name(column).push(" <> ");
                self.bind(column, value).push(")");
            }
            Cond::Is(column, comparison, value) => {
                if *comparison == Comparison::Eq && self.summed(column) {
                    self.name(&format!("{column}_sum")).push(" = CRC32(").bind(column, value).push(") AND ");
                }
                self.name(column).push(operator(*comparison)).bind(column, value);
            }
            Cond::In(_, values) if values.is_empty() => {
                self.push("1 = 0");
            }
            Cond::In(column, values) => self.one_of(column, values),
            Cond::Null(column) => {
                if self.summed(column) {
                    self.name(&format!("{column}_sum")).push(" IS NULL AND ");
                }
                self.name(column).push(" IS NULL");
            }
            Cond::NotNull(column) => {
                self.name(column).push(" IS NOT NULL");
            }
            Cond::Any(conds) | Cond::All(conds) if conds.is_empty() => {
                self.push(if matches!(cond, Cond::Any(_)) { "1 = 0" } else { "1 = 1" });
            }
            Cond::Any(conds) => {
                self.push("(").joined(conds, " OR ").push(")");
            }
            Cond::All(conds) => {
                self.push("(").joined(conds, " AND ").push(")");
            }
        }
    }

    /// Whether MariaDB has an index over the checksum of a column instead of its text.
    fn summed(&self, column: &str) -> bool {
        let texts = ["branch", "codebase", "project", "repository"];
        self.dialect == Dialect::MariaDb && self.table.name == "changes" && texts.contains(&column)
    }

    fn contains(&mut self, column: &str, value: &'v Value) {
        match self.dialect {
            Dialect::Sqlite => self.push("instr(").name(column).push(", ").bind(column, value),
            Dialect::Postgres => self.push("strpos(").name(column).push(", ").bind(column, value),
            Dialect::MariaDb => self.push("LOCATE(").bind(column, value).push(", ").name(column),
        };
        self.push(") > 0");
    }

    fn one_of(&mut self, column: &str, values: &'v [Value]) {
        let ty = self.table.position(column).map_or(ColumnType::Int, |i| self.table.columns[i].1);
        self.name(column);
        if self.dialect == Dialect::Postgres {
            self.push(" = ANY(").bind_array(ty, values.iter().collect()).push(")");
            return;
        }
        self.push(" IN (");
        // The last one is repeated up to a power of two, so that few distinct statements are prepared.
        let padded = values.iter().chain(values.last().into_iter().cycle());
        for (i, value) in padded.take(values.len().next_power_of_two()).enumerate() {
            self.push(if i > 0 { "," } else { "" }).bind_as(ty, value);
        }
        self.push(")");
    }

    /// ` ORDER BY … LIMIT … OFFSET …`. Numbers are written out: they are ours and few.
    fn page(&mut self, select: &Select) -> &mut Self {
        for (i, (column, descending)) in select.order.iter().enumerate() {
            self.push(if i > 0 { ", " } else { " ORDER BY " }).name(column);
            self.push(if *descending { " DESC" } else { "" });
            // Key columns are never null; said of them, it would keep their index from being used.
            let name = select.table.name;
            let may_be_null = select.table.position(column).is_some_and(|i| i >= select.table.key)
                && !crate::schema::never_null(name, column);
            if self.dialect == Dialect::Postgres && may_be_null {
                self.push(if *descending { " NULLS LAST" } else { " NULLS FIRST" });
            }
        }
        if select.limit.is_some() || select.offset > 0 {
            let limit = select.limit.and_then(|l| i64::try_from(l).ok()).unwrap_or(i64::MAX);
            let offset = i64::try_from(select.offset).unwrap_or(i64::MAX);
            self.push(&format!(" LIMIT {limit} OFFSET {offset}"));
        }
        self
    }
}

fn operator(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Eq => " = ",
        Comparison::Ne | Comparison::Contains => " <> ",
        Comparison::Lt => " < ",
        Comparison::Le => " <= ",
        Comparison::Gt => " > ",
        Comparison::Ge => " >= ",
    }
}
