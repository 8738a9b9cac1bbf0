//! The server's log as it is asked for, page by page, and what it says of single entries. Nothing
//! here is verified: the callers do that.

use std::collections::VecDeque;

use shared::error::Code;
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::log::Entry;
use shared::signed::Envelope;
use shared::wire::v1::log::{Frame, LogQuery};

use super::link::Ended;
use machine::remote::{Client, Frames};

/// Bytes of entries that are held at once.
pub(super) const MOST: usize = 32 << 20;

/// What a record costs in memory beside its body: those without any are not for free.
const RECORD: usize = 256;

/// Returns how many bytes a record holds in memory, about.
pub(super) const fn weight(envelope: &Envelope) -> usize {
    envelope.body.len() + RECORD
}

/// Returns where the server says that its log ends.
pub(super) async fn end(client: &Client, after: u64) -> Result<(u64, Hash), Ended> {
    let mut pages = Pages::after(client, after);
    while let Some(line) = pages.next().await? {
        if let Line::Head(head) = line {
            return Ok((head.seq, head.head));
        }
    }
    Err(Ended::Lost("the server does not say where its log ends".into()))
}

/// Returns the hash of the server's entry `seq`, as the one after it says.
pub(super) async fn before(client: &Client, seq: u64) -> Result<Option<Hash>, Ended> {
    let mut pages = Pages::after(client, seq);
    while let Some(line) = pages.next().await? {
        match line {
            Line::Entry(envelope) => return Ok(Some(envelope.parse::<Entry>()?.prev)),
            Line::Head(head) if head.seq == seq => return Ok(Some(head.head)),
            Line::Head(_) => {}
        }
    }
    Ok(None)
}

/// A line of the server's log.
pub(super) enum Line {
    Entry(Envelope),
    Head(SignedHead),
}

/// The server's log after some entry, page by page.
pub(super) struct Pages<'a> {
    client: &'a Client,
    /// The page that is read, and where it began.
    page: Option<(Frames, u64)>,
    ready: VecDeque<Frame>,
    /// The last entry that was read.
    pub(super) position: u64,
}

impl<'a> Pages<'a> {
    pub(super) const fn after(client: &'a Client, position: u64) -> Self {
        Self { client, page: None, ready: VecDeque::new(), position }
    }

    /// Returns the next line; `None` at the end of the log.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, Ended> {
        loop {
            match self.ready.pop_front() {
                Some(Frame::Entry { envelope, .. }) => {
                    self.position += 1;
                    return Ok(Some(Line::Entry(envelope)));
                }
                Some(Frame::Head(head)) => return Ok(Some(Line::Head(head))),
                Some(Frame::Genesis(_) | Frame::Beat) => continue,
                None => {}
            }
            let (frames, began) = match &mut self.page {
                Some(page) => page,
                none => {
                    let query = LogQuery { after: self.position, ..LogQuery::default() };
                    // Which head this machine holds, its stream has told already.
                    none.insert((self.client.log(query, None).await?, self.position))
                }
            };
            self.ready = frames.next().await?.into();
            if self.ready.is_empty() {
                // A page without entries is the last.
                if *began == self.position {
                    return Ok(None);
                }
                self.page = None;
            }
        }
    }
}

/// Gets the server's entries after `after` up to `until`.
pub(super) async fn entries(
    client: &Client,
    after: u64,
    until: u64,
) -> Result<Vec<Envelope>, Ended> {
    let mut pages = Pages::after(client, after);
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while pages.position < until
        && let Some(line) = pages.next().await?
    {
        let Line::Entry(envelope) = line else { continue };
        bytes += weight(&envelope);
        if bytes > MOST {
            let why = format!("the server's log differs by more than {} MiB", MOST >> 20);
            return Err(Ended::Refused(Code::Limits.because(why)));
        }
        entries.push(envelope);
    }
    Ok(entries)
}
