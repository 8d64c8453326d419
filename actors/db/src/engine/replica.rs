//! A replica of a database server: whether it can be read, and whether it may be.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Connection, Pool};
use tokio::time::{Instant, timeout};

use super::gate::{Gate, Words};
use super::server::{Server, Tx};
use super::{ReadTx, Replica};

/// How long a replica may take to begin a transaction, before the primary is asked.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);
/// How long it may take to be connected to when it is looked at.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How often it is looked at whether it still may be read: its operator may change what it does.
const LOOK_EVERY: Duration = Duration::from_secs(60);

const WORDS: Words = Words { away: "the replica is not read", back: "the replica is read again" };

/// The pool of a replica, and what is known of its server.
pub struct ReplicaLink<DB: Server> {
    pool: Pool<DB>,
    gate: Arc<Gate>,
    options: <DB::Connection as Connection>::Options,
    /// How long any statement may take.
    statement: Duration,
    looked: Mutex<Instant>,
}

impl<DB: Server> ReplicaLink<DB>
where
    DB::Connection: Connection<Database = DB>,
    <DB::Connection as Connection>::Options: Clone + Sync,
{
    pub fn new(
        pool: Pool<DB>,
        options: <DB::Connection as Connection>::Options,
        statement: Duration,
    ) -> Self {
        let to_probe = options.clone();
        let gate = Gate::new(WORDS, move || {
            let options = to_probe.clone();
            Box::pin(async move {
                match look::<DB>(&options).await {
                    Ok(None) => Ok(()),
                    Ok(Some(fault)) => Err(fault),
                    Err(error) => Err(error.to_string()),
                }
            })
        });
        Self { pool, gate, options, statement, looked: Mutex::new(Instant::now()) }
    }

    async fn begin(&self) -> Option<Tx<DB>> {
        let connection = tokio::select! {
            connection = self.pool.acquire() => connection.ok()?,
            _ = self.gate.closed() => return None,
        };
        Tx::begin_read(connection, self.statement, &self.gate).await.ok()
    }

    /// From time to time, whether it still may be read.
    fn look_again(&self) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.elapsed() >= LOOK_EVERY {
            *looked = Instant::now();
            self.gate.suspect();
        }
    }
}

/// Connects, and answers why its transactions may be seen out of order.
async fn look<DB: Server>(
    options: &<DB::Connection as Connection>::Options,
) -> Result<Option<String>, sqlx::Error>
where
    DB::Connection: Connection<Database = DB>,
{
    let mut connection = <DB::Connection as Connection>::connect_with(options).await?;
    let fault = DB::replica_fault(&mut connection).await?;
    connection.close().await.ok();
    Ok(fault)
}

#[async_trait]
impl<DB: Server> Replica for ReplicaLink<DB>
where
    DB::Connection: Connection<Database = DB>,
    <DB::Connection as Connection>::Options: Clone + Sync,
{
    async fn read(&self) -> Option<Box<dyn ReadTx>> {
        self.gate.check().ok()?;
        self.look_again();
        match timeout(BEGIN_WITHIN, self.begin()).await {
            Ok(Some(tx)) => Some(Box::new(tx)),
            _ => {
                self.gate.suspect();
                None
            }
        }
    }

    fn suspect(&self) {
        self.gate.suspect();
    }

    async fn lost(&self) {
        self.gate.closed().await;
    }

    async fn fault(&self) -> Option<String> {
        match timeout(CONNECT_WITHIN, look::<DB>(&self.options)).await {
            Ok(Ok(fault)) => fault,
            // It may come later.
            _ => {
                self.gate.suspect();
                None
            }
        }
    }
}
