//! A server on a port of its own, over a data layer in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use greenroom_config::{Settings, load_text};
use greenroom_data::{DataLayer, DataOptions, Delivery, Rw};
use greenroom_model::{Clock, ControlAct, ControlAnswer, Op, Pattern, Record};
use greenroom_runtime::TestWorld;
use greenroom_www::{Extra, Serving, Www, WwwParts, serve};
use tokio::task::JoinHandle;

use crate::client::Client;

/// The configuration of the tests.
pub const CONFIG: &str = r#"
[master]
name = "main"
title = "Contract CI"
url = "http://ci.example.org:8010/"
[database]
url = "memory:"
[www]
listen = "127.0.0.1:0"
change-hooks = ["base"]
[workers.w1]
password = "secret-of-w1"
[workers.w2]
password = "secret-of-w2"
[schedulers.night]
kind = "single-branch"
builders = ["slow"]
[schedulers.forcedef]
kind = "force"
builders = ["quick"]
[schedulers.force]
kind = "force"
builders = "*"
button-name = "Force it"
[[schedulers.force.parameters]]
name = "flavour"
kind = "choice"
choices = ["a", "b"]
[[schedulers.force.parameters]]
name = "num"
kind = "int"
default = 5
[builders.pending]
[[builders.pending.steps]]
run = "true"
[builders.slow]
[[builders.slow.steps]]
run = "true"
[builders.all]
[[builders.all.steps]]
run = "true"
[builders.quick]
[[builders.quick.steps]]
run = "true"
"#;

/// A running server.
pub struct World {
    pub client: Client,
    pub layer: DataLayer,
    pub serving: Serving,
    pub server: JoinHandle<std::io::Result<()>>,
    runtime: TestWorld,
}

/// The settings of [`CONFIG`].
pub fn settings() -> Settings {
    load_text(CONFIG, Path::new("/")).unwrap_or_else(|faults| panic!("{}", faults.render(false))).settings
}

impl World {
    /// An empty one.
    pub async fn new() -> Self {
        Self::with(None).await
    }

    /// With further services on its port.
    pub async fn with(extra: Option<Extra>) -> Self {
        Self::over("memory:", &std::env::temp_dir(), extra).await
    }

    /// Over a database, whose file is in `dir` if it has one.
    pub async fn over(database_url: &str, dir: &Path, extra: Option<Extra>) -> Self {
        let runtime = TestWorld::in_real_time();
        let options = DataOptions {
            database_url: database_url.into(),
            data_dir: dir.to_owned(),
            bus: None,
            master_name: "main".into(),
        };
        let layer = DataLayer::start(&runtime.root(), options).await.unwrap();
        Self::serving(runtime, layer, extra)
    }

    /// Over an opened store.
    pub async fn over_store(store: greenroom_db::Store) -> Self {
        let runtime = TestWorld::in_real_time();
        let layer = DataLayer::start_over(&runtime.root(), store, DataLayer::to_bus).await.unwrap();
        Self::serving(runtime, layer, None)
    }

    fn serving(runtime: TestWorld, layer: DataLayer, extra: Option<Extra>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let www = Www::new(WwwParts {
            metrics: Default::default(),
            counters: Default::default(),
            ro: layer.ro(),
            control: layer.control(),
            runtime: runtime.runtime(),
            settings: Arc::new(settings()),
            configuration: greenroom_www::ConfigurationState::default(),
            versions: vec![("Greenroom".into(), "0.1.0".into())],
            port: listener.local_addr().unwrap().port(),
        });
        let (serving, server) = serve(listener, www, extra, 1, Duration::from_secs(2)).unwrap();
        let server = actix_rt::spawn(server);
        Self { client: Client(serving.address), layer, serving, server, runtime }
    }

    pub fn rw(&self) -> Rw {
        self.layer.rw()
    }

    /// Waits until the hot state, and so every reply, contains everything up to `clock`'s master's number.
    pub async fn caught_up(&self, at: (greenroom_model::MasterId, i64)) {
        let mut feed = self.layer.ro().subscribe(Vec::new(), None).await.unwrap();
        while !self.layer.ro().hot().clock.contains(at.0, at.1) {
            let _ = feed.try_next();
            actix_rt::task::yield_now().await;
        }
    }

    /// The clock of the state now.
    pub fn clock(&self) -> Clock {
        self.layer.ro().hot().clock.clone()
    }

    /// Answers every control act, as the owners of the targets would.
    pub async fn answer_controls(&self, owner: impl Fn(&ControlAct) -> Option<ControlAnswer> + 'static) {
        let rw = self.rw();
        let pattern = Pattern::parse("control/*/*/*");
        let mut acts = rw.ro().subscribe(vec![pattern], None).await.unwrap();
        actix_rt::spawn(async move {
            while let Delivery::Event(event) = acts.next().await {
                let Record::Control(act) = &event.frame.event.what.record else { continue };
                if act.answer.is_none()
                    && let Some(answer) = owner(act)
                {
                    rw.write(vec![Op::AnswerControl { act: act.id, answer }]).await.unwrap();
                }
            }
        });
    }

    /// Stops everything; fails when an actor panicked or is left.
    pub async fn finish(self) {
        self.serving.stop(true).await;
        self.server.await.unwrap().unwrap();
        self.layer.stop(Duration::from_secs(2)).await;
        self.runtime.finish().await;
    }
}
