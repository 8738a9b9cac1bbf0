//! Following the server's log: back-off with jitter, and what a stream's frames do. Entries are
//! used once the server has signed where they lead; what does not verify ends the stream and
//! changes nothing.

use std::sync::Arc;
use std::time::Duration;

use shared::error::{Code, Error};
use shared::head::SignedHead;
use shared::signed::Envelope;
use shared::wire::v1::log::{Frame, LogQuery};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::fleet::Judged;
use super::ledger::{Delivery, unsigned};
use super::link::{Ended, SYNC};
use super::look::{self, Better, better};
use super::pages::weight;
use super::parts::Parts;
use super::reach::{addresses, jittered, reach};
use super::{access, checkpoint, copies, fetch, intake, leaves, over, report};
use machine::remote::{Client, Frames, Network, RemoteError};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The same for a machine that the vault does not know, most likely for ever: each of its tries is
/// in the audit log.
const LONGEST_STRANGER_WAIT: Duration = Duration::from_mins(10);
/// The same where streams are ended soon after they have reached the server's head. Copies of one
/// host, each of which ends the other's stream, would go on at full speed; a server that was
/// started twice in a row should not be waited for.
const LONGEST_TURN: Duration = Duration::from_secs(2);
/// How many times as long as the pause before it a stream has to last for the next to be short.
const LASTING: u32 = 4;
/// Bytes of entries that are held while no signed head covers them.
const UNSIGNED: usize = 16 << 20;

/// How a try to follow the log went.
#[derive(Clone, Copy)]
pub(super) enum Tried {
    /// The stream reached the server's head before it ended, and lasted so long.
    CaughtUp(Duration),
    /// The server knew no machine with this key.
    Stranger,
    /// Anything else.
    Short,
}

/// Returns the pauses before and after the next one, when a try that came `wait` after the last
/// went like this.
fn pause(wait: Duration, tried: Tried) -> (Duration, Duration) {
    let (wait, longest) = match tried {
        Tried::CaughtUp(lasted) if lasted >= LASTING * wait => (FIRST_WAIT, LONGEST_WAIT),
        Tried::CaughtUp(_) => (wait.min(LONGEST_TURN), LONGEST_TURN),
        Tried::Short => (wait.min(LONGEST_WAIT), LONGEST_WAIT),
        Tried::Stranger => (wait, LONGEST_STRANGER_WAIT),
    };
    (wait, (wait * 2).min(longest))
}

/// Connects, follows, and connects again, for ever.
pub(super) async fn keep(parts: &Arc<Parts>, mut listed: watch::Receiver<Vec<String>>) {
    let link = &parts.link;
    let mut network = Network::watch();
    let mut next = FIRST_WAIT;
    link.keep();
    loop {
        parts.ways.list(&listed.borrow_and_update());
        let sought = addresses(parts);
        link.sought(sought.first());
        network.heed(&sought);
        copies::forget(parts, &sought);
        if link.look(|link| link.halted) {
            tokio::select! {
                () = over::watch(parts) => {}
                () = link.until_halted(false) => {}
                () = changed(&mut listed) => {}
            }
            continue;
        }
        let tried = tokio::select! {
            tried = once(parts, &mut network) => tried,
            () = changed(&mut listed) => {
                link.down("the list of addresses changed");
                next = FIRST_WAIT;
                continue;
            }
            () = link.until_halted(true) => {
                link.down("stopped: the server has shown two histories");
                continue;
            }
        };
        let then;
        (next, then) = pause(next, tried);
        tokio::select! {
            () = sleep(jittered(next)) => next = then,
            () = changed(&mut listed) => next = FIRST_WAIT,
            () = network.changed() => {
                parts.ways.moved();
                next = FIRST_WAIT;
            }
            () = link.nudged() => {}
        }
    }
}

/// Connects and follows the log, by ever better ways, until the connection ends.
async fn once(parts: &Arc<Parts>, network: &mut Network) -> Tried {
    let reached = loop {
        tokio::select! {
            reached = reach(parts) => break reached,
            // What is under way may hang in a network that is gone.
            () = network.changed() => parts.ways.moved(),
        }
    };
    let Some(mut client) = reached else { return Tried::Short };
    let mut wait = look::FIRST;
    loop {
        let next = better(parts, &client, network, &mut wait);
        match along(parts, client.clone(), next).await {
            Followed::Ended(tried) => return tried,
            Followed::Better(next) => client = next,
        }
    }
}

/// How following through one connection went.
enum Followed {
    /// The connection ended.
    Ended(Tried),
    /// There is a better one.
    Better(Client),
}

/// Follows the log until the connection ends.
pub(super) async fn follow(parts: &Arc<Parts>, client: Client) -> Tried {
    match along(parts, client, std::future::pending()).await {
        Followed::Ended(tried) => tried,
        Followed::Better(_) => Tried::Short,
    }
}

/// Follows the log until the connection ends or a better one is there. What has come until then is
/// taken in; the better one goes on after it. Requests on this one may end while nobody follows
/// through it any more.
async fn along(
    parts: &Arc<Parts>,
    client: Client,
    better: impl Future<Output = Better>,
) -> Followed {
    let began = Instant::now();
    parts.link.up(client.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(fetch::run(Arc::clone(parts), client.clone()));
    tasks.spawn(report::run(Arc::clone(&parts.reports), client.clone()));
    tasks.spawn(leaves::run(Arc::clone(&parts.reports), client.clone()));
    tasks.spawn(access::run(Arc::clone(&parts.accesses), client.clone()));
    let ended = match frames(parts, &client, better).await {
        Ok(Some(Better { client: next, grace })) => {
            tracing::info!(from = client.address(), to = next.address(), "a better way");
            if let Some(grace) = grace {
                parts.tasks.spawn(async move {
                    sleep(grace).await;
                    client.cut();
                });
            }
            return Followed::Better(next);
        }
        Ok(None) => Ended::Lost("the server ended the stream".into()),
        Err(ended) => over::instead(parts, &client, ended).await,
    };
    let tried = match &ended {
        _ if parts.link.is_caught_up() => Tried::CaughtUp(began.elapsed()),
        Ended::Stranger(_) => Tried::Stranger,
        Ended::Refused(_) | Ended::Lost(_) | Ended::Local(_) => Tried::Short,
    };
    if let Ended::Refused(_) | Ended::Stranger(_) = &ended {
        parts.ways.refused(client.address());
    }
    end(parts, ended);
    Followed::Ended(tried)
}

/// Takes in what the server sends until it ends the stream, or until there is a better connection.
async fn frames(
    parts: &Arc<Parts>,
    client: &Client,
    better: impl Future<Output = Better>,
) -> Result<Option<Better>, Ended> {
    checkpoint::begin(parts, client).await?;
    let (mut frames, after) = match stream(parts, client).await {
        Err(fault) if fault.is_compacted() => {
            checkpoint::go_on(parts, client).await?;
            stream(parts, client).await?
        }
        begun => begun?,
    };
    tracing::info!(address = client.address(), "connected");
    let mut stream = Stream::after(after);
    let mut better = std::pin::pin!(better);
    loop {
        let batch = tokio::select! {
            batch = frames.next() => batch?,
            better = &mut better => return Ok(Some(better)),
        };
        if batch.is_empty() {
            return Ok(None);
        }
        for frame in batch {
            match frame {
                Frame::Genesis(envelope) => stream.hold(0, envelope, Vec::new())?,
                Frame::Entry { envelope, blobs } => {
                    let blobs = blobs.into_iter().map(|blob| blob.0).collect();
                    stream.hold(stream.position + 1, envelope, blobs)?;
                }
                Frame::Head(head) => stream.head(head),
                Frame::Beat if stream.waiting.is_empty() => parts.link.still_synced(),
                Frame::Beat => {}
            }
        }
        take(parts, &mut stream).await?;
        if stream.caught_up {
            parts.ways.followed(client.address());
        }
    }
}

/// Asks for the log after the own one, as it goes on; returns it, and where it goes on.
async fn stream(parts: &Parts, client: &Client) -> Result<(Frames, u64), RemoteError> {
    let (after, last) = {
        let folded = parts.ledger.read();
        (folded.state.seq(), folded.signed)
    };
    let query = LogQuery { after, follow: true, run: Some(parts.own.run) };
    Ok((client.log(query, last).await?, after))
}

/// What has come of a stream and is not used yet.
struct Stream {
    /// Where the stream stands: the n-th entry after `after` has to be number `after + n`.
    position: u64,
    /// As far as it was taken in.
    taken: u64,
    /// Records in the order in which they came. Those up to the last one with a signed head can be
    /// taken in, the others wait for theirs.
    waiting: Vec<Delivery>,
    /// How many can be taken in.
    ready: usize,
    /// Bytes of the others.
    bytes: usize,
    /// Heads of other entries than the one that came before them.
    heads: Vec<SignedHead>,
    /// Where the server's log ends, as far as it has said.
    newest: u64,
    /// Whether it has reached that.
    caught_up: bool,
}

impl Stream {
    fn after(seq: u64) -> Self {
        let (waiting, heads) = (Vec::new(), Vec::new());
        let (position, taken) = (seq, seq);
        Self { position, taken, waiting, ready: 0, bytes: 0, heads, newest: 0, caught_up: false }
    }

    /// Holds a record until a signed head covers it.
    ///
    /// # Errors
    /// `E_FROZEN` if too much came without one.
    fn hold(
        &mut self,
        position: u64,
        envelope: Envelope,
        blobs: Vec<Vec<u8>>,
    ) -> Result<(), Error> {
        let bytes = weight(&envelope) + blobs.iter().map(Vec::len).sum::<usize>();
        // A single one is as large as the server has let it be.
        if self.bytes > 0 && self.bytes + bytes > UNSIGNED {
            let last = self.position;
            let why = format!("no signed head after {} bytes, up to entry {last}", self.bytes);
            return Err(Code::Frozen.because(why));
        }
        self.bytes += bytes;
        self.position = self.position.max(position);
        self.waiting.push(Delivery { position, envelope, blobs, head: None });
        Ok(())
    }

    fn head(&mut self, head: SignedHead) {
        self.newest = self.newest.max(head.seq);
        match self.waiting.last_mut() {
            Some(last) if last.position == head.seq && last.head.is_none() => {
                last.head = Some(head);
                self.ready = self.waiting.len();
                self.bytes = 0;
            }
            Some(_) | None => self.heads.push(head),
        }
    }
}

/// Takes in what signed heads cover, and looks at the heads of what has not come.
async fn take(parts: &Arc<Parts>, stream: &mut Stream) -> Result<(), Ended> {
    let rest = stream.waiting.split_off(stream.ready);
    let records = std::mem::replace(&mut stream.waiting, rest);
    stream.ready = 0;
    let is_told = !records.is_empty() || !stream.heads.is_empty();
    if let Some(last) = records.last() {
        let position = last.position;
        intake::take(parts, records).await?;
        stream.taken = position;
    }
    for head in std::mem::take(&mut stream.heads) {
        look_at(parts, stream.taken, head).await?;
    }
    parts.reports.unsigned(!stream.waiting.is_empty());
    if is_told && stream.waiting.is_empty() && stream.taken >= stream.newest {
        caught_up(parts, stream);
    }
    Ok(())
}

/// Looks at a head that is not the last entry's: behind what was taken in, the server has lost
/// entries; of another epoch, it has gone another way; past it, its entries are still to come.
async fn look_at(parts: &Parts, taken: u64, head: SignedHead) -> Result<(), Ended> {
    let judged = parts.ledger.judge(&head).await??;
    match judged {
        Judged::Unsigned => return Err(unsigned(&head).into()),
        _ if head.seq < taken => {
            let why = format!("it has {} entries, this machine has verified {taken}", head.seq);
            return Err(Code::ServerBehind.because(why).into());
        }
        Judged::Held => parts.ledger.renew(head),
        Judged::Ahead if head.seq > taken => parts.reports.ahead(head),
        Judged::Ahead | Judged::Left => {
            let why = format!("the server's log ends at {}, in another epoch", head.place());
            return Err(Code::Prev.because(why).into());
        }
    }
    Ok(())
}

/// Notes that the stream has reached the server's head.
fn caught_up(parts: &Arc<Parts>, stream: &mut Stream) {
    let fork = Code::Fork.as_str();
    parts.alarms.clear_if(|code, subject| subject == SYNC && code != fork);
    if std::mem::replace(&mut stream.caught_up, true) && parts.link.is_caught_up() {
        return;
    }
    intake::caught_up(parts);
    parts.accesses.shipping.soon();
}

fn end(parts: &Parts, ended: Ended) {
    let why = match ended {
        Ended::Lost(why) => {
            tracing::info!(why, "disconnected");
            why
        }
        Ended::Refused(error) | Ended::Stranger(error) => {
            parts.link.refuse(&error);
            error.to_string()
        }
        Ended::Local(fault) => {
            tracing::error!(%fault, "sync stopped");
            fault.to_string()
        }
    };
    parts.link.down(&why);
}

/// Waits for another list of addresses, for ever if nobody can send one.
async fn changed(addresses: &mut watch::Receiver<Vec<String>>) {
    if addresses.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the pause after so many tries that went like this.
    fn after(tries: u32, tried: Tried) -> Duration {
        (0..tries).fold(FIRST_WAIT, |next, _| pause(next, tried).1)
    }

    #[test]
    fn only_what_the_vault_does_not_know_is_given_long_pauses() {
        assert_eq!(after(1, Tried::Short), 2 * FIRST_WAIT);
        assert_eq!(after(100, Tried::Short), LONGEST_WAIT);
        assert_eq!(after(100, Tried::Stranger), LONGEST_STRANGER_WAIT);
        let caught_up = Tried::CaughtUp(LASTING * LONGEST_STRANGER_WAIT);
        assert_eq!(pause(LONGEST_STRANGER_WAIT, caught_up).0, FIRST_WAIT);
        assert_eq!(pause(LONGEST_STRANGER_WAIT, Tried::Short), (LONGEST_WAIT, LONGEST_WAIT));
    }

    #[test]
    fn a_stream_that_is_ended_at_once_is_begun_anew_ever_more_slowly() {
        // Each copy of a host ends the other's stream when its own pause is over.
        let (mut wait, mut pauses) = (FIRST_WAIT, Vec::new());
        for _ in 0..20 {
            let (next, then) = pause(wait, Tried::CaughtUp(wait));
            pauses.push(next);
            wait = then;
        }
        assert_eq!((pauses[0], pauses[19]), (FIRST_WAIT, LONGEST_TURN));
        // One that lasts is over for another reason.
        assert_eq!(pause(LONGEST_WAIT, Tried::CaughtUp(LASTING * LONGEST_WAIT)).0, FIRST_WAIT);
    }

    #[test]
    fn records_without_a_body_are_not_held_without_end() {
        let (sig, body) = (shared::keys::Signature::from_bytes([0; 64]), Vec::new());
        let envelope = Envelope { by: shared::name::Actor::Root, body, sig };
        let mut stream = Stream::after(0);
        let mut hold = |seq| stream.hold(seq, envelope.clone(), Vec::new());
        let refused = (1..=100_000).find_map(|seq| hold(seq).err()).unwrap();
        assert_eq!(refused.code, Code::Frozen);
    }
}
