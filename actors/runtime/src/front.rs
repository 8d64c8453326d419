//! Fronts: the stable address of an actor.
//!
//! A Front outlives restarts and may be kept and sent anywhere. It admits a bounded number of letters and tells
//! its callers apart what certainly did not run from what nobody can know.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::{Handler, Message};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use crate::Supervised;
use crate::ending::Ending;
use crate::letter::{Ask, AskPermit, Letter, Tell, TellPermit};
use crate::lock;
use crate::mailbox::{Intake, Mailbox};
use crate::vital::{Order, State, Vital};

/// Why an ask got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The birth that held the message ended, or dropped its answer. **Outcome unknown**: ask again by the command's id.
    #[error("the actor was restarted; whether the message took effect is unknown")]
    Restarted,
    /// The actor is dead and waits to be born again. The message was certainly not handled.
    #[error("the actor is not available at the moment")]
    Unavailable,
    /// The actor is stopping or has ended for good. The message was certainly not handled.
    #[error("the actor has stopped")]
    Stopped,
    /// No answer within the deadline. A handler that had begun may go on: outcome unknown; one that had not never will.
    #[error("no answer within the deadline")]
    Deadline,
    /// As many asks as the Front admits were in flight until the deadline. The message was certainly not handled.
    #[error("too many messages in flight to the actor")]
    Overloaded,
}

impl AskError {
    /// Whether the message may have had an effect all the same.
    pub fn outcome_is_unknown(self) -> bool {
        matches!(self, Self::Restarted | Self::Deadline)
    }
}

/// Why a tell was refused. The message was certainly not handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TellError {
    /// As many tells as the Front admits are queued.
    #[error("too many messages queued at the actor")]
    Overloaded,
    /// The actor is dead and waits to be born again.
    #[error("the actor is not available at the moment")]
    Unavailable,
    /// The actor is stopping or has ended for good.
    #[error("the actor has stopped")]
    Stopped,
}

impl From<TellError> for AskError {
    fn from(error: TellError) -> Self {
        match error {
            TellError::Overloaded => Self::Overloaded,
            TellError::Unavailable => Self::Unavailable,
            TellError::Stopped => Self::Stopped,
        }
    }
}

pub(crate) struct Shared<A: Supervised> {
    pub(crate) vital: Arc<Vital>,
    pub(crate) mailbox: Mailbox<A>,
}

/// The stable address of an actor; cheap to clone, `Send + Sync`.
pub struct Front<A: Supervised>(pub(crate) Arc<Shared<A>>);

impl<A: Supervised> Clone for Front<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Supervised> fmt::Debug for Front<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("name", &self.name()).field("kind", &A::KIND).finish()
    }
}

impl<A: Supervised> PartialEq for Front<A> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<A: Supervised> Eq for Front<A> {}

impl<A: Supervised> Front<A> {
    /// Sends a message and waits for its answer, at most the policy's `ask-deadline`.
    pub async fn ask<M>(&self, msg: M) -> Result<M::Result, AskError>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.ask_within(self.0.vital.ask_deadline(), msg).await
    }

    /// Sends a message and waits for its answer. The deadline travels with it: a handler that has not begun by then never will.
    pub async fn ask_within<M>(&self, within: Duration, msg: M) -> Result<M::Result, AskError>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let vital = &self.0.vital;
        let deadline = later(within);
        if !vital.try_admit_ask() && timeout_at(deadline, vital.admit_ask()).await.is_err() {
            return Err(AskError::Overloaded);
        }
        let permit = AskPermit(Arc::clone(vital));
        let (reply, answer) = oneshot::channel();
        let mut held = None;
        let pushed = self.0.mailbox.push(|| {
            let ask = Arc::new(Ask::new(msg, reply, deadline, permit));
            held = Some(Arc::clone(&ask));
            Letter::Ask(ask)
        });
        match pushed {
            Ok(true) => vital.wake(),
            Ok(false) => {}
            Err(intake) => return Err(refusal(intake).into()),
        }
        let outcome = match timeout_at(deadline, answer).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) if Instant::now() >= deadline => Err(AskError::Deadline),
            Ok(Err(_)) => Err(AskError::Restarted),
            Err(_) => Err(AskError::Deadline),
        };
        // the place in the admission is held until here
        drop(held);
        outcome
    }

    /// Sends a message without waiting. Never blocks; refuses what is over the Front's bound.
    pub fn tell<M>(&self, msg: M) -> Result<(), TellError>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
    {
        self.tell_or_return(msg).map_err(|(error, _)| error)
    }

    /// As [`Front::tell`]; a refused message is given back.
    pub fn tell_or_return<M>(&self, msg: M) -> Result<(), (TellError, M)>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
    {
        let vital = &self.0.vital;
        if !vital.try_admit_tell() {
            let error = match self.0.mailbox.intake() {
                Intake::Open => TellError::Overloaded,
                intake => refusal(intake),
            };
            return Err((error, msg));
        }
        let permit = TellPermit(Arc::clone(vital));
        let mut msg = Some(msg);
        let pushed =
            self.0.mailbox.push(|| Letter::Tell(Box::new(Tell { msg: msg.take(), permit: Some(permit) })));
        match (pushed, msg) {
            (Ok(wake), _) => {
                if wake {
                    vital.wake();
                }
                Ok(())
            }
            (Err(intake), Some(msg)) => Err((refusal(intake), msg)),
            // a refused letter was never written, so the message is still here
            (Err(_), None) => Ok(()),
        }
    }

    /// This Front for one type of message only, for holders that need not know the actor.
    pub fn recipient<M>(&self) -> Teller<M>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
    {
        Teller(Arc::clone(&self.0) as Arc<dyn TellPort<M> + Send + Sync>)
    }

    /// The actor's name.
    pub fn name(&self) -> &str {
        &self.0.vital.name
    }

    /// Letters that no handler has begun.
    pub fn queue_depth(&self) -> usize {
        self.0.mailbox.depth()
    }

    /// Asks in flight: queued, or begun and not yet answered.
    pub fn in_flight(&self) -> usize {
        self.0.vital.asks()
    }

    /// Where the actor is in its life.
    pub fn state(&self) -> State {
        self.0.vital.state()
    }

    /// How often it was born.
    pub fn births(&self) -> u64 {
        lock(&self.0.vital.life).births
    }

    /// Waits until the actor runs.
    ///
    /// # Errors
    /// [`AskError::Stopped`] if it never will again, [`AskError::Unavailable`] if it does not within that time.
    pub async fn wait_ready(&self, within: Duration) -> Result<(), AskError> {
        let ready = |state: State| state == State::Running || state == State::Stopping || state.is_final();
        match timeout(within, self.0.vital.wait_for(ready)).await {
            Ok(State::Running) => Ok(()),
            Ok(_) => Err(AskError::Stopped),
            Err(_) => Err(AskError::Unavailable),
        }
    }

    /// Waits until the actor has ended for good, and says how its last birth ended.
    pub async fn wait_ended(&self) -> Ending {
        self.0.vital.wait_for(State::is_final).await;
        lock(&self.0.vital.life).last.clone().unwrap_or(Ending::Stopped)
    }

    /// Asks the actor to stop, and does not wait: intake closes, queued work is done within `grace`, the rest is cut off.
    pub fn request_stop(&self, grace: Duration) {
        self.0.vital.command(Order::Stop(later(grace)));
    }

    /// Stops the actor and waits for its end: [`Ending::Stopped`], or [`Ending::Killed`] if the grace did not suffice. One
    /// that was between two births gives the ending of the last.
    pub async fn stop(&self, grace: Duration) -> Ending {
        self.request_stop(grace);
        self.wait_ended().await
    }

    /// Ends the actor at once and for good, without draining.
    pub fn halt(&self) {
        self.0.vital.command(Order::Halt);
    }
}

fn refusal(intake: Intake) -> TellError {
    match intake {
        Intake::Away => TellError::Unavailable,
        Intake::Open | Intake::Closed => TellError::Stopped,
    }
}

/// The instant that lies so far ahead; a duration past all bounds means "practically never".
pub(crate) fn later(within: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(10 * 365 * 86_400);
    Instant::now() + within.min(FAR)
}

trait TellPort<M> {
    fn tell(self: Arc<Self>, msg: M) -> Result<(), (TellError, M)>;
    fn name(&self) -> &str;
}

impl<A, M> TellPort<M> for Shared<A>
where
    A: Supervised + Handler<M>,
    M: Message + Send + 'static,
{
    fn tell(self: Arc<Self>, msg: M) -> Result<(), (TellError, M)> {
        Front(self).tell_or_return(msg)
    }

    fn name(&self) -> &str {
        &self.vital.name
    }
}

/// A Front for one type of message, whoever the actor is.
pub struct Teller<M>(Arc<dyn TellPort<M> + Send + Sync>);

impl<M> Clone for Teller<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Teller<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Teller").field(&self.0.name()).finish()
    }
}

impl<M: Message + Send + 'static> Teller<M> {
    /// See [`Front::tell`].
    pub fn tell(&self, msg: M) -> Result<(), TellError> {
        self.tell_or_return(msg).map_err(|(error, _)| error)
    }

    /// See [`Front::tell_or_return`].
    pub fn tell_or_return(&self, msg: M) -> Result<(), (TellError, M)> {
        Arc::clone(&self.0).tell(msg)
    }

    /// The name of the actor behind it.
    pub fn name(&self) -> &str {
        self.0.name()
    }
}
