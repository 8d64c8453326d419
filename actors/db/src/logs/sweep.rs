//! Removing the text of logs that retention took away, a bounded piece at a time.

use greenroom_model::LogId;

use crate::engine::{Cond, EngineError, Select};
use crate::messages::{LogError, Swept};
use crate::rows::Fields;
use crate::schema::REMOVED_LOGS;
use crate::store::Store;

/// Logs that one piece is about, at most.
const LOGS: u64 = 50;
/// Segments of text that one transaction removes, at most.
const SEGMENTS: i64 = 64;
/// Transactions that one piece takes, at most.
const TRANSACTIONS: usize = 100;

/// Removes a piece. Done again it does no harm: a log is forgotten only when its text is gone.
pub async fn sweep(store: Store) -> Result<Swept, LogError> {
    let waiting = waiting(&store).await?;
    let (mut gone, mut transactions) = (Vec::new(), 0);
    for log in &waiting {
        let mut all = false;
        while !all && transactions < TRANSACTIONS {
            all = store.0.logs.remove(*log, SEGMENTS).await?;
            transactions += 1;
        }
        if !all {
            break;
        }
        gone.push(*log);
    }
    if !gone.is_empty() {
        let mut tx = store.0.engine.write().await?;
        tx.delete(&REMOVED_LOGS, &[Cond::ids("logid", gone.iter().map(|log| log.0))]).await?;
        tx.commit().await?;
    }
    Ok(Swept { logs: gone.len() as u64, more: !waiting.is_empty() })
}

async fn waiting(store: &Store) -> Result<Vec<LogId>, EngineError> {
    let mut tx = store.0.engine.read().await?;
    let first = Select::from(&REMOVED_LOGS).order("logid", false).limit(LOGS);
    tx.select(&first).await?.into_iter().map(|row| Fields::new(&REMOVED_LOGS, row).id()).collect()
}
