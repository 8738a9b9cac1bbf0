//! The files that `vault dev` keeps right: what is done before the agent is told of one, and
//! waiting until it is right.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use notify::{RecursiveMode, Watcher as _};
use serde_json::Value;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::settings::Out;
use crate::context::Global;
use host::files;
use host::files::git::{GitError, GitGate, GitPolicy};
use host::hint::hinted;
use host::term::Term;
use machine::local::{STATUS, Status, TargetRow};
use machine::render::{self, Variable};
use shared::report::TargetState;

/// How long a file may take to become right.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at each file before the agent may write it: git and links. What is in it already is the
/// agent's to judge; `replace` tells it to keep a copy of anything that would be lost.
///
/// # Errors
/// For a file that git tracks, or that is no regular file.
pub fn prepare(outs: &[Out], replace: bool, term: &Term) -> Result<Vec<Out>> {
    outs.iter()
        .map(|out| {
            files::compare(&out.file, &[], files::Access::PRIVATE)?;
            let git_ignore = must_ignore(&out.file)?;
            if git_ignore {
                term.say(format!("`{}` goes into .gitignore", out.file.display()));
            }
            Ok(Out { git_ignore, replace, ..out.clone() })
        })
        .collect()
}

/// Tells whether git would pick the file up, so that the agent has to have it ignored.
fn must_ignore(file: &Path) -> Result<bool> {
    match GitGate::default().pass(file, GitPolicy::Refuse) {
        Ok(()) => Ok(false),
        Err(GitError::NotIgnored(_)) => Ok(true),
        Err(fault) => Err(hinted(fault.to_string(), fault.hint())),
    }
}

/// Variables by name.
pub type Variables = BTreeMap<String, Zeroizing<String>>;

/// Returns what a file has to say; `None` while a secret of it does not exist.
pub fn expected(out: &Out, inner: &Global) -> Result<Option<Variables>> {
    let client = inner.client()?;
    let mut all = Variables::new();
    for secret in &out.secrets {
        let route = format!("{}/data/{}", secret.mount(), secret.rest());
        let answer = client.send(hyper::Method::GET, &route, &[], None)?;
        if answer.status == 404 {
            return Ok(None);
        }
        let mut answer: Value = answer.success()?.json()?;
        let Value::Object(fields) = answer["data"]["data"].take() else { return Ok(None) };
        for (name, value) in fields {
            let text = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            all.insert(name, Zeroizing::new(text));
        }
    }
    Ok(Some(all))
}

/// Waits until the file says what it has to; false if that takes too long.
pub async fn wait(out: &Out, expected: Option<Variables>, term: &Term) -> Result<bool> {
    let Some(expected) = expected else {
        term.say(format!("`{}` waits for its secret to be written", out.file.display()));
        return Ok(true);
    };
    let folder = out.file.parent().unwrap_or(Path::new("/"));
    let (changed, mut changes) = mpsc::unbounded_channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // To look at the file is an event as well.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // Nobody listens any more once the file is right.
            let _ = changed.send(());
        }
    })
    .map_err(unwatched)?;
    watcher
        .watch(folder, RecursiveMode::NonRecursive)
        .map_err(unwatched)
        .with_context(|| format!("watching `{}`", folder.display()))?;
    let right = async {
        while !says(&out.file, &expected) {
            if changes.recv().await.is_none() {
                return false;
            }
        }
        true
    };
    Ok(tokio::time::timeout(PATIENCE, right).await.unwrap_or(false))
}

/// Tells what a watch fails of: the kernel's words for it speak of open files.
fn unwatched(why: notify::Error) -> anyhow::Error {
    let limit = match &why.kind {
        notify::ErrorKind::MaxFilesWatch => "watches",
        notify::ErrorKind::Io(why)
            if why.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) =>
        {
            "instances"
        }
        _ => return anyhow::Error::new(why).context("watching for files"),
    };
    hinted(
        format!("this host's inotify {limit} are used up"),
        format!("`sysctl fs.inotify.max_user_{limit}` shows the limit"),
    )
}

fn says(file: &Path, expected: &Variables) -> bool {
    let Ok(content) = std::fs::read(file).map(Zeroizing::new) else { return false };
    let Ok(variables) = render::parse(&content) else { return false };
    let is_right = |variable: &Variable| {
        let value = expected.get(&variable.name).map(|value| value.as_bytes());
        value == Some(variable.value.expose())
    };
    variables.len() == expected.len() && variables.iter().all(is_right)
}

/// Says why a file is not right, in the agent's words.
pub fn report(out: &Out, inner: &Global) -> Result<()> {
    let status: Status = inner.client()?.get(STATUS, &[])?;
    let shown = out.file.display().to_string();
    let own = status.targets.iter().filter(|row| row.machine == status.machine);
    let row = own.filter(|row| row.target == shown).find(|row| !row.is_right());
    let is_foreign = row.is_some_and(|row| row.state == TargetState::Foreign);
    let why = row
        .and_then(TargetRow::remark)
        .unwrap_or_else(|| "the agent has not written it yet".to_owned());
    inner.term.say(format!("`{shown}` is not right: {why}"));
    for alarm in &status.alarms {
        inner.term.say(format!("  {}: {}", alarm.code, alarm.text));
    }
    if is_foreign {
        inner.term.say(format!(
            "start again with `--import {shown}` to publish it first, or with `--replace` to keep \
             a copy beside it"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn out(file: &Path) -> Out {
        let secrets = vec!["secret/dev".parse().unwrap()];
        Out { file: file.to_owned(), secrets, git_ignore: false, replace: false }
    }

    fn variables(list: &[(&str, &str)]) -> Variables {
        let own = |(name, value): &(&str, &str)| {
            ((*name).to_owned(), Zeroizing::new((*value).to_owned()))
        };
        list.iter().map(own).collect()
    }

    fn silent() -> Term {
        Term::piped(std::io::empty(), std::io::sink(), std::io::sink())
    }

    fn world() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        (dir, root.join(".env"))
    }

    #[test]
    fn git_is_asked_before_the_agent_writes() {
        let (dir, file) = world();
        let git = |arguments: &[&str]| {
            let run = std::process::Command::new("git")
                .args(arguments)
                .current_dir(dir.path())
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .output();
            run.is_ok_and(|output| output.status.success())
        };
        if !git(&["init", "-q"]) {
            return;
        }
        let ignore = |found: Vec<Out>| found[0].git_ignore;
        assert!(ignore(prepare(&[out(&file)], false, &silent()).unwrap()));
        files::write_private(&dir.path().join(".gitignore"), b"/.env\n").unwrap();
        assert!(!ignore(prepare(&[out(&file)], false, &silent()).unwrap()));
        files::write_private(&file, b"A=1\n").unwrap();
        assert!(git(&["add", "-f", ".env"]));
        let fault = prepare(&[out(&file)], false, &silent()).unwrap_err().to_string();
        assert!(fault.ends_with("is tracked by git"), "{fault}");
    }

    #[test]
    fn links_are_refused_before_the_agent_is_told() {
        let (_dir, file) = world();
        std::os::unix::fs::symlink("/tmp/x", &file).unwrap();
        let fault = prepare(&[out(&file)], false, &silent()).unwrap_err().to_string();
        assert!(fault.ends_with("is a symbolic link"), "{fault}");
    }

    #[tokio::test]
    async fn a_file_is_waited_for_until_it_says_all() {
        let (_dir, file) = world();
        let expected = variables(&[("A", "1"), ("B", "x y")]);
        let path = file.clone();
        let writer = std::thread::spawn(move || {
            files::replace(&path, b"A=1\n", files::Access::PRIVATE).unwrap();
            files::replace(&path, b"A=1\nB='x y'\n", files::Access::PRIVATE).unwrap();
        });
        assert!(wait(&out(&file), Some(expected), &silent()).await.unwrap());
        writer.join().unwrap();
        assert!(wait(&out(&file), None, &silent()).await.unwrap());
    }

    #[test]
    fn a_file_says_what_it_has_to_in_any_order_and_nothing_else() {
        let (_dir, file) = world();
        let expected = variables(&[("A", "1"), ("B", "2")]);
        for (content, right) in [
            ("B=2\nA=1\n", true),
            ("A=1\n", false),
            ("A=1\nB=3\n", false),
            ("A=1\nB=2\nC=3\n", false),
            ("A='1\n", false),
        ] {
            files::replace(&file, content.as_bytes(), files::Access::PRIVATE).unwrap();
            assert_eq!(says(&file, &expected), right, "{content}");
        }
    }
}
