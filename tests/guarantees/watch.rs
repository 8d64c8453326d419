//! Many followers at once, on threads of their own, over a cluster.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenroom_model::Clock;
use rand::rngs::StdRng;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::follower::{Follower, Snapshot, reference};
use crate::history::History;
use crate::load::dice_of;
use crate::storm::Cluster;

/// When all is calm, clients reach the present within this time.
const PRESENT_WITHIN: Duration = Duration::from_secs(60);

/// Followers at work.
pub struct Watch {
    runtime: Runtime,
    stop: watch::Sender<bool>,
    followers: Vec<JoinHandle<Follower>>,
    snapshots: Vec<Snapshot>,
    resumptions: Arc<AtomicUsize>,
}

impl Watch {
    /// Begins with `each` followers of each collection, whose connections last so many milliseconds.
    pub fn begin(
        cluster: &Cluster,
        collections: &[&'static str],
        each: usize,
        lasts: Range<u64>,
        history: &Arc<History>,
        dice: &mut StdRng,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (stop, stopped) = watch::channel(false);
        let rest = cluster.masters[0].rest();
        let snapshots: Vec<Snapshot> = collections.iter().map(|it| Snapshot::of(rest, it)).collect();
        let resumptions = Arc::new(AtomicUsize::new(0));
        let clients = (0..each).flat_map(|_| &snapshots).enumerate().map(|(number, from)| {
            let (dice, count) = (dice_of(dice), Arc::clone(&resumptions));
            let ports = cluster.ports();
            let follower =
                Follower::new(number, from, ports, dice, Arc::clone(history), lasts.clone(), count);
            runtime.spawn(follower.follow(stopped.clone()))
        });
        let followers = clients.collect();
        Self { runtime, stop, followers, snapshots, resumptions }
    }

    /// How often its followers have resumed.
    pub fn resumptions(&self) -> usize {
        self.resumptions.load(Ordering::Relaxed)
    }

    /// Nothing changes any more: followers read up to the present, and what they should have is written down.
    #[track_caller]
    pub fn end(self, cluster: &Cluster, history: &Arc<History>) {
        let _ = self.stop.send(true);
        let rest = cluster.masters[0].rest();
        let snapshot = Snapshot::of(rest, self.snapshots[0].collection);
        let now: Clock = snapshot.clock.parse().expect("a clock");
        self.runtime.block_on(async {
            let mut ends = Vec::new();
            for follower in self.followers {
                let follower = follower.await.expect("a follower");
                ends.push(tokio::spawn(follower.catch_up(now.clone(), PRESENT_WITHIN)));
            }
            for end in ends {
                end.await.expect("a follower");
            }
            for from in &self.snapshots {
                reference(history, rest, from, &now).await;
            }
        });
    }
}
