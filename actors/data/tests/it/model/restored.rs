//! A database that was restored from a backup is another one, whatever its numbers say.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use greenroom_data::{DataError, DataLayer, Delivery};
use greenroom_db::copy::backup;
use greenroom_db::{Fate, Plant, Store};
use greenroom_model::*;
use greenroom_runtime::TestWorld;
use tokio::time::timeout;

use crate::judge::{Broken, Client};
use crate::world::{Writer, configuration, versions};

const GRACE: Duration = Duration::from_secs(10);

async fn start(world: &TestWorld, url: &str, dir: &Path, plant: Plant) -> DataLayer {
    let store = Store::open(url, dir, "main", Timestamp(world.now_micros())).await.expect("a store");
    let store = store.planted_for_test(plant, Arc::new(|| Fate::Done));
    DataLayer::start_over(&world.root(), store, DataLayer::to_bus).await.expect("a data layer")
}

/// A client sees more than the backup has; then the backup takes the database's place, and other things happen. Answers what the client
/// was told wrongly when it goes on from its clock.
async fn resumed_after_a_restore(plant: Plant) -> Vec<Broken> {
    let dir = tempfile::tempdir().expect("a directory");
    let world = TestWorld::in_real_time();
    let layer = start(&world, "sqlite://first.db", dir.path(), plant).await;
    layer.rw().write(vec![configuration()]).await.expect("configured");
    let url = "sqlite://first.db";
    backup(&url.into(), dir.path(), Path::new("second.db")).await.expect("a backup");
    let mut writer = Writer::new(layer.rw(), 3);
    for _ in 0..10 {
        writer.write().await.expect("a write");
    }
    let done = layer.rw().write(vec![Op::Heartbeat]).await.expect("a write");
    while !layer.ro().hot().clock.contains(done.at.0, done.at.1) {
        tokio::task::yield_now().await;
    }
    let hot = layer.ro().hot();
    let mut client = Client::begin(hot.clock.clone(), versions(&hot));
    layer.stop(GRACE).await;
    drop((writer, layer));
    world.finish().await;

    let world = TestWorld::in_real_time();
    let layer = start(&world, "sqlite://second.db", dir.path(), plant).await;
    let mut writer = Writer::new(layer.rw(), 4);
    for _ in 0..20 {
        writer.write().await.expect("a write");
    }
    let everything = (2..=7).map(|n| Pattern::parse(&vec!["*"; n].join("/"))).collect();
    let broken = match layer.ro().subscribe(everything, Some(client.clock.clone())).await {
        Err(DataError::Gone) => Vec::new(),
        Err(error) => panic!("{error}"),
        Ok(mut live) => {
            while let Ok(Delivery::Event(event)) = timeout(Duration::from_millis(300), live.next()).await {
                let e = &event.frame.event;
                client.event(e.master, e.seq, e.what.record.entity(), e.what.version());
            }
            client.judge(&versions(&layer.ro().hot()))
        }
    };
    layer.stop(GRACE).await;
    drop((writer, layer));
    world.finish().await;
    broken
}

#[actix_rt::test]
async fn a_clock_of_before_a_restore_is_gone() {
    assert_eq!(resumed_after_a_restore(Plant::Nothing).await, []);
}

#[actix_rt::test]
async fn a_resume_over_a_restore_is_caught() {
    assert_ne!(resumed_after_a_restore(Plant::TrustsAnyClock).await, []);
}
