//! What a service manager is told (`Type=notify`). Without one, nothing happens.

use sd_notify::NotifyState;

/// The port is open and builds can begin.
pub fn ready(page: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("serving {page}"))]);
}

/// It loads its configuration again (`Type=notify-reload`).
pub fn reloading() {
    let now = NotifyState::monotonic_usec_now();
    match now {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no clock for the service manager"),
    }
}

/// The reload is over, whatever came of it.
pub fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// It stops; what runs may still end.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("letting builds end")]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
