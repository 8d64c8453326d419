//! Ids taken from blocks that the DbWriter reserves ahead, so that a writer knows the id of what it has not yet stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use greenroom_model::ids::{AllocatedId, IdKind};

/// All reserved ids of a kind are taken; the next commit (or a [`ReserveIds`](crate::ReserveIds)) brings more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no reserved id of kind {} is left", .0.name())]
pub struct Exhausted(pub IdKind);

/// Ids `next..end`.
#[derive(Debug)]
struct Block {
    next: AtomicI64,
    end: i64,
}

impl Block {
    fn left(&self) -> i64 {
        (self.end - self.next.load(Ordering::Relaxed)).max(0)
    }

    fn take(&self) -> Option<i64> {
        // Only as many overshoot as threads race for the last id: the counter cannot wrap.
        if self.left() == 0 {
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        (id < self.end).then_some(id)
    }
}

/// Hands out ids without waiting. Cheap to clone; shared by every thread.
#[derive(Debug, Clone)]
pub struct IdAllocator(Arc<[ArcSwap<Vec<Arc<Block>>>]>);

impl IdAllocator {
    pub(crate) fn empty() -> Self {
        Self(IdKind::ALL.iter().map(|_| ArcSwap::default()).collect())
    }

    /// The next id of a kind.
    pub fn take(&self, kind: IdKind) -> Result<i64, Exhausted> {
        self.0[kind as usize].load().iter().find_map(|b| b.take()).ok_or(Exhausted(kind))
    }

    /// The next id, typed.
    pub fn new_id<T: AllocatedId>(&self) -> Result<T, Exhausted> {
        self.take(T::KIND).map(T::from)
    }

    /// No id of the kind from here on was handed out yet.
    pub(crate) fn fresh_from(&self, kind: IdKind) -> i64 {
        let blocks = self.0[kind as usize].load();
        blocks
            .iter()
            .filter(|b| b.left() > 0)
            .map(|b| b.next.load(Ordering::Relaxed))
            .min()
            .unwrap_or(i64::MAX)
    }

    /// How many ids of a kind are left.
    pub(crate) fn left(&self, kind: IdKind) -> i64 {
        self.0[kind as usize].load().iter().map(|b| b.left()).sum()
    }

    /// Adds the ids `first..end`. Only the DbWriter calls it, one call at a time.
    pub(crate) fn add(&self, kind: IdKind, first: i64, end: i64) {
        let slot = &self.0[kind as usize];
        let mut blocks: Vec<Arc<Block>> = slot.load().iter().filter(|b| b.left() > 0).cloned().collect();
        blocks.push(Arc::new(Block { next: AtomicI64::new(first), end }));
        slot.store(Arc::new(blocks));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_model::BuildId;

    #[test]
    fn ids_come_in_order_over_blocks_and_then_run_out() {
        let ids = IdAllocator::empty();
        assert_eq!(ids.new_id::<BuildId>(), Err(Exhausted(IdKind::Build)));
        ids.add(IdKind::Build, 1, 3);
        ids.add(IdKind::Build, 10, 11);
        let taken: Vec<_> = (0..4).map(|_| ids.new_id::<BuildId>().ok().map(|b| b.0)).collect();
        assert_eq!(taken, [Some(1), Some(2), Some(10), None]);
        assert_eq!(ids.take(IdKind::Step), Err(Exhausted(IdKind::Step)));
    }

    #[test]
    fn threads_never_get_the_same_id() {
        let ids = IdAllocator::empty();
        ids.add(IdKind::Step, 1, 4001);
        let mut all: Vec<i64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| std::iter::from_fn(|| ids.take(IdKind::Step).ok()).collect::<Vec<_>>())
                })
                .collect();
            threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
        });
        all.sort_unstable();
        assert_eq!(all, (1..=4000).collect::<Vec<_>>());
    }
}
