//! The console listener: a line on the master's terminal for every build that ends.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use greenroom_data::{DataError, Delivery, Ended, Hot, ListenerState, Ro, Subscription};
use greenroom_model::{Build, Clock, Pattern, Record, Results, Timestamp};
use greenroom_runtime::{Birth, Supervised, TaskEnd, Tasks, fail};
use serde_json::json;
use tokio::time::sleep;

/// How often the clock is stored while builds end. A crash repeats at most what came since.
const SAVE_EVERY: u32 = 20;
/// How long to wait before trying again what the data layer could not do.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Where lines go.
pub type Print = Arc<dyn Fn(&str) + Send + Sync>;

/// See the module.
pub struct ConsoleListener {
    ro: Ro,
    state: ListenerState,
    print: Print,
    tasks: Tasks<Self>,
    told: Arc<std::sync::atomic::AtomicU64>,
}

impl ConsoleListener {
    /// A new birth.
    pub fn new(birth: &Birth<Self>, ro: Ro, state: ListenerState, print: Print) -> Self {
        Self { ro, state, print, tasks: birth.tasks(), told: Arc::default() }
    }
}

impl Actor for ConsoleListener {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        let (ro, state, print, told) =
            (self.ro.clone(), self.state.clone(), self.print.clone(), self.told.clone());
        self.tasks.spawn(
            async move {
                let mut listening = Listening { ro, state, print, told };
                loop {
                    let Err(error) = listening.listen().await;
                    tracing::warn!(error = %error, "the console listener will try again");
                    sleep(AGAIN_AFTER).await;
                }
            },
            ListeningEnded,
        );
    }
}

impl Supervised for ConsoleListener {
    const KIND: &'static str = "listener";

    fn observe(&self) -> serde_json::Value {
        json!({"told": self.told.load(std::sync::atomic::Ordering::Relaxed)})
    }
}

/// The listening task ended, which it never does by itself.
#[derive(Message)]
#[rtype(result = "()")]
struct ListeningEnded(TaskEnd<()>);

impl Handler<ListeningEnded> for ConsoleListener {
    type Result = ();

    fn handle(&mut self, ListeningEnded(end): ListeningEnded, ctx: &mut Context<Self>) {
        fail(ctx, format!("listening ended: {end:?}"));
    }
}

struct Listening {
    ro: Ro,
    state: ListenerState,
    print: Print,
    told: Arc<std::sync::atomic::AtomicU64>,
}

impl Listening {
    async fn listen(&mut self) -> Result<std::convert::Infallible, DataError> {
        let since = self.state.load().await?.clock;
        let mut builds = self.subscribe(since).await?;
        let mut unsaved = 0;
        loop {
            match builds.next().await {
                Delivery::Event(event) => {
                    if let Record::Build(build) = &event.frame.event.what.record {
                        (self.print)(&line(build, &self.ro.hot()));
                        self.told.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                    unsaved += 1;
                }
                Delivery::Ended(Ended::Lagging) => builds = self.subscribe(Some(builds.clock())).await?,
                Delivery::Ended(Ended::Gone) => builds = self.subscribe(None).await?,
            }
            if unsaved >= SAVE_EVERY {
                self.save(builds.clock()).await?;
                unsaved = 0;
            }
        }
    }

    /// Since a clock, or from now if that is gone: a console needs no history.
    async fn subscribe(&self, since: Option<Clock>) -> Result<Subscription, DataError> {
        let finished = || vec![Pattern::parse("builds/*/finished")];
        match self.ro.subscribe(finished(), since).await {
            Err(DataError::Gone) => self.ro.subscribe(finished(), None).await,
            other => other,
        }
    }

    async fn save(&self, clock: Clock) -> Result<(), DataError> {
        let mut record = self.state.load().await?;
        record.clock = Some(clock);
        self.state.save(record).await
    }
}

/// What is said of a finished build, such as `✗ linux #42 failure in 3.2 s  (w1)  test failed`.
pub fn line(build: &Build, hot: &Hot) -> String {
    let name = |found: Option<&str>, id: i64| found.map_or_else(|| format!("{id}"), str::to_owned);
    let builder = name(hot.builders.get(&build.builder.0).map(|b| b.name.as_str()), build.builder.0);
    let worker = name(hot.workers.get(&build.worker.0).map(|w| w.name.as_str()), build.worker.0);
    let results = build.results.unwrap_or(Results::Exception);
    let took = build.complete_at.map_or(0, |at: Timestamp| at.micros_since(build.started_at)) as f64 / 1e6;
    let state = if build.state_string == "finished" { "" } else { build.state_string.as_str() };
    // Control characters from a build must not reach a terminal.
    let text = format!(
        "{} {builder} #{} {results} in {took:.1} s  ({worker})  {state}",
        mark(results),
        build.number
    );
    text.chars().filter(|c| !c.is_control()).collect::<String>().trim_end().to_owned()
}

fn mark(results: Results) -> char {
    match results {
        Results::Success => '✓',
        Results::Warnings => '!',
        Results::Failure => '✗',
        Results::Skipped => '»',
        Results::Exception => '⬢',
        Results::Retry => '↻',
        Results::Cancelled => '⊘',
    }
}
