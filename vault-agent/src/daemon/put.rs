//! Puts content into the file of one target: what is there and whose it is is looked at first, what
//! somebody else wrote is never lost, and what is written is noted as ours.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::error::Code;
use shared::plaintext::Plaintext;
use shared::report::TargetState;

use super::fault::{TargetFault, in_one_line};
use super::under_way::UnderWay;
use crate::engine::Commit;
use host::files::binds::Mounts;
use host::files::git::GitGate;
use host::files::{
    self, Access, Exchanged, FileError, FileId, Found, Kept, LARGEST, Print, Read, Replaced,
    Swapped,
};
use host::{account, clock};
use machine::config::{Existing, Target, WriteMode};
use machine::render::{Layout, Rendered, block, contact};
use machine::written::{self, Known, TakeError, Taken, Written};

/// The mode of a file that was not there.
const MODE: u32 = 0o600;

/// How long the mounts of this host are taken for what they were.
const MOUNTS_FOR: Duration = Duration::from_secs(5);

/// What is known of the files of this host, for all targets.
#[derive(Debug)]
pub(super) struct Disk {
    gate: GitGate,
    written: Written,
    /// Which target a file is of.
    places: Mutex<HashMap<FileId, PathBuf>>,
    mounts: Mutex<Option<(Instant, Mounts)>>,
    /// Which files a thread is at.
    pub(super) under_way: UnderWay,
}

/// What was put.
pub(super) struct Put {
    pub(super) replaced: Replaced,
    pub(super) print: Print,
    /// What the owner should know.
    pub(super) notes: Vec<String>,
}

/// What becomes of what is there.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing of it would be lost.
    Replace,
    /// A copy is kept.
    Keep,
    /// It stays: what would be lost.
    Hold(String),
}

impl Disk {
    pub(super) fn new(state: &Path) -> Self {
        Self {
            gate: GitGate::default(),
            written: Written::new(state),
            places: Mutex::default(),
            mounts: Mutex::default(),
            under_way: UnderWay::default(),
        }
    }

    /// Takes up which files are targets; forgets what is gone. May wait for the disk.
    pub(super) fn targets_are(&self, targets: &[PathBuf]) {
        lock(&self.places).retain(|_, path| targets.contains(path));
    }

    /// Clears away what a killed agent left beside its targets.
    pub(super) fn sweep(&self, targets: &[PathBuf]) {
        self.written.forget_gone(targets);
        for path in targets {
            if let Err(error) = files::sweep(path) {
                tracing::debug!(file = %path.display(), "{}", in_one_line(error));
            }
        }
    }

    /// Makes the file of `target` hold `rendered`, if git does not pick it up; `first` tells that
    /// this target was never written as it is configured now.
    pub(super) fn write(
        &self,
        target: &Target,
        rendered: &Rendered,
        first: bool,
        commit: &Commit,
    ) -> Result<Put, TargetFault> {
        let path = &*self.place(target)?;
        self.gate.pass(path, target.git).map_err(|error| {
            let hint = error.hint();
            TargetFault::new(TargetState::Refused, in_one_line(error), hint)
        })?;
        if target.write == WriteMode::InPlace {
            files::finish_in_place(path)?;
        }
        let old = files::read(path, LARGEST)?;
        let known = self.written.of(path);
        // Where links lead elsewhere now, or what was known is lost, it is another file.
        let first = first || known.is_none();
        let body = rendered.content.expose();
        let wanted = wanted(target, &rendered.content, old.as_ref())?;
        let access = access(target, old.as_ref(), known.as_ref(), first)?;
        let mut put = Put {
            replaced: Replaced::Unchanged,
            print: Print::of(wanted.expose(), access),
            notes: Vec::new(),
        };
        if files::compare(path, wanted.expose(), access)? == Found::Same {
            kept(commit)?;
            self.note(path, Some(body), body, noted(access, old.as_ref()))?;
            return Ok(put);
        }
        let found = part(target, old.as_ref())?;
        let copy = match verdict(target, found, body, known.as_ref(), first) {
            Verdict::Replace => None,
            Verdict::Keep => old.as_ref().map(|old| keep(path, old)).transpose()?,
            Verdict::Hold(loss) => return Err(foreign(&loss)),
        };
        let before = (old.as_ref(), found);
        let swapped = self.swap(target, path, before, (&wanted, body), access, commit);
        if !matches!(swapped, Ok(Swapped::Done)) {
            take_back(path, old.as_ref(), copy.as_ref());
        }
        if swapped? == Swapped::Moved {
            let (text, hint) = ("the file is being edited", "it is tried again in a moment");
            return Err(TargetFault::new(TargetState::Waiting, text, hint));
        }
        if let Some(Kept { copy, .. }) = copy {
            put.notes.push(format!("what was there before is in `{}`", copy.display()));
        }
        if old.is_some() && target.write == WriteMode::Replace {
            put.notes.extend(self.left_behind(path));
        }
        for note in rendered.warnings.iter().chain(&put.notes) {
            tracing::warn!(file = %path.display(), "{note}");
        }
        put.replaced = Replaced::Written;
        Ok(put)
    }

    /// Puts the whole content in the place of the old one. While it is being written beside the
    /// file, it is noted that it is ours: a crash leaves no content that would count as foreign.
    fn swap(
        &self,
        target: &Target,
        path: &Path,
        (old, found): (Option<&Read>, Option<&[u8]>),
        (wanted, body): (&Plaintext, &[u8]),
        access: Access,
        commit: &Commit,
    ) -> Result<Swapped, TargetFault> {
        std::thread::scope(|scope| {
            let noted = noted(access, old);
            let mut noting = Some(scope.spawn(move || self.note(path, found, body, noted)));
            let mut ready = || {
                kept(commit)?;
                let ended = || Err(TargetFault::new(TargetState::Failed, "interrupted", ""));
                noting.take().map_or(Ok(()), |noting| noting.join().unwrap_or_else(|_| ended()))
            };
            let content = wanted.expose();
            Ok(match (old, target.write) {
                (None, _) => files::create_when(path, content, access, ready)?,
                (Some(old), WriteMode::InPlace) => {
                    ready()?;
                    files::in_place(path, old.content.expose(), content, access)?
                }
                (Some(old), WriteMode::Replace) => {
                    let before = old.content.expose();
                    match files::exchange_when(path, before, content, access, ready)? {
                        Exchanged::Done(_) => Swapped::Done,
                        Exchanged::Moved => Swapped::Moved,
                    }
                }
            })
        })
    }

    /// Tells how the file stands to what it should be, touching nothing.
    pub(super) fn compare(
        &self,
        target: &Target,
        rendered: &Rendered,
        first: bool,
        commit: &Commit,
    ) -> Result<(Found, Print), TargetFault> {
        kept(commit)?;
        let path = &*self.place(target)?;
        let old = files::read(path, LARGEST)?;
        let wanted = wanted(target, &rendered.content, old.as_ref())?;
        let access = access(target, old.as_ref(), self.written.of(path).as_ref(), first)?;
        let found = files::compare(path, wanted.expose(), access)?;
        Ok((found, Print::of(wanted.expose(), access)))
    }

    /// Removes the file, or its block, if it is as it was written; tells whether it was there.
    pub(super) fn remove(&self, target: &Target, commit: &Commit) -> Result<bool, TargetFault> {
        kept(commit)?;
        match self.written.take(target) {
            Ok(Taken::File | Taken::Block) => Ok(true),
            Ok(Taken::Absent | Taken::NoBlock) => Ok(false),
            Ok(Taken::Foreign) => {
                let text = "holds what this agent did not write, and is not removed";
                let hint = "delete it by hand if nobody needs it";
                Err(TargetFault::new(TargetState::Foreign, text, hint).lasting())
            }
            Ok(Taken::Moved) => {
                let (text, hint) = ("the file is being edited", "it is tried again in a moment");
                Err(TargetFault::new(TargetState::Waiting, text, hint))
            }
            Err(TakeError::File(error)) => Err(error.into()),
            Err(TakeError::Block(error)) => Err(error.into()),
        }
    }

    /// Returns where the file of a target is, if it is no other target's too.
    fn place<'a>(&self, target: &'a Target) -> Result<std::borrow::Cow<'a, Path>, TargetFault> {
        let path = written::real(target)?;
        let Some(id) = files::file_id(&path) else { return Ok(path) };
        let mut places = lock(&self.places);
        let owner = places.entry(id.clone()).or_insert_with(|| target.path.clone());
        if *owner == target.path {
            return Ok(path);
        }
        // Its folder may be another one by now.
        if files::file_id(owner).as_ref() != Some(&id) {
            owner.clone_from(&target.path);
            return Ok(path);
        }
        let text = format!("is the same file as `{}`, which is a target too", owner.display());
        let hint = "name the file once: its folder is mounted or linked under two names";
        Err(TargetFault::new(TargetState::Refused, text, hint))
    }

    fn note(
        &self,
        path: &Path,
        found: Option<&[u8]>,
        body: &[u8],
        access: Access,
    ) -> Result<(), TargetFault> {
        self.written.note(path, found, body, access).map_err(|error| {
            let hint = "look at the agent's disk; the file is as it was";
            TargetFault::new(TargetState::Failed, format!("{error:#}"), hint)
        })
    }

    /// Says who goes on to see the old file.
    fn left_behind(&self, path: &Path) -> Option<String> {
        let mut mounts = lock(&self.mounts);
        let now = Instant::now();
        if mounts.as_ref().is_none_or(|(since, _)| now.duration_since(*since) > MOUNTS_FOR) {
            *mounts = Some((now, Mounts::read()));
        }
        let elsewhere = mounts.as_ref().map(|(_, mounts)| mounts.of(path)).unwrap_or_default();
        let first = elsewhere.first()?;
        Some(format!(
            "it is mounted by itself at `{}`, where the old content stays: mount its folder, or set \
             `write = \"in_place\"`",
            first.display()
        ))
    }
}

/// Decides what becomes of `found`, what is there in the place of `body`.
fn verdict(
    target: &Target,
    found: Option<&[u8]>,
    body: &[u8],
    known: Option<&Known>,
    first: bool,
) -> Verdict {
    let Some(found) = found else { return Verdict::Replace };
    if known.is_some_and(|known| known.is(found)) {
        return Verdict::Replace;
    }
    let met = contact(target.format, found, body);
    match met.loss() {
        None if met == (machine::render::Contact::Covered { lines: false }) => Verdict::Replace,
        None => Verdict::Keep,
        // An edit of what was ours is put back, and kept.
        Some(_) if !first || target.existing == Existing::Replace => Verdict::Keep,
        Some(loss) => Verdict::Hold(loss),
    }
}

/// Keeps what a file holds beside it.
fn keep(path: &Path, old: &Read) -> Result<Kept, TargetFault> {
    files::keep_before(path, old, clock::now()).map_err(|error| {
        let (text, hint) = (in_one_line(&error), error.hint());
        TargetFault::new(TargetState::Foreign, text, hint)
    })
}

/// Removes a copy of what has stayed where it was: that is looked at, as an error may have come
/// after the change.
fn take_back(path: &Path, old: Option<&Read>, copy: Option<&Kept>) {
    let (Some(old), Some(Kept { copy, is_new: true })) = (old, copy) else { return };
    let stays = files::read(path, LARGEST)
        .is_ok_and(|found| found.is_some_and(|found| found.content == old.content));
    if stays && let Err(error) = files::remove(copy) {
        tracing::debug!(file = %copy.display(), "{}", in_one_line(error));
    }
}

fn foreign(loss: &str) -> TargetFault {
    let text = format!("holds what this agent did not write: {loss}");
    TargetFault::new(TargetState::Foreign, text, Code::TargetForeign.hint()).lasting()
}

/// Returns what the file must hold if it holds `old`: of a block, what is around it stays.
fn wanted(
    target: &Target,
    rendered: &Plaintext,
    old: Option<&Read>,
) -> Result<Plaintext, TargetFault> {
    match target.layout {
        Layout::File => Ok(rendered.clone()),
        Layout::Block => Ok(block::put(old.map_or(&[], |old| old.content.expose()), rendered)?),
    }
}

/// Returns what is in the place of our own lines.
fn part<'a>(target: &Target, old: Option<&'a Read>) -> Result<Option<&'a [u8]>, TargetFault> {
    let Some(old) = old else { return Ok(None) };
    Ok(written::part(target.layout, old.content.expose())?)
}

/// Waits until what the vault says is on this host's disk: a file must not be ahead of what the
/// agent knows after a power cut.
fn kept(commit: &Commit) -> Result<(), TargetFault> {
    if commit.wait() {
        return Ok(());
    }
    let hint = "look at the agent's disk; the file is as it was";
    Err(TargetFault::new(TargetState::Failed, "the agent's database cannot be written", hint))
}

/// Returns owner and mode: those that are configured; else those of a file that was there when this
/// target first met it.
fn access(
    target: &Target,
    old: Option<&Read>,
    known: Option<&Known>,
    first: bool,
) -> Result<Access, TargetFault> {
    let unknown = |kind: &str, key: &str, name: &str| {
        let text = format!("{kind} `{name}` is not known on this host");
        let hint = format!("make the {kind}, or change `{key}` of this target");
        TargetFault::new(TargetState::Failed, text, hint)
    };
    let user = |name: &String| account::user(name).ok_or_else(|| unknown("user", "owner", name));
    let group = |name: &String| account::group(name).ok_or_else(|| unknown("group", "group", name));
    let owner = target.owner.as_ref().map(user).transpose()?;
    let gid = target.group.as_ref().map(group).transpose()?;
    let there = old.map(|old| old.access);
    let (before, other) = (known.map(Known::access), there.filter(|_| first));
    let kept = other.or(before).or(there);
    let own_gid = match (&owner, kept) {
        (Some(owner), Some(kept)) if kept.uid == Some(owner.uid) => kept.gid,
        (Some(owner), _) => Some(owner.gid),
        (None, kept) => kept.and_then(|kept| kept.gid),
    };
    // With an ACL the group's rights are its mask, which changes as entries are set.
    let masked = old.filter(|old| old.mode_without_acl.is_some()).map(|old| old.access.mode);
    let mode = target.mode.or(masked).or(kept.map(|kept| kept.mode)).unwrap_or(MODE);
    let uid = owner.map(|owner| owner.uid).or(kept.and_then(|kept| kept.uid));
    Ok(Access { uid, gid: gid.or(own_gid), mode })
}

/// Returns what is noted of the access of a file that took the place of `old`: with an ACL, what it
/// is without. A mask that outlived its ACL would give its rights to the group.
fn noted(access: Access, old: Option<&Read>) -> Access {
    let mode = old.and_then(|old| old.mode_without_acl).unwrap_or(access.mode);
    Access { mode, ..access }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<FileError> for TargetFault {
    fn from(error: FileError) -> Self {
        let hint = error.hint();
        Self::new(TargetState::Failed, in_one_line(error), hint)
    }
}

impl From<block::BrokenBlock> for TargetFault {
    fn from(error: block::BrokenBlock) -> Self {
        let hint = "mend the markers, or remove them: the block is then written at the end";
        Self::new(TargetState::Refused, error.to_string(), hint)
    }
}

#[cfg(test)]
mod tests;
