//! SQL text from selects and conditions. Values are always bound, names come from the schema.

use super::*;

/// How an engine writes what SQL leaves open.
pub(super) struct Sql<'v> {
    pub text: String,
    pub values: Vec<&'v Value>,
}

impl<'v> Sql<'v> {
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    pub fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    pub fn bind(&mut self, value: &'v Value) -> &mut Self {
        self.text.push('?');
        self.values.push(value);
        self
    }

    pub fn list(&mut self, names: impl IntoIterator<Item = &'static str>) -> &mut Self {
        for (i, name) in names.into_iter().enumerate() {
            self.push(if i > 0 { ", " } else { "" }).push(name);
        }
        self
    }

    /// `(?, ?), (?, ?)`
    pub fn rows(&mut self, rows: impl IntoIterator<Item = impl IntoIterator<Item = &'v Value>>) -> &mut Self {
        for (i, row) in rows.into_iter().enumerate() {
            self.push(if i > 0 { ", (" } else { "(" });
            for (j, value) in row.into_iter().enumerate() {
                self.push(if j > 0 { "," } else { "" }).bind(value);
            }
            self.push(")");
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

    fn joined(&mut self, conds: &'v [Cond], word: &str) {
        for (i, cond) in conds.iter().enumerate() {
            self.push(if i > 0 { word } else { "" }).cond(cond);
        }
    }

    fn cond(&mut self, cond: &'v Cond) {
        match cond {
            Cond::Is(column, Comparison::Contains, value) => {
                self.push("instr(").push(column).push(", ").bind(value).push(") > 0");
            }
            Cond::Is(column, Comparison::Ne, value) => {
                self.push("(")
                    .push(column)
                    .push(" IS NULL OR ")
                    .push(column)
                    .push(" <> ")
                    .bind(value)
                    .push(")");
            }
            Cond::Is(column, comparison, value) => {
                self.push(column).push(operator(*comparison)).bind(value);
            }
            Cond::In(_, values) if values.is_empty() => {
                self.push("1 = 0");
            }
            Cond::In(column, values) => {
                self.push(column).push(" IN ").rows([values.iter()]);
            }
            Cond::Null(column) => {
                self.push(column).push(" IS NULL");
            }
            Cond::NotNull(column) => {
                self.push(column).push(" IS NOT NULL");
            }
            Cond::Any(conds) | Cond::All(conds) if conds.is_empty() => {
                self.push(if matches!(cond, Cond::Any(_)) { "1 = 0" } else { "1 = 1" });
            }
            Cond::Any(conds) => {
                self.push("(").joined(conds, " OR ");
                self.push(")");
            }
            Cond::All(conds) => {
                self.push("(").joined(conds, " AND ");
                self.push(")");
            }
        }
    }

    /// ` ORDER BY … LIMIT … OFFSET …`. Numbers are written out: they are ours and few.
    pub fn page(&mut self, select: &Select) -> &mut Self {
        for (i, (column, descending)) in select.order.iter().enumerate() {
            self.push(if i > 0 { ", " } else { " ORDER BY " }).push(column);
            self.push(if *descending { " DESC" } else { "" });
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
