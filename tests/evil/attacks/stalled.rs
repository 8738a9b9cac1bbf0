//! Bodies that stop half-way, on connections of their own.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::body::{Body, Frame};
use shared::wire::v1::LOG;

use super::member::Member;

/// A body that says it is large, sends a little, and stops.
pub struct Stalled(Option<Bytes>);

impl Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
    }
}

/// Begins sixty-four bodies of a megabyte and ends none.
pub async fn bodies(member: &Member) {
    let raw = member.connect_with::<Stalled>().await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let mut sender = raw.clone();
        let request = hyper::Request::builder()
            .method(Method::POST)
            .uri(format!("https://vault{LOG}"))
            .header("content-length", 1 << 20)
            .body(Stalled(Some(Bytes::from_static(b"{\"envelope\":"))))
            .unwrap();
        waiting.spawn(async move {
            let answered = sender.send_request(request).await;
            answered.map_or_else(|_| "cut".to_owned(), |it| it.status().as_u16().to_string())
        });
    }
    while member.goes_on() {
        let next = tokio::time::timeout(Duration::from_millis(50), waiting.join_next()).await;
        if let Ok(Some(Ok(said))) = next {
            member.note(said);
        }
    }
    waiting.shutdown().await;
}
