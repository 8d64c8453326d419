//! Reads from replicas: real ones that lag, die, or must not be read.

use std::time::{Duration, Instant};

use greenroom_db::*;
use greenroom_model::*;
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, PgConnection};

use crate::databases::{self, Server};
use crate::kinds;
use crate::proxy::{Mood, Proxy};
use crate::servers::{open, options};
use crate::world::{START, World};

kinds!(
    a_replica_is_read_when_it_is_not_behind,
    a_replica_that_keeps_up_is_waited_for,
    a_replica_that_lags_or_dies_costs_no_read_its_truth,
    a_replica_that_may_show_things_out_of_order_is_refused,
);

async fn a_replica_is_read_when_it_is_not_behind(kind: &str) {
    let url = databases::fresh(kind);
    let first = open(options(&url), "main").await.unwrap();
    first.configure().await;
    let (set, _) = first.submit(&[1]).await;
    drop(first);
    let proxy = Proxy::to(databases::address(&url));
    let replica = databases::through(&url, proxy.address);
    // The database itself is the replica that is never behind.
    let with_replica = |read_url: String| {
        let mut options = options(&url);
        options.read_url = Some(read_url);
        options
    };
    let world = open(with_replica(replica), "main").await.unwrap();
    assert_eq!(world.get::<Buildset>(set.0).await.id, set);
    assert_eq!(world.store.replica_answers(), 1, "history is read there");
    world.read(SchedulerStateOf { scheduler: SchedulerId(1) }).await;
    world.run(vec![Op::Heartbeat]).await;
    assert_eq!(world.store.replica_answers(), 1, "what is decided by, and what is written, is not");
    // It hangs: it is found out, and left alone.
    proxy.set(Mood::Stall);
    for patience in [3_000, 500] {
        let begun = Instant::now();
        assert_eq!(world.get::<Buildset>(set.0).await.id, set);
        assert!(begun.elapsed() < Duration::from_millis(patience), "{:?}", begun.elapsed());
        while world.store.replica_answers() == 1 && begun.elapsed() < Duration::from_secs(4) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    proxy.set(Mood::Pass);
    is_read(&world).await;
    drop(world);
    // Another database, of another life, is none; neither is a server that is not there.
    let stranger = databases::fresh(kind);
    let dir = tempfile::tempdir().unwrap();
    let later = Timestamp::from_seconds(START + 1);
    drop(Store::open(options(&stranger), dir.path(), "main", later).await.unwrap());
    for wrong in [stranger, databases::through(&url, "127.0.0.1:1".parse().unwrap())] {
        let world = open(with_replica(wrong), "main").await.unwrap();
        assert_eq!(world.get::<Buildset>(set.0).await.id, set);
        let (newer, _) = world.submit(&[1]).await;
        assert_eq!(world.get::<Buildset>(newer.0).await.id, newer);
    }
}

async fn execute(url: &str, statements: &[&str]) {
    for text in statements {
        if url.starts_with("postgres") {
            let mut connection = PgConnection::connect(url).await.unwrap();
            connection.execute(AssertSqlSafe(*text)).await.unwrap();
        } else {
            let mut connection =
                MySqlConnection::connect(&url.replacen("mariadb", "mysql", 1)).await.unwrap();
            connection.execute(AssertSqlSafe(*text)).await.unwrap();
        }
    }
}

async fn master(primary: &Server, replica: &Server) -> Result<World, OpenError> {
    let mut options = options(&primary.url);
    options.read_url = Some(replica.url.clone());
    open(options, "main").await
}

/// Writes, reads it, and says how long the reading took.
async fn read_own_write(world: &World) -> Duration {
    let (set, requests) = world.submit(&[1]).await;
    let begun = Instant::now();
    let found = world.snapshot(Get::<BuildRequest>::new(requests[0].0)).await;
    assert_eq!(found.value.unwrap().buildset, set);
    begun.elapsed()
}

/// Waits until reads of what was written long ago come from the replica.
async fn is_read(world: &World) {
    let (begun, before) = (Instant::now(), world.store.replica_answers());
    while world.store.replica_answers() == before {
        assert!(begun.elapsed() < Duration::from_secs(30), "the replica is never read");
        world.list::<Buildset>(Query::default()).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn a_replica_that_keeps_up_is_waited_for(kind: &'static str) {
    let primary = Server::start_primary(kind);
    let replica = primary.replica(0);
    let world = master(&primary, &replica).await.unwrap();
    world.configure().await;
    is_read(&world).await;
    let before = world.store.replica_answers();
    for _ in 0..100 {
        assert!(read_own_write(&world).await < Duration::from_secs(3));
    }
    let by_replica = world.store.replica_answers() - before;
    assert!(by_replica >= 90, "{by_replica} of 100 reads were the replica's");
}

async fn a_replica_that_lags_or_dies_costs_no_read_its_truth(kind: &'static str) {
    let primary = Server::start_primary(kind);
    let mut replica = primary.replica(5);
    let world = master(&primary, &replica).await.unwrap();
    world.configure().await;
    is_read(&world).await;
    // It is waited for once; that it lags is known from then on.
    let (begun, mut slow, mut reads) = (Instant::now(), 0, 0);
    while begun.elapsed() < Duration::from_secs(7) {
        let took = read_own_write(&world).await;
        assert!(took < Duration::from_millis(3_500), "{took:?}");
        (slow, reads) = (slow + usize::from(took > Duration::from_millis(500)), reads + 1);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(slow <= 2 && reads > 20, "{slow} of {reads} reads waited");
    is_read(&world).await;
    replica.stop();
    for _ in 0..20 {
        let took = read_own_write(&world).await;
        assert!(took < Duration::from_millis(1_500), "the primary is asked at once: {took:?}");
    }
    replica.resume();
    is_read(&world).await;
}

/// `url` may show a later transaction without an earlier one.
async fn spoil(kind: &str, url: &str) {
    if kind == "postgres" {
        let subscribe = |name| {
            format!(
                "CREATE SUBSCRIPTION {name} CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false, slot_name = {name})"
            )
        };
        let texts = ["one", "two"]
            .map(|name| [subscribe(name), format!("ALTER SUBSCRIPTION {name} ENABLE")])
            .concat();
        execute(url, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    } else {
        let texts = [
            "STOP SLAVE",
            "SET GLOBAL slave_parallel_threads = 4",
            "SET GLOBAL gtid_slave_pos = '0-1-4,7-1-2'",
        ];
        execute(url, &texts).await;
    }
}

async fn a_replica_that_may_show_things_out_of_order_is_refused(kind: &'static str) {
    let server = Server::start(kind);
    // The server is its own replica: it is never behind.
    let world = master(&server, &server).await.unwrap();
    world.configure().await;
    is_read(&world).await;
    spoil(kind, &server.url).await;
    let refused = master(&server, &server).await.map(|_| ());
    let Err(error @ OpenError::Replica(_)) = refused else { panic!("{refused:?}") };
    let advice = if kind == "postgres" { "one subscription" } else { "set slave_parallel_threads=0" };
    assert!(error.to_string().contains(advice), "{error}");
    // A master that runs learns it when its connection breaks.
    let cut = if kind == "postgres" {
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'greenroom'"
    } else {
        "KILL USER greenroom"
    };
    if kind == "postgres" {
        execute(&server.url, &[cut]).await;
    } else {
        // It kills itself, too.
        let mut connection =
            MySqlConnection::connect(&server.url.replacen("mariadb", "mysql", 1)).await.unwrap();
        connection.execute(cut).await.ok();
    }
    let begun = Instant::now();
    loop {
        let before = world.store.replica_answers();
        for _ in 0..20 {
            world.reader.send(Get::<Buildset>::new(1)).await.unwrap().ok();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if world.store.replica_answers() == before {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "it is read all the same");
    }
}
