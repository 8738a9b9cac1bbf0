//! What local changes become: CAS, merges and no-ops decided on the state that the entry is built
//! on, each caller's changes as one, no caller's fault another's. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;
use shared::blob::Kind;
use shared::error::{Code, Error};
use shared::limits;
use shared::log::{MetaSet, MountConfig, MountSet, Op, State, Versions, was};
use shared::path::{Mount, SecretPath};
use shared::plaintext::Plaintext;

use machine::binary;

use super::blob::is_object;
use super::rights::is_kept;
use super::types::{
    Change, Content, CustomChange, MetaMerge, Own, PutContent, ReadError, Settings, WriteError,
};

/// One operation to be, in the order of the entry.
#[derive(Clone, Debug)]
pub(super) enum Draft {
    /// A version that is still to be encrypted.
    Put(DraftPut),
    /// Anything else.
    Op(Box<Op>),
}

/// A version that is still to be encrypted.
#[derive(Clone, Debug)]
pub(super) struct DraftPut {
    pub(super) path: SecretPath,
    pub(super) ver: u64,
    pub(super) kind: Kind,
    pub(super) content: Arc<Plaintext>,
    /// Whether it was merged into the version before.
    pub(super) merged: bool,
}

/// Newest contents that merges start from, as far as they were asked for.
pub(super) type Bases = HashMap<SecretPath, Result<Content, ReadError>>;

/// Why a caller's changes are not drafted.
#[derive(Debug)]
pub(super) enum Not {
    /// For good.
    Allowed(WriteError),
    /// The newest content of a path is needed first.
    Loaded(SecretPath),
}

impl From<WriteError> for Not {
    fn from(fault: WriteError) -> Self {
        Self::Allowed(fault)
    }
}

/// Decides the changes of each caller, in order; what an earlier one does counts for the later.
pub(super) fn decide<'a>(
    state: &State,
    own: &Own,
    callers: impl Iterator<Item = &'a [Change]>,
    bases: &Bases,
) -> Vec<Result<Vec<Draft>, Not>> {
    let mut drafting =
        Drafting { state, own, bases, views: HashMap::new(), mounts: HashMap::new() };
    callers.map(|changes| drafting.caller(changes)).collect()
}

/// The state with the drafts so far.
struct Drafting<'a> {
    state: &'a State,
    own: &'a Own,
    bases: &'a Bases,
    views: HashMap<SecretPath, View>,
    /// What became of mounts; `None` for a dropped one.
    mounts: HashMap<Mount, Option<MountConfig>>,
}

/// A secret with the drafts so far.
#[derive(Clone)]
struct View {
    known: bool,
    /// Number of the last version ever.
    last: u64,
    current: Option<Current>,
    settings: MetaSet,
}

#[derive(Clone)]
struct Current {
    ver: u64,
    kept: bool,
    /// The content, if it is a draft's.
    drafted: Option<(Kind, Arc<Plaintext>)>,
}

impl Drafting<'_> {
    fn caller(&mut self, changes: &[Change]) -> Result<Vec<Draft>, Not> {
        let (views, mounts) = (self.views.clone(), self.mounts.clone());
        let drafted: Result<Vec<Option<Draft>>, Not> =
            changes.iter().map(|change| self.change(change)).collect();
        if drafted.is_err() {
            (self.views, self.mounts) = (views, mounts);
        }
        Ok(drafted?.into_iter().flatten().collect())
    }

    fn change(&mut self, change: &Change) -> Result<Option<Draft>, Not> {
        self.check_right(change)?;
        match change {
            Change::Put { path, kind, content, cas } => self.put(path, *kind, content, *cas),
            Change::Delete { path, versions: None } => {
                let current = self.view(path).current.as_ref().filter(|current| current.kept);
                let versions: Vec<u64> = current.map(|current| current.ver).into_iter().collect();
                Ok(self.mark(path, versions, Op::Delete))
            }
            Change::Delete { path, versions: Some(versions) } => {
                Ok(self.mark(path, self.there(path, versions), Op::Delete))
            }
            Change::Undelete { path, versions } => {
                Ok(self.mark(path, self.there(path, versions), Op::Undelete))
            }
            Change::Destroy { path, versions } => {
                Ok(self.mark(path, self.there(path, versions), Op::Destroy))
            }
            Change::MetaMerge(merge) => self.meta_merge(merge),
            Change::Forget { path } => {
                let view = self.view(path);
                if !std::mem::replace(&mut view.known, false) {
                    return Ok(None);
                }
                view.current = None;
                view.settings = unset(path);
                Ok(Some(Draft::Op(Box::new(Op::Forget { path: path.clone() }))))
            }
            Change::MountDrop(mount) => {
                self.mounts.insert(mount.clone(), None);
                Ok(Some(Draft::Op(Box::new(Op::MountDrop { mount: mount.clone() }))))
            }
            Change::Mount(mount, settings) => Ok(Some(self.mount(mount, settings))),
        }
    }

    fn check_right(&self, change: &Change) -> Result<(), WriteError> {
        let (_, machine) = self.own.find(self.state).ok_or(WriteError::Denied)?;
        let may = match change {
            Change::Put { path, .. }
            | Change::Delete { path, .. }
            | Change::Undelete { path, .. }
            | Change::Destroy { path, .. }
            | Change::MetaMerge(MetaMerge { path, .. })
            | Change::Forget { path } => machine.write.cover(path),
            Change::MountDrop(mount) | Change::Mount(mount, _) => {
                machine.write.cover_mount(mount.as_str())
            }
        };
        if may { Ok(()) } else { Err(WriteError::Denied) }
    }

    fn view(&mut self, path: &SecretPath) -> &mut View {
        let state = self.state;
        self.views.entry(path.clone()).or_insert_with(|| View::of(state, path))
    }

    fn put(
        &mut self,
        path: &SecretPath,
        kind: Kind,
        content: &PutContent,
        cas: Option<u64>,
    ) -> Result<Option<Draft>, Not> {
        let bases = self.bases;
        let mount = self.mount_now(path.mount()).unwrap_or_default();
        let view = self.view(path);
        let current = view.current.as_ref().map_or(0, |current| current.ver);
        let is_merge = matches!(content, PutContent::Merge(_));
        if is_merge && view.current.is_none() {
            return Err(WriteError::Missing.into());
        }
        match cas {
            Some(cas) if cas != current => return Err(WriteError::Cas { current }.into()),
            None if mount.cas_required || view.settings.cas_required => {
                return Err(WriteError::CasRequired.into());
            }
            Some(_) | None => {}
        }
        if is_merge && view.current.as_ref().is_some_and(|current| !current.kept) {
            return Err(WriteError::Deleted { ver: current }.into());
        }
        let (kind, content) = match content {
            PutContent::Whole(bytes) => (kind, whole(path, kind, bytes)?),
            PutContent::Merge(patch) => merged(path, view, patch, bases)?,
        };
        if content.len() > limits::CONTENT {
            return Err(WriteError::TooLarge.into());
        }
        view.last += 1;
        view.known = true;
        let drafted = Some((kind, Arc::clone(&content)));
        view.current = Some(Current { ver: view.last, kept: true, drafted });
        let (path, ver) = (path.clone(), view.last);
        Ok(Some(Draft::Put(DraftPut { path, ver, kind, content, merged: is_merge })))
    }

    /// Returns those of `versions` that exist, drafts included.
    fn there(&self, path: &SecretPath, versions: &[u64]) -> Vec<u64> {
        let view = self.views.get(path);
        if view.is_some_and(|view| !view.known) {
            return Vec::new();
        }
        let drafted = view.and_then(|view| view.current.as_ref()).map(|current| current.ver);
        let secret = self.state.secret(path);
        let stored = |ver: u64| {
            secret.and_then(|secret| secret.version(ver)).is_some_and(|found| !found.destroyed)
        };
        let mut there = versions.to_vec();
        there.retain(|ver| stored(*ver) || drafted == Some(*ver));
        there.sort_unstable();
        there.dedup();
        there
    }

    /// Drafts a mark on `versions`, nothing if there are none.
    fn mark(
        &mut self,
        path: &SecretPath,
        versions: Vec<u64>,
        op: impl FnOnce(Versions) -> Op,
    ) -> Option<Draft> {
        if versions.is_empty() {
            return None;
        }
        let current = self.view(path).current.as_mut();
        let marked = current.filter(|current| versions.contains(&current.ver));
        let op = op(Versions { path: path.clone(), versions });
        if let Some(current) = marked {
            current.kept = matches!(op, Op::Undelete(_));
        }
        Some(Draft::Op(Box::new(op)))
    }

    fn meta_merge(&mut self, merge: &MetaMerge) -> Result<Option<Draft>, Not> {
        let view = self.view(&merge.path);
        if merge.must_exist && !view.known {
            return Err(WriteError::Missing.into());
        }
        view.known = true;
        let (meta, settings) = (&mut view.settings, merge.settings);
        meta.max_versions = settings.max_versions.unwrap_or(meta.max_versions);
        meta.cas_required = settings.cas_required.unwrap_or(meta.cas_required);
        meta.delete_after = settings.delete_after.unwrap_or(meta.delete_after);
        match &merge.custom {
            CustomChange::Keep => {}
            CustomChange::Replace(custom) => meta.custom.clone_from(custom),
            CustomChange::Merge(changes) => merge_custom(&mut meta.custom, changes),
        }
        Ok(Some(Draft::Op(Box::new(Op::MetaSet(meta.clone())))))
    }

    fn mount(&mut self, mount: &Mount, settings: &Settings) -> Draft {
        let before = self.mount_now(mount.as_str());
        let mut config = before.unwrap_or_default();
        config.max_versions = settings.max_versions.unwrap_or(config.max_versions);
        config.cas_required = settings.cas_required.unwrap_or(config.cas_required);
        config.delete_after = settings.delete_after.unwrap_or(config.delete_after);
        self.mounts.insert(mount.clone(), Some(config));
        let MountConfig { max_versions, cas_required, delete_after } = config;
        let was = was::mount(mount, before.as_ref());
        let mount = mount.clone();
        let set = MountSet { mount, max_versions, cas_required, delete_after, was };
        Draft::Op(Box::new(Op::MountSet(set)))
    }

    /// Returns a mount as the drafts so far leave it.
    fn mount_now(&self, mount: &str) -> Option<MountConfig> {
        let stored = || self.state.mounts().get(mount).copied();
        self.mounts.get(mount).copied().unwrap_or_else(stored)
    }
}

impl View {
    fn of(state: &State, path: &SecretPath) -> Self {
        let last = state.due_version(path) - 1;
        let Some(secret) = state.secret(path) else {
            return Self { known: false, last, current: None, settings: unset(path) };
        };
        let current = secret.current().map(|(ver, version)| Current {
            ver,
            kept: is_kept(version),
            drafted: None,
        });
        let settings = MetaSet {
            path: path.clone(),
            max_versions: secret.max_versions,
            cas_required: secret.cas_required,
            delete_after: secret.delete_after,
            custom: secret.custom.texts(),
        };
        Self { known: true, last, current, settings }
    }
}

fn unset(path: &SecretPath) -> MetaSet {
    MetaSet {
        path: path.clone(),
        max_versions: 0,
        cas_required: false,
        delete_after: 0,
        custom: BTreeMap::new(),
    }
}

fn merge_custom(custom: &mut BTreeMap<String, String>, changes: &BTreeMap<String, Option<String>>) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(custom.insert(key.clone(), value.clone())),
            None => drop(custom.remove(key)),
        }
    }
}

/// Checks what is to be written whole.
fn whole(path: &SecretPath, kind: Kind, bytes: &Plaintext) -> Result<Arc<Plaintext>, WriteError> {
    if kind == Kind::Kv && !is_object(bytes.expose()) {
        return Err(WriteError::Refused(not_an_object(path)));
    }
    Ok(Arc::new(bytes.clone()))
}

fn not_an_object(path: &SecretPath) -> Error {
    Code::Parse.because(format!("content of `{path}` is not a JSON object"))
}

/// Merges `patch` into the newest content.
fn merged(
    path: &SecretPath,
    view: &View,
    patch: &Value,
    bases: &Bases,
) -> Result<(Kind, Arc<Plaintext>), Not> {
    let Some(current) = &view.current else { return Err(WriteError::Missing.into()) };
    let (kind, base) = match &current.drafted {
        Some((kind, content)) => (*kind, Arc::clone(content)),
        None => match bases.get(path) {
            Some(Ok(content)) if content.ver == current.ver => {
                (content.kind, Arc::clone(&content.bytes))
            }
            Some(Err(ReadError::Missing | ReadError::Deleted { .. })) => {
                return Err(WriteError::Deleted { ver: current.ver }.into());
            }
            Some(Err(fault)) => return Err(WriteError::Unreadable(fault.clone()).into()),
            Some(Ok(_)) | None => return Err(Not::Loaded(path.clone())),
        },
    };
    let refused = |_| WriteError::Refused(not_an_object(path));
    let base = match kind {
        Kind::Kv => base,
        Kind::Raw => Arc::new(binary::file_json(base.expose())),
    };
    let mut value: Value = serde_json::from_slice(base.expose()).map_err(refused)?;
    if !value.is_object() || !(patch.is_object() || patch.is_null()) {
        return Err(WriteError::Refused(not_an_object(path)).into());
    }
    merge_patch(&mut value, patch);
    if value.is_null() {
        value = Value::Object(serde_json::Map::new());
    }
    if let Some(bytes) = value.as_object().and_then(binary::only_file) {
        return Ok((Kind::Raw, Arc::new(bytes)));
    }
    let text = serde_json::to_vec(&value).map_err(refused)?;
    Ok((Kind::Kv, Arc::new(Plaintext::new(text))))
}

/// Applies a merge patch (RFC 7396, section 2).
fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(object) = target.as_object_mut() else { return };
    for (key, change) in changes {
        if change.is_null() {
            object.remove(key);
        } else {
            merge_patch(object.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_patches_do_what_rfc_7396_says() {
        for (mut target, patch, expected) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            merge_patch(&mut target, &patch);
            assert_eq!(target, expected);
        }
    }
}
