//! What every bus must do, and bear.

use std::time::Duration;

use greenroom_runtime::TestWorld;

use crate::masters::Master;
use crate::proxy::{Lies, Mood, Protocol, Proxy};
use crate::servers::Server;

macro_rules! suite {
    ($($bus:ident)*) => { $(
        mod $bus {
            const KIND: &str = stringify!($bus);

            #[actix_rt::test]
            async fn masters_hear_of_each_other_and_of_no_other_farm() { super::hear(KIND).await }

            #[actix_rt::test]
            async fn a_bus_that_is_away_at_first_and_later_is_joined_when_it_comes() { super::away(KIND).await }

            #[actix_rt::test]
            async fn cuts_and_stalls_end() { super::cut_and_stalled(KIND).await }

            #[actix_rt::test]
            async fn heads_that_are_lost_doubled_and_reordered_cost_time_alone() { super::lied_to(KIND).await }
        }
    )* };
}

suite!(nats amqp postgres);

async fn hear(kind: &'static str) {
    let (server, world) = (Server::start(kind), TestWorld::in_real_time());
    let one = Master::join(&world, 1, 7, &server.url);
    let two = Master::join(&world, 2, 7, &server.url);
    let stranger = Master::join(&world, 3, 8, &server.url);
    for master in [&one, &two, &stranger] {
        master.is_connected(&world, true).await;
    }
    two.hears(&one, 5).await;
    one.hears(&two, 9).await;
    // Many at once: the last is what counts, and it comes.
    (10..=5_000).for_each(|seq| one.commit(seq));
    let took = two.hears(&one, 5_000).await;
    let heard = two.heard_of(&one);
    assert!(heard.is_sorted(), "one link sends in order");
    assert!(heard.len() < 5_000, "heads that were passed are left out: {} came in {took:?}", heard.len());
    assert_eq!(stranger.heard_of(&one), [0; 0], "another farm on the same bus");
    assert_eq!(stranger.link(&world).await["strange"], 0);
    world.finish().await;
}

async fn away(kind: &'static str) {
    let (server, world) = (Server::start(kind), TestWorld::in_real_time());
    server.stop();
    let one = Master::join(&world, 1, 7, &server.url);
    let two = Master::join(&world, 2, 7, &server.url);
    one.commit(1);
    server.again();
    two.hears(&one, 2).await;
    server.stop();
    one.is_connected(&world, false).await;
    // Nothing queues while it is away, and nobody is told to stop.
    (3..=100_000).for_each(|seq| one.commit(seq));
    server.again();
    two.hears(&one, 100_000).await;
    let sent = one.link(&world).await["sent"].as_i64().expect("a number");
    assert!(sent < 50_000, "{sent} heads were sent");
    world.finish().await;
}

async fn cut_and_stalled(kind: &'static str) {
    let (server, world) = (Server::start(kind), TestWorld::in_real_time());
    let proxy = Proxy::to(server.address());
    let one = Master::join(&world, 1, 7, &server.url);
    let two = Master::join(&world, 2, 7, &server.url_at(&proxy.address.to_string()));
    two.hears(&one, 1).await;
    for round in 1..=3 {
        proxy.set(Mood::Cut);
        two.is_connected(&world, false).await;
        proxy.set(Mood::Pass);
        two.hears(&one, round * 10).await;
    }
    proxy.set(Mood::Stall);
    let before = two.heard_of(&one).len();
    one.commit(100);
    one.hears(&one_more(&world, &server), 1).await;
    assert_eq!(two.heard_of(&one).len(), before, "nothing comes through");
    proxy.set(Mood::Cut);
    proxy.set(Mood::Pass);
    two.hears(&one, 101).await;
    world.finish().await;
}

/// What the server speaks.
fn protocol(kind: &str) -> Protocol {
    match kind {
        "nats" => Protocol::Nats,
        "amqp" => Protocol::Amqp,
        _ => Protocol::Postgres,
    }
}

async fn lied_to(kind: &'static str) {
    let (server, world) = (Server::start(kind), TestWorld::in_real_time());
    let proxy = Proxy::to_bus(server.address(), protocol(kind), 7);
    let one = Master::join(&world, 1, 7, &server.url);
    let two = Master::join(&world, 2, 7, &server.url_at(&proxy.address.to_string()));
    two.hears(&one, 1).await;
    let stall = Duration::from_millis(200);
    proxy.lie(Some(Lies { dropped: 0.2, doubled: 0.2, window: 50, stalled: 0.02, stall }));
    let mut seq = 1;
    while proxy.messages().iter().any(|count| *count < 20) {
        seq += 1;
        one.commit(seq);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(seq < 30_000, "{:?}", proxy.messages());
    }
    assert!(!two.heard_of(&one).is_sorted(), "the test lies, too");
    proxy.lie(None);
    two.hears(&one, seq + 1).await;
    let link = two.link(&world).await;
    assert_eq!((&link["strange"], &link["connected"]), (&0.into(), &true.into()), "{link}");
    world.finish().await;
}

/// A third master, whose heads show that the bus itself goes on.
fn one_more(world: &TestWorld, server: &Server) -> Master {
    Master::join(world, 4, 7, &server.url)
}

#[actix_rt::test]
async fn whoever_writes_nonsense_to_the_bus_is_not_heard() {
    let (server, world) = (Server::start("nats"), TestWorld::in_real_time());
    let one = Master::join(&world, 1, 7, &server.url);
    let two = Master::join(&world, 2, 7, &server.url);
    two.hears(&one, 1).await;
    let options = async_nats::ConnectOptions::with_user_and_password("greenroom".into(), "a/secret".into());
    let liar = options.connect(server.address()).await.expect("a client");
    for body in ["", "hello", "{\"master\":1}", "[]", &"x".repeat(100_000)] {
        liar.publish("greenroom_7", body.to_owned().into()).await.expect("sent");
    }
    // Doubled, reordered and invented heads are passed on: whoever hears them asks the database.
    for seq in [3, 3, 2] {
        liar.publish("greenroom_7", format!("{{\"master\":1,\"seq\":{seq}}}").into()).await.expect("sent");
    }
    liar.flush().await.expect("taken");
    let began = tokio::time::Instant::now();
    while two.heard_of(&one).iter().rev().take(3).copied().collect::<Vec<_>>() != [2, 3, 3] {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", two.heard_of(&one));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(two.link(&world).await["strange"], 5);
    world.finish().await;
}
