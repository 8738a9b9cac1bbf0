//! What this machine does not open, the kit that goes opens for it, so that the new kit gets every
//! version: earlier ones are not encrypted to whoever has come, or has got new keys, since.

use anyhow::{Result, bail};
use hyper::Method;
use shared::blob::{self, Place};

use super::proof;
use crate::context::Global;
use crate::owner::signing::kit::Kit;
use host::hint::Failure;
use host::progress::Progress;
use host::shown::quoted;
use machine::local::{GIVEN, GiveRequest, Inline, Kept, KeptVersion};

/// Versions that are named one by one.
const NAMED: usize = 20;

/// A version that neither opens, and why.
type Closed<'a> = (&'a KeptVersion, String);

/// Hands the agent what `kit` opens and this machine does not, encrypted to this machine alone;
/// returns what neither opens.
///
/// # Errors
/// If the agent does not take what it is handed.
pub(super) fn give<'a>(kept: &'a Kept, kit: &Kit, global: &Global) -> Result<Vec<Closed<'a>>> {
    let live: Vec<&KeptVersion> = kept.versions.iter().filter(|it| !it.deleted).collect();
    let client = global.client()?;
    let mut progress = Progress::start(&global.term, live.len());
    let mut closed = Vec::new();
    for version in live {
        let KeptVersion { path, ver, .. } = version;
        progress.step(path.as_str());
        let sealed = match proof::sealed(&client, version) {
            Ok(sealed) if sealed.opens => continue,
            Ok(sealed) => sealed,
            Err(why) => {
                closed.push((version, why.to_string()));
                continue;
            }
        };
        match proof::open(&kept.vault, &kit.recovery, version, sealed)? {
            Ok(opened) => {
                let place = Place { vault: &kept.vault, path, ver: *ver };
                let own = blob::reseal(place, &opened, std::slice::from_ref(&kept.recipient))?;
                let (path, ver, bytes) = (path.clone(), *ver, Inline(own.bytes));
                let body = serde_json::to_vec(&GiveRequest { path, ver, bytes })?;
                client.send(Method::POST, GIVEN, &[], Some(body.into()))?.success()?;
            }
            Err(why) => closed.push((version, why.to_string())),
        }
    }
    progress.end();
    Ok(closed)
}

/// As [`give`], before anything is signed.
///
/// # Errors
/// If neither opens a version: the kit that goes, or another machine, may be all that does.
pub(super) fn demand_all(kept: &Kept, kit: &Kit, global: &Global) -> Result<()> {
    let closed = give(kept, kit, global)?;
    let Some((first, _)) = closed.first() else { return Ok(()) };
    for (KeptVersion { path, ver, .. }, why) in closed.iter().take(NAMED) {
        global.term.say(format!("version {ver} of `{path}`: {why}"));
    }
    let (text, path) = (count(closed.len()), quoted(first.path.as_str()));
    bail!(Failure::remote(format!("neither this machine nor the kit opens {text}")).hint(format!(
        "run this on a machine that reads more; what no machine and no kit opens is lost, and \
             `vault kv destroy -versions={} {path}` takes it off the list; nothing was signed",
        first.ver
    )))
}

/// Returns how many versions, in words.
pub(super) fn count(versions: usize) -> String {
    let plural = if versions == 1 { "version" } else { "versions" };
    format!("{versions} {plural}")
}
