//! The feed over the real DataActor and real stores.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenroom_data::{DataError, DataLayer, Delivery, Ended, LogStream, Ro};
use greenroom_db::{EventSink, Store};
use greenroom_model::*;
use greenroom_mq::{Broker, Notice, Publish};
use greenroom_runtime::{Front, TestWorld};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::timeout;

use crate::judge::Client;
use crate::world::{Writer, configuration, everything, follow, soon, start, versions};

const GRACE: Duration = Duration::from_secs(10);

/// The clock that contains all that was written until now.
async fn head(layer: &DataLayer) -> Clock {
    let done = layer.rw().write(vec![Op::Heartbeat]).await.expect("a write");
    let mut clock = layer.ro().hot().clock.clone();
    clock.set(done.at.0, done.at.1);
    soon("the snapshot", async {
        while !layer.ro().hot().clock.covers(&clock) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    clock
}

#[actix_rt::test]
async fn a_snapshot_and_what_comes_after_it_are_the_whole() {
    snapshot_and_feed_are_the_whole("memory:").await;
}

#[actix_rt::test]
async fn a_snapshot_and_what_comes_after_it_are_the_whole_on_postgresql() {
    snapshot_and_feed_are_the_whole(&crate::databases::fresh("postgres")).await;
}

#[actix_rt::test]
async fn a_snapshot_and_what_comes_after_it_are_the_whole_on_mariadb() {
    snapshot_and_feed_are_the_whole(&crate::databases::fresh("mariadb")).await;
}

async fn snapshot_and_feed_are_the_whole(url: &str) {
    let world = TestWorld::in_real_time();
    let dir = tempfile::tempdir().unwrap();
    let layer = start(&world, url, dir.path()).await;
    let begun = head(&layer).await;
    let mut client = Client::begin(begun.clone(), versions(&layer.ro().hot()));
    let mut live = layer.ro().subscribe(everything(), Some(begun.clone())).await.unwrap();
    let mut writer = Writer::new(layer.rw(), 7);
    for _ in 0..60 {
        writer.write().await.unwrap();
    }
    let end = head(&layer).await;
    follow(&mut live, &mut client, &end).await;
    assert_eq!(client.judge(&versions(&layer.ro().hot())), []);

    // The same from the clock of the beginning, afterwards.
    let mut late = layer.ro().subscribe(everything(), Some(begun.clone())).await.unwrap();
    let mut again = Client { clock: begun, ..Client::default() };
    follow(&mut late, &mut again, &end).await;
    assert!(late.try_next().is_none());
    assert_eq!(late.idle_clock().as_deref(), Some(end.to_string().as_str()));
    layer.stop(GRACE).await;
    world.finish().await;
}

#[actix_rt::test]
async fn a_pattern_selects_and_a_quiet_clock_moves_on() {
    let world = TestWorld::in_real_time();
    let dir = tempfile::tempdir().unwrap();
    let layer = start(&world, "memory:", dir.path()).await;
    let mut workers = layer.ro().subscribe(vec![Pattern::parse("workers/2/*")], None).await.unwrap();
    for worker in [1, 2, 3, 2] {
        let pause = Op::PauseWorker { worker: WorkerId(worker), paused: true, reason: None };
        let resume = Op::PauseWorker { worker: WorkerId(worker), paused: false, reason: None };
        layer.rw().write(vec![pause, resume]).await.unwrap();
    }
    let end = head(&layer).await;
    let mut keys = Vec::new();
    while keys.len() < 4 {
        match soon("an event", workers.next()).await {
            Delivery::Event(event) => keys.push(event.key().to_string()),
            Delivery::Ended(why) => panic!("{why:?}"),
        }
    }
    assert_eq!(keys, ["workers/2/state_updated"; 4]);
    let quiet = soon("a quiet clock", async {
        loop {
            match workers.idle_clock() {
                Some(clock) if *clock == end.to_string() => break clock,
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    assert_eq!(quiet.parse(), Ok(end));
    assert!(workers.try_next().is_none());
    layer.stop(GRACE).await;
    world.finish().await;
}

#[actix_rt::test]
async fn a_clock_that_cannot_be_served_is_told_so() {
    let world = TestWorld::in_real_time();
    let dir = tempfile::tempdir().unwrap();
    let layer = start(&world, "memory:", dir.path()).await;
    let now = head(&layer).await;
    let mut future = now.clone();
    future.set(layer.me(), now.head(layer.me()) + 1);
    let mut other = Clock::start(now.generation + 1);
    other.set(layer.me(), 1);
    for clock in [future, other] {
        let refused = layer.ro().subscribe(everything(), Some(clock)).await.err();
        assert_eq!(refused, Some(DataError::Gone));
    }
    layer.stop(GRACE).await;
    world.finish().await;
}

#[actix_rt::test]
async fn what_was_pruned_is_gone_and_never_silently_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let world = TestWorld::in_real_time();
    let layer = start(&world, "sqlite://t.db", dir.path()).await;
    let begun = head(&layer).await;
    for paused in [true, false, true] {
        layer.rw().write(vec![Op::PauseWorker { worker: WorkerId(1), paused, reason: None }]).await.unwrap();
    }
    let end = head(&layer).await;
    // The newest event stays; what lies before it goes.
    let floor = layer.prune_events(Timestamp(i64::MAX), 1).await.unwrap();
    assert_eq!(floor, end.head(layer.me()) - 1);
    layer.stop(GRACE).await;
    world.finish().await;
    // Whoever holds the layer holds the lock of its file.
    drop(layer);

    // Another life, which has nothing in memory.
    let world = TestWorld::in_real_time();
    let layer = start(&world, "sqlite://t.db", dir.path()).await;
    assert_eq!(layer.ro().subscribe(everything(), Some(begun)).await.err(), Some(DataError::Gone));
    let mut rest = layer.ro().subscribe(everything(), Some(end.clone())).await.unwrap();
    let now = head(&layer).await;
    let mut client = Client::begin(end, versions(&layer.ro().hot()));
    client.versions.clear();
    follow(&mut rest, &mut client, &now).await;
    layer.stop(GRACE).await;
    world.finish().await;
}

#[actix_rt::test]
async fn a_subscriber_that_does_not_keep_up_is_cut_and_resumes() {
    let world = TestWorld::in_real_time();
    let dir = tempfile::tempdir().unwrap();
    let layer = start(&world, "memory:", dir.path()).await;
    let begun = head(&layer).await;
    let mut slow =
        layer.ro().subscribe(vec![Pattern::parse("workers/*/*")], Some(begun.clone())).await.unwrap();
    for i in 0..600 {
        let ops = (1..=3).map(|w| Op::PauseWorker { worker: WorkerId(w), paused: i % 2 == 0, reason: None });
        layer.rw().write(ops.collect()).await.unwrap();
    }
    let end = head(&layer).await;
    let mut got = 0;
    loop {
        match soon("an event", slow.next()).await {
            Delivery::Event(_) => got += 1,
            Delivery::Ended(Ended::Lagging) => break,
            Delivery::Ended(Ended::Gone) => panic!("nothing was pruned"),
        }
    }
    assert!(got <= 1_800);
    let mut resumed =
        layer.ro().subscribe(vec![Pattern::parse("workers/*/*")], Some(slow.clock())).await.unwrap();
    while got < 1_800 {
        match soon("an event", resumed.next()).await {
            Delivery::Event(_) => got += 1,
            // Reading 1,000 and more at once may be too slow again.
            Delivery::Ended(_) => {
                resumed = layer
                    .ro()
                    .subscribe(vec![Pattern::parse("workers/*/*")], Some(resumed.clock()))
                    .await
                    .unwrap();
            }
        }
    }
    assert!(resumed.try_next().is_none() && end.covers(&resumed.clock()));
    layer.stop(GRACE).await;
    world.finish().await;
}

/// A bus that loses, doubles and reorders what it is given.
fn lying(seed: u64) -> impl FnOnce(Front<Broker>) -> EventSink {
    move |broker| {
        let state = Mutex::new((StdRng::seed_from_u64(seed), Vec::<Arc<[Event]>>::new()));
        Arc::new(move |events: Arc<[Event]>| {
            let mut state = state.lock().unwrap();
            let (dice, held) = &mut *state;
            let send = |events: Arc<[Event]>| {
                let _ = broker.tell(Publish(Notice::Events(events)));
            };
            match dice.random_range(0..10) {
                0 | 1 => {}
                2 | 3 => held.push(events),
                4 => {
                    send(events.clone());
                    send(events);
                }
                _ => send(events),
            }
            if dice.random_bool(0.3)
                && let Some(late) = held.pop()
            {
                send(late);
            }
        })
    }
}

/// Follows the feed with many breaks, each time going on from the last clock.
async fn follow_with_breaks(
    ro: Ro,
    mut client: Client,
    seed: u64,
    until: impl Fn() -> Option<Clock>,
) -> Client {
    let mut dice = StdRng::seed_from_u64(seed);
    loop {
        let since = Some(client.clock.clone());
        let mut live = match ro.subscribe(everything(), since).await {
            Ok(live) => live,
            Err(DataError::Unavailable { .. }) => {
                tokio::task::yield_now().await;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        for _ in 0..dice.random_range(1..40) {
            if until().is_some_and(|end| client.clock.covers(&end)) {
                return client;
            }
            match timeout(Duration::from_millis(200), live.next()).await {
                Ok(Delivery::Event(event)) => {
                    let e = &event.frame.event;
                    client.event(e.master, e.seq, e.what.record.entity(), e.what.record.version());
                    assert_eq!(event.clock.parse(), Ok(client.clock.clone()));
                }
                Ok(Delivery::Ended(Ended::Lagging)) | Err(_) => break,
                Ok(Delivery::Ended(Ended::Gone)) => panic!("nothing was pruned"),
            }
        }
    }
}

#[actix_rt::test]
async fn neither_a_lying_bus_nor_dying_actors_are_noticed() {
    for seed in 1..=4 {
        let mut world = TestWorld::in_real_time();
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp(world.now_micros());
        let store = Store::open("sqlite://t.db", dir.path(), "main", now).await.expect("a store");
        let layer = DataLayer::start_over(&world.root(), store, lying(seed)).await.expect("a data layer");
        layer.rw().write(vec![configuration()]).await.expect("configured");
        let begun = head(&layer).await;
        let client = Client::begin(begun, versions(&layer.ro().hot()));
        let end = Arc::new(Mutex::new(None::<Clock>));
        let (ends, ro) = (end.clone(), layer.ro());
        let following =
            actix_rt::spawn(follow_with_breaks(ro, client, seed, move || ends.lock().unwrap().clone()));
        let writers: Vec<_> = (0..2)
            .map(|n| {
                let mut writer = Writer::new(layer.rw(), seed * 10 + n);
                actix_rt::spawn(async move {
                    for _ in 0..120 {
                        // A refusal is an answer; away means that it certainly did not happen.
                        let _ = writer.write().await;
                    }
                })
            })
            .collect();
        for victim in ["data", "broker", "hub/actors", "db-reader", "db-writer", "log-writer"] {
            world.expect_panic(victim);
            tokio::time::sleep(Duration::from_millis(15)).await; // spread over the writing, no more
            assert!(world.inject_panic(victim), "{victim} lives");
        }
        for writer in writers {
            soon("the writers", writer).await.unwrap();
        }
        *end.lock().unwrap() = Some(soon("the head", head(&layer)).await);
        let client = soon("the follower", following).await.unwrap();
        assert_eq!(client.judge(&versions(&layer.ro().hot())), [], "seed {seed}");
        layer.stop(GRACE).await;
        world.finish().await;
    }
}

#[actix_rt::test]
async fn a_log_says_where_a_dying_writer_may_have_taken_text_with_it() {
    let mut world = TestWorld::in_real_time();
    world.expect_panic("log-writer");
    let dir = tempfile::tempdir().unwrap();
    let layer = start(&world, "sqlite://t.db", dir.path()).await;
    let rw = layer.rw();
    let log: LogId = rw.new_id().unwrap();
    rw.append_log(log, LogStream::Stdout, "before\n".into()).await.unwrap();
    let text = || async { layer.ro().log_lines(log, 0, 100).await.unwrap().text };
    soon("the first line is stored", async {
        while text().await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(world.inject_panic("log-writer"));
    soon("the writer is back", async {
        while rw.append_log(log, LogStream::Stdout, "after\n".into()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let lines = rw.finish_log(log).await.unwrap();
    let text = String::from_utf8(text().await.to_vec()).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    assert_eq!(first, "obefore");
    assert!(rest.starts_with("hthe log writer was restarted") && rest.ends_with("\noafter\n"), "{text}");
    assert_eq!(lines, text.lines().count() as i64);
    layer.stop(GRACE).await;
    world.finish().await;
}

#[actix_rt::test]
async fn what_a_dead_bus_did_not_tell_is_known_within_a_second() {
    let mut world = TestWorld::new();
    world.expect_panic("broker");
    let dir = tempfile::tempdir().unwrap();
    let layer = start(&world, "memory:", dir.path()).await;
    for round in 0..3 {
        assert!(world.inject_panic("broker"));
        tokio::time::sleep(Duration::from_millis(1)).await;
        // nobody tells of this one, and no other event follows
        let (worker, paused, reason) = (WorkerId(1), round % 2 == 0, None);
        let done = layer.rw().write(vec![Op::PauseWorker { worker, paused, reason }]).await.unwrap();
        let begun = tokio::time::Instant::now();
        while !layer.ro().hot().clock.contains(done.at.0, done.at.1) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(begun.elapsed() < Duration::from_millis(1_100), "round {round}: {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(300)).await; // it is back
    }
    layer.stop(GRACE).await;
    world.finish().await;
}
