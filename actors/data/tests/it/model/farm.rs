//! Masters of one process over one database, with a bus that lies and commits that go wrong; clients that believe what they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenroom_data::hot::CellsOf;
use greenroom_data::{ConsoleOf, DataError, DataLayer, Delivery, Ended, Rw, Subscription};
use greenroom_db::{EventSink, Fate, Fates, Plant, Store};
use greenroom_model::*;
use greenroom_mq::{Broker, Notice, Publish};
use greenroom_runtime::{Dice, Front, Runtime, TestWorld};
use tokio::time::{sleep, timeout};

use super::steps::{CLIENTS, Lie, MASTERS, MORTAL, Step};
use crate::judge::{Broken, Client};
use crate::world::{Writer, change, configuration, everything, versions};

/// Nothing that works takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a client waits for an event that may not come.
const GLANCE: Duration = Duration::from_millis(20);
/// The DataActor looks into the database every three seconds, whatever the bus tells.
const SETTLED: Duration = Duration::from_secs(8);

/// What everybody shares: the trouble.
#[derive(Default)]
struct Trouble {
    fates: Vec<Fate>,
    lie: Option<Lie>,
    held: Vec<Arc<[Event]>>,
    brokers: Vec<Front<Broker>>,
}

impl Trouble {
    fn tell(&self, events: &Arc<[Event]>) {
        for broker in &self.brokers {
            let _ = broker.tell(Publish(Notice::Events(events.clone())));
        }
    }

    fn hint(&mut self, events: Arc<[Event]>) {
        match self.lie {
            None | Some(Lie::Nothing) => self.tell(&events),
            Some(Lie::Loses) => {}
            Some(Lie::Doubles) => (0..2).for_each(|_| self.tell(&events)),
            Some(Lie::Holds) => self.held.push(events),
        }
    }

    fn release(&mut self) {
        while let Some(events) = self.held.pop() {
            self.tell(&events);
        }
    }
}

type Shared = Arc<Mutex<Trouble>>;

fn fates(trouble: &Shared) -> Fates {
    let trouble = trouble.clone();
    Arc::new(move || trouble.lock().unwrap().fates.pop().unwrap_or(Fate::Done))
}

/// Every commit's events go to all masters' brokers, as far as the bus is honest.
fn sink(trouble: &Shared) -> impl FnOnce(Front<Broker>) -> EventSink + use<> {
    let trouble = trouble.clone();
    move |broker| {
        trouble.lock().unwrap().brokers.push(broker);
        Arc::new(move |events| trouble.lock().unwrap().hint(events))
    }
}

/// A master, or what became of one that was taken over.
struct Master {
    world: TestWorld,
    layer: DataLayer,
    store: Store,
    writer: Writer,
}

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// In memory, on paused time.
    Memory,
    /// In a file, in real time.
    File,
    /// On a server, in real time.
    Server(&'static str),
}

/// The whole.
pub struct Farm {
    over: Over,
    trouble: Shared,
    masters: Vec<Master>,
    fenced: Vec<Master>,
    clients: Vec<Reader>,
    broken: Vec<Broken>,
    /// Changes that were acknowledged, and those of which nobody knows.
    acknowledged: BTreeSet<String>,
    refused: BTreeSet<String>,
    revisions: u64,
    births: u64,
}

/// A client with its connection.
struct Reader {
    client: Client,
    master: usize,
    live: Option<Subscription>,
    /// So many events came with each change's revision.
    heard: BTreeMap<String, usize>,
}

/// More than a play makes.
fn all_changes() -> ConsoleOf {
    ConsoleOf { limit: 200, ..ConsoleOf::default() }
}

impl Farm {
    /// Masters, and clients that begin with their state.
    pub async fn start(over: Over, dir: &Path, plant: Plant) -> Self {
        let trouble = Shared::default();
        let mut farm = Self {
            over,
            trouble: trouble.clone(),
            masters: Vec::new(),
            fenced: Vec::new(),
            clients: Vec::new(),
            broken: Vec::new(),
            acknowledged: BTreeSet::new(),
            refused: BTreeSet::new(),
            revisions: 0,
            births: 0,
        };
        let url = match over {
            Over::Memory => "memory:".to_owned(),
            Over::File => "sqlite://model.db".to_owned(),
            Over::Server(kind) => crate::databases::fresh(kind),
        };
        let world = farm.world();
        let now = Timestamp(world.now_micros());
        let store = Store::open(url.as_str(), dir, "m0", now).await.expect("a store");
        let store = store.planted_for_test(plant, fates(&trouble));
        farm.add(world, store).await;
        for n in 1..MASTERS {
            let world = farm.world();
            let now = Timestamp(world.now_micros());
            let store = farm.masters[0].store.beside_for_test(&format!("m{n}"), now).await.expect("a store");
            farm.add(world, store).await;
        }
        farm.masters[0].layer.rw().write(vec![configuration()]).await.expect("configured");
        farm.settle().await;
        for n in 0..CLIENTS {
            let reader = farm.begun(n % MASTERS);
            farm.clients.push(reader);
        }
        farm
    }

    /// A runtime for a birth of a master.
    fn world(&mut self) -> TestWorld {
        self.births += 1;
        let mut world = match (self.over, self.births) {
            (Over::Memory, 1) => TestWorld::seeded(1),
            _ => TestWorld::from_builder(Runtime::builder().dice(Dice::seeded(self.births))),
        };
        MORTAL.iter().for_each(|actor| world.expect_panic(*actor));
        world
    }

    async fn add(&mut self, world: TestWorld, store: Store) {
        let hints = sink(&self.trouble);
        let layer = DataLayer::start_over(&world.root(), store.clone(), hints).await.expect("a data layer");
        let writer = Writer::new(layer.rw(), self.births);
        self.masters.push(Master { world, layer, store, writer });
    }

    /// A client that begins with what a master has published.
    fn begun(&self, master: usize) -> Reader {
        let hot = self.masters[master].layer.ro().hot();
        let client = Client::begin(hot.clock.clone(), versions(&hot));
        Reader { client, master, live: None, heard: BTreeMap::new() }
    }

    /// Carries out a step.
    pub async fn take(&mut self, step: &Step) {
        match *step {
            Step::Write { master } => {
                let write = self.masters[master].writer.write();
                if let Ok(Some(revision)) =
                    timeout(PATIENCE, write).await.expect("an answer").or_else(refused)
                {
                    self.acknowledged.insert(revision);
                }
            }
            Step::Change { master } => self.add_change(master).await,
            Step::Together => self.write_together().await,
            Step::Commit(fate) => self.trouble.lock().unwrap().fates.push(fate),
            Step::Bus(lie) => self.trouble.lock().unwrap().lie = Some(lie),
            Step::Release => self.trouble.lock().unwrap().release(),
            Step::Follow { client, events } => self.follow(client, events, GLANCE).await,
            Step::Break { client, master } => {
                let reader = &mut self.clients[client];
                (reader.live, reader.master) = (None, master);
            }
            Step::Begin { client, master } => {
                let fresh = self.begun(master);
                self.replace(client, fresh);
            }
            Step::Die { master, actor } => _ = self.masters[master].world.inject_panic(MORTAL[actor]),
            Step::Look { master } => {
                let look = self.masters[master].layer.ro();
                _ = timeout(PATIENCE, look.console(all_changes())).await.expect("an answer");
            }
            Step::Prune { master } => {
                let prune = self.masters[master].layer.prune_events(Timestamp(i64::MAX), 2);
                _ = timeout(PATIENCE, prune).await.expect("an answer");
            }
            Step::TakeOver { master } => self.take_over(master).await,
            Step::Pass(millis) => sleep(Duration::from_millis(millis)).await,
        }
    }

    /// A new client instead of an old one; what that found stays.
    fn replace(&mut self, client: usize, fresh: Reader) {
        let old = std::mem::replace(&mut self.clients[client], fresh);
        self.broken.extend(old.client.broken);
    }

    async fn add_change(&mut self, master: usize) {
        self.revisions += 1;
        let revision = format!("{:040x}", self.revisions);
        let rw = self.masters[master].layer.rw();
        match timeout(PATIENCE, write_change(&rw, &revision)).await.expect("an answer") {
            Ok(()) => _ = self.acknowledged.insert(revision),
            Err(DataError::Refused(_)) => _ = self.refused.insert(revision),
            Err(_) => {}
        }
    }

    async fn write_together(&mut self) {
        let writes = self.masters.iter().enumerate().map(|(n, master)| {
            let rw = master.layer.rw();
            async move {
                for worker in [1, 2] {
                    let (worker, paused, reason) = (WorkerId(worker), n % 2 == 0, Some(format!("m{n}")));
                    let _ = rw.write(vec![Op::PauseWorker { worker, paused, reason }]).await;
                }
            }
        });
        timeout(PATIENCE, futures_util::future::join_all(writes)).await.expect("answers");
    }

    /// A new process of the master's name: the old one goes on, and must not be able to write.
    async fn take_over(&mut self, n: usize) {
        let world = self.world();
        let now = Timestamp(world.now_micros());
        let Ok(store) = self.masters[n].store.beside_for_test(&format!("m{n}"), now).await else { return };
        let late = self.masters[n].layer.rw();
        self.add(world, store).await;
        let new = self.masters.pop().expect("just added");
        self.fenced.push(std::mem::replace(&mut self.masters[n], new));
        self.revisions += 1;
        let revision = format!("{:040x}", self.revisions);
        if timeout(PATIENCE, write_change(&late, &revision)).await.expect("an answer").is_ok() {
            self.broken.push(Broken::WroteAfterItsEnd);
        }
    }

    /// Gives a client some events; if it has no connection it resumes from its clock.
    async fn follow(&mut self, n: usize, events: usize, patience: Duration) {
        if self.clients[n].live.is_none() && !self.connect(n).await {
            return;
        }
        for _ in 0..events {
            let reader = &mut self.clients[n];
            let Some(live) = &mut reader.live else { return };
            match timeout(patience, live.next()).await {
                Err(_) => return,
                Ok(Delivery::Event(event)) => {
                    let e = &event.frame.event;
                    if let (Record::Change(change), EventName::New) = (&e.what.record, e.what.name) {
                        *reader.heard.entry(change.revision.clone().unwrap_or_default()).or_default() += 1;
                    }
                    reader.client.event(e.master, e.seq, e.what.record.entity(), e.what.version());
                }
                Ok(Delivery::Ended(Ended::Lagging)) => {
                    reader.live = None;
                    return;
                }
                Ok(Delivery::Ended(Ended::Gone)) => return self.gone(n).await,
            }
        }
    }

    async fn connect(&mut self, n: usize) -> bool {
        let reader = &mut self.clients[n];
        let ro = self.masters[reader.master].layer.ro();
        match timeout(PATIENCE, ro.subscribe(everything(), Some(reader.client.clock.clone()))).await {
            Ok(Ok(live)) => {
                reader.live = Some(live);
                true
            }
            Ok(Err(DataError::Gone)) => {
                self.gone(n).await;
                false
            }
            _ => false,
        }
    }

    /// A client is told that it must begin anew: true only if something that it needs was removed.
    async fn gone(&mut self, n: usize) {
        let clock = self.clients[n].client.clock.clone();
        if !self.masters[0].store.lacks_for_test(&clock).await {
            self.broken.push(Broken::GoneForNothing(clock));
        }
        let fresh = self.begun(self.clients[n].master);
        self.replace(n, fresh);
    }

    /// The trouble is over, and time passes.
    async fn settle(&self) {
        {
            let mut trouble = self.trouble.lock().unwrap();
            trouble.fates.clear();
            trouble.lie = None;
            trouble.release();
        }
        if self.over == Over::Memory {
            sleep(SETTLED).await;
        }
    }

    /// Ends the play and says what was wrong.
    pub async fn judge(mut self) -> Vec<Broken> {
        self.settle().await;
        // Somebody who was never there before reads everything.
        let world = self.world();
        let now = Timestamp(world.now_micros());
        let store = self.masters[0].store.beside_for_test("judge", now).await.expect("a store");
        self.add(world, store).await;
        let truth = self.masters.last().expect("the judge").layer.ro().hot();
        let versions_of_truth = versions(&truth);
        let mut stored = BTreeMap::<String, usize>::new();
        for change in truth.changes.values() {
            *stored.entry(change.revision.clone().unwrap_or_default()).or_default() += 1;
        }
        for revision in &self.acknowledged {
            if !stored.contains_key(revision) {
                self.broken.push(Broken::Lost(revision.clone()));
            }
        }
        for revision in self.refused.iter().filter(|it| stored.contains_key(*it)) {
            self.broken.push(Broken::RefusedAndThere(revision.clone()));
        }
        for (revision, _) in stored.iter().filter(|(_, times)| **times > 1) {
            self.broken.push(Broken::Doubled(revision.clone()));
        }
        for n in 0..CLIENTS {
            if !self.broken.iter().any(|it| matches!(it, Broken::Stalled(_))) {
                self.catch_up(n, &truth.clock).await;
            }
        }
        for (n, master) in self.masters.iter().enumerate() {
            if !self.knows(master, &truth.clock, &versions_of_truth).await {
                self.broken.push(Broken::Snapshot(n));
            }
        }
        self.judge_consoles().await;
        for reader in std::mem::take(&mut self.clients) {
            self.broken.extend(
                reader.heard.into_iter().filter(|(_, times)| *times > 1).map(|(r, _)| Broken::Doubled(r)),
            );
            self.broken.extend(reader.client.judge(&versions_of_truth));
        }
        let broken = std::mem::take(&mut self.broken);
        self.stop().await;
        broken
    }

    async fn catch_up(&mut self, n: usize, until: &Clock) {
        let mut rounds = 0;
        while !self.clients[n].client.clock.covers(until) {
            rounds += 1;
            if rounds > 16 {
                self.broken.push(Broken::Stalled(self.clients[n].client.clock.clone()));
                return;
            }
            self.follow(n, 400, Duration::from_millis(500)).await;
            let reader = &mut self.clients[n];
            if let Some(clock) = reader.live.as_mut().and_then(Subscription::idle_clock) {
                reader.client.clock = clock.parse().expect("a clock");
            }
        }
    }

    /// Whether a master's own state becomes the true one.
    async fn knows(&self, master: &Master, clock: &Clock, wanted: &BTreeMap<EntityKey, i64>) -> bool {
        for _ in 0..40 {
            let hot = master.layer.ro().hot();
            if hot.clock.covers(clock) {
                return versions(&hot) == *wanted;
            }
            sleep(Duration::from_millis(250)).await;
        }
        false
    }

    /// What masters keep of the console must be what is stored.
    async fn judge_consoles(&mut self) {
        let judge = self.masters.last().expect("the judge").layer.ro();
        let stored = timeout(PATIENCE, judge.console(all_changes())).await.expect("an answer").expect("read");
        let stored: BTreeMap<_, _> =
            stored.value.rows.into_iter().map(|row| (row.change.sourcestamp.id, row.cells)).collect();
        for (n, master) in self.masters.iter().enumerate() {
            let hot = master.layer.ro().hot();
            let is_stored = |stamp: &SourceStampId, cells: &CellsOf| {
                stored.get(stamp).is_some_and(|stored| stored.iter().eq(cells.values()))
            };
            if !hot.console.iter().all(|(stamp, cells)| is_stored(stamp, cells)) {
                self.broken.push(Broken::Console(n));
            }
        }
    }

    async fn stop(mut self) {
        self.masters.append(&mut self.fenced);
        for master in self.masters {
            master.layer.stop(Duration::from_secs(2)).await;
            drop((master.layer, master.writer, master.store));
            master.world.finish().await;
        }
    }
}

async fn write_change(rw: &Rw, revision: &str) -> Result<(), DataError> {
    rw.write(vec![change(rw, revision)?]).await.map(drop)
}

/// A refusal is an answer, and one that is not known is what it is.
fn refused(_: DataError) -> Result<Option<String>, DataError> {
    Ok(None)
}
