//! The ways to tell somebody, one file each. What is told, and when again, does not live here.

mod journal;
mod mail;
mod syslog;
mod webhook;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host::files::{FileError, Growing};
use machine::config::{Forward, Sink};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::event::{Message, Teller};
use super::fault::Fault;
use crate::engine::Engine;

/// How long one message may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What came of adding lines, and the file.
type Appended = (Result<(), FileError>, Growing);

/// The way to one who is told, and what is open of it.
pub struct Outlet {
    forward: Arc<Forward>,
    engine: Engine,
    growing: Option<Growing>,
    /// What a disk has not answered yet: it holds a thread, so that there is one at most.
    late: Option<JoinHandle<Appended>>,
    syslog: syslog::Connection,
    webhook: webhook::Connection,
}

impl Outlet {
    /// Opens nothing yet.
    pub fn new(forward: Arc<Forward>, engine: Engine) -> Self {
        let (syslog, webhook) = <_>::default();
        Self { forward, engine, growing: None, late: None, syslog, webhook }
    }

    /// Sends messages in order, until one is not taken, or another message goes before the next;
    /// returns how many the other side has taken, as far as it tells, and why the next was not.
    pub async fn send_all(
        &mut self,
        messages: &[Message],
        goes_on: impl Fn() -> bool,
    ) -> (usize, Result<(), Fault>) {
        if let Sink::File(it) = &self.forward.clone().to {
            let teller = self.teller();
            let lines: String =
                messages.iter().map(|message| message.json(&teller) + "\n").collect();
            let appended = self.append(&it.path, it.max_bytes, lines).await;
            return (if appended.is_ok() { messages.len() } else { 0 }, appended);
        }
        for (n, message) in messages.iter().enumerate() {
            if n > 0 && !goes_on() {
                return (n, Ok(()));
            }
            let teller = self.teller();
            let sent = timeout(PATIENCE, self.send_one(message, &teller)).await;
            let sent = sent.unwrap_or_else(|_| {
                // What was under way may still come.
                (self.syslog, self.webhook) = <_>::default();
                Err(Fault::new(format!("it does not answer within {PATIENCE:?}")))
            });
            if sent.is_err() {
                return (n, sent);
            }
        }
        (messages.len(), Ok(()))
    }

    /// Looks whether all is there on this host that telling takes: values, files, programs and
    /// sockets. Nobody is told anything.
    pub async fn ready(&mut self) -> Result<(), Fault> {
        let forward = Arc::clone(&self.forward);
        match &forward.to {
            Sink::Journal(it) => journal::ready(&it.socket),
            Sink::Syslog(it) => syslog::ready(it),
            Sink::Webhook(it) => {
                let ready = self.webhook.ready((&self.engine, forward.name.as_str()), it);
                // One that is slow may be only that.
                timeout(PATIENCE, ready).await.unwrap_or(Ok(()))
            }
            Sink::Mail(it) => mail::ready(it),
            // Its disk may hang, and is waited for only with lines in hand.
            Sink::File(_) => Ok(()),
        }
    }

    fn teller(&self) -> Teller {
        let vault = self.engine.state(|state| state.name().to_string());
        Teller { vault, from: self.engine.name().to_string() }
    }

    /// Adds lines to a file: all or none. A disk that hangs is given up, and asked nothing more
    /// before it has answered.
    async fn append(&mut self, path: &Path, most: u64, lines: String) -> Result<(), Fault> {
        let hangs = |_| Fault::new(format!("its disk does not answer within {PATIENCE:?}"));
        if let Some(late) = &mut self.late {
            let ended = timeout(PATIENCE, late).await.map_err(hangs)?;
            self.late = None;
            // Its lines come again, as others that were under way.
            self.growing = ended.ok().map(|(_, growing)| growing);
        }
        let mut growing = self.growing.take().unwrap_or_else(|| Growing::new(path, most));
        let append = move || {
            let appended = growing.append(lines.as_bytes());
            (appended, growing)
        };
        let mut task = tokio::task::spawn_blocking(append);
        let ended = match timeout(PATIENCE, &mut task).await {
            Ok(ended) => ended,
            Err(passed) => {
                self.late = Some(task);
                return Err(hangs(passed));
            }
        };
        let (appended, growing) = ended.map_err(|why| Fault::new(why.to_string()))?;
        self.growing = Some(growing);
        appended.map_err(|why| Fault::new(format!("{:#}", anyhow::Error::from(why))))
    }

    async fn send_one(&mut self, message: &Message, teller: &Teller) -> Result<(), Fault> {
        let forward = Arc::clone(&self.forward);
        match &forward.to {
            Sink::Journal(it) => journal::send(&it.socket, message, teller).await,
            Sink::File(it) => {
                let line = message.json(teller) + "\n";
                self.append(&it.path, it.max_bytes, line).await
            }
            Sink::Syslog(it) => self.syslog.send(it, message, teller).await,
            Sink::Webhook(it) => {
                let who = (&self.engine, forward.name.as_str());
                self.webhook.send(who, it, message, teller).await
            }
            Sink::Mail(it) => mail::send(it, message, teller).await,
        }
    }
}
