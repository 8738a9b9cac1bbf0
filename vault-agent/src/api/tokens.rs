//! Tokens for local programs, each for some paths and a time: kept as hashes in one file of the
//! state directory. The routes that make and revoke them live in `auth`.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use shared::grant::{Grant, Grants};
use shared::hash::Hash;
use shared::keys;
use shared::path::SecretPath;
use shared::time::Time;
use zeroize::Zeroizing;

use host::clock;
use host::files::{self, Access};

/// File in the state directory.
const FILE: &str = "tokens.json";
/// Start of every token made here, so that scanners and people know it.
const PREFIX: &str = "vltp.";
/// Most tokens at a time.
const MOST: usize = 1000;
/// Most of them that one token may have made.
const MOST_OF_ONE: usize = 100;
/// Only format so far.
const FORMAT: u32 = 1;

/// What a caller may do with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// Read it, its metadata, and the names beside it.
    Read,
    /// See its metadata, which whoever writes it needs as well.
    Look,
    /// Change it in any way.
    Write,
}

/// What a caller may do; this machine's own grants bound it.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    /// Whatever this machine may.
    All,
    /// What a token says, be it all.
    Limited(Arc<Issued>),
}

impl Scope {
    /// Tells whether the caller may do whatever this machine may.
    pub(super) fn is_all(&self) -> bool {
        match self {
            Self::All => true,
            Self::Limited(token) => token.all,
        }
    }

    /// Tells whether the caller has the right on `path`.
    pub(super) fn covers(&self, path: &SecretPath, right: Right) -> bool {
        match self {
            Self::All => true,
            Self::Limited(token) => {
                token.all || (token.write || right != Right::Write) && token.paths.cover(path)
            }
        }
    }

    /// Tells whether the caller may list `folder`, which ends in `/`.
    pub(super) fn covers_folder(&self, folder: &str) -> bool {
        match self {
            Self::All => true,
            Self::Limited(token) => token.covers(folder),
        }
    }
}

/// A token that was made here; the token itself is known to its holder only.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issued {
    /// SHA-256 of the token.
    hash: Hash,
    /// Names the token without being it.
    pub(super) accessor: String,
    /// Free text.
    pub(super) name: String,
    /// Where it holds.
    pub(super) paths: Grants,
    /// Whether it may change secrets as well.
    pub(super) write: bool,
    /// Whether it may do whatever the machine may, beyond secrets too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) all: bool,
    /// The token that made it and takes it along when it ends, by accessor; `None` for the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<String>,
    pub(super) created: Time,
    pub(super) expires: Option<Time>,
    /// When it ends, counted from the boot: setting the calendar changes nothing while this process
    /// lives.
    #[serde(skip)]
    ends: Option<Duration>,
}

impl Issued {
    /// Tells whether it holds on all that a grant, or a folder with `/` at its end, names.
    pub(super) fn covers(&self, grant: &str) -> bool {
        self.paths
            .as_slice()
            .iter()
            .map(Grant::as_str)
            .any(|own| own == "*" || own == grant || (own.ends_with('/') && grant.starts_with(own)))
    }

    /// Returns the microseconds until it ends; `None` if it does not.
    pub(super) fn left(&self) -> Option<u64> {
        let left = self.ends?.saturating_sub(clock::since_boot());
        Some(u64::try_from(left.as_micros()).unwrap_or(u64::MAX))
    }

    fn is_live(&self, up: Duration) -> bool {
        self.ends.is_none_or(|ends| up < ends)
    }

    /// Counts from now on what the calendar leaves of it, and no more than it had at first.
    fn counted(self: Arc<Self>, now: Time, up: Duration) -> Arc<Self> {
        let begin = now.max(self.created).as_micros();
        let left = |end: Time| end.as_micros().saturating_sub(begin);
        let ends = self.expires.map(|end| up + Duration::from_micros(left(end)));
        Arc::new(Self { ends, ..Arc::unwrap_or_clone(self) })
    }
}

/// A token to be made.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) paths: Grants,
    pub(super) write: bool,
    pub(super) all: bool,
    /// The accessor of the token that makes it.
    pub(super) parent: Option<String>,
    /// Microseconds until it ends.
    pub(super) ttl: Option<u64>,
}

/// All tokens of this machine.
#[derive(Debug)]
pub(super) struct Tokens {
    file: PathBuf,
    live: RwLock<HashMap<Hash, Arc<Issued>>>,
    /// Held while the file is changed.
    changing: Mutex<()>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    v: u32,
    tokens: Vec<Arc<Issued>>,
}

impl Tokens {
    /// Reads the tokens of the state directory.
    pub(super) fn open(state: &Path) -> Result<Self> {
        let file = state.join(FILE);
        let stored = match fs::read(&file) {
            Ok(text) => serde_json::from_slice::<Stored>(&text)
                .with_context(|| format!("cannot read tokens in `{}`", file.display()))?,
            Err(why) if why.kind() == ErrorKind::NotFound => {
                Stored { v: FORMAT, tokens: Vec::new() }
            }
            Err(why) => {
                return Err(why).with_context(|| format!("cannot read `{}`", file.display()));
            }
        };
        if stored.v != FORMAT {
            bail!("`{}` is of format {}, this program knows {FORMAT}", file.display(), stored.v);
        }
        let (now, up) = (clock::now(), clock::since_boot());
        let counted = stored.tokens.into_iter().map(|token| token.counted(now, up));
        let live = counted.map(|token| (token.hash, token)).collect();
        Ok(Self { file, live: RwLock::new(live), changing: Mutex::new(()) })
    }

    /// Returns a live token by itself.
    pub(super) fn find(&self, token: &str) -> Option<Arc<Issued>> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        let issued = live.get(&Hash::of(&[token.as_bytes()]))?;
        issued.is_live(clock::since_boot()).then(|| issued.clone())
    }

    /// Returns the live tokens, oldest first.
    pub(super) fn list(&self) -> Vec<Arc<Issued>> {
        let up = clock::since_boot();
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> = live.values().filter(|token| token.is_live(up)).cloned().collect();
        list.sort_by(|a, b| (a.created, &a.accessor).cmp(&(b.created, &b.accessor)));
        list
    }

    /// Makes a token; it is on disk when this returns.
    pub(super) fn create(&self, wanted: Wanted) -> Result<(Zeroizing<String>, Arc<Issued>)> {
        let token = Zeroizing::new(format!("{PREFIX}{}", *random()));
        let (now, up) = (clock::now(), clock::since_boot());
        let issued = Arc::new(Issued {
            hash: Hash::of(&[token.as_bytes()]),
            accessor: random().chars().take(24).collect(),
            name: wanted.name,
            paths: wanted.paths,
            write: wanted.write,
            all: wanted.all,
            parent: wanted.parent,
            created: now,
            expires: wanted.ttl.map(|ttl| now.plus(ttl)),
            ends: wanted.ttl.map(|ttl| up + Duration::from_micros(ttl)),
        });
        self.change(|list| {
            if list.len() >= MOST {
                bail!("there are {MOST} tokens\nhint: revoke some, see `vault token list`");
            }
            let parent = issued.parent.as_ref();
            if let Some(parent) = parent {
                // It may have been revoked meanwhile.
                if !list.iter().any(|token| token.accessor == *parent) {
                    bail!("the token that was to make it has ended");
                }
                let of_one = list.iter().filter(|token| token.parent.as_ref() == Some(parent));
                if of_one.count() >= MOST_OF_ONE {
                    bail!(
                        "this token has made {MOST_OF_ONE} tokens\nhint: revoke some, or wait \
                         until they end"
                    );
                }
            }
            list.push(issued.clone());
            Ok(())
        })?;
        Ok((token, issued))
    }

    /// Revokes the token with an accessor, and those that it has made and so on; tells whether
    /// there was one.
    pub(super) fn revoke(&self, accessor: &str) -> Result<bool> {
        let mut revoked = false;
        self.change(|list| {
            let mut ended = vec![accessor.to_owned()];
            while let Some(next) = ended.pop() {
                list.retain(|token| {
                    let (own, made) =
                        (token.accessor == next, token.parent.as_ref() == Some(&next));
                    revoked |= own;
                    if made {
                        ended.push(token.accessor.clone());
                    }
                    !own && !made
                });
            }
            Ok(())
        })?;
        Ok(revoked)
    }

    /// Changes the list on disk first, then in memory; those that ended go as well.
    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Issued>>) -> Result<()>) -> Result<()> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tokens = self.list();
        change(&mut tokens)?;
        let stored = Stored { v: FORMAT, tokens };
        files::replace(&self.file, &serde_json::to_vec(&stored)?, Access::PRIVATE)?;
        let live = stored.tokens.into_iter().map(|token| (token.hash, token)).collect();
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
        Ok(())
    }
}

/// Tells whether a token was made here, be it that it has ended.
pub(super) fn is_issued(token: &str) -> bool {
    token.starts_with(PREFIX)
}

/// Returns 256 random bits as text.
pub(super) fn random() -> Zeroizing<String> {
    Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(keys::random::<32>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(path: &str, write: bool) -> Wanted {
        let paths = Grants::parse(&[path]).unwrap();
        let name = "test".to_owned();
        Wanted { name, paths, write, all: false, parent: None, ttl: None }
    }

    #[test]
    fn tokens_outlive_the_process_as_hashes_only() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path()).unwrap();
        let (token, issued) = tokens.create(wanted("secret/app/", false)).unwrap();
        let text = fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!(!text.contains(token.as_str()) && text.contains(&issued.accessor));

        let again = Tokens::open(folder.path()).unwrap();
        let scope = Scope::Limited(again.find(&token).unwrap());
        let inside: SecretPath = "secret/app/x".parse().unwrap();
        let outside: SecretPath = "secret/apple".parse().unwrap();
        assert!(scope.covers(&inside, Right::Read) && !scope.covers(&inside, Right::Write));
        assert!(!scope.covers(&outside, Right::Read));
        assert!(scope.covers_folder("secret/app/") && !scope.covers_folder("secret/"));
        assert!(again.revoke(&issued.accessor).unwrap());
        assert!(again.find(&token).is_none() && again.list().is_empty());
        assert!(again.find("vltp.x").is_none() && again.find("root").is_none());
    }

    #[test]
    fn a_token_ends_with_the_one_that_made_it() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path()).unwrap();
        let made_by = |parent: &Issued| Wanted {
            parent: Some(parent.accessor.clone()),
            ..wanted("secret/app/", false)
        };
        let (_, first) = tokens.create(wanted("secret/", true)).unwrap();
        let (child, made) = tokens.create(made_by(&first)).unwrap();
        let (grandchild, _) = tokens.create(made_by(&made)).unwrap();
        let (other, _) = tokens.create(wanted("*", true)).unwrap();
        let again = Tokens::open(folder.path()).unwrap();
        assert!(again.revoke(&first.accessor).unwrap());
        assert!(again.find(&child).is_none() && again.find(&grandchild).is_none());
        assert!(again.find(&other).is_some());
        let late = again.create(made_by(&first)).unwrap_err().to_string();
        assert!(late.contains("has ended"), "{late}");
    }

    #[test]
    fn one_token_cannot_take_the_room_of_all() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path()).unwrap();
        let (_, parent) = tokens.create(wanted("secret/", true)).unwrap();
        let child =
            || Wanted { parent: Some(parent.accessor.clone()), ..wanted("secret/app/", false) };
        for _ in 0..MOST_OF_ONE {
            tokens.create(child()).unwrap();
        }
        let full = tokens.create(child()).unwrap_err().to_string();
        assert!(full.contains("has made 100 tokens"), "{full}");
        tokens.create(wanted("*", true)).unwrap();
    }

    #[test]
    fn tokens_end() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path()).unwrap();
        let (ended, _) = tokens.create(Wanted { ttl: Some(0), ..wanted("*", true) }).unwrap();
        let (live, _) =
            tokens.create(Wanted { ttl: Some(60_000_000), ..wanted("*", true) }).unwrap();
        assert!(tokens.find(&ended).is_none());
        let scope = Scope::Limited(tokens.find(&live).unwrap());
        assert!(scope.covers(&"a/b".parse().unwrap(), Right::Write));
        assert_eq!(tokens.list().len(), 1);

        let token = tokens.list().remove(0);
        let up = clock::since_boot();
        // What an earlier process made is counted by the calendar once, and lives no longer for it.
        for (now, lives) in [
            (token.created, true),
            (Time::default(), true),
            (token.created.plus(59_000_000), true),
            (token.created.plus(60_000_000), false),
            (Time::from_micros(u64::MAX), false),
        ] {
            assert_eq!(token.clone().counted(now, up).is_live(up), lives, "{now}");
        }
    }
}
