//! Properties of new buildsets, kept at hand for the builds that are about to start: they never change, and most builds
//! start at once, so the database need not be asked. What does not fit is read from there.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use greenroom_model::{BuildsetId, Properties};

/// The most buildsets kept.
const MOST: usize = 4_096;
/// Larger sets of properties are not kept, so that the shelf stays below some 16 MiB.
const LARGEST_BYTES: usize = 4 * 1024;

/// The shelf. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    by_buildset: HashMap<BuildsetId, Arc<Properties>>,
    oldest_first: VecDeque<BuildsetId>,
}

impl Shelf {
    /// Keeps the properties of a buildset that is about to be written. (If it is not, nobody will ask for them.)
    pub fn put(&self, buildset: BuildsetId, properties: &Properties) {
        let size: usize = properties.iter().map(|(name, it)| name.len() + it.0.to_string().len()).sum();
        if size > LARGEST_BYTES {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.by_buildset.insert(buildset, Arc::new(properties.clone())).is_none() {
            kept.oldest_first.push_back(buildset);
        }
        if kept.oldest_first.len() > MOST
            && let Some(oldest) = kept.oldest_first.pop_front()
        {
            kept.by_buildset.remove(&oldest);
        }
    }

    /// The properties of a buildset, if they are at hand.
    pub fn get(&self, buildset: BuildsetId) -> Option<Arc<Properties>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_buildset.get(&buildset).cloned()
    }
}

#[cfg(test)]
mod tests {
    use greenroom_model::Property;
    use serde_json::json;

    use super::*;

    #[test]
    fn it_keeps_the_newest_and_nothing_large() {
        let shelf = Shelf::default();
        let some = Properties::from([("a".into(), Property(json!(1), "x".into()))]);
        for id in 0..5_000 {
            shelf.put(BuildsetId(id), &some);
        }
        assert_eq!(shelf.get(BuildsetId(0)), None);
        assert_eq!(shelf.get(BuildsetId(4_999)).as_deref(), Some(&some));
        let large = Properties::from([("a".into(), Property(json!("x".repeat(5_000)), "x".into()))]);
        shelf.put(BuildsetId(9_999), &large);
        assert_eq!(shelf.get(BuildsetId(9_999)), None);
    }
}
