//! A reader that is far behind several masters: their events are put in order from the database in steps of a bounded size.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::Actor;
use greenroom_data::DataLayer;
use greenroom_db::{DbReader, EventPage, EventSink, EventsAfter, NextCut, Store};
use greenroom_model::*;
use greenroom_mq::{Broker, Notice, Publish};
use greenroom_runtime::{Front, TestWorld};
use tokio::time::Duration;

use crate::databases;
use crate::judge::Client;
use crate::world::{Writer, configuration, everything, follow, versions};

/// Of each of two masters; some thousand events.
const WRITES: usize = 1_500;

fn sink(broker: Front<Broker>) -> EventSink {
    Arc::new(move |events| _ = broker.tell(Publish(Notice::Events(events))))
}

async fn layer(world: &TestWorld, store: &Store) -> DataLayer {
    DataLayer::start_over(&world.root(), store.clone(), sink).await.expect("a data layer")
}

/// All events, by master and number.
async fn stored(reader: &actix::Addr<DbReader>, upto: &Clock) -> Vec<Event> {
    let mut all = Vec::new();
    for (master, head) in upto.heads() {
        let mut after = 0;
        while after < head {
            let page = reader.send(EventsAfter { master, after, limit: 1_000 }).await.expect("a reader");
            let EventPage::Events(events) = page.expect("events").value else { panic!("nothing was pruned") };
            after = events.last().expect("some").seq;
            all.extend(events);
        }
    }
    all
}

/// From cut to cut: each step is short, and contains all that it builds on.
async fn steps_are_short_and_closed(reader: &actix::Addr<DbReader>, from: &Clock, upto: &Clock) {
    let events = stored(reader, upto).await;
    let place: BTreeMap<(EntityKey, i64), (MasterId, i64)> =
        events.iter().map(|e| ((e.what.record.entity(), e.what.version()), (e.master, e.seq))).collect();
    let (mut at, mut steps) = (from.clone(), 0);
    while !at.covers(upto) {
        let next = NextCut { after: at.clone(), upto: upto.clone() };
        let cut = reader.send(next).await.expect("a reader").expect("a cut").value;
        let way: i64 = cut.heads().map(|(master, seq)| (seq - at.head(master)).max(0)).sum();
        assert!(way > 0, "it goes on from {at}");
        assert!(way < 1_500, "{way} events at once");
        for event in events.iter().filter(|e| cut.contains(e.master, e.seq)) {
            let before = place.get(&(event.what.record.entity(), event.what.version() - 1));
            assert!(
                before.is_none_or(|(master, seq)| cut.contains(*master, *seq)),
                "{cut} lacks what {event:?} builds on"
            );
        }
        for (master, seq) in cut.heads() {
            at.set(master, seq.max(at.head(master)));
        }
        steps += 1;
    }
    assert!(steps > 3, "{steps} steps");
}

async fn a_late_reader_gets_all_in_order(kind: &str) {
    let worlds = [TestWorld::in_real_time(), TestWorld::in_real_time(), TestWorld::in_real_time()];
    let dir = tempfile::tempdir().unwrap();
    let now = Timestamp(worlds[0].now_micros());
    let url = databases::fresh(kind);
    let store = Store::open(url.as_str(), dir.path(), "m0", now).await.expect("a store");
    let beside = store.beside_for_test("m1", now).await.expect("a second master");
    let layers = [layer(&worlds[0], &store).await, layer(&worlds[1], &beside).await];
    layers[0].rw().write(vec![configuration()]).await.expect("configured");
    let begin = layers[0].ro().hot();
    let mut writers = [Writer::new(layers[0].rw(), 1), Writer::new(layers[1].rw(), 2)];
    let [one, other] = &mut writers;
    let many = async |writer: &mut Writer| {
        for _ in 0..WRITES {
            // What two change at once one of them may be refused.
            let _ = writer.write().await;
        }
    };
    futures_util::join!(many(one), many(other));
    // Nobody has told this one anything.
    let late = store.beside_for_test("late", now).await.expect("a third master");
    let late_layer = layer(&worlds[2], &late).await;
    let ro = late_layer.ro();
    let now = ro.hot();
    let reader = DbReader::new(late.clone()).start();
    steps_are_short_and_closed(&reader, &begin.clock, &now.clock).await;
    let mut feed = ro.subscribe(everything(), Some(begin.clock.clone())).await.expect("a subscription");
    let mut client = Client::begin(begin.clock.clone(), versions(&begin));
    follow(&mut feed, &mut client, &now.clock).await;
    assert_eq!(client.judge(&versions(&now)), []);
    drop((feed, ro, writers));
    for layer in layers.into_iter().chain([late_layer]) {
        layer.stop(Duration::from_secs(5)).await;
    }
    drop((store, beside, late, reader));
    for world in worlds {
        world.finish().await;
    }
}

#[actix_rt::test]
async fn a_late_reader_of_several_masters_gets_all_in_order_on_postgresql() {
    a_late_reader_gets_all_in_order("postgres").await;
}

#[actix_rt::test]
async fn a_late_reader_of_several_masters_gets_all_in_order_on_mariadb() {
    a_late_reader_gets_all_in_order("mariadb").await;
}
