//! Keeps secrets out of git: a target inside a work tree must be ignored, and never tracked.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use super::gitignore;
use super::{Access, FileError, replace};

/// What to do with a target that git would pick up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GitPolicy {
    /// Refuse to write it.
    #[default]
    Refuse,
    /// Add it to the work tree's `.gitignore` first.
    Ignore,
}

/// A target that must not be written, because git would pick it up.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum GitError {
    #[error("`{}` is tracked by git", .0.display())]
    Tracked(PathBuf),
    #[error("`{}` is in a git work tree that does not ignore it", .0.display())]
    NotIgnored(PathBuf),
    #[error("cannot add `{}` to the .gitignore of its work tree", .0.display())]
    Ignore(PathBuf, #[source] FileError),
    #[error("cannot read `{}`", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

impl GitError {
    /// Returns the way out, as one sentence without a full stop.
    pub fn hint(&self) -> String {
        match self {
            Self::Tracked(path) => format!(
                "run `git rm --cached {}`, commit, and rotate what was in it",
                path.display()
            ),
            Self::NotIgnored(_) => {
                "add it to .gitignore, or set `git = \"ignore\"` for this target".to_owned()
            }
            Self::Ignore(_, error) => error.hint(),
            Self::Io(..) => "check the rights on the repository".to_owned(),
        }
    }
}

/// A work tree around a target.
struct Tree {
    /// The folder that holds `.git`.
    root: PathBuf,
    /// The git folder of this work tree, where `index` is.
    git: PathBuf,
    /// Owner of `.git`, as whom git is run.
    owner: (u32, u32),
    /// The target, relative to the root.
    path: String,
}

/// What decides about a target: when none of these files has changed, the answer has not changed
/// either.
type Evidence = Vec<Option<(u64, u64, i64, i64)>>;

/// Asks git about targets, and remembers the answer until an ignore file or the index changes.
#[derive(Debug, Default)]
pub struct GitGate {
    passed: Mutex<HashMap<PathBuf, Evidence>>,
}

impl GitGate {
    /// Lets a target pass that is outside any work tree, or ignored; with [`GitPolicy::Ignore`]
    /// makes it ignored.
    ///
    /// # Errors
    /// Refuses a target that git tracks or would pick up.
    pub fn pass(&self, path: &Path, policy: GitPolicy) -> Result<(), GitError> {
        let Some(tree) = Tree::around(path)? else { return Ok(()) };
        let evidence = tree.evidence();
        if self.lock().get(path) == Some(&evidence) {
            return Ok(());
        }
        if !tree.ignores()? {
            if tree.tracks()? {
                return Err(GitError::Tracked(path.to_owned()));
            }
            if policy == GitPolicy::Refuse {
                return Err(GitError::NotIgnored(path.to_owned()));
            }
            tree.add_line().map_err(|error| GitError::Ignore(path.to_owned(), error))?;
            if !tree.ignores()? {
                return Err(GitError::NotIgnored(path.to_owned()));
            }
        }
        self.lock().insert(path.to_owned(), tree.evidence());
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Evidence>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has git not pick up files named after `path` with `tag` and more behind: where nothing ignores
/// them already, in the work tree's own `info/exclude`, which is nobody else's.
///
/// # Errors
/// If that cannot be written, or counts for nothing.
pub fn exclude(path: &Path, tag: &str) -> Result<(), GitError> {
    let copy = PathBuf::from(format!("{}{tag}", path.display()));
    let Some(tree) = Tree::around(&copy)? else { return Ok(()) };
    if tree.ignores()? {
        return Ok(());
    }
    let file = tree.common().join("info/exclude");
    let cannot = |error| GitError::Ignore(copy.clone(), error);
    if let Some(folder) = file.parent().filter(|folder| !folder.exists()) {
        std::fs::create_dir(folder).map_err(FileError::io("make", folder)).map_err(cannot)?;
    }
    tree.append(&file, &format!("{}*", gitignore::line_for(&tree.path))).map_err(cannot)?;
    if tree.ignores()? { Ok(()) } else { Err(GitError::NotIgnored(copy)) }
}

impl Tree {
    /// Walks up from `path` to the first folder with a `.git`.
    fn around(path: &Path) -> Result<Option<Self>, GitError> {
        for root in path.ancestors().skip(1) {
            let dot_git = root.join(".git");
            let Ok(found) = dot_git.symlink_metadata() else { continue };
            let git = if found.is_dir() { dot_git } else { linked(root, &dot_git)? };
            // git itself takes a folder without HEAD for no repository.
            if git.join("HEAD").symlink_metadata().is_err() {
                continue;
            }
            let path = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
            let owner = (found.uid(), found.gid());
            return Ok(Some(Self { root: root.to_owned(), git, owner, path }));
        }
        Ok(None)
    }

    /// Returns the ignore files that count, from the weakest to the strongest, each with the
    /// target's path as its lines see it.
    fn ignore_files(&self) -> Vec<(PathBuf, &str)> {
        let (root, path) = (&self.root, self.path.as_str());
        let inner = path
            .match_indices('/')
            .map(|(at, _)| (root.join(&path[..at]).join(".gitignore"), &path[at + 1..]));
        let outer = [self.common().join("info/exclude"), root.join(".gitignore")];
        outer.into_iter().map(|file| (file, path)).chain(inner).collect()
    }

    /// Returns the git folder that all work trees of the repository share.
    fn common(&self) -> PathBuf {
        let link = std::fs::read_to_string(self.git.join("commondir")).unwrap_or_default();
        self.git.join(link.trim())
    }

    fn evidence(&self) -> Evidence {
        let mark = |found: Metadata| (found.ino(), found.size(), found.mtime(), found.mtime_nsec());
        let files = self.ignore_files().into_iter().map(|(file, _)| file);
        let files = files.chain([self.git.join("index")]);
        files.map(|file| file.metadata().ok().map(mark)).collect()
    }

    /// Tells whether the target is ignored and not tracked.
    fn ignores(&self) -> Result<bool, GitError> {
        match self.ask(&["check-ignore", "-q", "--", &self.path]) {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Ok(self.reads_as_ignored()? && !self.reads_as_tracked()?),
        }
    }

    fn tracks(&self) -> Result<bool, GitError> {
        match self.ask(&["ls-files", "--error-unmatch", "--", &self.path]) {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => self.reads_as_tracked(),
        }
    }

    /// Runs git as the owner of the repository, whose settings then have only his own power;
    /// returns its exit code.
    fn ask(&self, arguments: &[&str]) -> Option<i32> {
        let mut git = Command::new("git");
        git.args(["-c", "core.fsmonitor=false"]).args(arguments).current_dir(&self.root);
        git.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).env_clear();
        git.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        git.envs([("GIT_LITERAL_PATHSPECS", "1"), ("GIT_OPTIONAL_LOCKS", "0"), ("LC_ALL", "C")]);
        let (uid, gid) = self.owner;
        let us = rustix::process::geteuid();
        if us.is_root() && uid != 0 {
            git.uid(uid).gid(gid);
        }
        if let Some(home) = crate::account::home(uid) {
            git.env("HOME", home);
        }
        git.status().ok()?.code()
    }

    fn reads_as_ignored(&self) -> Result<bool, GitError> {
        let mut ignored = false;
        for (file, path) in self.ignore_files() {
            let Some(bytes) = read(&file)? else { continue };
            ignored = gitignore::verdict(&String::from_utf8_lossy(&bytes), path).unwrap_or(ignored);
        }
        Ok(ignored)
    }

    fn reads_as_tracked(&self) -> Result<bool, GitError> {
        let index = read(&self.git.join("index"))?.unwrap_or_default();
        Ok(gitignore::may_track(&index, &self.path))
    }

    /// Appends the target's line to the `.gitignore` at the root.
    fn add_line(&self) -> Result<(), FileError> {
        self.append(&self.root.join(".gitignore"), &gitignore::line_for(&self.path))
    }

    /// Appends a line to an ignore file, whose owner and mode stay.
    fn append(&self, file: &Path, line: &str) -> Result<(), FileError> {
        let mut content = match std::fs::read(file) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(FileError::io("read", file)(error)),
        };
        if !content.is_empty() && !content.ends_with(b"\n") {
            content.push(b'\n');
        }
        content.extend_from_slice(line.as_bytes());
        content.push(b'\n');
        let access = match file.symlink_metadata() {
            Ok(found) => Access::of(&found),
            Err(_) if rustix::process::geteuid().is_root() => {
                Access { uid: Some(self.owner.0), gid: Some(self.owner.1), mode: 0o644 }
            }
            Err(_) => Access { uid: None, gid: None, mode: 0o644 },
        };
        replace(file, &content, access).map(drop)
    }
}

/// Follows a `.git` file of a linked work tree or submodule.
fn linked(root: &Path, dot_git: &Path) -> Result<PathBuf, GitError> {
    let text = read(dot_git)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    Ok(root.join(text.strip_prefix("gitdir:").unwrap_or_default().trim()))
}

/// Reads a file that may be missing.
fn read(path: &Path) -> Result<Option<Vec<u8>>, GitError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(GitError::Io(path.to_owned(), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository made without git, so that the test needs none.
    fn repository() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join(".git/objects")).unwrap();
        std::fs::create_dir_all(root.join(".git/refs")).unwrap();
        std::fs::create_dir_all(root.join("app")).unwrap();
        put(&root.join(".git/HEAD"), "ref: refs/heads/main\n");
        (folder, root)
    }

    fn put(path: &Path, content: &str) {
        replace(path, content.as_bytes(), Access { uid: None, gid: None, mode: 0o644 }).unwrap();
    }

    #[test]
    fn outside_a_work_tree_all_passes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join(".git")).unwrap();
        GitGate::default().pass(&root.join(".env"), GitPolicy::Refuse).unwrap();
    }

    #[test]
    fn an_ignored_target_passes_until_it_is_taken_back() {
        let (_folder, root) = repository();
        let gate = GitGate::default();
        let target = root.join("app/.env");
        assert!(matches!(gate.pass(&target, GitPolicy::Refuse), Err(GitError::NotIgnored(_))));
        put(&root.join(".gitignore"), ".env\n");
        gate.pass(&target, GitPolicy::Refuse).unwrap();
        gate.pass(&target, GitPolicy::Refuse).unwrap();
        put(&root.join("app/.gitignore"), "!.env\n");
        assert!(matches!(gate.pass(&target, GitPolicy::Refuse), Err(GitError::NotIgnored(_))));
    }

    #[test]
    fn the_ignore_policy_adds_one_line() {
        let (_folder, root) = repository();
        put(&root.join(".gitignore"), "*.log");
        let target = root.join("app/.env");
        for _ in 0..2 {
            GitGate::default().pass(&target, GitPolicy::Ignore).unwrap();
        }
        assert_eq!(std::fs::read_to_string(root.join(".gitignore")).unwrap(), "*.log\n/app/.env\n");
    }

    #[test]
    fn copies_are_excluded_for_this_work_tree_alone() {
        let (_folder, root) = repository();
        let target = root.join("app/.env");
        for _ in 0..2 {
            exclude(&target, ".old-").unwrap();
        }
        let lines = std::fs::read_to_string(root.join(".git/info/exclude")).unwrap();
        assert_eq!(lines, "/app/.env.old-*\n");
        let gate = GitGate::default();
        gate.pass(&root.join("app/.env.old-20261231"), GitPolicy::Refuse).unwrap();
        assert!(gate.pass(&target, GitPolicy::Refuse).is_err());
        put(&root.join(".gitignore"), "*.new-*\n");
        exclude(&target, ".new-").unwrap();
        assert_eq!(std::fs::read_to_string(root.join(".git/info/exclude")).unwrap(), lines);
        exclude(&root.parent().unwrap().join("outside"), ".old-").unwrap();
    }

    #[test]
    fn a_tracked_target_is_always_refused() {
        let (_folder, root) = repository();
        let target = root.join("app/.env");
        put(&root.join(".gitignore"), ".env\n");
        put(&target, "A=1\n");
        let added = Command::new("git").args(["add", "-f", "app/.env"]).current_dir(&root).status();
        if !added.is_ok_and(|status| status.success()) {
            put(&root.join(".git/index"), "DIRC\0\0\0\x02\0\0\0\x01app/.env\0");
        }
        for policy in [GitPolicy::Refuse, GitPolicy::Ignore] {
            assert!(
                matches!(GitGate::default().pass(&target, policy), Err(GitError::Tracked(_))),
                "{policy:?}"
            );
        }
    }

    #[test]
    fn without_git_the_files_decide_alike() {
        let (_folder, root) = repository();
        put(&root.join("app/.gitignore"), "/.env\n");
        let tree = Tree::around(&root.join("app/.env")).unwrap().unwrap();
        assert!(tree.reads_as_ignored().unwrap());
        assert!(!tree.reads_as_tracked().unwrap());
        assert_eq!(tree.ignores().unwrap(), tree.reads_as_ignored().unwrap());
    }
}
