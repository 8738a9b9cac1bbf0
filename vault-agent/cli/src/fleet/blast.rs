//! `vault blast`: a value has leaked: which hosts, files and processes had it and since when, where
//! else it lies, and what to rotate and restart. Ends with 2 as long as it is in use.

mod found;
mod reached;
mod show;
mod steps;

use shared::path::SecretPath;

use crate::context::Global;
use crate::print::Format;
use found::find;
use host::hint::{Exit, Failure};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without @V the newest version is meant. With --key all versions that hold the same value of the key
count; without it that version alone. Exits 2 as long as the value is in use: the newest version, a
file or another secret holds it, or nobody here can tell.

Examples:
  vault blast secret/app --key OPENAI_API_KEY   a key was found where it should not be
  vault blast secret/app@12                     all that was in version 12")]
pub struct Args {
    /// Secret, e.g. secret/app/db, or one version of it, e.g. secret/app/db@12
    #[arg(value_name = "PATH[@V]")]
    path: String,
    /// The value of this key alone
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let (path, version) = place(&args.path)?;
    let client = global.client()?;
    let found = find(&client, &path, version, args.key.clone())?;
    for line in found.headline() {
        global.term.say(line);
    }
    global.show(format, || show::table(&found), &show::document(&found))?;
    for note in found.notes() {
        global.term.say(note);
    }
    if found.is_in_use() {
        return Ok(Exit::REMOTE);
    }
    if format == Format::Table {
        global.term.say("the value is in use no more, in what was looked through");
    }
    Ok(Exit::OK)
}

/// Reads `PATH@V`.
fn place(text: &str) -> Result<(SecretPath, Option<u64>), Failure> {
    let versioned = text.rsplit_once('@').and_then(|(path, ver)| {
        let is_number = !ver.is_empty() && ver.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then_some((path, ver))
    });
    let (path, ver) = versioned.map_or((text, None), |(path, ver)| (path, Some(ver)));
    let ver = ver.map(|ver| ver.parse().ok().filter(|ver| *ver > 0).ok_or(ver)).transpose();
    let ver = ver.map_err(|ver| {
        Failure::local(format!("`{ver}` is no version")).hint("versions are numbered from 1")
    })?;
    let path = path.trim_matches('/').parse::<SecretPath>();
    Ok((path.map_err(|why| Failure::local(why.to_string()).hint(why.code.hint()))?, ver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_stands_behind_the_last_at_sign() {
        for (text, expected) in [
            ("secret/app", Some(("secret/app", None))),
            ("secret/app@12", Some(("secret/app", Some(12)))),
            ("secret/me@home", Some(("secret/me@home", None))),
            ("secret/me@home@3", Some(("secret/me@home", Some(3)))),
            ("secret/app@", Some(("secret/app@", None))),
            ("secret/app@0", None),
            ("secret/app@99999999999999999999", None),
            ("secret/../x", None),
        ] {
            let found = place(text).ok();
            let found = found.as_ref().map(|(path, ver)| (path.as_str(), *ver));
            assert_eq!(found, expected, "{text}");
        }
    }
}
