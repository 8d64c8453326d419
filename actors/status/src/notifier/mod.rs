//! A notifier: an actor that tells people or other systems of builds, whatever carries its messages.
//!
//! It has two tasks. The *intake* follows events, decides, and puts rows into the outbox in one write with its clock: each event is
//! taken exactly once. The *sender* takes what is due, writes the message, hands it to the [`Transport`] and records what came of
//! it: each message is sent at least once. Between them is the `outbox`, a view of the rows. Neither is ever waited for by a build.
//!
//! | file | what it is about |
//! |---|---|
//! | `decide.rs` | modes, as a pure function of results |
//! | `facts.rs` | filters |
//! | `intake.rs`, `missing.rs` | from events to rows |
//! | `outbox.rs`, `pace.rs` | what is due: settling, digests, bounds, backoff |
//! | `sender.rs` | sending and recording |
//! | `seed.rs`, `enrich.rs`, `history.rs`, `links.rs` | what a message says |

pub mod decide;
pub mod enrich;
pub(crate) mod facts;
mod history;
mod intake;
pub(crate) mod links;
mod missing;
mod outbox;
mod pace;
mod seed;
mod sender;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use greenroom_config::mask::SharedMasks;
use greenroom_config::{self as config, Mode};
use greenroom_data::{DataError, Enqueued, ListenerState};
use greenroom_model::DeliveryId;
use greenroom_runtime::{Birth, Supervised, TaskEnd, Tasks, fail};
use serde_json::json;
use tokio::sync::watch;

use self::intake::Intake;
use self::outbox::Outbox;
use self::seed::Seed;
use self::sender::{Sender, SenderEnd};
use crate::transport::{Farm, MakeTransport, Transport};

/// How long a message in flight may take when the notifier stops.
const GRACE: Duration = Duration::from_secs(5);

/// What a notifier is to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub notifier: config::Notifier,
    /// Which modes it tells; see [`config::Notifier::modes`].
    pub modes: Vec<Mode>,
    /// Who speaks.
    pub farm: Arc<Farm>,
    /// What must not be told.
    pub masks: SharedMasks,
}

/// See the module.
pub struct Notifier {
    plan: Arc<Plan>,
    state: ListenerState,
    make: MakeTransport,
    outbox: Arc<Outbox>,
    tasks: Tasks<Self>,
    runtime: greenroom_runtime::Runtime,
    claimed: watch::Receiver<bool>,
    is_draining: bool,
    is_sending: bool,
}

impl Notifier {
    /// A new birth.
    pub fn new(birth: &Birth<Self>, plan: Arc<Plan>, state: ListenerState, make: MakeTransport) -> Self {
        Self {
            plan,
            state,
            make,
            outbox: Arc::default(),
            tasks: birth.tasks(),
            runtime: birth.runtime(),
            claimed: watch::channel(false).1,
            is_draining: false,
            is_sending: false,
        }
    }

    fn begin(&mut self, mut transport: Box<dyn Transport>) {
        let (told, claimed) = watch::channel(false);
        self.claimed = claimed.clone();
        transport.while_claimed(claimed.clone());
        let (plan, state, outbox) = (self.plan.clone(), self.state.clone(), self.outbox.clone());
        let intake = Intake::new(plan.clone(), state.clone(), outbox.clone(), transport.wishes(), told);
        let sender = Sender::new(plan, state, outbox, transport, self.make.clone(), self.runtime.clone());
        self.tasks.spawn(intake.run(), |end| IntakeEnded(format!("{end:?}")));
        self.tasks.spawn(sender.run(claimed), SendingEnded);
        self.is_sending = true;
    }
}

impl Actor for Notifier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        match (self.make)() {
            Ok(transport) => self.begin(transport),
            Err(why) => fail(ctx, format!("its transport cannot be made: {why}")),
        }
    }

    fn stopping(&mut self, ctx: &mut Context<Self>) -> Running {
        if self.is_draining && self.is_sending {
            // What is in flight is recorded, so that it is not sent again.
            ctx.run_later(GRACE, |_, ctx| ctx.stop());
            self.is_draining = false;
            return Running::Continue;
        }
        Running::Stop
    }
}

impl Supervised for Notifier {
    const KIND: &'static str = "notifier";

    fn observe(&self) -> serde_json::Value {
        let counts = self.outbox.counts();
        json!({
            "kind": self.plan.notifier.kind(), "claimed": *self.claimed.borrow(), "waiting": counts.waiting,
            "sent": counts.sent, "failed": counts.failed,
        })
    }

    fn drain(&mut self, _: &mut Context<Self>) {
        self.is_draining = true;
        self.outbox.drain();
    }
}

/// The intake ended, which it never does by itself.
#[derive(Message)]
#[rtype(result = "()")]
struct IntakeEnded(String);

impl Handler<IntakeEnded> for Notifier {
    type Result = ();

    fn handle(&mut self, IntakeEnded(end): IntakeEnded, ctx: &mut Context<Self>) {
        fail(ctx, format!("taking in ended: {end}"));
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct SendingEnded(TaskEnd<SenderEnd>);

impl Handler<SendingEnded> for Notifier {
    type Result = ();

    fn handle(&mut self, SendingEnded(end): SendingEnded, ctx: &mut Context<Self>) {
        self.is_sending = false;
        match end {
            TaskEnd::Done(SenderEnd::Drained) => ctx.stop(),
            TaskEnd::Done(SenderEnd::Panicked(why)) => fail(ctx, format!("its transport panicked: {why}")),
            TaskEnd::Panicked(why) => fail(ctx, format!("sending panicked: {why}")),
        }
    }
}

/// Sends a trial message. Answers its id as soon as it is in the outbox.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<DeliveryId, DataError>")]
pub struct SendTest {
    /// Who wants it.
    pub by: String,
}

impl Handler<SendTest> for Notifier {
    type Result = ResponseFuture<Result<DeliveryId, DataError>>;

    fn handle(&mut self, SendTest { by }: SendTest, _: &mut Context<Self>) -> Self::Result {
        let (state, outbox, claimed) = (self.state.clone(), self.outbox.clone(), *self.claimed.borrow());
        Box::pin(async move {
            if !claimed {
                return Err(DataError::unavailable(
                    "another master runs this notifier, or it has only begun",
                ));
            }
            let (id, at) = (state.new_delivery()?, state.now());
            let seed = Seed::Test { by: by.clone(), at };
            let test = Enqueued {
                id,
                due_at: at,
                dedup_key: format!("test-{id}"),
                subject: format!("test message asked for by {by}"),
                build: None,
                notice: serde_json::to_value(&seed).map_err(DataError::unavailable)?,
                silenced: None,
            };
            state.enqueue(vec![test.clone()], Vec::new(), None).await?;
            outbox.apply(vec![(test, seed)], &[], at);
            Ok(id)
        })
    }
}
