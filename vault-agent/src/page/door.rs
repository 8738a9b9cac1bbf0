//! Opening and closing the page. Nothing of it is there while it is closed: no listener, no memory.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use anyhow::{Result, bail};
use host::hint::hinted;
use shared::audit::{Asker, Who};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::engine::Engine;
use machine::config;
use machine::local::{UiLink, UiRequest, UiState, UiWidget};

use super::listen;
use super::sessions::{LINK_LIFE, Opener};
use super::site::Site;
use super::widget_token::WidgetToken;

/// The alarm while the widget's address cannot be listened on.
const NOT_LISTENING: &str = "E_UI";

/// The way to the page; clones share it.
#[derive(Clone, Debug)]
pub struct Page(Arc<Door>);

#[derive(Debug)]
struct Door {
    engine: Engine,
    options: config::Ui,
    /// The agent's state folder.
    state: PathBuf,
    shutdown: watch::Receiver<bool>,
    open: Mutex<Option<Open>>,
}

/// The page while it is open.
#[derive(Debug)]
struct Open {
    site: Arc<Site>,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
}

impl Page {
    /// Makes the way to a page that is closed.
    pub fn new(
        engine: Engine,
        options: config::Ui,
        state: PathBuf,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        Self(Arc::new(Door { engine, options, state, shutdown, open: Mutex::new(None) }))
    }

    /// Opens the page for its widget, if there is to be one; an alarm stands while it cannot.
    pub async fn start(&self) {
        if !self.0.options.widget {
            return;
        }
        let mut open = self.0.open.lock().await;
        match self.0.opened(&mut open).await {
            Ok(_) => self.0.engine.clear_alarm(NOT_LISTENING),
            Err(why) => self.0.engine.alarm(NOT_LISTENING, format!("{why:#}")),
        }
    }

    /// Makes a link for somebody who may ask for a review, and opens the page if it is closed. Root
    /// may make one for another user.
    ///
    /// # Errors
    /// If it would be for nobody who is known, the port cannot be listened on, or the agent is
    /// ending.
    pub async fn link(&self, by: &Asker, UiRequest { through, user }: UiRequest) -> Result<UiLink> {
        let user = link_user(&by.who, user)?;
        let mut open = self.0.open.lock().await;
        let site = self.0.opened(&mut open).await?;
        let port = through.unwrap_or(site.port);
        let who = &by.who;
        let by = Asker { who: as_page(who), ..by.clone() };
        let opener = Opener { by, port, user };
        let token = site.sessions.link(opener, Instant::now());
        site.changed.notify_one();
        // It is known by the time that the browser asks.
        site.fleet.ask();
        let mut link = format!("http://127.0.0.1:{port}/open/");
        let _ = write!(link, "{}", *token);
        tracing::info!(%who, port = site.port, "a link to the page was made");
        Ok(UiLink { link, port: site.port, seconds: LINK_LIFE.as_secs() })
    }

    /// Tells whether the page is there, and for whom.
    pub async fn state(&self) -> UiState {
        let open = self.0.open.lock().await;
        let Some(Open { site, .. }) = &*open else { return UiState::default() };
        let widget = site.widget.as_ref().map(|token| {
            let address =
                |name| format!("http://127.0.0.1:{}/{name}?token={}", site.port, token.text());
            UiWidget { json: address("widget.json"), badge: address("badge.svg") }
        });
        let sessions = u64::try_from(site.sessions.count()).unwrap_or(u64::MAX);
        UiState { port: Some(site.port), sessions, widget }
    }

    /// Ends every session and link, and the page with them unless it has a widget.
    pub async fn close(&self) {
        let served = {
            let mut open = self.0.open.lock().await;
            let Some(page) = &*open else { return };
            page.site.sessions.close();
            page.site.changed.notify_one();
            if page.site.widget.is_some() { None } else { open.take() }
        };
        if let Some(Open { stop, served, .. }) = served {
            stop.send_replace(true);
            let _ = served.await;
        }
    }
}

impl Door {
    /// Returns the open page, opened now if it is not.
    async fn opened(self: &Arc<Self>, open: &mut Option<Open>) -> Result<Arc<Site>> {
        if let Some(page) = open.as_ref().filter(|page| !page.served.is_finished()) {
            return Ok(page.site.clone());
        }
        anyhow::ensure!(!*self.shutdown.borrow(), "the agent is ending");
        let widget = self.options.widget.then(|| WidgetToken::open(&self.state)).transpose()?;
        let listener = listen::bind(self.options.port).await?;
        let port = listener.local_addr()?.port();
        let site = Site::new(self.engine.clone(), port, &self.options, widget);
        let site = Arc::new(site);
        let (stop, stopped) = watch::channel(false);
        let serving = listen::serve(listener, site.clone(), stopped);
        let served = tokio::spawn(serving);
        tokio::spawn(end_when_idle(Arc::downgrade(self), site.clone(), stop.clone()));
        *open = Some(Open { site: site.clone(), stop, served });
        Ok(site)
    }
}

/// Ends the page once no session and no link is left, or with the agent.
async fn end_when_idle(door: Weak<Door>, site: Arc<Site>, stop: watch::Sender<bool>) {
    let Some(mut shutdown) = door.upgrade().map(|door| door.shutdown.clone()) else { return };
    let mut stopped = stop.subscribe();
    loop {
        let next = site.sessions.sweep(Instant::now());
        if next.is_none() && site.widget.is_none() {
            let Some(door) = door.upgrade() else { break };
            let mut open = door.open.lock().await;
            // A link may have been made while the lock was waited for.
            if site.sessions.sweep(Instant::now()).is_some() {
                continue;
            }
            if open.as_ref().is_some_and(|page| Arc::ptr_eq(&page.site, &site)) {
                *open = None;
            }
            tracing::info!("the page is closed: nobody has used it");
            break;
        }
        let due = async {
            match next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = site.changed.notified() => {}
            _ = stopped.wait_for(|stop| *stop) => return,
            _ = shutdown.wait_for(|stop| *stop) => break,
        }
    }
    stop.send_replace(true);
}

/// Names the page as what somebody reads with, in place of the program that has asked for the link:
/// `vault ui[812] uid 1000 (jonas)`.
fn as_page(who: &Who) -> Who {
    let text = who.as_str();
    let program = text.rsplit_once("] uid ").and_then(|(before, _)| before.rfind('['));
    Who::lossy(&match program {
        Some(at) => format!("vault ui{}", &text[at..]),
        None => format!("vault ui {text}"),
    })
}

/// Returns the user whom a link is for.
fn link_user(who: &Who, wished: Option<u32>) -> Result<u32> {
    match (asking_user(who), wished) {
        (Some(own), None) => Ok(own),
        (Some(own), Some(user)) if own == 0 || own == user => Ok(user),
        (Some(_), Some(_)) => {
            let hint = "leave `--for` out, and the link is for you";
            bail!(hinted("only root makes a link to the page for another user", hint))
        }
        (None, _) => {
            let hint = "ask on this host, through the agent's socket: `vault ui`";
            bail!(hinted("which user asks is not known, and a link is for one user", hint))
        }
    }
}

/// Returns the user who has asked: behind the last ` uid `, which the agent writes, nothing that
/// others choose holds a space.
fn asking_user(who: &Who) -> Option<u32> {
    let (_, rest) = who.as_str().rsplit_once("uid ")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_of_the_page_name_it() {
        for (who, expected) in [
            ("vault[812] uid 1000 (jonas)", "vault ui[812] uid 1000 (jonas)"),
            ("a[1] uid 0[7] uid 5 in x.service", "vault ui[7] uid 5 in x.service"),
            ("uid 0 (root)", "vault ui uid 0 (root)"),
        ] {
            assert_eq!(as_page(&Who::lossy(who)).as_str(), expected);
        }
    }

    #[test]
    fn links_are_for_who_has_asked() {
        for (who, expected) in [
            ("vault[812] uid 1000 (jonas)", Some(1000)),
            ("a[1] uid 0[7] uid 5 in x.service", Some(5)),
            ("uid 0 (root)", Some(0)),
            ("tcp 172.17.0.2", None),
        ] {
            assert_eq!(asking_user(&Who::lossy(who)), expected);
        }
    }

    #[test]
    fn root_alone_makes_links_for_others() {
        let of = |who: &str, wished| link_user(&Who::lossy(who), wished).ok();
        assert_eq!(of("vault[812] uid 1000 (jonas)", None), Some(1000));
        assert_eq!(of("vault[812] uid 1000 (jonas)", Some(1000)), Some(1000));
        assert_eq!(of("vault[812] uid 1000 (jonas)", Some(0)), None);
        assert_eq!(of("vault[812] uid 0 (root)", None), Some(0));
        assert_eq!(of("vault[812] uid 0 (root)", Some(1000)), Some(1000));
        assert_eq!(of("tcp 172.17.0.2", None), None);
        assert_eq!(of("tcp 172.17.0.2", Some(1000)), None);
    }
}
