//! The console's cells, kept by events, against the plainest reading of the database.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_data::retention::Remove;
use greenroom_data::{ConsoleOf, ConsoleRow, DataLayer, Rw};
use greenroom_model::write::*;
use greenroom_model::*;
use greenroom_runtime::TestWorld;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::timeout;

use crate::world::{build_of, buildset_of, change, start};

const GRACE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(20);

fn newest(limit: u64) -> ConsoleOf {
    ConsoleOf { limit, ..ConsoleOf::default() }
}

fn stamp(revision: u32) -> NewSourceStamp {
    NewSourceStamp {
        branch: Some("main".into()),
        revision: Some(revision.to_string()),
        repository: "https://example.org/r".into(),
        ..NewSourceStamp::default()
    }
}

fn set(rw: &Rw, stamps: Vec<StampRef>, builders: &BTreeSet<i64>) -> (Op, Vec<BuildRequestId>) {
    let requests: Vec<_> = builders.iter().map(|b| (rw.new_id().unwrap(), BuilderId(*b))).collect();
    let ids = requests.iter().map(|(id, _)| *id).collect();
    (buildset_of(rw, requests, stamps).unwrap(), ids)
}

fn begin(rw: &Rw, request: BuildRequestId) -> (Op, BuildId) {
    build_of(rw, request, WorkerId(1)).unwrap()
}

fn end(build: BuildId, results: Results) -> Op {
    Op::FinishBuild { build, results, state_string: results.word().into() }
}

/// Changes and what is built of them, in any order.
struct Farm {
    rw: Rw,
    dice: StdRng,
    revision: u32,
    waiting: Vec<BuildRequestId>,
    running: Vec<BuildId>,
}

impl Farm {
    fn taken<T>(dice: &mut StdRng, from: &mut Vec<T>) -> Option<T> {
        (!from.is_empty()).then(|| from.swap_remove(dice.random_range(0..from.len())))
    }

    async fn act(&mut self) {
        let rw = self.rw.clone();
        let builders: BTreeSet<i64> = (0..2).map(|_| self.dice.random_range(1..=3)).collect();
        match self.dice.random_range(0..10) {
            0 => {
                self.revision += 1;
                rw.write(vec![change(&rw, &self.revision.to_string()).unwrap()]).await.unwrap();
            }
            // Something is built before its change is known, with or without something else in the same transaction.
            1 => {
                self.revision += 1;
                let (set, mut requests) = set(&rw, vec![StampRef::New(stamp(self.revision))], &builders);
                let change = change(&rw, &self.revision.to_string()).unwrap();
                if self.dice.random() {
                    rw.write(vec![set, change]).await.unwrap();
                } else {
                    rw.write(vec![set]).await.unwrap();
                    rw.write(vec![change]).await.unwrap();
                }
                self.waiting.append(&mut requests);
            }
            2..=4 => {
                let revision = self.dice.random_range(0..=self.revision.min(6));
                let mut stamps = vec![StampRef::New(stamp(self.revision - revision))];
                if self.dice.random_range(0..3) == 0 {
                    let other = NewSourceStamp { codebase: "lib".into(), ..stamp(revision) };
                    stamps.push(StampRef::New(other));
                }
                let (set, mut requests) = set(&rw, stamps, &builders);
                rw.write(vec![set]).await.unwrap();
                self.waiting.append(&mut requests);
            }
            5 | 6 => {
                let Some(request) = Self::taken(&mut self.dice, &mut self.waiting) else { return };
                let (op, build) = begin(&rw, request);
                rw.write(vec![op]).await.unwrap();
                self.running.push(build);
            }
            7 => {
                let Some(request) = Self::taken(&mut self.dice, &mut self.waiting) else { return };
                rw.write(vec![Op::CancelRequest { request }]).await.unwrap();
            }
            _ => {
                let Some(build) = Self::taken(&mut self.dice, &mut self.running) else { return };
                let results = Results::ALL[self.dice.random_range(0..7)];
                rw.write(vec![end(build, results)]).await.unwrap();
            }
        }
    }
}

/// A cell by a plain look: builder, newest build with its result, how many, and what waits or runs.
type Plain = (i64, Option<(i64, Option<Results>)>, u64, Vec<(i64, bool)>);

fn shown(row: &ConsoleRow) -> (i64, Vec<Plain>) {
    let cells = row.cells.iter().map(|cell| {
        let open = cell.open.iter().map(|(id, claimed)| (id.0, *claimed)).collect();
        (cell.builder.0, cell.latest.map(|b| (b.id.0, b.results)), cell.builds, open)
    });
    (row.change.id.0, cells.collect())
}

/// What the console must say of the newest changes, by a plain look at everything.
async fn plainly(layer: &DataLayer, limit: usize) -> Vec<(i64, Vec<Plain>)> {
    let ro = layer.ro();
    let changes = ro.list::<Change>(Query::default()).await.unwrap().value.items;
    let sets = ro.list::<Buildset>(Query::default()).await.unwrap().value.items;
    let requests = ro.list::<BuildRequest>(Query::default()).await.unwrap().value.items;
    let builds = ro.list::<Build>(Query::default()).await.unwrap().value.items;
    let mut rows = Vec::new();
    for change in changes.iter().rev().take(limit) {
        let of: BTreeSet<_> = sets
            .iter()
            .filter(|set| set.sourcestamps.iter().any(|s| s.id == change.sourcestamp.id))
            .map(|set| set.id)
            .collect();
        let mut cells: BTreeMap<i64, Plain> = BTreeMap::new();
        for request in requests.iter().filter(|r| of.contains(&r.buildset)) {
            let builder = request.builder.0;
            let cell = cells.entry(builder).or_insert((builder, None, 0, Vec::new()));
            if request.complete_at.is_none() {
                cell.3.push((request.id.0, request.claimed_at.is_some()));
            }
            for build in builds.iter().filter(|b| b.request == request.id) {
                cell.2 += 1;
                if cell.1.is_none_or(|(latest, _)| latest < build.id.0) {
                    cell.1 = Some((build.id.0, build.results));
                }
            }
        }
        rows.push((change.id.0, cells.into_values().collect()));
    }
    rows
}

/// The console says what a plain look says, at once; and soon all of it is kept.
async fn agrees(layer: &DataLayer, limit: u64, why: &str) {
    let wanted = plainly(layer, limit as usize).await;
    let mut looks = 0;
    let kept = timeout(PATIENCE, async {
        loop {
            let answer = layer.ro().console(newest(limit)).await.unwrap().value;
            assert_eq!(answer.rows.iter().map(shown).collect::<Vec<_>>(), wanted, "{why}, look {looks}");
            looks += 1;
            let hot = layer.ro().hot();
            if answer.rows.iter().all(|row| hot.console.contains_key(&row.change.sourcestamp.id)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(kept.await.is_ok(), "{why}: the cells are kept");
    let answer = layer.ro().console(newest(limit)).await.unwrap();
    assert_eq!(answer.value.rows.iter().map(shown).collect::<Vec<_>>(), wanted, "{why}, as it is kept");
    assert_eq!(answer.clock, layer.ro().hot().clock, "{why}: it is from memory");
}

async fn cells_are_kept(url: &str, seed: u64) {
    let world = TestWorld::in_real_time();
    let dir = tempfile::tempdir().unwrap();
    let layer = start(&world, url, dir.path()).await;
    let (rw, dice) = (layer.rw(), StdRng::seed_from_u64(seed));
    let mut farm = Farm { rw, dice, revision: 0, waiting: vec![], running: vec![] };
    let (ro, mut sets_gone) = (layer.ro(), 0);
    for round in 0..12 {
        for _ in 0..farm.dice.random_range(1..12) {
            // Somebody looks while things happen, also at more than was looked at before.
            let (limit, acts) = (farm.dice.random_range(1..30), farm.dice.random_range(0..12));
            let happen = async {
                for _ in 0..acts {
                    farm.act().await;
                }
            };
            let (looked, ()) = futures_util::join!(ro.console(newest(limit)), happen);
            looked.unwrap();
        }
        agrees(&layer, farm.dice.random_range(1..40), &format!("seed {seed}, round {round}")).await;
        if round % 4 == 3 {
            let all = layer.ro().list::<Build>(Query::default()).await.unwrap().value.items;
            let builds: Vec<BuildId> =
                all.iter().filter(|_| farm.dice.random_range(0..4) == 0).map(|b| b.id).collect();
            let remove = Remove { at: layer.rw().now(), builds, ..Remove::default() };
            let removed = layer.retention().remove(remove).await.unwrap();
            sets_gone += removed.buildsets;
            agrees(&layer, 40, &format!("seed {seed}, after retention in round {round}")).await;
        }
    }
    assert!(sets_gone > 0, "seed {seed}: retention had something to do");
    drop((farm, ro));
    layer.stop(GRACE).await;
    drop(layer);
    world.finish().await;
}

#[actix_rt::test]
async fn cells_are_what_a_plain_look_says_in_memory() {
    for seed in 0..12 {
        cells_are_kept("memory:", seed).await;
    }
}

#[actix_rt::test]
async fn cells_are_what_a_plain_look_says_on_sqlite() {
    for seed in 20..23 {
        cells_are_kept("sqlite://console.db", seed).await;
    }
}

/// A master in memory whose console somebody looks at.
async fn of_one_change() -> (TestWorld, tempfile::TempDir, DataLayer) {
    let world = TestWorld::in_real_time();
    let dir = tempfile::tempdir().unwrap();
    let layer = start(&world, "memory:", dir.path()).await;
    let rw = layer.rw();
    rw.write(vec![change(&rw, "1").unwrap()]).await.unwrap();
    agrees(&layer, 10, "one change").await;
    (world, dir, layer)
}

/// Changes that come while the console is open need no read.
#[actix_rt::test]
async fn what_is_built_of_a_new_change_is_followed_without_a_read() {
    let (world, _dir, layer) = of_one_change().await;
    let rw = layer.rw();
    for revision in 2..20 {
        let (set, requests) = set(&rw, vec![StampRef::New(stamp(revision))], &[1, 2].into());
        let (op, build) = begin(&rw, requests[0]);
        rw.write(vec![change(&rw, &revision.to_string()).unwrap()]).await.unwrap();
        rw.write(vec![set]).await.unwrap();
        rw.write(vec![op]).await.unwrap();
        rw.write(vec![end(build, Results::Success)]).await.unwrap();
        let hot = layer.ro().hot();
        assert_eq!(hot.console.size(), revision as usize, "nobody had to ask");
    }
    agrees(&layer, 40, "all").await;
    layer.stop(GRACE).await;
    drop((rw, layer));
    world.finish().await;
}

/// The cells tell of the newest 200 buildsets of a source stamp: what the oldest had leaves them.
#[actix_rt::test]
async fn a_source_stamp_of_many_buildsets_is_read_again() {
    let (world, _dir, layer) = of_one_change().await;
    let rw = layer.rw();
    for _ in 0..200 {
        let (set, requests) = set(&rw, vec![StampRef::New(stamp(1))], &[1].into());
        let (op, build) = begin(&rw, requests[0]);
        rw.write(vec![set, op, end(build, Results::Success)]).await.unwrap();
    }
    agrees(&layer, 10, "as many as are told").await;
    let (set, _) = set(&rw, vec![StampRef::New(stamp(1))], &[1].into());
    rw.write(vec![set]).await.unwrap();
    assert_eq!(layer.ro().hot().console.size(), 0, "dropped");
    let answer = layer.ro().console(newest(10)).await.unwrap().value;
    assert_eq!((answer.rows[0].cells[0].builds, answer.rows[0].cells[0].open.len()), (199, 1));
    layer.stop(GRACE).await;
    drop((rw, layer));
    world.finish().await;
}
