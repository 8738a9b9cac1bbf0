//! News for pages that stand open: a stream of events (HTML, *Server-sent events*), each of which
//! says that something may have changed; the script asks again then.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::answer::{Answer, answer, empty};
use super::href::Fields;
use super::sessions::Session;
use super::site::Site;
use super::tail::Tail;

/// Between two looks at what this machine is not told by itself: how the others stand.
const LOOK: Duration = Duration::from_secs(5);
/// Between two events at least.
const PAUSE: Duration = Duration::from_secs(2);

/// Something may have changed.
const CHANGE: &[u8] = b"event: change\ndata:\n\n";
/// The session is over.
const END: &[u8] = b"event: end\ndata:\n\n";

/// A body of events.
struct Events(Receiver<Bytes>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

/// Where news come from.
enum Source {
    /// All that this machine hears, and a look at the others now and then.
    Fleet(watch::Receiver<()>),
    /// The end of the audit log.
    Audit(Box<Tail>),
}

impl Source {
    /// Waits, for some seconds at most; tells whether something may have changed, `None` at the end
    /// of all news.
    async fn came(&mut self) -> Option<bool> {
        match self {
            Self::Fleet(changes) => match timeout(LOOK, changes.changed()).await {
                Ok(changed) => changed.ok().map(|()| true),
                Err(_) => Some(true),
            },
            Self::Audit(tail) => Some(tail.came().await),
        }
    }
}

/// Answers with a stream, if there is room for one more: of the end of the audit log where an
/// address says of what of it.
pub(super) fn stream(site: &Arc<Site>, session: &Arc<Session>, audit: Option<&Fields>) -> Answer {
    let source = match audit {
        None => Some(Source::Fleet(site.engine.changes())),
        Some(query) => {
            Tail::read(site.engine.clone(), query).map(|tail| Source::Audit(Box::new(tail)))
        }
    };
    let Some(source) = source else { return empty(StatusCode::BAD_REQUEST) };
    let of_session = session.streams.clone().try_acquire_owned();
    let (Ok(own), Ok(common)) = (of_session, site.streams.clone().try_acquire_owned()) else {
        return empty(StatusCode::SERVICE_UNAVAILABLE);
    };
    // One event waits at most: who does not read is told once.
    let (sender, events) = mpsc::channel(1);
    let (site, session) = (site.clone(), session.clone());
    tokio::spawn(async move {
        tell(&site, &session, &sender, source).await;
        drop((own, common));
    });
    answer(StatusCode::OK, "text/event-stream", Body::new(Events(events)))
}

/// Sends an event whenever something may have changed, until the browser has gone or the session
/// is over.
async fn tell(site: &Site, session: &Arc<Session>, sender: &Sender<Bytes>, mut source: Source) {
    loop {
        let came = tokio::select! {
            () = sender.closed() => return,
            came = source.came() => came,
        };
        let Some(came) = came else { return };
        if !site.sessions.holds(session, Instant::now()) {
            let _ = sender.send(Bytes::from_static(END)).await;
            return;
        }
        if !came {
            continue;
        }
        if sender.send(Bytes::from_static(CHANGE)).await.is_err() {
            return;
        }
        tokio::select! {
            () = sender.closed() => return,
            () = sleep(PAUSE) => {}
        }
    }
}
