//! `vault kv cp` and `vault kv mv`: a secret, or all in a folder, to another place. Nothing is
//! removed before the copy was read back.

use hyper::Method;
use serde_json::json;

use super::replicate::{self, End};
use super::route::{Route, Typed};
use super::secret::{Secret, no_value};
use super::walk;
use super::write::{self, Put};
use crate::client::Client;
use crate::context::Global;
use host::hint::{Exit, Failure};

#[derive(Debug, clap::Args)]
#[command(after_help = "A FROM that ends in / is a folder: all in it are copied.

Examples:
  vault kv cp secret/app secret/app-test
  vault kv cp -all-versions secret/old/ secret/new/")]
pub struct CpArgs {
    #[command(flatten)]
    ends: Ends,
    /// Copy all versions and custom metadata, not only the newest content
    #[arg(long)]
    all_versions: bool,
    /// Write a new version where there is a secret already
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "A FROM that ends in / is a folder: all in it are moved.

Examples:
  vault kv mv secret/app secret/apps/web
  vault kv mv secret/old/ secret/new/")]
pub struct MvArgs {
    #[command(flatten)]
    ends: Ends,
    /// Move although versions are deleted whose content cannot be taken along
    #[arg(long)]
    force: bool,
}

/// From where to where.
#[derive(Debug, clap::Args)]
struct Ends {
    /// Mount of the KV engine; FROM and TO are then below it
    #[arg(long, value_name = "MOUNT")]
    mount: Option<String>,
    /// Secret, or folder with / at its end
    #[arg(value_name = "FROM")]
    from: String,
    /// Where to; with / at its end the name is kept
    #[arg(value_name = "TO")]
    to: String,
}

impl Ends {
    /// Returns each secret's place and where it goes.
    fn pairs(&self, client: &Client) -> anyhow::Result<Vec<(Route, Route)>> {
        let typed = |path: &str| Typed { mount: self.mount.clone(), path: path.to_owned() };
        let from = typed(&self.from).for_read(client)?;
        let to = typed(&self.to).for_read(client)?;
        if !to.is_versioned() {
            return Err(Failure::remote("TO is on a mount that keeps no versions").into());
        }
        let pairs = if self.from.ends_with('/') {
            let names = walk::all(client, &from)?;
            if names.is_empty() {
                return Err(no_value(client, &from, &from.api("metadata")).into());
            }
            names.iter().map(|name| (from.below(name), to.below(name))).collect()
        } else {
            let own = from.parent().map_or("", |(_, own)| own);
            let to = if self.to.ends_with('/') { to.below(own) } else { to };
            vec![(from, to)]
        };
        for (from, to) in &pairs {
            // A name that our own grammar does not have is refused before anything is written.
            if client.is_own_agent() {
                to.logical().parse::<shared::path::SecretPath>()?;
            }
            if from == to {
                return Err(Failure::local(format!("`{}` is both ends", from.logical())).into());
            }
        }
        Ok(pairs)
    }
}

pub(super) fn cp(global: &Global, args: &CpArgs) -> anyhow::Result<Exit> {
    global.format()?;
    let client = global.client()?;
    let pairs = args.ends.pairs(&client)?;
    for (from, to) in &pairs {
        let (from, to) = (End { client: &client, route: from }, End { client: &client, route: to });
        if args.all_versions {
            whole(from, to)?;
        } else {
            copy_newest(from, to, args.force)?;
        }
        done(global, "Copied", from.route, to.route)?;
    }
    Ok(Exit::OK)
}

/// Takes all versions over; fails where the place has dropped one that can be read here.
fn whole(from: End<'_>, to: End<'_>) -> anyhow::Result<()> {
    let Some(n) = replicate::all(from, to)?.barred else { return Ok(()) };
    let path = to.route.logical();
    let text = format!("version {n} of `{path}` was deleted, destroyed or dropped; both are kept");
    Err(Failure::remote(text).hint("name a place that nothing stands at").into())
}

fn copy_newest(from: End<'_>, to: End<'_>, force: bool) -> anyhow::Result<()> {
    let Some(content) = from.content(0)? else {
        return Err(no_value(from.client, from.route, &from.route.api("data")).into());
    };
    let path = to.route.api("data");
    if force {
        write::put(to.client, &path, &json!({ "data": content, "options": {} }))?;
        return Ok(());
    }
    match write::put_after(to.client, &path, &content, 0)? {
        Put::Written(_) => Ok(()),
        Put::Conflict => {
            let text =
                format!("`{}` is there already; nothing was copied to it", to.route.logical());
            Err(Failure::remote(text).hint("-force makes a new version of it").into())
        }
    }
}

pub(super) fn mv(global: &Global, args: &MvArgs) -> anyhow::Result<Exit> {
    global.format()?;
    let client = global.client()?;
    let pairs = args.ends.pairs(&client)?;
    if !args.force {
        let now = global.now().to_string();
        for (from, _) in &pairs {
            refuse_deleted(End { client: &client, route: from }, &now)?;
        }
    }
    for (from, to) in &pairs {
        let (from, to) = (End { client: &client, route: from }, End { client: &client, route: to });
        whole(from, to)?;
        // Read back, as the other one goes for good.
        if from.content(0)? != to.content(0)? {
            let text = format!("`{}` did not arrive whole; both are kept", to.route.logical());
            return Err(Failure::remote(text).hint("run the move again").into());
        }
        let path = from.route.api("metadata");
        Secret::answered(client.send(Method::DELETE, &path, &[], None), "deleting", &path)?;
        done(global, "Moved", from.route, to.route)?;
    }
    Ok(Exit::OK)
}

/// A deleted version can be brought back; after a move it could not.
fn refuse_deleted(from: End<'_>, now: &str) -> anyhow::Result<()> {
    let Some(kept) = from.kept()? else { return Ok(()) };
    let deleted = kept.versions.iter().filter(|v| !v.destroyed && v.is_deleted(now));
    let deleted: Vec<String> = deleted.map(|version| version.n.to_string()).collect();
    if deleted.is_empty() {
        return Ok(());
    }
    let (path, deleted) = (from.route.logical(), deleted.join(","));
    Err(Failure::remote(format!(
        "`{path}` has deleted versions whose content cannot be moved: {deleted}"
    ))
    .hint(format!("undelete them first: `vault kv undelete -versions={deleted} {path}`; or -force"))
    .into())
}

fn done(global: &Global, what: &str, from: &Route, to: &Route) -> anyhow::Result<()> {
    global.term.line(format!("Success! {what} {} to {}", from.logical(), to.logical()))?;
    Ok(())
}
