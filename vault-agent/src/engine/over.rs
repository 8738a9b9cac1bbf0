//! Going over: leaving entries that this machine has verified for another branch of the log, where
//! an owner has resumed the vault, or where somebody on this host has accepted a head (design/trust,
//! *Life cycle*, restore). Everything else that does not follow on the own log stays a fault.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::head::{Head, SignedHead};
use shared::log::{Entry, Op, State};
use shared::name::Actor;
use shared::signed::{Envelope, Purpose};
use shared::wire::v1::log::{Frame, LogQuery};
use tokio::time::sleep;

use super::alarms::Alarms;
use super::follow;
use super::ledger::rebase::{Branch, Leaving, Left};
use super::link::Ended;
use super::parts::Parts;
use super::told::told;
use crate::state::set_aside::{self, SetAside};
use machine::local::Accepted;
use machine::remote::{Client, Frames};

/// Bytes of a branch that are held until the entry that allows it has come.
const MOST: usize = 32 << 20;
/// The alarm while entries that this machine wrote are set aside.
pub(super) const SET_ASIDE: &str = "set-aside";
/// Entries that an alarm names, and that are looked at for it.
const NAMED: usize = 5;
pub(super) const ALARMED: usize = 1000;
/// How often a machine that a fork has stopped looks whether an owner has resumed the vault.
const WATCH: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });

/// By what right entries may be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// An owner has resumed the vault on the branch.
    Resumed,
    /// Somebody on this host says that the branch with this head is the true one.
    Accepted(Head),
}

/// Tells whether such a fault may come from a branch on which an owner has resumed the vault.
pub(super) const fn may_be_resumed(error: &Error) -> bool {
    matches!(error.code, Code::ServerBehind | Code::Prev | Code::Fork)
}

/// Goes over where a stream has ended because the server is on a branch that an owner has resumed;
/// returns why it has ended.
pub(super) async fn instead(parts: &Arc<Parts>, client: &Client, ended: Ended) -> Ended {
    let Ended::Refused(error) = &ended else { return ended };
    if !may_be_resumed(error) {
        return ended;
    }
    match go(parts, client, Right::Resumed).await {
        Ok(None) => ended,
        Ok(Some(_)) => Ended::Lost("this machine has gone over to the vault's new branch".into()),
        Err(Ended::Refused(halt)) if halt.code == Code::Fork => Ended::Refused(halt),
        Err(why) => {
            tracing::warn!(why = format!("{:#}", fault(why)), "not gone over");
            ended
        }
    }
}

/// Looks now and then whether an owner has resumed the vault, while a fork stops everything else;
/// returns when this machine has gone over.
pub(super) async fn watch(parts: &Arc<Parts>, addresses: &[String]) {
    loop {
        let is_acting = parts.link.look(|link| link.acting);
        if !is_acting && let Some(client) = follow::reach(parts, addresses).await {
            match go(parts, &client, Right::Resumed).await {
                Ok(Some(_)) => return,
                Ok(None) => {}
                Err(Ended::Refused(halt)) if halt.code == Code::Fork => parts.link.refuse(&halt),
                Err(why) => {
                    tracing::info!(why = format!("{:#}", fault(why)), "the fork stands");
                }
            }
        }
        sleep(follow::jittered(WATCH)).await;
    }
}

/// Looks at the server's branch and goes over to it where `right` allows that. `None` if nothing on
/// the branch does.
///
/// # Errors
/// `E_FORK` if an owner has resumed the vault there and this machine cannot tell by itself that it
/// may follow; what is wrong with the branch; or if the connection or the database fails.
pub(super) async fn go(
    parts: &Arc<Parts>,
    client: &Client,
    right: Right,
) -> Result<Option<Left>, Ended> {
    let Some(branch) = branch(parts, client, right).await? else { return Ok(None) };
    let (vault, head) = (parts.own.pins.vault, branch.head.place());
    let decide = move |leaving: &Leaving<'_>| match right {
        Right::Accepted(_) => Ok(()),
        Right::Resumed => decide(vault, leaving).map_err(|why| halt(why, head)),
    };
    let left = parts.ledger.rebase(branch, decide).await??;
    say(&parts.alarms, &left);
    parts.reports.gone_over().await?;
    parts.link.go_on();
    parts.link.nudge();
    Ok(Some(left))
}

/// Says why this machine does not follow, and what somebody on its host may do about it.
fn halt(why: String, head: Head) -> Error {
    Code::Fork.because(format!(
        "{why}; if an admin confirms over another channel that the vault went on there, run here: \
         vault-agent accept {head}"
    ))
}

/// Decides whether an owner's resuming is enough to leave what is to be set aside.
fn decide(vault: Hash, leaving: &Leaving<'_>) -> Result<(), String> {
    let resumes = leaving.branch.iter().filter(|envelope| resume(envelope).is_some());
    let valid = resumes.clone().filter(|envelope| is_signed(leaving.state, vault, envelope));
    let mut by = None;
    for envelope in valid {
        if envelope.by == Actor::Root {
            return Ok(());
        }
        by = Some(&envelope.by);
    }
    if by.is_none() {
        let by = resumes.map(|envelope| envelope.by.to_string()).next_back().unwrap_or_default();
        return Err(format!(
            "`{by}` resumed the vault and is no owner of it as this machine knows it"
        ));
    }
    let owners = |envelope: &&Envelope| !matches!(envelope.by, Actor::Machine(_));
    let acts = leaving.lost.iter().filter(owners);
    let Some(first) = acts.clone().next() else { return Ok(()) };
    let what = first.parse::<Entry>().map(|entry| told(&entry).join(", ")).unwrap_or_default();
    Err(format!(
        "the vault was resumed without {} of its owners' acts that this machine has seen: `{}`: {what}",
        acts.count(),
        first.by
    ))
}

/// Returns the entry if an owner resumes with it.
fn resume(envelope: &Envelope) -> Option<Entry> {
    if matches!(envelope.by, Actor::Machine(_)) {
        return None;
    }
    let entry: Entry = envelope.parse().ok()?;
    matches!(entry.ops.first(), Some(Op::Resume(_))).then_some(entry)
}

fn is_signed(state: &State, vault: Hash, envelope: &Envelope) -> bool {
    let purpose = Purpose::Entry(vault);
    state.key(&envelope.by).is_some_and(|key| envelope.verify(key, purpose).is_ok())
}

/// Gets the server's branch after the last entry in common, as far as the entry that gives the
/// right and the first head after it. `None` if no such entry is there.
async fn branch(parts: &Parts, client: &Client, right: Right) -> Result<Option<Branch>, Ended> {
    let own = parts.ledger.read().state.place();
    let common = common(parts, client, own.seq).await?;
    let vault = parts.own.pins.vault;
    let mut pages = Pages::after(client, common);
    let (mut entries, mut bytes, mut found) = (Vec::new(), 0, false);
    while let Some(line) = pages.next().await? {
        match line {
            Line::Entry(envelope) => {
                bytes += envelope.body.len();
                if bytes > MOST {
                    return Ok(None);
                }
                found |= match right {
                    Right::Resumed => resume(&envelope).is_some(),
                    Right::Accepted(head) => {
                        let hash = envelope.hash(Purpose::Entry(vault));
                        pages.position == head.seq && hash == head.head
                    }
                };
                entries.push(envelope);
            }
            Line::Head(head) if found && head.seq == pages.position => {
                return Ok(Some(Branch { own, common, entries, head }));
            }
            Line::Head(_) => {}
        }
    }
    Ok(None)
}

/// Finds the last entry in common with the server's log by what it says of its entries: a lie leads
/// to a branch that does not follow, and is noticed when that is applied.
pub(super) async fn common(parts: &Parts, client: &Client, own: u64) -> Result<u64, Ended> {
    let (end, head) = ask(client, own).await?;
    let same = |seq: u64, there: Option<Hash>| async move {
        let here = parts.ledger.hash_at(seq).await?;
        Ok::<bool, Ended>(here.is_some() && here == there)
    };
    let (mut low, mut high) = (0, own.min(end));
    let at = if end <= own { (end, Some(head)) } else { (own, before(client, own).await?) };
    if same(at.0, at.1).await? {
        return Ok(at.0);
    }
    // Entry `low` is in common, `high` is not: most losses are of the last few.
    let mut step = 1;
    while high - low > 1 {
        let middle = (high.saturating_sub(step)).max(low + (high - low) / 2).min(high - 1);
        if same(middle, before(client, middle).await?).await? {
            low = middle;
        } else {
            high = middle;
            step *= 2;
        }
    }
    Ok(low)
}

/// Returns where the server says that its log ends.
async fn ask(client: &Client, after: u64) -> Result<(u64, Hash), Ended> {
    let mut pages = Pages::after(client, after);
    while let Some(line) = pages.next().await? {
        if let Line::Head(head) = line {
            return Ok((head.seq, head.head));
        }
    }
    Err(Ended::Lost("the server does not say where its log ends".into()))
}

/// Returns the hash of the server's entry `seq`, as the one after it says.
async fn before(client: &Client, seq: u64) -> Result<Option<Hash>, Ended> {
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
enum Line {
    Entry(Envelope),
    Head(SignedHead),
}

/// The server's log after some entry, page by page.
struct Pages<'a> {
    client: &'a Client,
    /// The page that is read, and where it began.
    page: Option<(Frames, u64)>,
    ready: VecDeque<Frame>,
    /// The last entry that was read.
    position: u64,
}

impl<'a> Pages<'a> {
    const fn after(client: &'a Client, position: u64) -> Self {
        Self { client, page: None, ready: VecDeque::new(), position }
    }

    /// Returns the next line; `None` at the end of the log.
    async fn next(&mut self) -> Result<Option<Line>, Ended> {
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
                    let query = LogQuery { after: self.position, follow: false };
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

/// Ends `E_FORK`, as somebody on this host says that the history with this head is the true one:
/// the own one where it holds the head, else the server's.
///
/// # Errors
/// If nothing is halted, the server cannot be reached, or its history does not hold the head.
pub(super) async fn accept(parts: &Arc<Parts>, head: Head) -> Result<Accepted> {
    if !parts.link.look(|link| link.halted) {
        bail!(
            Code::Missing.because("no `E_FORK` stands on this machine: there is nothing to accept")
        );
    }
    let holds = parts.ledger.read().state.epoch_at(head.seq) == head.epoch
        && parts.ledger.hash_at(head.seq).await? == Some(head.head);
    let left = if holds {
        parts.link.go_on();
        None
    } else {
        let client = client(parts).await?;
        let left = go(parts, &client, Right::Accepted(head)).await.map_err(fault)?;
        let why = "the server's log does not hold that head: compare it with what the admin has";
        Some(left.ok_or_else(|| Code::Missing.because(why))?)
    };
    know_others(parts).await?;
    tracing::warn!(%head, "the history with this head was accepted by hand");
    let set_aside = left.map_or(0, |left| left.entries.len() as u64);
    Ok(Accepted { set_aside, seq: parts.ledger.read().state.seq() })
}

/// Notes which other branches are shown now: that they exist is no news any more.
async fn know_others(parts: &Parts) -> Result<()> {
    let mut others = Vec::new();
    for (_, peer) in parts.reports.peers() {
        let head = peer.seen.signed_head();
        if parts.ledger.judge(&head).await?.is_err() {
            others.push(head.head);
        }
    }
    let known = parts
        .store
        .write(move |conn| others.iter().try_for_each(|head| set_aside::know(conn, *head)));
    Ok(known.await?)
}

/// Turns what ended a look at the server's log into an error for people.
pub(super) fn fault(ended: Ended) -> anyhow::Error {
    match ended {
        Ended::Lost(why) => anyhow!(why),
        Ended::Refused(error) | Ended::Stranger(error) => error.into(),
        Ended::Local(fault) => fault.into(),
    }
}

/// Connects, beside the connection that is kept, if one is.
pub(super) async fn client(parts: &Parts) -> Result<Client> {
    let known = parts.link.now().address;
    match follow::reach(parts, known.as_slice()).await {
        Some(client) => Ok(client),
        None => follow::reach(parts, &[]).await.with_context(|| parts.link.now().reason()),
    }
}

/// Says what was set aside: to the log all of it, to people what this machine itself wrote.
fn say(alarms: &Alarms, left: &Left) {
    for SetAside { seq, own, envelope, .. } in &left.entries {
        let entry = envelope.parse::<Entry>();
        let (what, time) =
            entry.map(|entry| (told(&entry).join(", "), entry.time)).unwrap_or_default();
        tracing::warn!(seq, own, by = %envelope.by, %time, what, "set aside: the vault went on without it");
    }
    tracing::warn!(
        entries = left.entries.len(),
        after = left.common,
        "went over to the vault's new branch"
    );
    raise(alarms, &left.entries);
}

/// Raises the alarm about what this machine wrote and the vault went on without, if there is any.
pub(super) fn raise(alarms: &Alarms, entries: &[SetAside]) {
    let written = |entry: &Entry| {
        entry.ops.iter().any(|op| op.path().is_some() && !matches!(op, Op::Rewrap(_)))
    };
    let own = entries.iter().filter(|entry| entry.own);
    let own: Vec<Entry> =
        own.filter_map(|entry| entry.envelope.parse().ok()).filter(written).collect();
    if own.is_empty() {
        return;
    }
    let named: Vec<String> = own
        .iter()
        .rev()
        .take(NAMED)
        .map(|entry| format!("{} ({})", told(entry).join(", "), entry.time))
        .collect();
    let more = own.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    alarms.raise(
        SET_ASIDE,
        "",
        format!(
            "the vault went on from an older copy without what this machine wrote: {}{more}; \
             `vault-agent set-aside` lists it, with --show PATH the content; write again what is \
             still wanted, then `vault-agent set-aside --clear`",
            named.join("; ")
        ),
    );
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
        bytes += envelope.body.len();
        if bytes > MOST {
            let why = format!("the server's log differs by more than {} MiB", MOST >> 20);
            return Err(Ended::Refused(Code::Limits.because(why)));
        }
        entries.push(envelope);
    }
    Ok(entries)
}
