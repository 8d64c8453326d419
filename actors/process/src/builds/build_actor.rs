//! The actor of one running build: a supervised shell around its [`Run`].
//!
//! It is *transient*: after a panic another birth reads the build's records, finds the step that runs, waits for the same
//! worker command and goes on.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use actix::prelude::*;
use greenroom_data::DataError;
use greenroom_model::*;
use greenroom_runtime::{Birth, Supervised, TaskEnd, complete, fail};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::builds::plan::Plan;
use crate::builds::resume::{self, Records, STOP_PROPERTY};
use crate::builds::run::{Orders, Progress, Run, RunError};
use crate::builds::tally::{Interruption, Tally};
use crate::handles::Handles;
use crate::messages::{AbandonBuild, Handled, StopBuild};
use crate::properties::source;
use crate::setup::Began;

/// From what a birth begins.
pub(crate) enum FirstBirth {
    /// The build was just started.
    Fresh(Box<Plan>),
    /// It runs already: its records say how far it is.
    FromRecords,
}

/// The run's task has ended.
#[derive(Message)]
#[rtype(result = "()")]
struct RunEnded(TaskEnd<Result<(), RunError>>);

/// The actor of one running build.
pub struct BuildActor {
    h: Handles,
    id: BuildId,
    birth: Birth<Self>,
    first: Option<FirstBirth>,
    /// Known from the first birth that has read it on.
    began: Arc<OnceLock<Began>>,
    orders: watch::Sender<Orders>,
    progress: Rc<RefCell<Progress>>,
}

impl BuildActor {
    pub(crate) fn new(
        h: Handles,
        id: BuildId,
        birth: Birth<Self>,
        first: FirstBirth,
        began: Arc<OnceLock<Began>>,
    ) -> Self {
        let orders = watch::Sender::new(Orders::default());
        Self { h, id, birth, first: Some(first), began, orders, progress: Rc::default() }
    }

    /// What the data layer refuses it would refuse for ever: the build ends here, since another birth could not do better.
    fn give_up(&self, refusal: &Refusal) {
        tracing::error!(build.id = self.id.0, %refusal, "a build could not be stored and ends");
        let (h, build) = (self.h.clone(), self.id);
        let state_string = format!("exception: {refusal}");
        let end = async move {
            match h.persist(vec![Op::FinishBuild { build, results: Results::Exception, state_string }]).await
            {
                Ok(_) | Err(DataError::Refused(_)) => Err(RunError::Ended),
                Err(error) => Err(error.into()),
            }
        };
        self.birth.tasks().spawn(end, RunEnded);
    }

    fn interrupt(&self, interruption: Interruption) {
        self.orders.send_modify(|orders| {
            orders.serial += 1;
            orders.interruption = Some(interruption);
        });
    }
}

impl Supervised for BuildActor {
    const KIND: &'static str = "build";

    fn observe(&self) -> Value {
        let progress = self.progress.borrow();
        json!({ "build_id": self.id.0, "step": progress.step, "commands": progress.commands })
    }
}

impl Actor for BuildActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        let (h, id, orders, progress) =
            (self.h.clone(), self.id, self.orders.subscribe(), Rc::clone(&self.progress));
        let first = self.first.take().unwrap_or(FirstBirth::FromRecords);
        let began = Arc::clone(&self.began);
        let run = async move {
            match first {
                FirstBirth::Fresh(plan) => {
                    Run::new(h, *plan, Tally::default(), orders, progress).go(0).await.map(|_| ())
                }
                FirstBirth::FromRecords => from_records(h, id, &began, orders, progress).await,
            }
        };
        self.birth.tasks().spawn(run, RunEnded);
    }
}

async fn from_records(
    h: Handles,
    id: BuildId,
    began: &OnceLock<Began>,
    orders: watch::Receiver<Orders>,
    progress: Rc<RefCell<Progress>>,
) -> Result<(), RunError> {
    h.barrier().await?;
    match resume::read(&h, id, began.get().cloned()).await? {
        Records::Ended => Err(RunError::Ended),
        Records::Unusable(why) => {
            tracing::warn!(build.id = id.0, %why, "a build cannot be taken up and will be built again");
            crate::lost_logs::end(&h, &[id], &why).await?;
            let state_string = format!("lost: {why}");
            h.persist(vec![Op::FinishBuild { build: id, results: Results::Retry, state_string }]).await?;
            Ok(())
        }
        Records::Running(resumed) => {
            tracing::info!(
                build.id = id.0,
                step.index = resumed.from,
                "a build is taken up from its records"
            );
            let resumed = *resumed;
            drop(began.set(resumed.plan.began()));
            Run::new(h, resumed.plan, resumed.tally, orders, progress).go(resumed.from).await.map(|_| ())
        }
    }
}

impl Handler<RunEnded> for BuildActor {
    type Result = ();

    fn handle(&mut self, RunEnded(end): RunEnded, ctx: &mut Context<Self>) {
        match end {
            TaskEnd::Done(Ok(()) | Err(RunError::Ended)) => {
                self.h.builds.strike(self.id);
                complete(ctx);
            }
            TaskEnd::Done(Err(RunError::Data(DataError::Refused(refusal)))) => self.give_up(&refusal),
            TaskEnd::Done(Err(error)) => fail(ctx, error),
            TaskEnd::Panicked(why) => fail(ctx, format!("the run panicked: {why}")),
        }
    }
}

impl Handler<StopBuild> for BuildActor {
    type Result = ResponseActFuture<Self, Result<Handled, DataError>>;

    /// The wish to stop is stored with the answer to whoever asked, so that it outlives this birth; then the run is told.
    fn handle(&mut self, StopBuild { act, reason }: StopBuild, _: &mut Context<Self>) -> Self::Result {
        let (h, build) = (self.h.clone(), self.id);
        let property = Property(json!(reason), source::STOP.to_owned());
        let properties = Properties::from([(STOP_PROPERTY.to_owned(), property)]);
        let ops = vec![
            Op::SetProperties { build, properties },
            Op::AnswerControl { act, answer: ControlAnswer::Done(Value::Null) },
        ];
        let write = async move { h.rw.write(ops).await };
        Box::pin(write.into_actor(self).map(move |written, act: &mut Self, _| match written {
            Ok(_) => {
                act.interrupt(Interruption::Stop { reason });
                Ok(Handled::Answered)
            }
            Err(DataError::Refused(_)) => Ok(Handled::NotMine),
            Err(error) => Err(error),
        }))
    }
}

impl Handler<AbandonBuild> for BuildActor {
    type Result = ();

    fn handle(&mut self, AbandonBuild { why }: AbandonBuild, _: &mut Context<Self>) {
        self.interrupt(Interruption::Abandon { why });
    }
}

impl std::fmt::Debug for FirstBirth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FirstBirth::Fresh(plan) => f.debug_tuple("Fresh").field(&plan.build.id).finish(),
            FirstBirth::FromRecords => f.write_str("FromRecords"),
        }
    }
}
