//! A farm in a test: the data layer in memory, this layer, scripted workers, and the verbs of the domain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use greenroom_data::{DataLayer, DataOptions, Hot, SentChange, Shown};
use greenroom_model::query::Query;
use greenroom_model::*;
use greenroom_process::{Applied, ProcessLayer, ProcessOptions, StopSummary, configure};
use greenroom_runtime::{ActorReport, TestWorld};
use serde_json::{Value, json};

use crate::workers::Workers;

/// How long a story waits for anything, by the test's clock.
const PATIENCE: Duration = Duration::from_secs(600);

/// A farm.
pub struct Farm {
    pub world: TestWorld,
    pub data: DataLayer,
    pub workers: Workers,
    pub dir: tempfile::TempDir,
    process: Option<ProcessLayer>,
    toml: String,
    /// The number of the configuration.
    number: i64,
}

/// A worker with some slots, a builder, and a scheduler that builds each change.
pub const SIMPLE: &str = r#"
[workers.w1]
password = "p"
max-builds = 2
[schedulers.main]
kind = "single-branch"
builders = ["linux"]
filter = { branch = ["main"] }
[schedulers.force]
kind = "force"
builders = "*"
[builders.linux]
[[builders.linux.steps]]
name = "compile"
run = "make"
"#;

impl Farm {
    /// Starts on paused time; every worker is connected.
    pub async fn start(toml: &str) -> Self {
        Self::start_in(TestWorld::new(), toml).await
    }

    pub async fn start_in(world: TestWorld, toml: &str) -> Self {
        let mut farm = Self::without_process(world, toml).await;
        farm.open().await;
        for worker in farm.hot().workers.values() {
            farm.connect(&worker.name).await;
        }
        farm
    }

    /// Only the data layer, with the configuration stored.
    ///
    /// The feed of a data layer that has just started may take a moment; stories begin after it.
    pub async fn without_process(world: TestWorld, toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = DataOptions {
            database_url: "memory:".into(),
            data_dir: dir.path().to_owned(),
            bus: None,
            master_name: "main".to_owned(),
        };
        let data = DataLayer::start(&world.root(), options).await.unwrap();
        while data.ro().subscribe(vec![Pattern::parse("builds/*/new")], None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let workers = Workers::new(data.rw());
        let farm = Self { world, data, workers, dir, process: None, toml: toml.to_owned(), number: 1 };
        configure(&farm.data.rw(), &farm.settings()).await.unwrap();
        farm
    }

    fn settings(&self) -> greenroom_config::Settings {
        match greenroom_config::load_text(&self.toml, self.dir.path()) {
            Ok(loaded) => loaded.settings,
            Err(faults) => panic!("{faults}"),
        }
    }

    /// Somebody edits the configuration; it counts from the next [`Farm::open`] on.
    pub fn edit(&mut self, from: &str, to: &str) {
        assert!(self.toml.contains(from), "{from}");
        self.toml = self.toml.replace(from, to);
    }

    /// Somebody adds to the configuration.
    pub fn append(&mut self, more: &str) {
        self.toml.push_str(more);
    }

    /// The running layer gets the edited configuration.
    pub async fn reload(&mut self) -> Applied {
        self.number += 1;
        let settings = Arc::new(self.settings());
        configure(&self.data.rw(), &settings).await.unwrap();
        self.process().apply(settings, self.number).await.unwrap()
    }

    /// The same, but whoever does it dies after so many polls.
    pub async fn reload_broken_off(&mut self, polls: usize) {
        let settings = Arc::new(self.settings());
        configure(&self.data.rw(), &settings).await.unwrap();
        let mut apply = Box::pin(self.process().apply(settings, self.number + 1));
        for _ in 0..polls {
            if futures_util::poll!(&mut apply).is_ready() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Starts this layer.
    pub async fn open(&mut self) {
        let options = ProcessOptions {
            settings: Arc::new(self.settings()),
            configuration: self.number,
            rw: self.data.rw(),
            runner: Arc::new(self.workers.clone()),
            outside: Arc::new(Elsewhere),
            parent: self.world.root(),
            data_dir: self.dir.path().to_owned(),
            polling: None,
        };
        self.process = Some(ProcessLayer::start(options).await.unwrap());
    }

    /// Stops this layer in its two phases.
    pub async fn close(&mut self, grace: Duration) -> StopSummary {
        match self.process.take() {
            Some(process) => process.stop(grace).await,
            None => StopSummary::default(),
        }
    }

    /// Ends the story: everything stops, nothing may be left.
    pub async fn finish(mut self) {
        self.workers.end_all(0);
        self.close(Duration::from_secs(60)).await;
        self.data.stop(Duration::from_secs(10)).await;
        self.world.finish().await;
    }

    pub fn hot(&self) -> Arc<Hot> {
        self.data.ro().hot()
    }

    pub fn process(&self) -> &ProcessLayer {
        self.process.as_ref().expect("the layer runs")
    }

    /// Waits until the published state is so.
    pub async fn until<T>(&self, what: &str, look: impl Fn(&Hot) -> Option<T>) -> T {
        let wait = async {
            loop {
                if let Some(found) = look(&self.hot()) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain for {what}; builds: {:?}", self.builds()),
        }
    }

    /// Lets everything go on until nothing happens any more for a second of the test's clock.
    pub async fn settle(&self) {
        let mut clock = self.hot().clock.clone();
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.hot().clock.clone();
            if now == clock {
                return;
            }
            clock = now;
        }
    }

    fn builds(&self) -> Vec<(i64, i64, Option<Results>, String)> {
        let hot = self.hot();
        hot.builds.values().map(|it| (it.id.0, it.number, it.results, it.state_string.clone())).collect()
    }

    pub fn builder(&self, name: &str) -> BuilderId {
        self.hot().builder_named(name).unwrap_or_else(|| panic!("a builder {name}")).id
    }

    pub fn worker(&self, name: &str) -> WorkerId {
        self.hot().worker_named(name).unwrap_or_else(|| panic!("a worker {name}")).id
    }

    pub fn scheduler(&self, name: &str) -> SchedulerId {
        self.hot().scheduler_named(name).unwrap_or_else(|| panic!("a scheduler {name}")).id
    }

    pub async fn connect(&self, name: &str) {
        let worker = self.worker(name);
        self.workers.set_connected(worker, true);
        self.write(vec![Op::ConnectWorker { worker, info: WorkerInfo::default() }]).await;
    }

    pub async fn disconnect(&self, name: &str) {
        let worker = self.worker(name);
        self.workers.set_connected(worker, false);
        self.write(vec![Op::DisconnectWorker { worker }]).await;
    }

    pub async fn write(&self, ops: Vec<Op>) -> Committed {
        self.data.rw().write(ops).await.unwrap()
    }

    /// Somebody pushed a revision to a branch.
    pub async fn push(&self, branch: &str, revision: &str) -> ChangeId {
        self.push_change(change(branch, revision)).await
    }

    pub async fn push_change(&self, change: SentChange) -> ChangeId {
        self.data.control().bind("hook").add_change(change).await.unwrap().0
    }

    /// Asks for something as `ann`.
    pub async fn ask(&self, target: ControlTarget, action: &str, params: Value) -> ControlAnswer {
        self.data.control().bind("ann").act(target, action, params, None).await.unwrap()
    }

    pub async fn force(&self, params: Value) -> ControlAnswer {
        self.ask(ControlTarget::ForceScheduler("force".into()), "force", params).await
    }

    /// Forces a build of a builder; its request.
    pub async fn force_builder(&self, name: &str) -> BuildRequestId {
        let builder = self.builder(name);
        let answer = self.force(json!({ "builderid": builder.0 })).await;
        let ControlAnswer::Done(told) = &answer else { panic!("{answer:?}") };
        BuildRequestId(told[1][builder.0.to_string()].as_i64().expect("a request"))
    }

    /// Waits for the end of a builder's build with that number.
    pub async fn finished(&self, builder: &str, number: i64) -> Arc<Build> {
        let id = self.builder(builder);
        self.until(&format!("the end of {builder} #{number}"), |hot| {
            let build = hot.builds.values().find(|it| it.builder == id && it.number == number)?;
            build.complete_at.map(|_| build.entity.clone())
        })
        .await
    }

    /// Waits for the begin of a builder's build with that number, and of its first command.
    pub async fn running(&self, builder: &str, number: i64) -> Arc<Build> {
        let id = self.builder(builder);
        self.until(&format!("the begin of {builder} #{number}"), |hot| {
            let build = hot.builds.values().find(|it| it.builder == id && it.number == number)?;
            (self.workers.running() > 0).then(|| build.entity.clone())
        })
        .await
    }

    /// The steps of a build: name, result, text.
    pub async fn steps(&self, build: BuildId) -> Vec<(String, Option<Results>, String)> {
        let query = Query::default().eq("buildid", build.0).order_by("number", false);
        let steps: Vec<Shown<Step>> = self.data.ro().list::<Step>(query).await.unwrap().value.items;
        steps.iter().map(|it| (it.name.clone(), it.results, it.state_string.clone())).collect()
    }

    pub async fn properties(&self, build: BuildId) -> BTreeMap<String, Value> {
        let found = self.data.ro().build_properties(&[build]).await.unwrap().value;
        found[&build].iter().map(|(name, it)| (name.clone(), it.0.clone())).collect()
    }

    /// What an actor observes.
    pub async fn report(&self, name: &str) -> ActorReport {
        let reports = self.world.reports().await;
        reports.into_iter().find(|it| it.name == name).unwrap_or_else(|| panic!("an actor {name}"))
    }

    /// Makes an actor panic; one that is just being born again is waited for.
    pub async fn panic(&mut self, name: &str) {
        self.world.expect_panic(name);
        let patience = tokio::time::Instant::now() + PATIENCE;
        while !self.world.inject_panic(name) {
            assert!(tokio::time::Instant::now() < patience, "nobody is called {name}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

pub fn change(branch: &str, revision: &str) -> SentChange {
    SentChange {
        origin: write::ChangeOrigin::Manual,
        author: "Bob <bob@x.org>".into(),
        committer: None,
        comments: "a change".into(),
        branch: Some(branch.into()),
        revision: Some(revision.into()),
        revlink: None,
        when: None,
        category: None,
        repository: "https://x.org/r".into(),
        codebase: String::new(),
        project: String::new(),
        files: vec!["src/a.c".into()],
        properties: Properties::new(),
    }
}

/// Answers what is asked of a master itself with the action's name.
struct Elsewhere;

impl greenroom_process::Outside for Elsewhere {
    fn act(&self, act: Arc<ControlAct>) -> futures_util::future::BoxFuture<'static, Option<ControlAnswer>> {
        Box::pin(async move { Some(ControlAnswer::Done(act.action.clone().into())) })
    }
}
