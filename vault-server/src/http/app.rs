//! What the routes share. No route lives here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::watch;

use crate::config::Limits;
use crate::vault::Vault;

use super::body::Intake;

/// What the routes share; clones are the same.
#[derive(Clone)]
pub struct App {
    pub(super) vault: Vault,
    pub(super) intake: Intake,
    pub(super) shutdown: watch::Receiver<bool>,
    requests: Arc<AtomicU64>,
}

impl App {
    /// Shares `vault`; `shutdown` ends the streams that stay open.
    pub(super) fn new(vault: Vault, limits: &Limits, shutdown: watch::Receiver<bool>) -> Self {
        Self { vault, intake: Intake::new(limits), shutdown, requests: Arc::default() }
    }

    /// Returns the number of the next request.
    pub(super) fn number(&self) -> u64 {
        self.requests.fetch_add(1, Relaxed)
    }
}

/// Waits until the program is to end.
pub async fn told_to_stop(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}
