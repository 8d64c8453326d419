//! G20: over a replica that is five seconds behind, and one that is killed, a session reads its own writes and never sees time go
//! back, at any master.

use std::time::{Duration, Instant};

use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::json;

use crate::buses;
use crate::databases::Server;
use crate::harness::{Farm, Rest, member, patience};
use crate::load::dice_of;
use crate::run::Run;

/// How far the replica is behind, in seconds.
const LAG: u32 = 5;
/// A replica is waited for so long; then the primary is asked. (And a machine that runs all of it needs its time.)
const WAITS: Duration = Duration::from_secs(3);
/// Sessions at the same time.
const SESSIONS: usize = 8;

/// Writes a change at one master, and reads its source stamp, which is history, at another; gives how long the read took. `count`
/// is how many source stamps the session has seen.
fn pair(masters: &[Rest], mark: &str, count: &mut u64, dice: &mut StdRng) -> Duration {
    let [writes, reads] = [(); 2].map(|()| &masters[dice.random_range(0..masters.len())]);
    let body = json!({"author": "Ada", "revision": mark, "branch": "main", "comments": "pushed"}).to_string();
    let headers = [("content-type", "application/json")];
    let answer = writes.try_post("/change_hook/base", &headers, body.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text);
    let clock = answer.header("greenroom-clock").expect("a clock").to_owned();
    let begun = Instant::now();
    let path = format!("/api/v2/sourcestamps?revision={mark}&after={clock}");
    let read = reads.try_get(&path).expect("an answer");
    let took = begun.elapsed();
    assert_eq!(read.status, 200, "{}", read.text);
    assert_eq!(read.json()["sourcestamps"][0]["revision"], mark, "its own write is missing: {}", read.text);
    // Without a clock, at the master that answered last: not less than before.
    let all = reads.try_get("/api/v2/sourcestamps?limit=1").expect("an answer");
    let now = all.json()["meta"]["total"].as_u64().expect("a total");
    assert!(now >= *count, "time went back from {count} to {now}");
    *count = if masters.len() > 1 { 0 } else { now };
    assert!(took < WAITS, "a read took {took:?}");
    took
}

/// So many pairs by sessions at the same time; gives the slowest read.
fn pairs(masters: &[Rest], name: &str, count: usize, dice: &mut StdRng) -> Duration {
    std::thread::scope(|scope| {
        let session = |n: usize| {
            let mut dice = dice_of(dice);
            // Half of the sessions stay with one master.
            let masters = if n.is_multiple_of(2) { masters } else { &masters[..1] };
            scope.spawn(move || {
                let mut seen = 0;
                let mark = |it: usize| format!("{name}-{n}-{it}");
                let each =
                    (0..count.div_ceil(SESSIONS)).map(|it| pair(masters, &mark(it), &mut seen, &mut dice));
                each.max().unwrap_or_default()
            })
        };
        let sessions: Vec<_> = (0..SESSIONS).map(session).collect();
        let slowest = sessions.into_iter().map(|it| it.join().expect("a session that saw no lie"));
        slowest.max().unwrap_or_default()
    })
}

fn answered_by_replica(farm: &Farm) -> u64 {
    let reader = farm.actor("db-reader").expect("a reader");
    reader["observed"]["by-replica"].as_u64().expect("a number")
}

/// Reads history until the replica answers.
fn is_used(farm: &Farm) {
    let (before, mut asked) = (answered_by_replica(farm), 0);
    patience(Duration::from_secs(40), "a read that the replica answers", || {
        asked += 1; // the same question may have a ready answer
        farm.rest().try_get(&format!("/api/v2/sourcestamps?revision=no-{asked}")).ok()?;
        (answered_by_replica(farm) > before).then_some(())
    });
}

fn sessions_read_what_they_wrote(kind: &'static str, short: usize, full: usize) {
    let mut run = Run::of("G20");
    let count = run.figure(short, full) / 2;
    let (mut primary, bus) = (Server::start_primary(kind), buses::Server::start("nats"));
    // That of the first master lags; that of the second keeps up.
    let mut replicas = [primary.replica(LAG), primary.replica(0)];
    let mut masters = ["one", "two"].map(|name| member(name, &primary.url, &bus.url, ""));
    for (farm, replica) in masters.iter_mut().zip(&replicas) {
        let layer = format!("[database]\nread-url = '{}'\n", replica.url);
        std::fs::write(farm.path("farm.d/replica.toml"), layer).expect("a layer");
        farm.kill_master();
        farm.start();
    }
    let rests = masters.each_ref().map(|it| it.rest().clone());
    let lagging = pairs(&rests, "lagging", count, &mut run.dice);
    is_used(&masters[1]);
    let by_replica = answered_by_replica(&masters[1]);
    replicas.iter_mut().for_each(Server::stop);
    let without = pairs(&rests, "without", count, &mut run.dice);
    replicas.iter_mut().for_each(Server::resume);
    is_used(&masters[1]);
    // A replica does not hide that the primary is away.
    primary.stop();
    patience(Duration::from_secs(40), "a master that is not well", || {
        let health = masters[1].rest().try_get("/health").ok()?;
        (health.status == 503 && health.text.contains("has been away for")).then_some(())
    });
    let figures = format!(
        "{kind}: {} pairs over a replica {LAG} s behind and one that keeps up ({by_replica} reads), {} while both were dead; 0 stale, 0 went back; reads took {} ms and {} ms at most",
        count.div_ceil(SESSIONS) * SESSIONS,
        count.div_ceil(SESSIONS) * SESSIONS,
        lagging.as_millis(),
        without.as_millis()
    );
    run.kept(&figures);
}

#[test]
fn g20_sessions_read_what_they_wrote_over_a_replica_of_postgresql() {
    sessions_read_what_they_wrote("postgres", 160, 10_000);
}

#[test]
fn g20_sessions_read_what_they_wrote_over_a_replica_of_mariadb() {
    sessions_read_what_they_wrote("mariadb", 160, 10_000);
}
