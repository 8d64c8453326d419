//! Scripted workers: they record what they are told to run, and do what the story says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use greenroom_data::{LogStream, Rw};
use greenroom_model::WorkerId;
use greenroom_process::CommandRunner;
use greenroom_process::runner::*;
use tokio::sync::Notify;

/// What a worker does with a command.
#[derive(Debug, Clone)]
pub enum Play {
    /// Ends at once with this exit code.
    Exit(i64),
    /// Prints this to standard output, then ends with this exit code.
    Print(&'static str, i64),
    /// Ends with this exit code after a while.
    Later(Duration, i64),
    /// Runs until it is interrupted or the story ends it.
    Hang,
    /// As `Hang`, and an interrupt changes nothing.
    Stubborn,
    /// Is killed by the worker for this reason.
    Killed(&'static str),
}

/// A command that was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    pub worker: WorkerId,
    pub order: CommandOrder,
    pub sent_times: u32,
    pub interrupted: Option<String>,
    pub end: Option<CommandEnd>,
    pub forgotten: bool,
    stubborn: bool,
}

type Script = Box<dyn Fn(&CommandOrder) -> Play + Send>;

#[derive(Default)]
struct State {
    connected: HashMap<WorkerId, bool>,
    sent: Vec<Sent>,
    script: Option<Script>,
    shut_down: Vec<WorkerId>,
    parted: Vec<WorkerId>,
}

/// The workers of a farm.
#[derive(Clone)]
pub struct Workers {
    rw: Rw,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl Workers {
    pub fn new(rw: Rw) -> Self {
        Self { rw, state: Arc::default(), changed: Arc::default() }
    }

    /// What all workers do from now on.
    pub fn play(&self, script: impl Fn(&CommandOrder) -> Play + Send + 'static) {
        self.state.lock().unwrap().script = Some(Box::new(script));
    }

    pub fn set_connected(&self, worker: WorkerId, connected: bool) {
        let mut state = self.state.lock().unwrap();
        state.connected.insert(worker, connected);
        if !connected {
            for sent in state.sent.iter_mut().filter(|it| it.worker == worker && it.end.is_none()) {
                sent.end = Some(CommandEnd::Lost { why: "connection lost".into() });
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Every command so far, in the order of sending.
    pub fn sent(&self) -> Vec<Sent> {
        self.state.lock().unwrap().sent.clone()
    }

    /// The commands' words: scripts as they stand, argument lists joined by spaces.
    pub fn words(&self) -> Vec<String> {
        self.sent().iter().map(|it| words(&it.order)).collect()
    }

    pub fn shut_down_workers(&self) -> Vec<WorkerId> {
        self.state.lock().unwrap().shut_down.clone()
    }

    pub fn parted_workers(&self) -> Vec<WorkerId> {
        self.state.lock().unwrap().parted.clone()
    }

    /// Ends every command that runs.
    pub fn end_all(&self, rc: i64) {
        let mut state = self.state.lock().unwrap();
        for sent in state.sent.iter_mut().filter(|it| it.end.is_none()) {
            sent.end = Some(exit(rc, None));
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// How many commands run.
    pub fn running(&self) -> usize {
        self.state.lock().unwrap().sent.iter().filter(|it| it.end.is_none()).count()
    }

    fn end(&self, id: &str, end: CommandEnd) {
        let mut state = self.state.lock().unwrap();
        if let Some(sent) = state.sent.iter_mut().find(|it| it.order.id == id && it.end.is_none()) {
            sent.end = Some(end);
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

pub fn words(order: &CommandOrder) -> String {
    match &order.command {
        WorkerCommand::Execute(it) => match &it.program {
            Program::Script(text) => text.clone(),
            Program::Argv(argv) => argv.join(" "),
        },
        WorkerCommand::RemoveDirectories(paths) => format!("rmdir {}", paths.join(" ")),
    }
}

fn exit(rc: i64, captured: Option<&'static str>) -> CommandEnd {
    let captured = captured.map(|text| Bytes::from_static(text.as_bytes()));
    CommandEnd::Finished(Finished { rc: Some(rc), captured, ..Finished::default() })
}

impl CommandRunner for Workers {
    fn place(&self, worker: WorkerId) -> Option<WorkerPlace> {
        let connected = self.state.lock().unwrap().connected.get(&worker).copied().unwrap_or(false);
        connected.then(|| WorkerPlace { basedir: format!("/w/{worker}"), windows: false })
    }

    fn start(&self, worker: WorkerId, order: CommandOrder) -> BoxFuture<'_, Result<(), NotStarted>> {
        async move {
            let play = {
                let mut state = self.state.lock().unwrap();
                if !state.connected.get(&worker).copied().unwrap_or(false) {
                    return Err(NotStarted::WorkerGone("not connected".into()));
                }
                if let Some(known) = state.sent.iter_mut().find(|it| it.order.id == order.id) {
                    known.sent_times += 1;
                    return Ok(());
                }
                let play = state.script.as_ref().map_or(Play::Exit(0), |script| script(&order));
                let stubborn = matches!(play, Play::Stubborn);
                let (order, sent_times, interrupted, end) = (order.clone(), 1, None, None);
                state.sent.push(Sent {
                    worker,
                    order,
                    sent_times,
                    interrupted,
                    end,
                    forgotten: false,
                    stubborn,
                });
                play
            };
            self.changed.notify_waiters();
            match play {
                Play::Exit(rc) => self.end(&order.id, exit(rc, None)),
                Play::Print(text, rc) => {
                    if let Some(log) = order.log {
                        self.rw
                            .append_log(log, LogStream::Stdout, Bytes::from_static(text.as_bytes()))
                            .await
                            .unwrap();
                    }
                    self.end(&order.id, exit(rc, Some(text)));
                }
                Play::Later(after, rc) => {
                    let this = self.clone();
                    actix_rt::spawn(async move {
                        tokio::time::sleep(after).await;
                        this.end(&order.id, exit(rc, None));
                    });
                }
                Play::Killed(reason) => {
                    let failure_reason = Some(reason.to_owned());
                    let end = Finished { rc: Some(-1), failure_reason, ..Finished::default() };
                    self.end(&order.id, CommandEnd::Finished(end));
                }
                Play::Hang | Play::Stubborn => {}
            }
            Ok(())
        }
        .boxed()
    }

    fn wait<'a>(&'a self, worker: WorkerId, id: &'a str) -> BoxFuture<'a, CommandEnd> {
        async move {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                {
                    let state = self.state.lock().unwrap();
                    match state
                        .sent
                        .iter()
                        .find(|it| it.order.id == id && it.worker == worker && !it.forgotten)
                    {
                        None => return CommandEnd::Unknown,
                        Some(Sent { end: Some(end), .. }) => return end.clone(),
                        Some(_) => {}
                    }
                }
                changed.await;
            }
        }
        .boxed()
    }

    fn interrupt<'a>(&'a self, _: WorkerId, id: &'a str, why: &'a str) -> BoxFuture<'a, ()> {
        async move {
            let mut state = self.state.lock().unwrap();
            if let Some(sent) = state.sent.iter_mut().find(|it| it.order.id == id) {
                sent.interrupted = Some(why.to_owned());
                if !sent.stubborn && sent.end.is_none() {
                    sent.end = Some(exit(-1, None));
                }
            }
            drop(state);
            self.changed.notify_waiters();
        }
        .boxed()
    }

    fn forget(&self, _: WorkerId, id: &str) {
        let mut state = self.state.lock().unwrap();
        if let Some(sent) = state.sent.iter_mut().find(|it| it.order.id == id) {
            sent.forgotten = true;
        }
    }

    fn part<'a>(&'a self, worker: WorkerId, _: &'a str) -> BoxFuture<'a, ()> {
        async move {
            self.state.lock().unwrap().parted.push(worker);
        }
        .boxed()
    }

    fn shut_down<'a>(&'a self, worker: WorkerId, _: &'a str) -> BoxFuture<'a, ()> {
        async move {
            self.state.lock().unwrap().shut_down.push(worker);
        }
        .boxed()
    }
}
