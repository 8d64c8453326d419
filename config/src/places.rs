//! Where things stand that were made of others: the steps of a recipe, the builders of a matrix.

use std::collections::BTreeMap;

/// From what is read to what was written.
#[derive(Default)]
pub(crate) struct Places(BTreeMap<Vec<String>, Written>);

/// What was written for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Where it stands.
    pub at: Vec<String>,
    /// Who uses it there, and where that is said.
    pub used: Option<(String, Vec<String>)>,
}

impl Places {
    /// Whatever is read at `from`, or below it, was written at `written`, or below that.
    pub fn add(&mut self, from: Vec<String>, written: Written) {
        self.0.insert(from, written);
    }

    /// Where what is read at a path was written; none if it is the same path.
    pub fn written(&self, path: &[String]) -> Option<Written> {
        (1..=path.len()).rev().find_map(|length| {
            let written = self.0.get(&path[..length])?;
            let at = [written.at.as_slice(), &path[length..]].concat();
            Some(Written { at, used: written.used.clone() })
        })
    }
}
