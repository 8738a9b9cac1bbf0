//! Telling the service manager how this program stands. Silent where there is none.

use std::net::SocketAddr;
use std::time::Duration;

use sd_notify::NotifyState;

/// Tells that the program is ready, and where it listens: the system chose the port if it was 0.
pub fn ready(listen: Option<SocketAddr>) {
    let listen = listen.map(|address| format!("X_LISTEN={address}"));
    match &listen {
        Some(text) => tell(&[NotifyState::Ready, NotifyState::Custom(text)]),
        None => tell(&[NotifyState::Ready]),
    }
}

/// Tells that the program is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells the watchdog that the program still answers.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Returns how often the watchdog wants to be told, if there is one.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "service manager not told");
    }
}
