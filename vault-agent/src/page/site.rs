//! What every request works with while the page is open.

use std::sync::Arc;

use shared::time::Time;
use tokio::sync::{Notify, Semaphore};

use crate::engine::Engine;
use crate::loopback::Owners;
use machine::config;

use super::href::Fields;
use super::seen::Fleet;
use super::sessions::{Session, Sessions};
use super::widget_token::WidgetToken;
use super::words::Lang;

/// Streams of news at a time, of all sessions.
const STREAMS: usize = 16;

/// The page while it is open.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) engine: Engine,
    pub(super) fleet: Arc<Fleet>,
    pub(super) sessions: Sessions,
    /// The port that is listened on.
    pub(super) port: u16,
    /// What the widget's callers show, where there is a widget.
    pub(super) widget: Option<WidgetToken>,
    /// Whose connections are.
    pub(super) owners: Owners,
    /// Places for streams of news.
    pub(super) streams: Arc<Semaphore>,
    /// Rings when a session has come or gone.
    pub(super) changed: Notify,
}

impl Site {
    pub(super) fn new(
        engine: Engine,
        port: u16,
        options: &config::Ui,
        widget: Option<WidgetToken>,
    ) -> Self {
        Self {
            fleet: Fleet::new(engine.clone()),
            engine,
            sessions: Sessions::new(options.idle),
            port,
            widget,
            owners: Owners::default(),
            streams: Arc::new(Semaphore::new(STREAMS)),
            changed: Notify::new(),
        }
    }

    /// Tells whether a port is one by which this page is called: its own, or that of a tunnel.
    pub(super) fn is_called_by(&self, port: u16) -> bool {
        port == self.port || self.sessions.has_port(port)
    }
}

/// One request of somebody who has a session.
pub(super) struct Visit<'a> {
    pub(super) site: &'a Site,
    pub(super) session: &'a Arc<Session>,
    pub(super) lang: Lang,
    /// Path and query as they were asked for.
    pub(super) here: &'a str,
    pub(super) query: Fields,
    pub(super) now: Time,
}
