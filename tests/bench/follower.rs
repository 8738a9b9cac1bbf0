//! One of ten thousand followers: it connects, takes in the log and reports as an agent does, and
//! keeps nothing. It makes its own signatures and checks none, so that it takes little from the
//! server beside it.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use host::clock;
use machine::remote::{Client, Frames, Ping, connect, connect_to_stay};
use shared::audit::{Applied, AuditHead, Fact, Op};
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::keys::{SignKey, VerifyKey, random};
use shared::log::{self, Entry, Number};
use shared::name::Name;
use shared::report::{HookResult, Seen, TargetReport, TargetState, Targets};
use shared::signed::{Envelope, Purpose};
use shared::text::Text;
use shared::time::Time;
use shared::wire::v1::audit::AccessRequest;
use shared::wire::v1::blob::Inline;
use shared::wire::v1::log::{Frame, LogQuery};
use shared::wire::v1::report::ReportRequest;
use tests::World;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// How many there are.
pub const FOLLOWERS: u32 = 10_000;
/// The secret that some of them read.
pub const PATH: &str = "secret/fleet";
/// The file that has it on their hosts.
const FILE: &str = "/srv/app/.env";

/// How long an agent waits before it tries to connect again, at first and at most.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// How long after a change an agent reports it.
const AFTER: Duration = Duration::from_millis(200);
/// Least time between two reports of an agent.
const APART: Duration = Duration::from_millis(300);
/// How often an agent exchanges reports in a vault of so many, and up to half as much later.
pub const EXCHANGE: Duration = Duration::from_millis(20).saturating_mul(FOLLOWERS);

/// What a follower ends with.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What a follower tells.
pub enum Event {
    /// It stands at the head of the log.
    Follows,
    /// It has taken an entry, and holds the content of [`PATH`] that came along, if any did.
    Took { seq: u64, at: Instant, holds: bool },
    /// The server has taken its report of this entry.
    Reported(u64),
    /// It cannot go on.
    Failed(String),
}

/// The server, as all followers know it.
pub struct Server {
    address: String,
    key: VerifyKey,
    vault: Hash,
    /// Where its log ended when they were last connected.
    pub head: SignedHead,
    events: Sender<Event>,
}

/// A machine of the vault.
pub struct Follower {
    pub name: Name,
    pub number: Number,
    pub sign: SignKey,
}

/// What a follower has: the newest head, and the version in its file.
#[derive(Clone, Copy)]
struct Have {
    head: SignedHead,
    ver: u64,
    since: Time,
}

impl Server {
    /// Asks as one of the followers where the log of the world's server ends, after entry `seq`.
    pub async fn of(
        world: &World,
        vault: Hash,
        seq: u64,
        follower: &Follower,
    ) -> (Arc<Self>, Receiver<Event>) {
        let key = std::fs::read_to_string(world.data().join("server.key")).unwrap();
        let key = SignKey::from_text(&key).unwrap().verify_key();
        let address = world.address().to_owned();
        let client = connect(&address, std::slice::from_ref(&key), &follower.sign).await.unwrap();
        let query = LogQuery { after: seq, follow: true, run: None };
        let head = first(&mut client.log(query, None).await.unwrap()).await.unwrap();
        client.cut();
        let (events, told) = mpsc::channel();
        (Arc::new(Self { address, key, vault, head, events }), told)
    }

    fn tell(&self, event: Event) {
        // Nobody listens once all is measured.
        let _ = self.events.send(event);
    }
}

/// Returns the head that a stream begins with.
async fn first(frames: &mut Frames) -> Result<SignedHead> {
    match frames.next().await?.first() {
        Some(Frame::Head(head)) => Ok(*head),
        other => Err(format!("a stream begins with {other:?}").into()),
    }
}

impl Follower {
    /// Connects, and follows for as long as that goes well.
    pub async fn run(self, server: Arc<Server>) {
        let run = Hash::from_bytes(*random());
        let mut pause = FIRST;
        let (client, frames) = loop {
            match self.connect(&server, run).await {
                Ok(connected) => break connected,
                Err(_) => sleep(jittered(pause)).await,
            }
            pause = LONGEST.min(pause * 2);
        };
        server.tell(Event::Follows);
        let have = Have { head: server.head, ver: 0, since: clock::now() };
        let (have, news) = watch::channel(have);
        let ended: Result<Infallible> = tokio::select! {
            ended = take(&server, frames, have) => ended,
            ended = self.report(&server, &client, run, news) => ended,
        };
        let Err(why) = ended;
        server.tell(Event::Failed(format!("{}: {why}", self.name)));
    }

    /// Connects, and begins to follow at the head.
    async fn connect(&self, server: &Server, run: Hash) -> Result<(Client, Frames)> {
        let (pins, ping) = (std::slice::from_ref(&server.key), Ping::among(FOLLOWERS as usize));
        let client = connect_to_stay(&server.address, pins, &self.sign, ping).await?;
        let query = LogQuery { after: server.head.seq, follow: true, run: Some(run) };
        let mut frames = client.log(query, Some(server.head)).await?;
        first(&mut frames).await?;
        Ok((client, frames))
    }

    /// Reports whenever it has something new, and exchanges reports in between.
    async fn report(
        &self,
        server: &Server,
        client: &Client,
        run: Hash,
        mut news: watch::Receiver<Have>,
    ) -> Result<Infallible> {
        let (mut n, mut audit, mut delivered) = (0, AuditHead::EMPTY, None);
        let (mut told, mut accesses) = (0, 0);
        let (mut after, mut exchange_at) = (0, Instant::now());
        sleep(AFTER).await;
        loop {
            let (sent, have) = (Instant::now(), *news.borrow_and_update());
            n += 1;
            let (text, targets) = targets(&have);
            let is_due = sent >= exchange_at;
            let reads = Vec::from_iter((have.ver > told).then(|| applied(&have)));
            let along = AccessRequest { run, first: accesses, reads };
            let request = ReportRequest {
                accesses: Some(along).filter(|along| !along.reads.is_empty()),
                seen: self.seen(server, n, &have, audit, targets),
                targets: (delivered != Some(targets)).then_some(text),
                exchange: is_due.then_some(after),
            };
            let reply = client.report(&request).await?;
            (audit, delivered) = (reply.audit, Some(targets).filter(|_| !reply.wants_targets));
            if request.accesses.is_some() {
                (told, accesses) = (have.ver, reply.accesses.ok_or("accesses not taken")?.next);
            }
            if is_due {
                (after, exchange_at) = (reply.next, sent + jittered(EXCHANGE));
            }
            server.tell(Event::Reported(have.head.seq));
            sleep_until(sent + APART).await;
            tokio::select! {
                changed = news.changed() => {
                    changed?;
                    sleep(AFTER).await;
                }
                () = sleep_until(exchange_at) => {}
            }
        }
    }

    /// Signs its seen-record number `n`.
    fn seen(
        &self,
        server: &Server,
        n: u64,
        Have { head: SignedHead { epoch, seq, head, sig }, .. }: &Have,
        audit: AuditHead,
        targets: Hash,
    ) -> Envelope {
        let seen = Seen {
            machine: self.number,
            n,
            time: clock::now(),
            epoch: *epoch,
            seq: *seq,
            head: *head,
            server_sig: *sig,
            audit_n: audit.n,
            audit_head: audit.hash,
            targets,
            wish: None,
        };
        seen.sign(self.name.clone(), &self.sign, server.vault).unwrap()
    }
}

/// Takes in what the server sends.
async fn take(
    server: &Server,
    mut frames: Frames,
    have: watch::Sender<Have>,
) -> Result<Infallible> {
    let mut entry = None;
    loop {
        let batch = frames.next().await?;
        if batch.is_empty() {
            return Err("the server ended the stream".into());
        }
        for frame in batch {
            match frame {
                Frame::Entry { envelope, blobs } => entry = Some((envelope, blobs)),
                Frame::Head(head) => {
                    let (envelope, blobs) = entry.take().ok_or("a head without its entry")?;
                    let ver = taken(server, head, &envelope, &blobs)?;
                    let (seq, at, holds) = (head.seq, Instant::now(), ver.is_some());
                    server.tell(Event::Took { seq, at, holds });
                    have.send_modify(|have| {
                        let since = if holds { clock::now() } else { have.since };
                        *have = Have { head, ver: ver.unwrap_or(have.ver), since };
                    });
                }
                Frame::Beat => {}
                Frame::Genesis(_) => return Err("the log begins anew".into()),
            }
        }
    }
}

/// Takes an entry: the head is of that one, and the content is what it names. Returns the version
/// that came along, if one did.
fn taken(
    server: &Server,
    head: SignedHead,
    envelope: &Envelope,
    blobs: &[Inline],
) -> Result<Option<u64>> {
    if envelope.hash(Purpose::Entry(server.vault)) != head.head {
        return Err("the head is of another entry".into());
    }
    let entry: Entry = serde_json::from_slice(&envelope.body)?;
    match (&entry.ops[..], blobs) {
        (_, []) => Ok(None),
        ([log::Op::Put(put)], [Inline(blob)]) if Hash::of(&[blob]) == put.blob => Ok(Some(put.ver)),
        (ops, _) => Err(format!("the content is not what the entry names: {ops:?}").into()),
    }
}

/// Returns what it reports of its files, and the hash of that.
fn targets(Have { ver, since, .. }: &Have) -> (String, Hash) {
    let row = || TargetReport {
        name: Text::lossy(FILE),
        path: PATH.parse().unwrap(),
        ver: *ver,
        state: TargetState::Ok,
        since: *since,
        hook: HookResult::Ok,
        detail: Text::default(),
    };
    let targets = Vec::from_iter((*ver > 0).then(row));
    let agent = Text::lossy("vault-agent 0.1.0");
    Targets { agent, replaced: None, targets, scan: None }.write().unwrap()
}

/// Tells that its file has got a version.
fn applied(Have { ver, since, .. }: &Have) -> Fact {
    let applied = Some(Applied { file: Text::lossy(FILE), found: false, hook: None });
    let path = Some(PATH.parse().unwrap());
    Fact { at: Some(*since), path, ver: Some(*ver), applied, ..Fact::new(Op::LocalApplied) }
}

fn jittered(time: Duration) -> Duration {
    let [byte] = *random::<1>();
    time.mul_f64(1.0 + f64::from(byte) / 512.0)
}
