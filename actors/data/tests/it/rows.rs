//! Rows of builders, kept by events, against the plainest reading of the database.

use std::time::Duration;

use greenroom_data::retention::Remove;
use greenroom_data::{DataLayer, Rw};
use greenroom_model::write::*;
use greenroom_model::*;
use greenroom_runtime::TestWorld;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::world::{build_of, buildset_of, change, configuration, open};

const GRACE: Duration = Duration::from_secs(10);

/// Builds that begin and end in any order.
struct Farm {
    rw: Rw,
    dice: StdRng,
    open: Vec<BuildId>,
    revision: Option<String>,
}

impl Farm {
    async fn begin(&mut self, builder: i64) {
        if self.dice.random_range(0..4) == 0 {
            let revision = format!("{:x}", self.dice.random::<u64>());
            self.rw.write(vec![change(&self.rw, &revision).unwrap()]).await.unwrap();
            self.revision = Some(revision);
        }
        let stamp = NewSourceStamp {
            branch: Some("main".into()),
            revision: self.revision.clone(),
            repository: "https://example.org/r".into(),
            ..NewSourceStamp::default()
        };
        let request = self.rw.new_id().unwrap();
        let requests = vec![(request, BuilderId(builder))];
        let set = buildset_of(&self.rw, requests, vec![StampRef::New(stamp)]).unwrap();
        self.rw.write(vec![set]).await.unwrap();
        if self.dice.random_range(0..8) == 0 {
            return; // it waits
        }
        let (start, id) = build_of(&self.rw, request, WorkerId(1)).unwrap();
        self.rw.write(vec![start]).await.unwrap();
        self.open.push(id);
    }

    async fn end(&mut self, results: Results) {
        let at = self.dice.random_range(0..self.open.len());
        let build = self.open.swap_remove(at);
        let state_string = results.word().into();
        self.rw.write(vec![Op::FinishBuild { build, results, state_string }]).await.unwrap();
    }
}

/// What a builder's row must say, by a plain look at all of its builds.
async fn plainly(layer: &DataLayer, builder: i64) -> Value {
    let ro = layer.ro();
    let query = Query::default().eq("builderid", builder);
    let mut all = ro.list::<Build>(query.clone()).await.unwrap().value.items;
    all.sort_by_key(|b| std::cmp::Reverse(b.number));
    let done: Vec<_> = all.iter().filter(|b| b.complete_at.is_some()).collect();
    let mut running: Vec<i64> = all.iter().filter(|b| b.complete_at.is_none()).map(|b| b.number).collect();
    running.sort_unstable();
    let says: Vec<(bool, i64)> = done
        .iter()
        .filter_map(|b| match b.results? {
            Results::Success | Results::Warnings => Some((false, b.number)),
            Results::Failure | Results::Exception => Some((true, b.number)),
            _ => None,
        })
        .collect();
    let row: Vec<_> = says.iter().take_while(|(broken, _)| *broken == says[0].0).collect();
    let waiting = ro.list::<BuildRequest>(query).await.unwrap().value.items;
    let waiting = waiting.iter().filter(|r| r.claimed_at.is_none() && r.complete_at.is_none()).count();
    json!({
        "recent": done.iter().take(20).map(|b| b.number).collect::<Vec<_>>(),
        "running": running,
        "successes": done.iter().filter(|b| b.results == Some(Results::Success)).count().min(20),
        "streak": row.first().map(|(broken, _)| json!([broken, row.len().min(100), row.last().unwrap().1])),
        "waiting": waiting,
        "total": all.len(),
    })
}

/// The same of the row.
fn kept(layer: &DataLayer, builder: i64) -> Value {
    let hot = layer.ro().hot();
    let Some(row) = hot.rows.get(&builder) else { return Value::Null };
    let it: Value = serde_json::from_str(&row.summary()).unwrap();
    let numbers =
        |of: &str| it[of].as_array().unwrap().iter().map(|b| b["number"].clone()).collect::<Vec<_>>();
    json!({
        "recent": numbers("recent"),
        "running": numbers("running"),
        "successes": it["durations"]["of"],
        "streak": it["streak"].as_object().map(|s| json!([s["broken"], s["count"], s["since"]["number"]])),
        "waiting": it["queue"]["waiting"],
        "total": row.total_builds(),
    })
}

async fn settled(layer: &DataLayer, why: &str) {
    for builder in 1..=3 {
        let wanted = plainly(layer, builder).await;
        let reached = timeout(Duration::from_secs(20), async {
            while kept(layer, builder) != wanted {
                tokio::task::yield_now().await;
            }
        });
        if reached.await.is_err() {
            assert_eq!(kept(layer, builder), wanted, "{why}, builder {builder}");
        }
    }
}

fn summaries(layer: &DataLayer) -> Vec<String> {
    let hot = layer.ro().hot();
    (1..=3)
        .map(|builder| hot.rows.get(&builder).map_or(String::new(), |row| row.summary().to_string()))
        .collect()
}

async fn rows_are_kept(url: &str, restart: bool) {
    let world = TestWorld::in_real_time();
    let dir = tempfile::tempdir().unwrap();
    let layer = open(&world, url, dir.path()).await;
    layer.rw().write(vec![configuration()]).await.unwrap();
    let mut farm = Farm { rw: layer.rw(), dice: StdRng::seed_from_u64(11), open: Vec::new(), revision: None };
    // Long rows of one result, mixed ones, and builds that end late.
    for round in 0..8 {
        for _ in 0..30 {
            let builder = if round % 2 == 0 { 1 } else { farm.dice.random_range(1..=3) };
            farm.begin(builder).await;
            while farm.open.len() > 4 {
                let results = match round {
                    0..=2 => Results::Success,
                    3 => Results::ALL[farm.dice.random_range(0..7)],
                    _ => Results::Failure,
                };
                farm.end(results).await;
            }
        }
        settled(&layer, &format!("round {round}")).await;
    }
    // Retention takes some that are shown, and some of the row before them.
    let shown = layer.ro().list::<Build>(Query::default().eq("builderid", 1)).await.unwrap().value.items;
    let builds: Vec<BuildId> = shown.iter().rev().skip(3).step_by(3).map(|b| b.id).collect();
    let remove = Remove { at: layer.rw().now(), builds, ..Remove::default() };
    let removed = layer.retention().remove(remove).await.unwrap();
    assert!(removed.builds > 10, "{removed:?}");
    settled(&layer, "after retention").await;
    let before = summaries(&layer);
    drop(farm);
    layer.stop(GRACE).await;
    drop(layer);
    world.finish().await;
    if restart {
        let world = TestWorld::in_real_time();
        let layer = open(&world, url, dir.path()).await;
        assert_eq!(summaries(&layer), before);
        layer.stop(GRACE).await;
        drop(layer);
        world.finish().await;
    }
}

#[actix_rt::test]
async fn rows_are_what_a_plain_look_says_in_memory() {
    rows_are_kept("memory:", false).await;
}

#[actix_rt::test]
async fn rows_are_what_a_plain_look_says_on_sqlite_and_after_a_restart() {
    rows_are_kept("sqlite://rows.db", true).await;
}
