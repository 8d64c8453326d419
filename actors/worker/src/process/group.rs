//! The process group of a command, and all groups of the agent.
//!
//! The process-wrap crate is not used here: its `wait` reaps the leader at once, after which the number of the
//! group may belong to someone else while we still want to signal it. We read the pipes to their end
//! first and keep the leader unreaped until then, so the number stays ours. Spawning by std's
//! `process_group(0)` also keeps its posix_spawn path, which needs no copy of our address space.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The groups of all running commands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups {
    running: Arc<Mutex<HashSet<i32>>>,
}

impl Groups {
    /// Takes care of the group led by a child just spawned.
    pub(crate) fn adopt(&self, leader: u32) -> Group {
        let id = leader as i32;
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Group { id, groups: self.clone(), live: true }
    }

    /// Kills whatever runs; for the end of the agent.
    pub(crate) fn kill_all(&self) {
        for id in self.running.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            signal_group(id, Signal::SIGKILL);
        }
    }
}

/// One command's group; killed when dropped before [`Group::release`].
#[derive(Debug)]
pub(crate) struct Group {
    id: i32,
    groups: Groups,
    live: bool,
}

impl Group {
    /// Sends a signal to every process of the group.
    pub(crate) fn signal(&self, signal: Signal) {
        signal_group(self.id, signal);
    }

    /// The leader ended and was reaped: the number is no longer ours.
    pub(crate) fn release(&mut self) {
        self.live = false;
        self.groups.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.live {
            self.signal(Signal::SIGKILL);
            self.release();
        }
    }
}

fn signal_group(id: i32, signal: Signal) {
    // Refused only if the group is empty already.
    if let Err(error) = killpg(Pid::from_raw(id), signal) {
        tracing::debug!(process.group = id, signal = signal.as_str(), %error, "signal was not delivered");
    }
}

/// A signal by its name with or without `SIG`.
pub(crate) fn signal_by_name(name: &str) -> Option<Signal> {
    let name = name.to_ascii_uppercase();
    if name.starts_with("SIG") {
        Signal::from_str(&name).ok()
    } else {
        Signal::from_str(&format!("SIG{name}")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names() {
        assert_eq!(signal_by_name("KILL"), Some(Signal::SIGKILL));
        assert_eq!(signal_by_name("sigterm"), Some(Signal::SIGTERM));
        assert_eq!(signal_by_name("WHAT"), None);
    }
}
