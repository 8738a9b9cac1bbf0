//! What stands around every screen, and how a screen is answered.

use askama::Template;
use axum::http::StatusCode;
use host::shown::Shown;

use super::answer::{Answer, html};
use super::href::Href;
use super::parts::{Piece, pieces};
use super::site::Visit;
use super::words::{Lang, Words};

/// A screen that the head of every page leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Screen {
    Fleet,
    Secrets,
    Readers,
    Audit,
    Machines,
    Alarms,
}

/// All of them, in their order.
const SCREENS: [Screen; 6] = [
    Screen::Fleet,
    Screen::Secrets,
    Screen::Readers,
    Screen::Audit,
    Screen::Machines,
    Screen::Alarms,
];

impl Screen {
    const fn path(self) -> &'static str {
        match self {
            Self::Fleet => "/",
            Self::Secrets => "/secrets",
            Self::Readers => "/readers",
            Self::Audit => "/audit",
            Self::Machines => "/machines",
            Self::Alarms => "/alarms",
        }
    }

    const fn name(self, words: &Words) -> &'static str {
        match self {
            Self::Fleet => words.fleet,
            Self::Secrets => words.secrets,
            Self::Readers => words.readers,
            Self::Audit => words.audit,
            Self::Machines => words.machines,
            Self::Alarms => words.alarms,
        }
    }
}

/// A link of the head.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) href: Href,
    pub(super) name: &'static str,
    pub(super) is_here: bool,
}

/// What stands around a screen.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) lang: Lang,
    /// What the window is called.
    pub(super) title: Shown,
    pub(super) links: Vec<Link>,
    /// Where a form comes back to.
    pub(super) here: Shown,
    pub(super) csrf: String,
    /// What tells the script to renew it while it stands open.
    pub(super) news: Option<Href>,
    /// What to type in a terminal to see the same, or to act on it.
    pub(super) todo: Vec<Piece>,
}

impl Frame {
    /// Makes the frame of a screen; `todo` is a text with commands between backticks.
    pub(super) fn new(
        visit: &Visit<'_>,
        screen: Screen,
        title: impl Into<Shown>,
        todo: &str,
    ) -> Self {
        let words = Words::of(visit.lang);
        let link = |it: Screen| Link {
            href: Href::own(it.path()),
            name: it.name(words),
            is_here: it == screen,
        };
        Self {
            lang: visit.lang,
            title: title.into(),
            links: SCREENS.map(link).into(),
            here: visit.here.into(),
            csrf: visit.session.csrf().to_owned(),
            news: None,
            todo: pieces(todo),
        }
    }

    /// Has the script renew the screen whenever something may have changed.
    #[must_use]
    pub(super) fn live(self) -> Self {
        self.live_by(Href::own("/events"))
    }

    /// Has the script renew the screen when a stream of this address says so.
    #[must_use]
    pub(super) fn live_by(mut self, news: Href) -> Self {
        self.news = Some(news);
        self
    }
}

/// Why a screen is not shown.
#[derive(Debug)]
pub(super) enum Fault {
    /// There is no such thing.
    Missing,
    /// A form of another session, or of none.
    Refused,
    /// It could not be looked up: why, for people.
    Broken(Shown),
}

#[derive(Template)]
#[template(path = "page/fault.html")]
struct FaultPage {
    frame: Frame,
    t: &'static Words,
    title: &'static str,
    text: Shown,
    /// Whether the text is in the page's language.
    is_ours: bool,
}

impl Fault {
    /// Takes why something could not be looked up.
    #[expect(clippy::needless_pass_by_value, reason = "it is a function for `map_err`")]
    pub(super) fn broken(why: anyhow::Error) -> Self {
        Self::Broken(Shown::line(format_args!("{why:#}")))
    }

    /// Answers with it.
    pub(super) fn answer(self, visit: &Visit<'_>) -> Answer {
        let t = Words::of(visit.lang);
        let (status, title, text, is_ours) = match self {
            Self::Missing => {
                (StatusCode::NOT_FOUND, t.not_found, Shown::own(t.not_found_text), true)
            }
            Self::Refused => (StatusCode::FORBIDDEN, t.refused, Shown::own(t.refused_text), true),
            Self::Broken(why) => (StatusCode::SERVICE_UNAVAILABLE, t.failed, why, false),
        };
        let frame = Frame::new(visit, Screen::Fleet, title, "`vault status`");
        html(status, &FaultPage { frame, t, title, text, is_ours })
    }
}

/// What comes of asking for a screen.
pub(super) type Viewed = Result<Answer, Fault>;
