//! Ordered writes that are not awaited one by one: steps, properties and texts of a running build.

use greenroom_model::{Committed, Op};

use crate::error::DataError;

/// Writes of one owner, in order. What is pushed while a write is under way goes with the next one, so a busy owner
/// costs one transaction at a time however much it says. Nothing is lost while the owner lives; when it dies, what was not
/// yet durable is gone with it, as if it had not been said.
pub struct Journal {
    _private: (),
}

#[allow(unused_variables)]
impl Journal {
    /// Adds operations; they will be written in order, soon.
    pub fn push(&self, op: Op) {
        unimplemented!()
    }

    /// Adds operations that are durable, with all before them, when this answers. They are one write of their own: a
    /// refusal concerns only them.
    pub async fn write(&self, ops: Vec<Op>) -> Result<Committed, DataError> {
        unimplemented!()
    }
}
