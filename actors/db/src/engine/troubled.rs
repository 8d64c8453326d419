//! An engine whose commits go wrong as a test wishes, over any other. For tests.

use std::sync::Arc;

use async_trait::async_trait;

use super::*;

/// What becomes of a commit.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is done.
    Done,
    /// It is done, and nobody hears of it.
    AnswerLost,
    /// It is not done, and nobody hears of that.
    Lost,
    /// It is rolled back: somebody else was faster.
    RolledBack,
}

/// Decides on each commit.
#[doc(hidden)]
pub type Fates = Arc<dyn Fn() -> Fate + Send + Sync>;

/// See the module.
pub struct Troubled {
    pub engine: Arc<dyn Engine>,
    pub fates: Fates,
}

#[async_trait]
impl Engine for Troubled {
    async fn write(&self) -> Result<Box<dyn WriteTx>, EngineError> {
        let tx = self.engine.write().await?;
        Ok(Box::new(TroubledTx { tx, fates: Arc::clone(&self.fates) }))
    }

    async fn read(&self) -> Result<Box<dyn ReadTx>, EngineError> {
        self.engine.read().await
    }

    /// Several masters of one process write to it.
    fn exclusive(&self) -> bool {
        false
    }
}

struct TroubledTx {
    tx: Box<dyn WriteTx>,
    fates: Fates,
}

#[async_trait]
impl ReadTx for TroubledTx {
    async fn select(&mut self, select: &Select) -> Result<Vec<Row>, EngineError> {
        self.tx.select(select).await
    }

    async fn count(&mut self, select: &Select) -> Result<u64, EngineError> {
        self.tx.count(select).await
    }

    async fn max(
        &mut self,
        table: &'static Table,
        column: &'static str,
        conds: &[Cond],
    ) -> Result<Option<i64>, EngineError> {
        self.tx.max(table, column, conds).await
    }

    async fn sum(
        &mut self,
        table: &'static Table,
        column: &'static str,
        conds: &[Cond],
    ) -> Result<i64, EngineError> {
        self.tx.sum(table, column, conds).await
    }

    async fn now(&mut self) -> Result<i64, EngineError> {
        self.tx.now().await
    }
}

#[async_trait]
impl WriteTx for TroubledTx {
    async fn insert(&mut self, table: &'static Table, rows: &[Row]) -> Result<(), EngineError> {
        self.tx.insert(table, rows).await
    }

    async fn upsert(&mut self, table: &'static Table, rows: &[Row]) -> Result<(), EngineError> {
        self.tx.upsert(table, rows).await
    }

    async fn update(&mut self, table: &'static Table, rows: &[(i64, Row)]) -> Result<u64, EngineError> {
        self.tx.update(table, rows).await
    }

    async fn set(
        &mut self,
        table: &'static Table,
        values: &[(&'static str, Value)],
        conds: &[Cond],
    ) -> Result<u64, EngineError> {
        self.tx.set(table, values, conds).await
    }

    async fn delete(&mut self, table: &'static Table, conds: &[Cond]) -> Result<u64, EngineError> {
        self.tx.delete(table, conds).await
    }

    async fn commit(self: Box<Self>) -> Result<(), EngineError> {
        match (self.fates)() {
            Fate::Done => self.tx.commit().await,
            Fate::AnswerLost => {
                self.tx.commit().await?;
                Err(EngineError::Unknown("the answer of a commit was lost".into()))
            }
            Fate::Lost => Err(EngineError::Unknown("a commit was lost".into())),
            Fate::RolledBack => Err(EngineError::Conflict("somebody was faster".into())),
        }
    }
}
