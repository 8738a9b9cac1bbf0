//! Telling the service manager: ready, alive, stopping. All silent without one.

use std::net::SocketAddr;

use sd_notify::NotifyState;

use crate::vault::Vault;

/// Tells that agents may connect, and where: the port is chosen by the system when it was 0.
pub fn ready(listen: SocketAddr) {
    let listen = format!("X_LISTEN={listen}");
    tell(&[NotifyState::Ready, NotifyState::Custom(&listen)]);
}

/// Tells that the program is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells the watchdog, if there is one, that the writer still answers.
pub async fn stay_alive(vault: Vault) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let mut tick = tokio::time::interval(limit / 2);
    loop {
        tick.tick().await;
        if vault.ping().await.is_ok() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "service manager not told");
    }
}
