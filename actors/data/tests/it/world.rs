//! A small world to write in: workers, schedulers and builders, and random writers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use greenroom_data::{DataError, DataLayer, DataOptions, Delivery, Hot, Rw, Subscription};
use greenroom_model::write::*;
use greenroom_model::*;
use greenroom_runtime::TestWorld;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::timeout;

use crate::judge::Client;

/// A data layer over a database, which may be an empty one.
pub async fn open(world: &TestWorld, url: &str, dir: &Path) -> DataLayer {
    let options = DataOptions {
        database_url: url.into(),
        data_dir: dir.to_owned(),
        bus: None,
        master_name: "main".into(),
    };
    DataLayer::start(&world.root(), options).await.expect("the data layer starts")
}

/// The same, configured.
pub async fn start(world: &TestWorld, url: &str, dir: &Path) -> DataLayer {
    let layer = open(world, url, dir).await;
    layer.rw().write(vec![configuration()]).await.expect("the configuration is stored");
    layer
}

/// What happens within a time that any machine keeps.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// The topics of all events.
pub fn everything() -> Vec<Pattern> {
    (2..=7).map(|n| Pattern::parse(&vec!["*"; n].join("/"))).collect()
}

/// A subscription's events, into a client, up to a clock.
pub async fn follow(subscription: &mut Subscription, client: &mut Client, until: &Clock) {
    while !client.clock.covers(until) {
        match soon("an event", subscription.next()).await {
            Delivery::Event(event) => {
                let e = &event.frame.event;
                client.event(e.master, e.seq, e.what.record.entity(), e.what.version());
            }
            Delivery::Ended(why) => panic!("the subscription ended: {why:?}"),
        }
    }
}

/// The configuration that every test begins with.
pub fn configuration() -> Op {
    let names = |prefix: &str| (1..=3).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>();
    let builders = names("b").into_iter().map(|name| ConfiguredBuilder {
        name,
        workers: names("w"),
        ..ConfiguredBuilder::default()
    });
    Op::Configure(Box::new(Configuration {
        builders: builders.collect(),
        workers: names("w"),
        schedulers: names("s"),
        change_sources: names("c"),
        projects: vec![],
    }))
}

/// A change by hand.
pub fn change(rw: &Rw, revision: &str) -> Result<Op, DataError> {
    Ok(Op::AddChange(Box::new(NewChange {
        id: rw.new_id()?,
        origin: ChangeOrigin::Manual,
        author: "ada@example.org".into(),
        committer: None,
        comments: "a change".into(),
        branch: Some("main".into()),
        revision: Some(revision.into()),
        revlink: None,
        when: rw.now(),
        category: None,
        repository: "https://example.org/r".into(),
        codebase: String::new(),
        project: String::new(),
        files: vec!["a.c".into()],
        properties: Properties::new(),
    })))
}

/// A buildset of one request of the first builder.
pub fn buildset(rw: &Rw) -> Result<(Op, BuildRequestId), DataError> {
    let hot = rw.ro().hot();
    let builder = hot.builders.values().next().map_or(BuilderId(0), |b| b.id);
    let request = rw.new_id()?;
    let stamp = NewSourceStamp { branch: Some("main".into()), ..NewSourceStamp::default() };
    Ok((buildset_of(rw, vec![(request, builder)], vec![StampRef::New(stamp)])?, request))
}

/// A buildset of these requests and source stamps.
pub fn buildset_of(
    rw: &Rw,
    requests: Vec<(BuildRequestId, BuilderId)>,
    sourcestamps: Vec<StampRef>,
) -> Result<Op, DataError> {
    Ok(Op::AddBuildset(Box::new(NewBuildset {
        id: rw.new_id()?,
        requests,
        sourcestamps,
        reason: "by hand".into(),
        external_id: None,
        properties: Properties::new(),
        priority: 0,
        waited_for: false,
        scheduler: None,
        parent: None,
        rebuilt_build: None,
    })))
}

/// A build of a request, on a worker.
pub fn build_of(rw: &Rw, request: BuildRequestId, worker: WorkerId) -> Result<(Op, BuildId), DataError> {
    let id = rw.new_id()?;
    let (state_string, properties) = ("starting".into(), Properties::new());
    Ok((Op::StartBuild(Box::new(NewBuild { id, request, worker, state_string, properties })), id))
}

/// Somebody who writes this and that, to entities that others write too.
pub struct Writer {
    rw: Rw,
    dice: StdRng,
    open: Vec<BuildId>,
}

impl Writer {
    pub fn new(rw: Rw, seed: u64) -> Self {
        Self { rw, dice: StdRng::seed_from_u64(seed), open: Vec::new() }
    }

    /// One write. Gives the revision of a change that is durable now, if it was one.
    pub async fn write(&mut self) -> Result<Option<String>, DataError> {
        let hot = self.rw.ro().hot();
        let worker = WorkerId(self.dice.random_range(1..=3));
        match self.dice.random_range(0..8) {
            0 | 1 => {
                let paused = self.dice.random();
                self.rw.write(vec![Op::PauseWorker { worker, paused, reason: Some("why".into()) }]).await?;
            }
            2 => {
                let scheduler = SchedulerId(self.dice.random_range(1..=3));
                self.rw.write(vec![Op::EnableScheduler { scheduler, enabled: self.dice.random() }]).await?;
            }
            3 => {
                let revision = format!("{:032x}", self.dice.random::<u128>());
                self.rw.write(vec![change(&self.rw, &revision)?]).await?;
                return Ok(Some(revision));
            }
            4 | 5 => self.start(worker, &hot).await?,
            _ => self.finish().await?,
        }
        Ok(None)
    }

    async fn start(&mut self, worker: WorkerId, hot: &Arc<Hot>) -> Result<(), DataError> {
        let (mut buildset, request) = buildset(&self.rw)?;
        // Some build what has just come in, which others build, too.
        let newest = hot.changes.values().rev().nth(self.dice.random_range(0..4));
        if let (Op::AddBuildset(set), Some(change)) = (&mut buildset, newest) {
            set.sourcestamps = vec![StampRef::Existing(change.sourcestamp.id)];
        }
        let (start, id) = build_of(&self.rw, request, worker)?;
        self.rw.write(vec![buildset, start]).await?;
        self.open.push(id);
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), DataError> {
        let Some(build) = self.open.pop() else { return Ok(()) };
        let step = self.rw.new_id()?;
        let results = if self.dice.random() { Results::Success } else { Results::Failure };
        let journal = self.rw.journal();
        journal.push(Op::AddStep { id: step, build, number: 0, name: "compile".into(), hidden: false });
        journal.push(Op::StartStep { step, state_string: "compiling".into() });
        journal.push(Op::DescribeBuild { build, state_string: "compiling".into() });
        journal.push(Op::FinishStep { step, results, state_string: "compiled".into(), hidden: false });
        let state_string = results.word().to_owned();
        journal.write(vec![Op::FinishBuild { build, results, state_string }]).await?;
        Ok(())
    }
}

/// The versions of everything that a snapshot holds and that is not a finished build's part.
pub fn versions(hot: &Hot) -> BTreeMap<EntityKey, i64> {
    let mut all = BTreeMap::new();
    let mut add = |record: Record| _ = all.insert(record.entity(), record.version());
    hot.masters.values().for_each(|e| add(Record::Master(e.entity.clone())));
    hot.builders.values().for_each(|e| add(Record::Builder(e.entity.clone())));
    hot.workers.values().for_each(|e| add(Record::Worker(e.entity.clone())));
    hot.schedulers.values().for_each(|e| add(Record::Scheduler(e.entity.clone())));
    hot.change_sources.values().for_each(|e| add(Record::ChangeSource(e.entity.clone())));
    hot.buildsets.values().for_each(|e| add(Record::Buildset(e.entity.clone())));
    hot.requests.values().for_each(|e| add(Record::BuildRequest(e.entity.clone())));
    hot.builds.values().for_each(|e| add(Record::Build(e.entity.clone())));
    hot.steps.values().for_each(|e| add(Record::Step(e.entity.clone())));
    hot.changes.values().for_each(|e| add(Record::Change(e.entity.clone())));
    all
}
