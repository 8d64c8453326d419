//! The facet of a status listener: its own clock and settings, nothing else.

use greenroom_model::write::ListenerRecord;

use crate::error::DataError;

/// The stored state of one listener, by name.
#[derive(Clone)]
pub struct ListenerState {}

#[allow(unused_variables)]
impl ListenerState {
    /// What was stored, or the default.
    pub async fn load(&self) -> Result<ListenerRecord, DataError> {
        unimplemented!()
    }

    /// Stores.
    pub async fn save(&self, record: ListenerRecord) -> Result<(), DataError> {
        unimplemented!()
    }
}
