//! What only a database server can do wrong: lost connections, answers that never come, other masters, paused ones.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use greenroom_db::*;
use greenroom_model::write::ListenerRecord;
use greenroom_model::*;

use crate::databases::{self, Server};
use crate::proxy::{Cut, Mood, Proxy};
use crate::servers;
use crate::world::{START, World};

servers!(
    two_masters_claim_each_request_once,
    a_paused_master_in_a_transaction_holds_nobody_up_for_long,
    text_of_any_length_and_kind_is_kept,
    many_rows_of_mixed_sizes_are_updated_together,
    the_place_of_a_live_master_is_refused_and_that_of_a_dead_one_taken_at_once,
    ids_have_no_gaps_over_a_restart_unless_masters_share_them,
    log_text_of_a_master_that_was_taken_over_is_refused,
    masters_that_start_at_the_same_moment_all_get_their_places,
);

pub fn options(world_url: &str) -> DatabaseOptions {
    let mut options = DatabaseOptions::from(world_url);
    options.connect_timeout = Duration::from_secs(2);
    options.lock_timeout = Duration::from_secs(2);
    options.idle_transaction_timeout = Duration::from_secs(1);
    options
}

pub async fn open(options: DatabaseOptions, name: &str) -> Result<World, OpenError> {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let url = options.url.clone();
    let store = Store::open(options, dir.path(), name, Timestamp::from_seconds(START)).await?;
    let mut world = World::over(store, dir);
    world.url = url;
    Ok(world)
}

/// Another master on a world's database.
pub async fn other(world: &World, name: &str) -> World {
    open(options(&world.url), name).await.unwrap()
}

async fn masters_that_start_at_the_same_moment_all_get_their_places(world: World) {
    let names = ["a", "b", "c", "d"];
    let started = names.map(|name| open(options(&world.url), name));
    let worlds = futures_util::future::try_join_all(started).await.unwrap();
    let masters: HashSet<_> = worlds.iter().map(|it| it.store.master()).collect();
    assert_eq!(masters.len(), names.len());
}

async fn two_masters_claim_each_request_once(world: World) {
    world.configure().await;
    let second = other(&world, "second").await;
    let mut requests = Vec::new();
    for _ in 0..50 {
        requests.extend(world.submit(&[1, 2]).await.1);
    }
    let claims =
        |w: &World| -> Vec<Write> { requests.iter().map(|r| w.write(vec![w.start_op(*r).1])).collect() };
    let (ours, theirs) = (claims(&world), claims(&second));
    let (ours, theirs) = futures_util::join!(world.commit_together(ours), second.commit_together(theirs));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let won = [ours, theirs].iter().filter(|a| a.is_ok()).count();
        assert_eq!(won, 1, "{ours:?} {theirs:?}");
        for lost in [ours, theirs].into_iter().filter_map(|a| a.as_ref().err()) {
            assert_eq!(*lost, WriteError::Refused(Refusal::ClaimLost));
        }
    }
    assert_eq!(world.list::<Build>(Query::default()).await.total, 100);
    // Both sequences are without gaps, and together they say what is stored.
    let clock = world.snapshot(CurrentClock).await.clock;
    let mut claimed = HashSet::new();
    for (master, head) in clock.heads() {
        let EventPage::Events(events) = world.read(EventsAfter { master, after: 0, limit: 100_000 }).await
        else {
            panic!("gone")
        };
        assert!(events.iter().map(|e| e.seq).eq(1..=head));
        for event in events.iter().filter(|e| e.what.name == EventName::Claimed) {
            assert!(claimed.insert(event.what.record.entity()), "claimed twice: {event:?}");
        }
    }
    assert_eq!(claimed.len(), 100);
}

async fn a_paused_master_in_a_transaction_holds_nobody_up_for_long(world: World) {
    world.configure().await;
    let paused = other(&world, "paused").await;
    // It stops while it holds the lock on a row that everybody writes.
    let held = paused.store.hold_for_test(1).await;
    let begun = Instant::now();
    let pause = |paused| vec![Op::PauseWorker { worker: WorkerId(1), paused, reason: None }];
    let mut answer = world.commit(world.write(pause(true))).await;
    while answer.is_err() && begun.elapsed() < Duration::from_secs(20) {
        answer = world.commit(world.write(pause(true))).await;
    }
    answer.unwrap();
    let waited = begun.elapsed();
    assert!(waited > Duration::from_millis(300), "the row was locked: {waited:?}");
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    // What it had begun never happens.
    drop(held);
    assert!(world.get::<Worker>(1).await.paused);
    let resume = Op::PauseWorker { worker: WorkerId(1), paused: false, reason: None };
    paused.run(vec![resume]).await;
}

async fn text_of_any_length_and_kind_is_kept(world: World) {
    world.configure().await;
    let texts = [
        String::new(),
        " ends in blanks  ".into(),
        "Ünïcödé 😀 漢字 \u{10ffff}".into(),
        "quotes ' \" ` \\ $1 ? %_".into(),
        "x".repeat(300_000),
        "line\nline\r\n\ttab".into(),
    ];
    for text in &texts {
        let settings = serde_json::json!({"text": text, "zero": "\0"});
        let state = ListenerRecord { clock: None, settings };
        world.run(vec![Op::SaveListener { name: "l".into(), state: state.clone() }]).await;
        assert_eq!(world.read(ListenerOf { name: "l".into() }).await, Some(state));
        let mut new = world.new_buildset(&[]);
        new.reason = text.clone();
        let id = new.id;
        world.run(vec![Op::AddBuildset(Box::new(new))]).await;
        assert_eq!(world.get::<Buildset>(id.0).await.reason, *text);
    }
    // Texts that differ in case or in blanks at their end are different.
    for name in ["a", "A", "a ", "ä"] {
        let state = ListenerRecord { clock: None, settings: name.into() };
        world.run(vec![Op::SaveListener { name: name.into(), state }]).await;
    }
    for name in ["a", "A", "a ", "ä"] {
        assert_eq!(world.read(ListenerOf { name: name.into() }).await.unwrap().settings, name);
    }
}

async fn many_rows_of_mixed_sizes_are_updated_together(world: World) {
    world.configure().await;
    let requests = {
        let mut all = Vec::new();
        for _ in 0..150 {
            all.extend(world.submit(&[1]).await.1);
        }
        all
    };
    let mut builds = Vec::new();
    let starts: Vec<Write> = requests
        .iter()
        .map(|r| {
            let (build, op) = world.start_op(*r);
            builds.push(build);
            world.write(vec![op])
        })
        .collect();
    assert!(world.commit_together(starts).await.iter().all(Result::is_ok));
    let text = |n: usize| if n % 7 == 3 { "long ".repeat(20_000) } else { format!("state {n}") };
    let describe = builds
        .iter()
        .enumerate()
        .map(|(n, build)| world.write(vec![Op::DescribeBuild { build: *build, state_string: text(n) }]))
        .collect();
    assert!(world.commit_together(describe).await.iter().all(Result::is_ok));
    let stored = world.list::<Build>(Query::default()).await.items;
    assert_eq!(stored.len(), 150);
    for (n, build) in stored.iter().enumerate() {
        assert!(build.state_string == text(n) && build.version == 2, "build {n}");
    }
}

async fn the_place_of_a_live_master_is_refused_and_that_of_a_dead_one_taken_at_once(world: World) {
    world.configure().await;
    // A live one renews its lease.
    let alive = Arc::new(AtomicBool::new(true));
    let heart = async {
        while alive.load(Ordering::Relaxed) {
            world.advance(1);
            world.run(vec![Op::Heartbeat]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let refused = async {
        let answer = open(options(&world.url), "main").await.map(|_| ());
        alive.store(false, Ordering::Relaxed);
        answer
    };
    let (answer, ()) = futures_util::join!(refused, heart);
    assert!(matches!(&answer, Err(OpenError::NameInUse(name)) if name == "main"), "{answer:?}");
    let url = world.url.clone();
    let epoch = world.store.epoch();
    drop(world);
    // Its actors end with the next turn; its lease is not over.
    let begun = Instant::now();
    let again = open(options(&url), "main").await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(again.store.epoch(), epoch + 1);
}

async fn ids_have_no_gaps_over_a_restart_unless_masters_share_them(world: World) {
    world.configure().await;
    let (set, _) = world.submit(&[1]).await;
    let url = world.url.clone();
    drop(world);
    let world = open(options(&url), "main").await.unwrap();
    assert_eq!(world.submit(&[1]).await.0, BuildsetId(set.0 + 1));
    let second = other(&world, "second").await;
    let theirs = second.submit(&[1]).await.0;
    assert!(theirs.0 > set.0 + 2, "another master has a block of its own");
    drop(world);
    let world = open(options(&url), "main").await.unwrap();
    let ours = world.submit(&[1]).await.0;
    assert!(ours.0 > theirs.0, "{ours} is none of the block that begins before {theirs}");
}

async fn log_text_of_a_master_that_was_taken_over_is_refused(world: World) {
    world.configure().await;
    let writer = actix::Actor::start(LogWriter::new(world.store.clone(), Arc::new(|_, _| ())));
    let log: LogId = world.id();
    let append =
        |text: &'static [u8]| Append { log, stream: Stream::Out, text: bytes::Bytes::from_static(text) };
    writer.send(append(b"one\n")).await.unwrap().unwrap();
    writer.send(FlushLogs).await.unwrap().unwrap();
    // As after a pause that was longer than the lease: the lock that shows its life is gone.
    world.store.vanish_for_test();
    let heir = open(options(&world.url), "main").await.unwrap();
    writer.send(append(b"two\n")).await.unwrap().unwrap();
    let flushed = tokio::time::timeout(Duration::from_secs(1), writer.send(FlushLogs)).await;
    assert!(flushed.is_err(), "it waits for a store that will never take it: {flushed:?}");
    let reader = actix::Actor::start(LogReader::new(heir.store.clone()));
    let lines = reader.send(ReadLines { log, first: 0, count: 9, max_bytes: 999 }).await.unwrap().unwrap();
    assert_eq!(&lines.text[..], b"oone\n");
}

/// Runs a test over both kinds of server without a world.
#[macro_export]
macro_rules! kinds {
    ($($name:ident),* $(,)?) => {
        mod with_postgres { $(#[actix_rt::test] async fn $name() { super::$name("postgres").await })* }
        mod with_mariadb { $(#[actix_rt::test] async fn $name() { super::$name("mariadb").await })* }
    };
}

kinds!(
    commits_whose_answer_is_lost_happen_once_or_not_at_all,
    a_server_that_is_away_refuses_and_nothing_acknowledged_is_lost,
    an_outage_fills_a_bounded_queue_and_no_more,
    a_server_that_hangs_is_away,
);

/// Every third COMMIT is cut, in one of four ways. What was answered stands, nothing stands twice.
async fn commits_whose_answer_is_lost_happen_once_or_not_at_all(kind: &str) {
    let url = databases::fresh(kind);
    let cutting = Arc::new(AtomicBool::new(false));
    let on = Arc::clone(&cutting);
    let proxy =
        Proxy::cutting(databases::address(&url), move |n| match (on.load(Ordering::Relaxed), n % 12) {
            (false, _) => Cut::Nothing,
            (true, 0) => Cut::Before,
            (true, 3) => Cut::After,
            (true, 6) => Cut::Late(Duration::from_millis(30)),
            (true, 9) => Cut::Late(Duration::from_millis(150)),
            _ => Cut::Nothing,
        });
    let world = open(options(&databases::through(&url, proxy.address)), "main").await.unwrap();
    world.configure().await;
    cutting.store(true, Ordering::Relaxed);
    let mut expected = HashSet::new();
    while proxy.cuts() < 60 {
        let sets: Vec<_> = (0..3).map(|_| world.new_buildset(&[1, 2])).collect();
        let mut pending: Vec<Write> =
            sets.iter().map(|s| world.write(vec![Op::AddBuildset(Box::new(s.clone()))])).collect();
        let begun = Instant::now();
        while !pending.is_empty() {
            let answers = world.commit_together(pending.clone()).await;
            let mut again = Vec::new();
            for (write, answer) in pending.into_iter().zip(answers) {
                match answer {
                    Ok(committed) => {
                        let Outcome::Buildset { id, .. } = committed.outcomes[0] else {
                            panic!("{committed:?}")
                        };
                        assert!(expected.insert(id), "{id} was answered before");
                    }
                    Err(WriteError::Unknown(_) | WriteError::Unavailable(_)) => again.push(write),
                    Err(other) => panic!("{other:?}"),
                }
            }
            pending = again;
            assert!(begun.elapsed() < Duration::from_secs(30), "never answered");
        }
    }
    cutting.store(false, Ordering::Relaxed);
    let stored = world.list::<Buildset>(Query::default()).await;
    let ids: HashSet<BuildsetId> = stored.items.iter().map(|s| s.id).collect();
    assert_eq!(ids, expected);
    assert_eq!(world.list::<BuildRequest>(Query::default()).await.total, 2 * stored.total);
    let master = world.store.master();
    let head = world.snapshot(CurrentClock).await.clock.head(master);
    let EventPage::Events(events) = world.read(EventsAfter { master, after: 0, limit: 1_000_000 }).await
    else {
        panic!("gone")
    };
    assert!(events.iter().map(|e| e.seq).eq(1..=head), "numbers without gaps up to the head");
    let new = events.iter().filter(|e| matches!(e.what.record, Record::Buildset(_))).count() as u64;
    assert_eq!(new, stored.total, "an event for each row and a row for each event");
}

async fn a_server_that_is_away_refuses_and_nothing_acknowledged_is_lost(kind: &'static str) {
    let mut server = Server::start(kind);
    let world = open(options(&server.url), "main").await.unwrap();
    world.configure().await;
    let (kept, _) = world.submit(&[1]).await;
    server.stop();
    // The first may meet the dead connection; from then on it is known.
    let pause = vec![Op::PauseWorker { worker: WorkerId(1), paused: true, reason: None }];
    let lost = world.write(pause);
    let begun = Instant::now();
    let answer = world.commit(lost.clone()).await;
    assert!(matches!(answer, Err(WriteError::Unavailable(_) | WriteError::Unknown(_))), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    let begun = Instant::now();
    for _ in 0..20 {
        let read = world.reader.send(Get::<Buildset>::new(kept.0)).await.unwrap();
        assert!(matches!(read, Err(ReadError::Unavailable(_))), "{read:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "reads are refused at once: {:?}", begun.elapsed());
    assert!(world.store.away_since().is_some());
    // A write that comes now waits, and is done when the server is back.
    let (set, waits) = {
        let new = world.new_buildset(&[1]);
        (new.id, world.write(vec![Op::AddBuildset(Box::new(new))]))
    };
    let mut again = None;
    let (answer, ()) = futures_util::join!(
        async {
            loop {
                match world.commit(waits.clone()).await {
                    Ok(committed) => break committed,
                    Err(WriteError::Unavailable(_) | WriteError::Unknown(_)) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        },
        async {
            let resumed = tokio::task::spawn_blocking(move || {
                server.resume();
                server
            });
            again = Some(resumed.await.unwrap());
        }
    );
    assert!(matches!(answer.outcomes[0], Outcome::Buildset { id, .. } if id == set));
    assert!(world.commit(lost).await.is_ok());
    for id in [kept, set] {
        assert_eq!(world.get::<Buildset>(id.0).await.id, id);
    }
    assert!(world.store.away_since().is_none());
    drop(again);
}

/// However long it takes: so many writes wait, further ones are refused at once, none is acknowledged that is not done, and those that
/// are asked for again are done once.
async fn an_outage_fills_a_bounded_queue_and_no_more(kind: &'static str) {
    const QUEUE: usize = 10_000;
    let url = databases::fresh(kind);
    let proxy = Proxy::to(databases::address(&url));
    let mut options = options(&databases::through(&url, proxy.address));
    options.connect_timeout = Duration::from_millis(500);
    let world = open(options, "main").await.unwrap();
    world.configure().await;
    let before = world.snapshot(CurrentClock).await.clock.head(world.store.master());
    proxy.set(Mood::Cut);
    while world.commit(world.write(vec![Op::Heartbeat])).await.is_ok() {}
    let pause = |n: usize| {
        let reason = Some(n.to_string());
        world.write(vec![Op::PauseWorker { worker: WorkerId(1), paused: true, reason }])
    };
    let writes: Vec<Write> = (0..QUEUE + 5_000).map(pause).collect();
    let begun = Instant::now();
    let answers = world.commit_together(writes.clone()).await;
    let full = |it: &Result<Committed, WriteError>| matches!(it, Err(WriteError::Unavailable(why)) if why.contains("too many"));
    let refused = answers.iter().filter(|it| full(it)).count();
    assert!((1..=5_000).contains(&refused), "{refused} were refused for want of place");
    assert!(answers.iter().all(|it| matches!(it, Err(WriteError::Unavailable(_)))), "none is acknowledged");
    assert!(begun.elapsed() < Duration::from_secs(60), "the others wait for so long: {:?}", begun.elapsed());
    proxy.set(Mood::Pass);
    // They were asked for in vain once, and are asked for again: each is done, once.
    let mut done = 0;
    for part in writes[..2_000].chunks(500) {
        let mut pending = part.to_vec();
        while !pending.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(120), "{} are never done", pending.len());
            let answers = world.commit_together(pending.clone()).await;
            done += answers.iter().filter(|it| it.is_ok()).count();
            pending = pending.into_iter().zip(answers).filter(|it| it.1.is_err()).map(|it| it.0).collect();
        }
    }
    assert_eq!(done, 2_000);
    let after = world.snapshot(CurrentClock).await.clock.head(world.store.master());
    let EventPage::Events(events) =
        world.read(EventsAfter { master: world.store.master(), after: before, limit: 100_000 }).await
    else {
        panic!("gone")
    };
    assert!(events.iter().map(|it| it.seq).eq(before + 1..=after), "numbers without gaps");
    let paused = events.iter().filter(|it| matches!(it.what.record, Record::Worker(_))).count();
    assert_eq!(paused, 2_000, "an event for each");
}

/// A server that takes connections and says nothing, as one that is paused.
async fn a_server_that_hangs_is_away(kind: &str) {
    let url = databases::fresh(kind);
    let proxy = Proxy::to(databases::address(&url));
    let mut options = options(&databases::through(&url, proxy.address));
    options.statement_timeout = Duration::from_secs(60);
    let world = open(options, "main").await.unwrap();
    world.configure().await;
    proxy.set(Mood::Stall);
    let begun = Instant::now();
    // Both have begun when it is found out.
    let begun_read = world.reader.send(CurrentClock);
    let (answer, read) = tokio::join!(world.commit(world.write(vec![Op::Heartbeat])), begun_read);
    assert!(answer.is_err() && read.as_ref().unwrap().is_err(), "{answer:?} {read:?}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let read = world.reader.send(CurrentClock).await.unwrap();
    assert!(read.is_err(), "{read:?}");
    proxy.set(Mood::Pass);
    while world.commit(world.write(vec![Op::Heartbeat])).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never recovers");
    }
}
