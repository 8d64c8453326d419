//! Masters as far as the bus is concerned: a Broker, a link, and somebody who listens.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use greenroom_model::{MasterId, Pattern};
use greenroom_mq::{Broker, BusLink, BusUrl, Notice, Publish, Subscribe};
use greenroom_runtime::{ChildSpec, Front, TestWorld, supervised};
use tokio::time::{Instant, sleep};

/// Longer than any wait of the link.
const PATIENCE: Duration = Duration::from_secs(60);

type Heard = Arc<Mutex<Vec<(i64, i64)>>>;

struct Ear(Heard);

impl Actor for Ear {
    type Context = Context<Self>;
}

supervised!(Ear, "ear");

impl Handler<Notice> for Ear {
    type Result = ();

    fn handle(&mut self, notice: Notice, _: &mut Context<Self>) {
        if let Notice::Head { master, seq } = notice {
            self.0.lock().expect("no panic while held").push((master.0, seq));
        }
    }
}

pub struct Master {
    id: MasterId,
    broker: Front<Broker>,
    link: String,
    heard: Heard,
}

impl Master {
    pub fn join(world: &TestWorld, id: i64, farm: i64, url: &str) -> Self {
        let (root, me) = (world.root(), MasterId(id));
        let broker = root.spawn(ChildSpec::new(format!("broker/{id}")), |_| Broker::default());
        let url = BusUrl::parse(url).expect("a bus");
        let (link, to) = (format!("bus-link/{id}"), broker.clone());
        root.spawn(ChildSpec::new(link.clone()), move |birth| {
            BusLink::new(birth, url.clone(), farm, me, to.clone())
        });
        let heard = Heard::default();
        let (ear, said) = (format!("ear/{id}"), heard.clone());
        let ear = root.spawn(ChildSpec::new(ear), move |_| Ear(said.clone()));
        let patterns = vec![Pattern::parse("heads/*")];
        let subscribe = Subscribe { name: "ear".into(), patterns, to: ear.recipient() };
        broker.tell(subscribe).expect("the broker lives");
        Self { id: me, broker, link, heard }
    }

    /// Its last event has this number. A Broker that has too much to do drops the hint, as in a master.
    pub fn commit(&self, seq: i64) {
        let _ = self.broker.tell(Publish(Notice::Head { master: self.id, seq }));
    }

    /// What it heard of another.
    pub fn heard_of(&self, other: &Master) -> Vec<i64> {
        let heard = self.heard.lock().expect("no panic while held");
        heard.iter().filter(|it| it.0 == other.id.0).map(|it| it.1).collect()
    }

    /// Waits until it has heard that far, while the other tells again and again, as masters do every second.
    pub async fn hears(&self, other: &Master, seq: i64) -> Duration {
        let began = Instant::now();
        while self.heard_of(other).last() != Some(&seq) {
            assert!(began.elapsed() < PATIENCE, "{:?}", self.heard_of(other));
            other.commit(seq);
            sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    }

    /// What the link says of itself.
    pub async fn link(&self, world: &TestWorld) -> serde_json::Value {
        let reports = world.runtime().reports().await;
        reports.into_iter().find(|it| it.name == self.link).expect("the link").observed
    }

    /// Waits until the link says so.
    pub async fn is_connected(&self, world: &TestWorld, connected: bool) {
        let began = Instant::now();
        while self.link(world).await["connected"] != connected {
            assert!(began.elapsed() < PATIENCE, "the link stays: {}", self.link(world).await);
            sleep(Duration::from_millis(50)).await;
        }
    }
}
