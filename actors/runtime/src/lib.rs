//! Supervised actors: factories, restart policies, Fronts, registry, time source, test world. Knows no domain word.
//!
//! An actor is an ordinary actix actor with ordinary `Handler`s that also is [`Supervised`]. A [`Supervisor`]
//! holds its factory; each birth is a new struct in a fresh context, run by a task of its own in which panics are
//! caught. Callers hold the [`Front`], which outlives births.
//!
//! ```
//! use actix::prelude::*;
//! use greenroom_runtime::{ChildSpec, Runtime, supervised};
//!
//! struct Adder(u64);
//! impl Actor for Adder { type Context = Context<Self>; }
//! supervised!(Adder, "adder");
//!
//! #[derive(Message)]
//! #[rtype(result = "u64")]
//! struct Add(u64);
//! impl Handler<Add> for Adder {
//!     type Result = u64;
//!     fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> u64 { self.0 += n; self.0 }
//! }
//!
//! actix_rt::System::new().block_on(async {
//!     let runtime = Runtime::builder().build();
//!     let adder = runtime.root().spawn(ChildSpec::new("adder"), |_birth| Adder(40));
//!     assert_eq!(adder.ask(Add(2)).await, Ok(42));
//!     assert!(runtime.root().stop(None).await.cut_off.is_empty());
//! });
//! ```
//!
//! | file | what it is about |
//! |---|---|
//! | `front.rs`, `letter.rs`, `mailbox.rs` | how a message reaches a handler, and what its sender hears |
//! | `child.rs` | the life of one child: births, their ends, backoff |
//! | `supervisor.rs` | whom a supervisor holds, intensity, escalation, two-phase stop |
//! | `group.rs` | restarts of several together: strategies, a supervisor that begins anew |
//! | `runtime.rs`, `registry.rs` | the world around: clock, dice, policies, reports, rehearsal |
//! | `tasks.rs` | tokio tasks owned by actors |
//! | `watchdog.rs` | handlers that hold their arbiter |
//! | `test_world.rs` | a runtime for one test, which fails when something is left behind |

mod child;
mod clock;
mod ending;
mod front;
mod group;
mod letter;
mod mailbox;
mod registry;
mod runtime;
mod supervisor;
mod tasks;
mod test_world;
mod vital;
mod watchdog;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use child::{Birth, complete, fail, letter_deadline, still_alive};
pub use clock::{Clock, Dice, ManualClock, SystemClock, TokioClock};
pub use ending::{Ending, Exit};
pub use front::{AskError, Front, TellError, Teller};
pub use greenroom_model::restart::{Intensity, Policies, Policy, PolicyPatch, Restart, Span, Strategy};
pub use registry::{ActorReport, Slowest};
pub use runtime::{Builder, Escalation, Runtime};
pub use supervisor::{ChildSpec, StopOrder, StopReport, Supervisor, SupervisorSpec};
pub use tasks::{TaskEnd, TaskId, Tasks};
pub use test_world::TestWorld;
pub use vital::{CutOff, State};

/// An actor that can be supervised: an ordinary actix actor with ordinary handlers.
///
/// `started()` sets up timers and is where state is read from its owner; `stopping()` may return
/// `Running::Continue` once, to say that `ctx.stop()` follows when some last work is done (within the grace);
/// `stopped()` runs only at orderly ends, never after a panic or a kill; `restarting()` is not used.
pub trait Supervised: actix::Actor<Context = actix::Context<Self>> {
    /// The kind of actor ("db-writer"): the key of policies and reports.
    const KIND: &'static str;

    /// A few numbers about itself, for reports. Must be cheap.
    fn observe(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// A stop begins: no more letters are taken, the queued ones still come. A source of work stops here.
    fn drain(&mut self, _ctx: &mut actix::Context<Self>) {}
}

/// Makes an actor [`Supervised`] when it has nothing to observe: `supervised!(MyActor, "my-kind");`.
#[macro_export]
macro_rules! supervised {
    ($actor:ty, $kind:expr) => {
        impl $crate::Supervised for $actor {
            const KIND: &'static str = $kind;
        }
    };
}

/// Locks a mutex whose data stays whole whatever panicked while it was held.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
