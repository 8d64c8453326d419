//! A farm without processes: builds are written, messages are recorded.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use greenroom_config::Settings;
use greenroom_config::mask::SharedMasks;
use greenroom_data::{DataLayer, DataOptions, LogStream};
use greenroom_model::write::*;
use greenroom_model::*;
use greenroom_runtime::{Runtime, TestWorld};
use greenroom_status::{
    MakeTransport, Notice, Outgoing, SendError, Sent, StatusLayer, StatusOptions, TestTransports, Transport,
};

/// How long a story waits for anything, by the test's clock.
const PATIENCE: Duration = Duration::from_secs(100_000);

/// What the server answers next.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Takes it.
    Take,
    /// This.
    Refuse(SendError),
    /// Takes it, and the actor of this name dies before it hears of that.
    TakeAndKill(String),
    /// Never answers.
    Hang,
    /// Panics.
    Panic,
}

/// The server: what it got, and how it answers.
#[derive(Default)]
pub struct Server {
    /// What it took, and when.
    pub taken: Vec<(Timestamp, Arc<Outgoing>)>,
    /// Attempts that it saw, the failed ones too.
    pub attempts: usize,
    /// The next answers; then it takes everything, unless it is down.
    pub script: VecDeque<Reply>,
    /// Refuses everything for now.
    pub down: bool,
}

/// A shared server.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Server>>);

impl Recorder {
    pub fn server(&self) -> MutexGuard<'_, Server> {
        self.0.lock().unwrap()
    }

    pub fn subjects(&self) -> Vec<String> {
        self.server().taken.iter().map(|(_, it)| it.notice.subject()).collect()
    }

    pub fn last(&self) -> Arc<Outgoing> {
        self.server().taken.last().expect("a message").1.clone()
    }
}

struct Recording {
    recorder: Recorder,
    runtime: Runtime,
}

impl Transport for Recording {
    fn send(&mut self, message: Arc<Outgoing>) -> BoxFuture<'_, Result<Sent, SendError>> {
        async move {
            let (reply, now) = {
                let mut server = self.recorder.server();
                server.attempts += 1;
                let down = server.down.then(|| Reply::Refuse(SendError::later("the server is down")));
                let reply = server.script.pop_front().or(down).unwrap_or(Reply::Take);
                (reply, Timestamp(self.runtime.now_micros()))
            };
            let take = || self.recorder.server().taken.push((now, message.clone()));
            match reply {
                Reply::Take => {
                    take();
                    Ok(Sent { target: "the test".to_owned(), note: None })
                }
                Reply::Refuse(error) => Err(error),
                Reply::TakeAndKill(name) => {
                    take();
                    assert!(self.runtime.kill(&name), "there is no {name}");
                    std::future::pending().await
                }
                Reply::Hang => std::future::pending().await,
                Reply::Panic => panic!("a planned panic"),
            }
        }
        .boxed()
    }
}

pub struct Farm {
    pub world: TestWorld,
    pub data: DataLayer,
    pub recorder: Recorder,
    pub status: Option<StatusLayer>,
    settings: Settings,
    /// Changes since the begin.
    revision: i64,
    _dir: tempfile::TempDir,
}

/// A build as a test wants it.
pub struct Wish<'a> {
    pub builder: &'a str,
    pub branch: &'a str,
    pub results: Results,
    /// The step that decides it.
    pub step: &'a str,
    /// What the step prints.
    pub output: &'a str,
    pub scheduler: &'a str,
    /// Whether a change comes in with it, by this author.
    pub author: Option<&'a str>,
}

pub fn wish(builder: &str, results: Results) -> Wish<'_> {
    Wish { builder, branch: "main", results, step: "test", output: "", scheduler: "ci", author: None }
}

impl Farm {
    /// A farm with builders `linux` (tag `fast`) and `windows`, and the given `[notifiers.x]` keys.
    pub async fn start(keys: &str) -> Self {
        let mut farm = Self::quiet(keys).await;
        farm.begin().await;
        farm
    }

    /// The same, with notifiers not started yet.
    pub async fn quiet(keys: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(keys, dir.path());
        let world = TestWorld::new();
        let options = DataOptions {
            database_url: "memory:".into(),
            data_dir: dir.path().to_owned(),
            bus: None,
            master_name: "main".into(),
        };
        let data = DataLayer::start(&world.root(), options).await.expect("the data layer starts");
        let builders = settings.builders.iter().map(|(name, it)| ConfiguredBuilder {
            name: name.clone(),
            tags: it.options.tags.clone(),
            workers: vec!["w".to_owned()],
            ..ConfiguredBuilder::default()
        });
        let configuration = Configuration {
            builders: builders.collect(),
            workers: vec!["w".to_owned()],
            schedulers: vec!["ci".to_owned()],
            ..Configuration::default()
        };
        data.rw().write(vec![Op::Configure(Box::new(configuration))]).await.unwrap();
        let worker = data.ro().hot().worker_named("w").map_or(WorkerId(1), |it| it.id);
        data.rw().write(vec![Op::ConnectWorker { worker, info: WorkerInfo::default() }]).await.unwrap();
        let recorder = Recorder::default();
        Self { world, data, recorder, status: None, settings, revision: 0, _dir: dir }
    }

    /// Starts the notifiers and waits until they listen.
    pub async fn begin(&mut self) {
        let (recorder, runtime) = (self.recorder.clone(), self.world.runtime());
        let transports: TestTransports = Arc::new(move |_| {
            let (recorder, runtime) = (recorder.clone(), runtime.clone());
            let make: MakeTransport = Arc::new(move || {
                Ok(Box::new(Recording { recorder: recorder.clone(), runtime: runtime.clone() }))
            });
            make
        });
        let (states, own) = (self.data.clone(), self.data.clone());
        let masks = SharedMasks::default();
        masks.add(&self.settings.secrets);
        let options = StatusOptions {
            ro: self.data.ro(),
            control: self.data.control(),
            state: Arc::new(move |name| states.notifier_state(name)),
            own_state: Arc::new(move |name| own.listener_state(name)),
            masks,
            about: Arc::new(crate::about::About(Arc::new(self.settings.clone()))),
            parent: self.world.root(),
        };
        self.status = Some(StatusLayer::start_over(options, &self.settings, Some(transports)).await);
        self.until("the notifier listens", |farm| farm.observed("claimed") == Some(true.into())).await;
    }

    /// Stops and drops the notifiers, as the end of a process does.
    pub async fn end(&mut self) {
        if let Some(status) = self.status.take() {
            assert!(status.stop(None).await.is_empty());
        }
    }

    /// Other settings, applied to what runs.
    pub async fn apply(&mut self, keys: &str) {
        self.settings = settings(keys, self._dir.path());
        self.status.as_ref().expect("it runs").apply(&self.settings).await;
    }

    fn observed(&self, key: &str) -> Option<serde_json::Value> {
        let reports = self.world.runtime().snapshot();
        let notifier = reports.into_iter().find(|it| it.name == "notifier/x")?;
        serde_json::to_value(notifier).ok()?["observed"].get(key).cloned()
    }

    /// How often the notifier was born.
    pub fn births(&self) -> u64 {
        let reports = self.world.runtime().snapshot();
        reports.into_iter().find(|it| it.name == "notifier/x").expect("the notifier").births
    }

    /// Waits until something holds, by the test's clock.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let look = async {
            loop {
                self.world.runtime().reports().await;
                if holds(self) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, look).await.is_err() {
            panic!("in vain: {what}; taken: {:?}", self.recorder.subjects());
        }
    }

    /// Waits until so many messages were taken.
    pub async fn until_taken(&self, count: usize) {
        self.until(&format!("{count} messages"), |farm| farm.recorder.server().taken.len() >= count).await;
    }

    /// Lets so much time pass.
    pub async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Lets everything that has happened have its effect, without so much time passing that anything becomes due.
    pub async fn settle(&self) {
        for _ in 0..20 {
            self.world.settle().await;
        }
    }

    fn builder(&self, name: &str) -> BuilderId {
        self.data.ro().hot().builder_named(name).map(|it| it.id).expect("a builder")
    }

    /// Begins a build.
    pub async fn begin_build(&mut self, wish: &Wish<'_>) -> BuildId {
        let rw = self.data.rw();
        self.revision += 1;
        let revision = format!("r{}", self.revision);
        let stamp = NewSourceStamp {
            branch: Some(wish.branch.to_owned()),
            revision: Some(revision.clone()),
            repository: "https://example.org/r.git".to_owned(),
            ..NewSourceStamp::default()
        };
        if let Some(author) = wish.author {
            self.change(author, wish.branch, &revision).await;
        }
        let (request, id) = (rw.new_id().unwrap(), rw.new_id().unwrap());
        let buildset = NewBuildset {
            id: rw.new_id().unwrap(),
            requests: vec![(request, self.builder(wish.builder))],
            sourcestamps: vec![StampRef::New(stamp)],
            reason: "a test".into(),
            external_id: None,
            properties: Properties::new(),
            priority: 0,
            waited_for: false,
            scheduler: Some(wish.scheduler.to_owned()),
            parent: None,
            rebuilt_build: None,
        };
        let worker = self.data.ro().hot().worker_named("w").map_or(WorkerId(1), |it| it.id);
        let properties = Properties::from([("kind".into(), Property(wish.scheduler.into(), "test".into()))]);
        let build = NewBuild { id, request, worker, state_string: "runs".into(), properties };
        let ops = vec![Op::AddBuildset(Box::new(buildset)), Op::StartBuild(Box::new(build))];
        rw.write(ops).await.unwrap();
        id
    }

    /// Adds a change.
    pub async fn change(&self, author: &str, branch: &str, revision: &str) {
        let rw = self.data.rw();
        let change = NewChange {
            id: rw.new_id().unwrap(),
            origin: ChangeOrigin::Manual,
            author: author.into(),
            committer: None,
            comments: format!("change {revision}\n\nlong"),
            branch: Some(branch.into()),
            revision: Some(revision.into()),
            revlink: None,
            when: rw.now(),
            category: None,
            repository: "https://example.org/r.git".into(),
            codebase: String::new(),
            project: String::new(),
            files: vec!["a.c".into()],
            properties: Properties::new(),
        };
        rw.write(vec![Op::AddChange(Box::new(change))]).await.unwrap();
    }

    /// Ends a build that was begun.
    pub async fn end_build(&self, build: BuildId, wish: &Wish<'_>) {
        let rw = self.data.rw();
        let step = rw.new_id().unwrap();
        let add = Op::AddStep { id: step, build, number: 0, name: wish.step.into(), hidden: false };
        let start = Op::StartStep { step, state_string: "runs".into() };
        rw.write(vec![add, start]).await.unwrap();
        if !wish.output.is_empty() {
            let log = rw.new_id().unwrap();
            rw.write(vec![Op::AddLog { id: log, step, name: "stdio".into(), kind: LogKind::Stdio }])
                .await
                .unwrap();
            rw.append_log(log, LogStream::Stdout, wish.output.to_owned().into()).await.unwrap();
            let num_lines = rw.finish_log(log).await.unwrap();
            rw.write(vec![Op::FinishLog { log, num_lines }]).await.unwrap();
        }
        let state_string = format!("{} {}", wish.step, wish.results);
        rw.write(vec![
            Op::FinishStep { step, results: wish.results, state_string: state_string.clone(), hidden: false },
            Op::FinishBuild { build, results: wish.results, state_string },
        ])
        .await
        .unwrap();
    }

    /// A whole build.
    pub async fn build(&mut self, wish: Wish<'_>) -> BuildId {
        let build = self.begin_build(&wish).await;
        self.end_build(build, &wish).await;
        build
    }

    /// A whole build of the revision that was built last.
    pub async fn again(&mut self, wish: Wish<'_>) -> BuildId {
        self.revision -= 1;
        self.build(wish).await
    }

    /// A whole build of nothing special.
    pub async fn ends(&mut self, builder: &str, results: Results) -> BuildId {
        self.build(wish(builder, results)).await
    }

    /// What is recorded of messages, oldest first: subject, state, reason.
    pub async fn deliveries(&self) -> Vec<(String, DeliveryState, String)> {
        let query = Query::default().eq("notifier", "x").order_by("deliveryid", false);
        let page = self.data.ro().list::<Delivery>(query).await.unwrap().value;
        page.items
            .into_iter()
            .map(|it| (it.subject.clone(), it.state, it.reason.clone().unwrap_or_default()))
            .collect()
    }

    /// Those in a state.
    pub async fn in_state(&self, state: DeliveryState) -> Vec<(String, String)> {
        let all = self.deliveries().await.into_iter().filter(|it| it.1 == state);
        all.map(|(subject, _, reason)| (subject, reason)).collect()
    }

    /// Ends the farm.
    pub async fn finish(mut self) {
        self.end().await;
        self.data.stop(Duration::from_secs(10)).await;
        self.world.finish().await;
    }
}

/// The notice of a message about a build.
pub fn of_build(message: &Outgoing) -> greenroom_status::BuildNotice {
    match &message.notice {
        Notice::Build(it) => (**it).clone(),
        other => panic!("not about a build: {other:?}"),
    }
}

fn settings(keys: &str, dir: &std::path::Path) -> Settings {
    let text = format!(
        "[master]\ntitle = 'Farm'\nurl = 'https://ci.example.org/'\n[workers.w]\npassword = 'secret-of-w'\n\
         [schedulers.ci]\nkind = 'force'\nbuilders = '*'\n\
         [builders.linux]\ntags = ['fast']\n[[builders.linux.steps]]\nrun = 'true'\n\
         [builders.windows]\n[[builders.windows.steps]]\nrun = 'true'\n{}",
        if keys.is_empty() { String::new() } else { format!("[notifiers.x]\n{keys}\n") }
    );
    let loaded = greenroom_config::load_text(&text, dir);
    loaded.unwrap_or_else(|faults| panic!("{}", faults.render(false))).settings
}

/// An IRC notifier that tells these modes, with these keys beside.
pub fn people(modes: &str, more: &str) -> String {
    format!(
        "kind = 'irc'\nserver = 'irc.example.org:6697'\nnick = 'greenroom'\nchannels = ['#b']\nmodes = {modes}\n{more}"
    )
}

/// A webhook that tells these modes.
pub fn machine(modes: &str, more: &str) -> String {
    format!("kind = 'webhook'\nurl = 'https://example.org/hook'\nmodes = {modes}\n{more}")
}
