//! The facet of a status listener: its own clock and settings, nothing else.

use greenroom_db::ListenerOf;
use greenroom_model::Op;
use greenroom_model::write::ListenerRecord;

use crate::actor::read;
use crate::error::DataError;
use crate::rw::Rw;

/// The stored state of one listener, by name.
#[derive(Clone)]
pub struct ListenerState {
    pub(crate) rw: Rw,
    pub(crate) name: String,
}

impl ListenerState {
    /// What was stored, or the default.
    pub async fn load(&self) -> Result<ListenerRecord, DataError> {
        let stored = read(&self.rw.ro().shared.reader, ListenerOf { name: self.name.clone() }).await?;
        Ok(stored.value.unwrap_or_default())
    }

    /// Stores.
    pub async fn save(&self, state: ListenerRecord) -> Result<(), DataError> {
        self.rw.write(vec![Op::SaveListener { name: self.name.clone(), state }]).await.map(drop)
    }
}
