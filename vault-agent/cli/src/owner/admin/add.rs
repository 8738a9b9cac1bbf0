//! `vault admin add`: a new admin makes their key on their own host, and hands a public line over;
//! the holder of the recovery kit compares its six words, and appoints them. No secret travels.

use std::path::PathBuf;

use anyhow::{Result, bail};
use shared::keys::{SignKey, VerifyKey};
use shared::log::Op;
use shared::name::Name;
use shared::token::{AdminLine, Line as _};
use shared::words::LABEL;

use super::kit::Rooted;
use crate::context::Global;
use crate::owner::owning::passphrase;
use crate::owner::signing::act::Signed;
use crate::owner::signing::admin::{AdminFile, AdminKey, Work, place};
use host::files;
use host::hint::{Exit, Failure, hinted, parsed};
use machine::local::{ADMINS, Admins};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
On the new admin's host, which is a machine of the vault: `vault admin add anna` makes the key and
prints a line. Where the recovery kit is: `vault admin add VLTA1-… --kit FILE` appoints them.")]
pub struct Args {
    /// Name of the admin whose key is made here; or the line that this has printed elsewhere
    #[arg(value_name = "NAME|VLTA1-…")]
    admin: String,

    /// Read the passphrase of the new key from the first line of a file [env:
    /// VAULT_PASSPHRASE_FILE]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,

    #[command(flatten)]
    rooted: Rooted,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let all: Admins = global.client()?.get(ADMINS, &[])?;
    // Every line begins so, and no name does.
    if args.admin.trim_start().starts_with("VLT") {
        return appoint(&parsed(AdminLine::from_line(&args.admin))?, args, &all, global);
    }
    make(parsed(args.admin.parse())?, args, &all, global)
}

/// Makes the key, unless it is here, and prints its line.
fn make(name: Name, args: &Args, all: &Admins, global: &Global) -> Result<Exit> {
    let (paths, vault, term) = (global.paths()?, all.vault, &global.term);
    let passphrase = passphrase(args.passphrase_file.clone(), global);
    let file = place(&paths, &name);
    let key = if file.exists() {
        term.say(format!("`{}` is there: this is its line again", file.display()));
        AdminFile::find(&paths, Some(&name))?.unlock(&passphrase, vault)?.key.verify_key()
    } else {
        if let Some(other) = all.active().find(|row| row.name == name) {
            return Err(taken(&other.name).into());
        }
        let made = AdminKey { name: name.clone(), vault, key: SignKey::generate() };
        let sealed = made.seal(&passphrase.fresh(&name)?, Work::Second)?;
        files::create_dir_private(&paths.admin())?;
        files::write_private(&file, &sealed)?;
        term.say(format!("the key of `{name}` is in `{}`: keep a copy", file.display()));
        made.key.verify_key()
    };
    if is_admin(&name, &key, all) {
        term.say(format!("`{name}` is an admin of the vault with this key"));
    } else {
        term.say("where the recovery kit is, on a machine of the vault:");
        term.say("  vault admin add VLTA1-… --kit FILE");
    }
    let line = AdminLine { name, vault, key };
    term.line(parsed(line.to_line())?)?;
    term.line(format!("{LABEL}{}", line.words()))?;
    Ok(Exit::OK)
}

fn is_admin(name: &Name, key: &VerifyKey, all: &Admins) -> bool {
    all.active().any(|row| row.name == *name && row.key == *key)
}

/// Has root appoint the admin of a line.
fn appoint(line: &AdminLine, args: &Args, all: &Admins, global: &Global) -> Result<Exit> {
    let AdminLine { name, vault, key } = line;
    if *vault != all.vault {
        let (of, here) = (vault.short(), all.vault.short());
        bail!(hinted(
            format!("the line is for vault {of}, and this machine belongs to {here}"),
            "have it made on a machine of this vault"
        ));
    }
    if is_admin(name, key, all) {
        global.term.say(format!("`{name}` is an admin already, with this key"));
        return Ok(Exit::OK);
    }
    if all.active().any(|row| row.name == *name) {
        return Err(taken(name).into());
    }
    if let Some(row) = all.admins.iter().find(|row| row.key == *key) {
        return Err(Failure::remote(format!("E_KEY: this key was `{}`'s before", row.name))
            .hint("no key is used twice: remove its file there, and have a new one made")
            .into());
    }
    let owner = args.rooted.owner(all, "appoints", global)?;
    global.term.say(format!(
        "compare these six words with those on `{name}`'s host; if they differ, somebody has changed \
         the line: {}",
        line.words()
    ));
    let op = Op::AdminAdd { name: name.clone(), key: key.clone() };
    let signed = owner.sign(|_| Ok(vec![op.clone()])).or_else(|fault| {
        // The same command before may have come this far, too.
        let all: Admins = global.client()?.get(ADMINS, &[])?;
        if is_admin(name, key, &all) { Ok(Signed::Needless) } else { Err(fault) }
    });
    match signed? {
        Signed::Needless => global.term.say(format!("`{name}` is an admin already")),
        Signed::Declined => return Ok(Exit::LOCAL),
        Signed::Done(done) => {
            global.term.say(format!("`{name}` is an admin: entry {}", done.seq));
        }
    }
    Ok(Exit::OK)
}

fn taken(name: &Name) -> Failure {
    Failure::remote(format!("E_EXISTS: admin `{name}`, with another key"))
        .hint("choose another name, or remove that admin first: `vault admin remove`")
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;

    use super::*;
    use crate::testing::World;

    #[test]
    fn what_is_neither_a_name_nor_a_line_is_told_for_what_it_looks_like() {
        let (vault, root) = (Hash::of(&[b"vault"]), SignKey::from_seed(&[1; 32]).verify_key());
        let admins = serde_json::to_string(&Admins { vault, root, admins: Vec::new() }).unwrap();
        let world = World::admin(&[("GET /v1/agent/admins", 200, &admins)]);
        for (text, code) in [("Anna", "E_NAME"), ("VLTA1-AAAA", "E_TOKEN")] {
            let ran = world.run(&format!("admin add {text}"));
            assert!(ran.exit != 0 && ran.err.contains(&format!("{code}: ")), "{}", ran.err);
        }
    }
}
