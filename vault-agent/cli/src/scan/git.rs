//! What git keeps, for a scan: every object that its refs reach, each once, and what is staged.
//! Asks `git` itself, streaming.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use host::hint::Failure;

/// What `cat-file` says before each object; the rest is what came behind its name.
const HEADER: &str = "--batch=%(objectname) %(objecttype) %(objectsize) %(rest)";
/// Longer headers are none.
const LONGEST_HEADER: u64 = 64 << 10;

/// An object with content to search.
#[derive(Clone, Copy)]
pub struct Object<'a> {
    /// The commit that brought it, or the commit or tag that it is; `None` in the index.
    pub commit: Option<&'a str>,
    /// Its path; `None` for the text of a commit or tag.
    pub path: Option<&'a str>,
}

/// A repository, from inside or by its folder.
pub struct Repository {
    folder: PathBuf,
}

impl Repository {
    /// Finds the repository around `folder`.
    pub fn around(folder: &Path) -> anyhow::Result<Self> {
        let repository = Self { folder: folder.to_owned() };
        repository.ask(&["rev-parse", "--git-dir"])?;
        Ok(repository)
    }

    /// Tells whether older history is missing here.
    pub fn is_shallow(&self) -> anyhow::Result<bool> {
        Ok(self.ask(&["rev-parse", "--is-shallow-repository"])?.trim_ascii() == b"true")
    }

    /// Returns the folder of the repository's hooks, and whether `core.hooksPath` puts it there.
    pub fn hooks(&self) -> anyhow::Result<(PathBuf, bool)> {
        // What that says counts from the top of the work tree, where git runs hooks.
        let top = match self.path(&["rev-parse", "--show-toplevel"]) {
            Ok(folder) => Self { folder },
            Err(_) => Self { folder: self.folder.clone() },
        };
        let hooks = top.folder.join(top.path(&["rev-parse", "--git-path", "hooks"])?);
        let is_set = self.ask(&["config", "--get", "core.hooksPath"]).is_ok();
        Ok((std::path::absolute(hooks)?, is_set))
    }

    /// Runs git and returns the path that it prints.
    fn path(&self, arguments: &[&str]) -> anyhow::Result<PathBuf> {
        let out = self.ask(arguments)?;
        Ok(OsStr::from_bytes(out.strip_suffix(b"\n").unwrap_or(&out)).into())
    }

    /// Tells whether a file lies in a work tree that does not ignore it.
    pub fn would_take(file: &Path) -> bool {
        let Some((folder, name)) = file.parent().zip(file.file_name()) else { return false };
        let mut git = Self { folder: folder.to_owned() }.git(&["check-ignore", "-q", "--"]);
        git.arg(name).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // 128: no work tree.
        git.status().is_ok_and(|status| status.code() == Some(1))
    }

    fn git(&self, arguments: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.args(["-c", "core.fsmonitor=false", "-c", "core.quotePath=false"]).args(arguments);
        git.current_dir(&self.folder).stdin(Stdio::null());
        // Originals, from this disk alone, in words that can be read.
        git.envs([("GIT_NO_REPLACE_OBJECTS", "1"), ("GIT_NO_LAZY_FETCH", "1")]);
        git.envs([("GIT_OPTIONAL_LOCKS", "0"), ("LC_ALL", "C")]);
        git
    }

    /// Runs git and returns what it prints.
    fn ask(&self, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        let out = self.git(arguments).output().map_err(|why| absent(&why))?;
        if out.status.success() {
            return Ok(out.stdout);
        }
        let words = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        let (words, hint) = words.split_once('\n').unwrap_or((&words, ""));
        let failure = Failure::remote(format!("git in `{}`: {words}", self.folder.display()));
        Err(if hint.is_empty() { failure } else { failure.hint(hint.trim()) }.into())
    }

    /// Hands over every blob, commit and tag that a ref reaches, each once, with the oldest commit
    /// that has it.
    pub fn history(
        &self,
        mut visit: impl FnMut(Object<'_>, &mut dyn Read) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let list = ["rev-list", "--objects", "--all", "--in-commit-order", "--reverse"];
        let mut list =
            self.git(&list).stdout(Stdio::piped()).spawn().map_err(|why| absent(&why))?;
        let names = list.stdout.take().context("no pipe")?;
        let mut batch = self.git(&["cat-file", "--buffer", HEADER]);
        let mut batch = batch.stdin(names).stdout(Stdio::piped()).spawn()?;
        let mut commit = String::new();
        let read = contents(&mut batch, |kind, name, rest, content| match kind {
            "commit" => {
                name.clone_into(&mut commit);
                visit(Object { commit: Some(name), path: None }, content)
            }
            "tag" => visit(Object { commit: Some(name), path: None }, content),
            "blob" => {
                let path = if rest.is_empty() { name } else { rest };
                visit(Object { commit: Some(&commit), path: Some(path) }, content)
            }
            _ => Ok(()),
        });
        ended(&mut batch, "cat-file", read)?;
        ended(&mut list, "rev-list", Ok(()))
    }

    /// Hands over what the next commit would change, as it is staged.
    pub fn staged(
        &self,
        mut visit: impl FnMut(Object<'_>, &mut dyn Read) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let head = match self.ask(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]) {
            Ok(head) => head,
            // Before the first commit all is new.
            Err(_) => self.ask(&["hash-object", "-t", "tree", "--stdin"])?,
        };
        let head = String::from_utf8_lossy(head.trim_ascii()).into_owned();
        let diff = ["diff-index", "--cached", "--raw", "-z", "--no-renames", "--full-index"];
        let changes = self.ask(&[&diff[..], &["--diff-filter=d", &head, "--"]].concat())?;
        let changes = staged_blobs(&changes);
        let mut batch = self.git(&["cat-file", "--buffer", HEADER]);
        let batch = batch.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut batch = batch.spawn()?;
        let mut names = batch.stdin.take().context("no pipe")?;
        std::thread::scope(|scope| {
            // git does not answer all before it has read all, nor read all before it has answered
            // some.
            let asking = scope.spawn(|| {
                for (n, (name, _)) in changes.iter().enumerate() {
                    writeln!(names, "{name} {n}")?;
                }
                drop(names);
                Ok::<(), io::Error>(())
            });
            let read = contents(&mut batch, |_, _, rest, content| {
                let change = rest.parse::<usize>().ok().and_then(|n| changes.get(n));
                let path = change.map(|(_, path)| path.as_str());
                visit(Object { commit: None, path }, content)
            });
            ended(&mut batch, "cat-file", read)?;
            match asking.join() {
                Ok(asked) => Ok(asked?),
                Err(_) => Err(io::Error::other("asking git ended early").into()),
            }
        })
    }
}

/// Reads `diff-index --raw -z`: returns the blobs that are staged, with their paths.
fn staged_blobs(raw: &[u8]) -> Vec<(String, String)> {
    let mut parts = raw.split(|byte| *byte == 0);
    let mut all = Vec::new();
    while let Some((about, path)) = parts.next().zip(parts.next()) {
        let about = String::from_utf8_lossy(about);
        let words: Vec<&str> = about.trim_start_matches(':').split(' ').collect();
        let [_, mode, _, name, ..] = words[..] else { continue };
        // 160000 is a commit of a submodule; all zeros is not staged yet (`git add -N`).
        if mode != "160000" && name.bytes().any(|byte| byte != b'0') {
            all.push((name.to_owned(), String::from_utf8_lossy(path).into_owned()));
        }
    }
    all
}

/// Reads object after object and hands each over: type, name, what came behind the name, content.
fn contents(
    batch: &mut Child,
    mut visit: impl FnMut(&str, &str, &str, &mut dyn Read) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let out = batch.stdout.take().context("no pipe")?;
    let mut out = BufReader::with_capacity(64 << 10, out);
    let mut header = Vec::new();
    loop {
        header.clear();
        if (&mut out).take(LONGEST_HEADER).read_until(b'\n', &mut header)? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&header);
        let line = line.trim_end_matches('\n');
        let mut words = line.splitn(4, ' ');
        let (name, kind) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let size = words.next().and_then(|size| size.parse::<u64>().ok());
        let Some(size) = size else {
            let text = format!("git does not have the object `{line}`: not all could be searched");
            return Err(Failure::remote(text)
                .hint("`git fsck` tells what is missing; of a partial clone `git fetch --refetch` gets it")
                .into());
        };
        let mut content = (&mut out).take(size);
        visit(kind, name, words.next().unwrap_or_default(), &mut content)?;
        io::copy(&mut content, &mut io::sink())?;
        if content.limit() != 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        out.read_exact(&mut [0])?;
    }
}

/// Waits for git's end; one that nobody reads from any more is ended.
fn ended(git: &mut Child, command: &str, read: anyhow::Result<()>) -> anyhow::Result<()> {
    if read.is_err() {
        git.kill()?;
    }
    let status = git.wait()?;
    read?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::remote(format!("`git {command}` failed: not all could be searched")).into())
}

fn absent(why: &io::Error) -> Failure {
    match why.kind() {
        io::ErrorKind::NotFound => {
            Failure::remote("there is no program `git` in PATH, or no such folder")
                .hint("install git, or name files and folders to be searched without it")
        }
        _ => Failure::remote(format!("cannot start git: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staged_blobs_are_read() {
        let raw = b":000000 100644 0000 12ab A\0a\nb\0:100644 000000 12ab 0000 A\0n\0:000000 160000 0000 77ff A\0sub\0";
        let expected = [("12ab".to_owned(), "a\nb".to_owned())];
        assert_eq!(staged_blobs(raw), expected);
        assert_eq!(staged_blobs(b""), []);
    }
}
