//! Asking systemd and the host: `systemctl`, `systemd-creds`, and the server's user. What is asked, and why, does not live here.

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result};
use zeroize::Zeroizing;

use crate::hint::Hint;

use super::unit::{USER, Whose};

/// Returns `systemctl` and arguments as a person would type them.
pub fn line(whose: Whose, arguments: &[&str]) -> String {
    format!(
        "systemctl{} {}",
        if whose == Whose::User { " --user" } else { "" },
        arguments.join(" ")
    )
}

/// Has `systemctl` do something.
///
/// # Errors
/// What it says.
pub fn call(whose: Whose, arguments: &[&str]) -> Result<()> {
    let line = line(whose, arguments);
    let output =
        systemctl(whose, arguments).output().with_context(|| format!("cannot run `{line}`"))?;
    if output.status.success() {
        return Ok(());
    }
    anyhow::bail!(failed(&line, &output))
}

/// Asks `systemctl` a question that its exit code answers.
pub fn is(whose: Whose, arguments: &[&str]) -> bool {
    systemctl(whose, arguments).output().is_ok_and(|output| output.status.success())
}

fn systemctl(whose: Whose, arguments: &[&str]) -> Command {
    let mut command = Command::new("systemctl");
    if whose == Whose::User {
        command.arg("--user");
    }
    command.arg("--no-ask-password").args(arguments).stdin(Stdio::null());
    command
}

/// Sends bytes through `systemd-creds`.
///
/// # Errors
/// If it is not there, or refuses.
pub fn creds(verb: &str, name: &str, input: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let mut command = Command::new("systemd-creds");
    command.args([verb, &format!("--name={name}"), "-", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|why| match why.kind() {
        ErrorKind::NotFound => Hint::wrap(
            "the key cannot be sealed: there is no `systemd-creds`",
            "it comes with systemd 250 and later; without it the key stays in its file",
        ),
        _ => anyhow::Error::from(why).context("cannot run `systemd-creds`"),
    })?;
    // Dropped before the wait, which ends the input.
    let sent = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(input));
    let output = child.wait_with_output().context("cannot run `systemd-creds`")?;
    let said = failed(&format!("systemd-creds {verb}"), &output);
    let (success, bytes) = (output.status.success(), Zeroizing::new(output.stdout));
    if !success {
        let way = "the key stays in its file; `systemd-creds setup` makes a key of this host";
        return Err(Hint::wrap(said, way));
    }
    sent.context("`systemd-creds` took no input")?;
    Ok(bytes)
}

fn failed(line: &str, output: &Output) -> String {
    match String::from_utf8_lossy(&output.stderr).trim() {
        "" => format!("`{line}` failed ({})", output.status),
        said => format!("`{line}` failed: {said}"),
    }
}

/// Returns user and group of the host's server by number, making both if they are not there.
///
/// # Errors
/// If they cannot be made.
pub fn account(home: &Path) -> Result<(u32, u32)> {
    if let Some(found) = find()? {
        return Ok(found);
    }
    let line = format!("u {USER} - \"Vault server\" {}", home.display());
    let home = home.display().to_string();
    let ways: [(&str, &[&str]); 2] = [
        ("systemd-sysusers", &["--inline", &line]),
        (
            "useradd",
            &[
                "--system",
                "--user-group",
                "--no-create-home",
                "--home-dir",
                &home,
                "--shell",
                "/usr/sbin/nologin",
                USER,
            ],
        ),
    ];
    let mut why = String::from("there is neither `systemd-sysusers` nor `useradd`");
    for (program, arguments) in ways {
        match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => match find()? {
                Some(found) => {
                    eprintln!("made user `{USER}`");
                    return Ok(found);
                }
                None => why = format!("`{program}` has made none"),
            },
            Ok(output) => why = failed(program, &output),
            Err(fault) if fault.kind() == ErrorKind::NotFound => {}
            Err(fault) => why = format!("cannot run `{program}`: {fault}"),
        }
    }
    let way = format!("make a system user `{USER}`, and try again");
    Err(Hint::wrap(format!("cannot make user `{USER}`: {why}"), way))
}

/// Looks for the user in `/etc/passwd`, where system users are.
fn find() -> Result<Option<(u32, u32)>> {
    let text = std::fs::read_to_string("/etc/passwd").context("cannot read `/etc/passwd`")?;
    let line = text.lines().find_map(|line| line.strip_prefix(USER)?.strip_prefix(':'));
    let mut numbers = line.into_iter().flat_map(|rest| rest.split(':')).skip(1);
    let mut next = || numbers.next()?.parse().ok();
    Ok(next().zip(next()))
}
