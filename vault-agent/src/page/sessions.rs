//! Links that are good once, and the sessions that they open. Pure but for randomness: it is told
//! the time.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use shared::audit::Asker;
use shared::hash::Hash;
use shared::keys;
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::words::{LANGS, Lang};

/// How long a link is good for.
pub(super) const LINK_LIFE: Duration = Duration::from_mins(1);
/// Links that wait at a time; the oldest goes for one more.
const LINKS: usize = 4;
/// Sessions at a time; the one that has asked for nothing for longest goes for one more.
const SESSIONS: usize = 8;
/// Wrong guesses after which every link that waits is void.
const GUESSES: u32 = 5;
/// Streams of news that a session may have at a time.
const STREAMS: usize = 4;

/// Makes 256 random bits, as text.
pub(super) fn random() -> Zeroizing<String> {
    Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(keys::random::<32>()))
}

/// Who asked for a link, and how they reach the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opener {
    /// Process and user, the AI agent that it works for and why it asked, for the audit log.
    pub(super) by: Asker,
    /// The port that the browser sees.
    pub(super) port: u16,
    /// The user whose processes alone, but for root's, may open the link and use the session.
    pub(super) user: u32,
}

impl Opener {
    /// Tells whether a process of this user may open the link, or use the session. The text of a
    /// link may be seen by others of this host, in the arguments of the program that starts the
    /// browser.
    pub(super) fn lets(&self, user: Option<u32>) -> bool {
        user == Some(self.user) || user == Some(0)
    }
}

/// Somebody who has opened the page.
#[derive(Debug)]
pub(super) struct Session {
    /// Who the page is shown to, and where.
    pub(super) opener: Opener,
    /// What every form of it has to show.
    csrf: Zeroizing<String>,
    /// Place in [`LANGS`] of the language that was chosen; past its end if none was.
    lang: AtomicU8,
    /// Streams of news.
    pub(super) streams: Arc<Semaphore>,
}

impl Session {
    fn new(opener: Opener) -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS));
        Self { opener, csrf: random(), lang: AtomicU8::new(u8::MAX), streams }
    }

    /// Returns what every form has to show.
    pub(super) fn csrf(&self) -> &str {
        &self.csrf
    }

    /// Tells whether a form is of this session.
    pub(super) fn knows(&self, csrf: &str) -> bool {
        hashed(csrf).as_bytes().ct_eq(hashed(&self.csrf).as_bytes()).into()
    }

    /// Returns the language that was chosen in it.
    pub(super) fn lang(&self) -> Option<Lang> {
        LANGS.get(usize::from(self.lang.load(Ordering::Relaxed))).copied()
    }

    /// Keeps a language for it.
    pub(super) fn choose(&self, lang: Lang) {
        let at = LANGS.iter().position(|it| *it == lang).and_then(|at| u8::try_from(at).ok());
        self.lang.store(at.unwrap_or(u8::MAX), Ordering::Relaxed);
    }
}

fn hashed(token: &str) -> Hash {
    Hash::of(&[token.as_bytes()])
}

/// A link that nobody has opened yet.
#[derive(Debug)]
struct Link {
    hash: Hash,
    until: Instant,
    opener: Opener,
}

/// A session, and when it last asked for something.
#[derive(Debug)]
struct Open {
    hash: Hash,
    used: Instant,
    session: Arc<Session>,
}

#[derive(Debug, Default)]
struct Inner {
    links: Vec<Link>,
    /// Wrong guesses since a link was made or opened.
    guesses: u32,
    open: Vec<Open>,
}

/// All links and sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    inner: Mutex<Inner>,
    idle: Duration,
}

impl Sessions {
    /// Starts with none; a session that asks for nothing for `idle` ends.
    pub(super) fn new(idle: Duration) -> Self {
        Self { inner: Mutex::default(), idle }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a link, and returns what stands in it.
    pub(super) fn link(&self, opener: Opener, now: Instant) -> Zeroizing<String> {
        let token = random();
        let mut inner = self.lock();
        inner.links.retain(|link| link.until > now);
        if inner.links.len() >= LINKS {
            inner.links.remove(0);
        }
        inner.guesses = 0;
        inner.links.push(Link { hash: hashed(&token), until: now + LINK_LIFE, opener });
        token
    }

    /// Opens a session by a link, once, for a process of a user, as far as that is known; returns
    /// what its browser has to show from now on. What opens none is counted: after a few every link
    /// is void.
    pub(super) fn open(
        &self,
        token: &str,
        (port, user): (u16, Option<u32>),
        now: Instant,
    ) -> Option<Zeroizing<String>> {
        let hash = hashed(token);
        let mut inner = self.lock();
        inner.links.retain(|link| link.until > now);
        // All are looked at, so that the time says nothing of which was near.
        let mut found = None;
        for (at, link) in inner.links.iter().enumerate() {
            let is_it: bool = link.hash.as_bytes().ct_eq(hash.as_bytes()).into();
            if is_it && link.opener.port == port && link.opener.lets(user) {
                found = Some(at);
            }
        }
        let Some(at) = found else {
            // Whom no link lets in could not even use the right one: their guesses void none.
            if !inner.links.iter().any(|link| link.opener.lets(user)) {
                return None;
            }
            inner.guesses += 1;
            if inner.guesses >= GUESSES {
                inner.links.clear();
            }
            return None;
        };
        // Cookies know no ports: whatever else listens on this host's loopback is shown them. So a
        // session is of its link's user alone.
        let opener = inner.links.remove(at).opener;
        inner.guesses = 0;
        let cookie = random();
        if inner.open.len() >= SESSIONS {
            inner.open.sort_by_key(|open| open.used);
            inner.open.remove(0);
        }
        let session = Arc::new(Session::new(opener));
        inner.open.push(Open { hash: hashed(&cookie), used: now, session });
        Some(cookie)
    }

    /// Finds the session of a cookie; that it asks for something keeps it, unless it `only_looks`,
    /// as a page does by itself.
    pub(super) fn find(
        &self,
        cookie: &str,
        port: u16,
        only_looks: bool,
        now: Instant,
    ) -> Option<Arc<Session>> {
        let hash = hashed(cookie);
        let mut inner = self.lock();
        inner.open.retain(|open| now < open.used + self.idle);
        let mut found = None;
        for open in &mut inner.open {
            let is_it: bool = open.hash.as_bytes().ct_eq(hash.as_bytes()).into();
            if is_it && open.session.opener.port == port {
                if !only_looks {
                    open.used = now;
                }
                found = Some(open.session.clone());
            }
        }
        found
    }

    /// Tells whether a session is still open.
    pub(super) fn holds(&self, session: &Arc<Session>, now: Instant) -> bool {
        self.lock()
            .open
            .iter()
            .any(|open| now < open.used + self.idle && Arc::ptr_eq(&open.session, session))
    }

    /// Tells whether a port is that of a link or a session.
    pub(super) fn has_port(&self, port: u16) -> bool {
        let inner = self.lock();
        inner.links.iter().any(|link| link.opener.port == port)
            || inner.open.iter().any(|open| open.session.opener.port == port)
    }

    /// Drops what is over; returns when the next one will be, or `None` if none is left.
    pub(super) fn sweep(&self, now: Instant) -> Option<Instant> {
        let mut inner = self.lock();
        inner.links.retain(|link| link.until > now);
        inner.open.retain(|open| now < open.used + self.idle);
        let links = inner.links.iter().map(|link| link.until);
        links.chain(inner.open.iter().map(|open| open.used + self.idle)).min()
    }

    /// Returns how many sessions are open.
    pub(super) fn count(&self) -> usize {
        self.lock().open.len()
    }

    /// Ends all of them, and the links with them.
    pub(super) fn close(&self) {
        *self.lock() = Inner::default();
    }
}

#[cfg(test)]
mod tests {
    use shared::audit::Who;

    use super::*;

    const IDLE: Duration = Duration::from_mins(30);
    const PORT: u16 = 4711;
    const UID: u32 = 1000;
    const USER: Option<u32> = Some(UID);

    fn opener() -> Opener {
        Opener { by: Who::lossy("vault ui[1] uid 0").into(), port: PORT, user: UID }
    }

    fn start() -> (Sessions, Instant) {
        (Sessions::new(IDLE), Instant::now())
    }

    #[test]
    fn a_link_opens_one_session_and_then_none() {
        let (sessions, now) = start();
        let link = sessions.link(opener(), now);
        assert_eq!(link.len(), 43, "256 bits");
        let cookie = sessions.open(&link, (PORT, USER), now).unwrap();
        assert_ne!(*cookie, *link);
        assert_eq!(sessions.open(&link, (PORT, USER), now), None);
        let session = sessions.find(&cookie, PORT, false, now).unwrap();
        assert_eq!(session.opener, opener());
        assert!(sessions.find(&link, PORT, false, now).is_none());
        assert!(sessions.find("", PORT, false, now).is_none());
        assert!(session.knows(session.csrf()) && !session.knows("") && !session.knows(&cookie));
    }

    #[test]
    fn a_link_is_for_its_own_user_or_root() {
        let (sessions, now) = start();
        for (of, user, expected) in [
            (UID, None, false),
            (UID, Some(1001), false),
            (UID, USER, true),
            (UID, Some(0), true),
            // Root's is root's: for another user's browser it names that user.
            (0, None, false),
            (0, USER, false),
            (0, Some(0), true),
        ] {
            let link = sessions.link(Opener { user: of, ..opener() }, now);
            assert_eq!(sessions.open(&link, (PORT, user), now).is_some(), expected, "{user:?}");
        }
    }

    #[test]
    fn guesses_of_those_whom_no_link_lets_in_void_none() {
        let (sessions, now) = start();
        let link = sessions.link(opener(), now);
        for _ in 0..2 * GUESSES {
            for user in [None, Some(1001)] {
                assert_eq!(sessions.open("guess", (PORT, user), now), None);
                assert_eq!(sessions.open(&link, (PORT, user), now), None, "nor the right one");
            }
        }
        assert!(sessions.open(&link, (PORT, USER), now).is_some());
    }

    #[test]
    fn links_end_after_a_minute() {
        let (sessions, now) = start();
        let link = sessions.link(opener(), now);
        assert_eq!(sessions.open(&link, (PORT, USER), now + LINK_LIFE), None);
        assert_eq!(sessions.sweep(now + LINK_LIFE), None);
    }

    #[test]
    fn guessing_voids_every_link_and_leaves_sessions() {
        let (sessions, now) = start();
        let first = sessions.link(opener(), now);
        let cookie = sessions.open(&first, (PORT, USER), now).unwrap();
        let link = sessions.link(opener(), now);
        for _ in 1..GUESSES {
            assert_eq!(sessions.open("guess", (PORT, USER), now), None);
        }
        let other = sessions.link(opener(), now);
        assert!(sessions.open(&link, (PORT, USER), now).is_some(), "one guess too few");
        for _ in 0..GUESSES {
            assert_eq!(sessions.open("guess", (PORT, USER), now), None);
        }
        assert_eq!(sessions.open(&other, (PORT, USER), now), None);
        assert!(sessions.find(&cookie, PORT, false, now).is_some());
    }

    #[test]
    fn a_link_and_a_cookie_are_good_at_their_own_port_only() {
        let (sessions, now) = start();
        let link = sessions.link(opener(), now);
        assert_eq!(sessions.open(&link, (PORT + 1, USER), now), None);
        let cookie = sessions.open(&link, (PORT, USER), now).unwrap();
        assert!(sessions.find(&cookie, PORT + 1, false, now).is_none());
        assert!(sessions.has_port(PORT) && !sessions.has_port(PORT + 1));
    }

    #[test]
    fn sessions_end_when_idle_and_looking_by_itself_keeps_none() {
        let (sessions, now) = start();
        let cookie = sessions.open(&sessions.link(opener(), now), (PORT, USER), now).unwrap();
        let session = sessions.find(&cookie, PORT, false, now + IDLE / 2).unwrap();
        assert!(sessions.find(&cookie, PORT, true, now + IDLE).is_some());
        assert_eq!(sessions.sweep(now + IDLE), Some(now + IDLE / 2 + IDLE));
        assert!(sessions.holds(&session, now + IDLE));
        let end = now + IDLE / 2 + IDLE;
        assert!(!sessions.holds(&session, end));
        assert!(sessions.find(&cookie, PORT, true, end).is_none());
        assert_eq!(sessions.sweep(end), None);
    }

    #[test]
    fn there_are_not_many_links_and_sessions() {
        let (sessions, now) = start();
        let links: Vec<_> = (0..=LINKS).map(|_| sessions.link(opener(), now)).collect();
        assert_eq!(sessions.open(&links[0], (PORT, USER), now), None, "the oldest is gone");
        let mut cookies = Vec::new();
        for at in 0..=SESSIONS {
            let now = now + Duration::from_secs(u64::try_from(at).unwrap());
            cookies.push(sessions.open(&sessions.link(opener(), now), (PORT, USER), now).unwrap());
        }
        let now = now + LINK_LIFE;
        assert_eq!(sessions.count(), SESSIONS);
        assert!(sessions.find(&cookies[0], PORT, false, now).is_none());
        assert!(sessions.find(&cookies[1], PORT, false, now).is_some());
    }

    #[test]
    fn closing_ends_all() {
        let (sessions, now) = start();
        let cookie = sessions.open(&sessions.link(opener(), now), (PORT, USER), now).unwrap();
        let link = sessions.link(opener(), now);
        sessions.close();
        assert!(sessions.find(&cookie, PORT, false, now).is_none());
        assert_eq!(sessions.open(&link, (PORT, USER), now), None);
    }

    #[test]
    fn a_language_is_kept() {
        let session = Session::new(opener());
        assert_eq!(session.lang(), None);
        session.choose(Lang::De);
        assert_eq!(session.lang(), Some(Lang::De));
    }

    #[test]
    fn a_session_is_of_its_links_user() {
        let (sessions, now) = start();
        for by in [USER, Some(0)] {
            let token = sessions.link(opener(), now);
            let cookie = sessions.open(&token, (PORT, by), now).unwrap();
            let opened = sessions.find(&cookie, PORT, false, now).unwrap();
            let lets = |user| opened.opener.lets(user);
            assert!(lets(USER) && lets(Some(0)));
            assert!(!lets(Some(1001)) && !lets(None), "whoever else is shown the cookie");
        }
    }
}
