//! Which life of the database this is, and how another one begins.
//!
//! A database that is copied or put back from a backup begins a new generation: what clients remember of the old one (clocks) means
//! nothing in it, so they are told *gone* and read anew. Clocks that are stored beside the state they belong to (those of
//! schedulers and listeners) go over: they say of these very events which were taken.

use greenroom_model::{Clock, Timestamp};

use crate::engine::{Cond, EngineError, Row, Select, Table, Value, WriteTx};
use crate::schema::{GENERATION, LISTENERS, MASTER_HEADS, SCHEDULER_STATES};

/// The tables that hold clocks, and the clock's column.
const CLOCKS: [(&Table, &str); 2] = [(&SCHEDULER_STATES, "clock"), (&LISTENERS, "clock")];

/// What stands in the table `generation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A database that lives, in this generation.
    Lives(i64),
    /// One that is being filled by a copy, or was when the copy broke off.
    Filling,
    /// A backup of this generation: whoever opens it begins a new one.
    BackupOf(i64),
}

impl Mark {
    pub fn of(stored: i64) -> Self {
        match stored {
            0 => Mark::Filling,
            of if of < 0 => Mark::BackupOf(of.saturating_neg()),
            lives => Mark::Lives(lives),
        }
    }

    pub fn stored(self) -> i64 {
        match self {
            Mark::Filling => 0,
            Mark::BackupOf(of) => -of,
            Mark::Lives(generation) => generation,
        }
    }
}

/// The generation that follows one.
pub fn next(old: i64, now: Timestamp) -> i64 {
    now.0.max(old.saturating_add(1))
}

/// A clock's text in another generation; one of a third generation stays as it is.
fn moved(clock: &str, old: i64, new: i64) -> Option<String> {
    let mut clock: Clock = clock.parse().ok()?;
    if clock.generation != old {
        return None;
    }
    clock.generation = new;
    Some(clock.to_string())
}

/// What a row becomes in a new generation: clocks go over, nobody holds a lease.
pub fn carried(table: &'static Table, mut row: Row, old: i64, new: i64) -> Row {
    for (_, column) in CLOCKS.iter().filter(|(with, _)| with.name == table.name) {
        if let Some(value) = table.position(column).and_then(|i| row.get_mut(i))
            && let Value::Text(text) = value
            && let Some(text) = moved(text, old, new)
        {
            *value = text.into();
        }
    }
    if table.name == MASTER_HEADS.name
        && let Some(lease) = table.position("lease_until").and_then(|i| row.get_mut(i))
    {
        *lease = Value::Int(0);
    }
    row
}

/// Begins a new generation of a database that nobody else writes to; answers it. Its mark must still be the given one.
pub async fn begin(tx: &mut dyn WriteTx, mark: Mark, now: Timestamp) -> Result<i64, EngineError> {
    let old = mark.stored().abs();
    let new = next(old, now);
    let conds = [Cond::eq("id", 1), Cond::eq("generation", mark.stored())];
    if tx.set(&GENERATION, &[("generation", new.into())], &conds).await? != 1 {
        return Err(EngineError::Conflict("another process began a generation".into()));
    }
    for (table, column) in CLOCKS {
        for row in tx.select(&Select::from(table)).await? {
            let (key, _) = table.columns[0];
            let Some(at) = table.position(column) else { continue };
            let after = carried(table, row.clone(), old, new);
            if after[at] != row[at] {
                let same = [Cond::Is(key, crate::engine::Comparison::Eq, row[0].clone())];
                tx.set(table, &[(column, after[at].clone())], &same).await?;
            }
        }
    }
    tx.set(&MASTER_HEADS, &[("lease_until", Value::Int(0))], &[]).await?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use greenroom_model::MasterId;

    use super::*;

    #[test]
    fn marks_are_read_as_they_were_stored() {
        for mark in [Mark::Lives(7), Mark::Filling, Mark::BackupOf(7)] {
            assert_eq!(Mark::of(mark.stored()), mark);
        }
    }

    #[test]
    fn a_generation_is_later_than_the_one_before_even_if_the_time_is_not() {
        assert_eq!(next(5, Timestamp(9)), 9);
        assert_eq!(next(9, Timestamp(5)), 10);
    }

    #[test]
    fn clocks_go_over_and_those_of_others_do_not() {
        let clock = |generation| {
            let mut clock = Clock::start(generation);
            clock.set(MasterId(1), 42);
            clock.to_string()
        };
        let row = |clock: String| vec![Value::from("irc"), clock.into(), "{}".into()];
        assert_eq!(carried(&LISTENERS, row(clock(5)), 5, 8), row(clock(8)));
        assert_eq!(carried(&LISTENERS, row(clock(4)), 5, 8), row(clock(4)));
        assert_eq!(carried(&LISTENERS, row("no clock".into()), 5, 8), row("no clock".into()));
        let head = |lease: i64| [1, 2, 3, 4, lease].map(Value::Int).to_vec();
        assert_eq!(carried(&MASTER_HEADS, head(99), 5, 8), head(0));
    }
}
