//! Ending a command that shall not go on: politely, then firmly, then for sure.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::process::group::Group;

/// How long a group may take to die of a signal.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was sent.
    Running,
    /// SIGTERM was sent, as a first warning.
    Warned,
    /// The interrupt signal was sent.
    Signalled(Signal),
    /// SIGKILL was sent; nothing is stronger.
    Killed,
}

/// What became of waiting for a signal's effect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next signal was sent; wait on.
    Wait,
    /// A signal had no effect and SIGKILL followed: say so.
    Escalated(Signal),
    /// Even SIGKILL had no effect.
    GiveUp,
}

/// The sequence of signals for one command.
#[derive(Debug)]
pub(crate) struct Killer {
    stage: Stage,
    deadline: Option<Instant>,
    signal: Signal,
    sigterm_time: Option<Duration>,
}

impl Killer {
    /// `sigterm_time`: how long SIGTERM may work before `signal` is sent.
    pub(crate) fn new(signal: Signal, sigterm_time: Option<Duration>) -> Self {
        Self { stage: Stage::Running, deadline: None, signal, sigterm_time }
    }

    /// Whether the end was begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.stage != Stage::Running
    }

    /// When to call [`Killer::advance`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Sends the first signal. Does nothing if that was done.
    pub(crate) fn begin(&mut self, group: &Group) {
        if self.has_begun() {
            return;
        }
        match self.sigterm_time {
            Some(patience) => {
                group.signal(Signal::SIGTERM);
                self.enter(Stage::Warned, patience);
            }
            None => self.interrupt(group),
        }
    }

    /// The time for the last signal is over: sends the next.
    pub(crate) fn advance(&mut self, group: &Group) -> Next {
        match self.stage {
            Stage::Running => Next::Wait,
            Stage::Warned => {
                self.interrupt(group);
                Next::Wait
            }
            // The protocol's text leaves such a process alive. It would go on writing in a directory that
            // the next build uses, so it is killed and the log says so.
            Stage::Signalled(signal) if signal != Signal::SIGKILL => {
                group.signal(Signal::SIGKILL);
                self.enter(Stage::Killed, PATIENCE);
                Next::Escalated(signal)
            }
            Stage::Signalled(_) | Stage::Killed => Next::GiveUp,
        }
    }

    fn interrupt(&mut self, group: &Group) {
        group.signal(self.signal);
        self.enter(Stage::Signalled(self.signal), PATIENCE);
    }

    fn enter(&mut self, stage: Stage, patience: Duration) {
        self.stage = stage;
        self.deadline = Some(Instant::now() + patience);
    }
}
