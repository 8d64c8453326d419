//! A farm with one IRC notifier and no process layer: commands that act are answered by the test.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use greenroom_config::Settings;
use greenroom_config::mask::SharedMasks;
use greenroom_data::{DataLayer, DataOptions, Delivery};
use greenroom_model::*;
use greenroom_runtime::TestWorld;
use greenroom_status::{AboutFarm, StatusLayer, StatusOptions};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What force schedulers there are, and one answer to every `why`.
struct About(Arc<Settings>);

impl AboutFarm for About {
    fn settings(&self) -> Arc<Settings> {
        self.0.clone()
    }

    fn why_waits(&self, _: BuildRequestId) -> BoxFuture<'static, Option<String>> {
        async { Some("no worker is connected (w1)".to_owned()) }.boxed()
    }
}

/// What commands need to know, of these settings.
pub fn about(settings: Arc<Settings>) -> Arc<dyn AboutFarm> {
    Arc::new(About(settings))
}

pub struct World {
    pub world: TestWorld,
    pub data: DataLayer,
    _dir: tempfile::TempDir,
    settings: Arc<Settings>,
    layer: Option<StatusLayer>,
}

/// Builders, a worker and a force scheduler.
pub const FARM: &str = "
[workers.w1]
password = 'p'
[schedulers.force]
kind = 'force'
builders = '*'
parameters = [{ name = 'target' }]
[builders.linux]
[[builders.linux.steps]]
run = 'true'
";

impl World {
    /// A farm; `notifier` is the inside of `[notifiers.team]` without kind.
    pub async fn start(notifier: &str) -> Self {
        let mut it = Self::without_notifiers(notifier).await;
        it.open().await;
        it
    }

    pub async fn without_notifiers(notifier: &str) -> Self {
        let world = TestWorld::in_real_time();
        let dir = tempfile::tempdir().unwrap();
        let options = DataOptions {
            database_url: "memory:".into(),
            data_dir: dir.path().to_owned(),
            bus: None,
            master_name: "main".to_owned(),
        };
        let data = DataLayer::start(&world.root(), options).await.unwrap();
        let settings = settings(&format!("{FARM}[notifiers.team]\nkind = 'irc'\n{notifier}"), dir.path());
        greenroom_process::configure(&data.rw(), &settings).await.unwrap();
        Self { world, data, _dir: dir, settings: Arc::new(settings), layer: None }
    }

    /// Starts the notifiers.
    pub async fn open(&mut self) {
        let (states, own) = (self.data.clone(), self.data.clone());
        let options = StatusOptions {
            ro: self.data.ro(),
            control: self.data.control(),
            state: Arc::new(move |name| states.notifier_state(name)),
            own_state: Arc::new(move |name| own.listener_state(name)),
            masks: SharedMasks::default(),
            about: about(self.settings.clone()),
            parent: self.world.root(),
        };
        self.layer = Some(StatusLayer::start(options, &self.settings).await);
    }

    /// Stops them.
    pub async fn close(&mut self) {
        if let Some(layer) = self.layer.take() {
            let cut_off = layer.stop(Some(Duration::from_secs(5))).await;
            assert!(cut_off.is_empty(), "{cut_off:?}");
        }
    }

    pub async fn end(mut self) {
        self.close().await;
        let report = self.world.root().stop(Some(Duration::from_secs(5))).await;
        assert!(report.cut_off.is_empty(), "{report:?}");
    }

    /// Sends a trial message; gives its delivery's id.
    pub async fn send_test(&self) -> DeliveryId {
        let layer = self.layer.as_ref().expect("notifiers run");
        let begun = Instant::now();
        loop {
            match layer.test("team", "the test").await {
                Ok(id) => return id,
                Err(error) if begun.elapsed() > PATIENCE => panic!("{error}"),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// A delivery as it is stored.
    pub async fn delivery(&self, id: DeliveryId) -> Delivered {
        let found = self.data.ro().get::<greenroom_model::Delivery>(id.0).await.unwrap().value;
        let it = found.expect("the delivery");
        Delivered {
            state: it.state,
            target: it.target.clone(),
            reason: it.reason.clone(),
            attempts: it.attempts,
        }
    }

    /// Waits until a delivery is in this state.
    pub async fn await_delivery(&self, id: DeliveryId, state: DeliveryState) -> Delivered {
        let begun = Instant::now();
        loop {
            let delivery = self.delivery(id).await;
            if delivery.state == state {
                return delivery;
            }
            assert!(begun.elapsed() < PATIENCE, "{delivery:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the connection says of itself, once it says what is waited for.
    pub async fn await_connection(&self, what: &str, says: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let report = self.world.runtime().reports().await.into_iter().find(|it| it.name == "irc/team");
            let observed = report.map(|it| it.observed).unwrap_or_default();
            if says(&observed) {
                return observed;
            }
            assert!(begun.elapsed() < PATIENCE, "waiting for {what}: {observed}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn await_ready(&self) -> Value {
        self.await_connection("a connection", |it| it["state"] == "ready").await
    }

    /// Answers every act with *done*, and gives what was asked by whom.
    pub async fn answer_acts(&self) -> mpsc::UnboundedReceiver<Arc<ControlAct>> {
        let (told, acts) = mpsc::unbounded_channel();
        let mut asked = self.data.ro().subscribe(vec![Pattern::parse("control/*/*/*")], None).await.unwrap();
        let rw = self.data.rw();
        actix_rt::spawn(async move {
            while let Delivery::Event(event) = asked.next().await {
                let what = &event.frame.event.what;
                let (EventName::Requested, Record::Control(act)) = (what.name, &what.record) else {
                    continue;
                };
                let answer = ControlAnswer::Done(serde_json::json!([7, {"1": 17}]));
                let _ = rw.write(vec![Op::AnswerControl { act: act.id, answer }]).await;
                if told.send(act.clone()).is_err() {
                    return;
                }
            }
        });
        acts
    }
}

/// What is checked of a delivery.
#[derive(Debug)]
pub struct Delivered {
    pub state: DeliveryState,
    pub target: Option<String>,
    pub reason: Option<String>,
    pub attempts: i64,
}

fn settings(text: &str, dir: &Path) -> Settings {
    greenroom_config::load_text(text, dir).unwrap_or_else(|faults| panic!("{faults}")).settings
}
