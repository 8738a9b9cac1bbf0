//! Asking systemd: `systemctl` and `systemd-creds`, as programs. What is asked, and why, does not
//! live here.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};
use zeroize::Zeroizing;

use crate::hint::{Failure, hinted};

use super::unit::Whose;

/// Tells whether that service manager runs here.
pub fn runs(whose: Whose) -> bool {
    match whose {
        // sd_booted(3)
        Whose::Host => Path::new("/run/systemd/system").is_dir(),
        Whose::User => runtime().join("systemd/private").exists(),
    }
}

/// Returns this user's runtime folder, also where no session has set its variable, as for what
/// `su` or cron starts.
fn runtime() -> PathBuf {
    let set = std::env::var_os("XDG_RUNTIME_DIR").filter(|set| !set.is_empty());
    let usual = || format!("/run/user/{}", rustix::process::geteuid().as_raw()).into();
    set.map_or_else(usual, PathBuf::from)
}

/// Returns `systemctl` and arguments as a person would type them.
pub(super) fn line(whose: Whose, arguments: &[&str]) -> String {
    let user = if whose == Whose::User { " --user" } else { "" };
    ["systemctl", user, " ", &arguments.join(" ")].concat()
}

/// Has `systemctl` do something.
pub fn call(whose: Whose, arguments: &[&str]) -> Result<()> {
    output(whose, arguments).map(drop)
}

/// Returns a unit and what people have added to it.
pub fn text(whose: Whose, unit: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&output(whose, &["cat", unit])?.stdout).into_owned())
}

fn output(whose: Whose, arguments: &[&str]) -> Result<Output> {
    let output = systemctl(whose, arguments).output().context("cannot run `systemctl`")?;
    if output.status.success() {
        return Ok(output);
    }
    bail!(failed(&line(whose, arguments), &output))
}

/// Returns one property of a unit; `None` where that cannot be told.
pub(super) fn shown(whose: Whose, unit: &str, property: &str) -> Option<String> {
    let output = output(whose, &["show", "--property", property, "--value", unit]).ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Asks `systemctl` a question that its exit code answers.
pub(super) fn is(whose: Whose, arguments: &[&str]) -> bool {
    systemctl(whose, arguments).output().is_ok_and(|output| output.status.success())
}

fn systemctl(whose: Whose, arguments: &[&str]) -> Command {
    let mut command = Command::new("systemctl");
    if whose == Whose::User {
        command.arg("--user").env("XDG_RUNTIME_DIR", runtime());
    }
    command.arg("--no-ask-password").args(arguments).stdin(Stdio::null());
    command
}

/// Sends bytes through `systemd-creds`.
pub(super) fn creds(verb: &str, name: &str, input: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let mut command = Command::new("systemd-creds");
    command.args([verb, &["--name=", name].concat(), "-", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|why| match why.kind() {
        ErrorKind::NotFound => hinted(
            "keys cannot be sealed: there is no `systemd-creds`",
            "it comes with systemd 250 and later; without it the keys stay in their files",
        ),
        _ => anyhow::Error::from(why).context("cannot run `systemd-creds`"),
    })?;
    // Dropped before the wait, which ends the input.
    let sent = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(input));
    let output = child.wait_with_output().context("cannot run `systemd-creds`")?;
    let (success, failure) =
        (output.status.success(), failed(&["systemd-creds ", verb].concat(), &output));
    let bytes = Zeroizing::new(output.stdout);
    if !success {
        bail!(
            failure.hint(
                "the keys stay in their files; `systemd-creds setup` makes a key of this host"
            )
        )
    }
    sent.context("`systemd-creds` took no input")?;
    Ok(bytes)
}

/// Says what a program that failed has said.
pub fn failed(line: &str, output: &Output) -> Failure {
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    Failure::local(match said {
        "" => format!("`{line}` failed ({})", output.status),
        said => format!("`{line}` failed: {said}"),
    })
}
