//! `vault kv cp` and `vault kv mv`: a secret, or all in a folder, to another place. Nothing is
//! removed before the copy was read back.

use hyper::Method;
use serde_json::json;

use super::replicate::{self, End};
use super::route::{Route, Typed};
use super::secret::{context, no_value, refused};
use super::walk;
use crate::client::Client;
use crate::context::Global;
use host::hint::{Exit, Failure};

/// Copy a secret, or a folder of them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A FROM that ends in / is a folder: all in it are copied.\n\nExamples:\n  vault kv cp secret/app secret/app-test\n  vault kv cp -all-versions secret/old/ secret/new/"
)]
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

/// Move a secret with all its versions, or a folder of them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A FROM that ends in / is a folder: all in it are moved.\n\nExamples:\n  vault kv mv secret/app secret/apps/web\n  vault kv mv secret/old/ secret/new/"
)]
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
        let into_folder = self.to.ends_with('/');
        let pairs = if self.from.ends_with('/') {
            let path = from.api("metadata");
            let names =
                walk::all(client, &from).map_err(|error| context(error, "listing", &path))?;
            if names.is_empty() {
                return Err(no_value(client, &from, &path).into());
            }
            names.iter().map(|name| (from.below(name), to.below(name))).collect()
        } else {
            let own = from.parent().map_or("", |(_, own)| own);
            let to = if into_folder { to.below(own) } else { to };
            vec![(from, to)]
        };
        for (from, to) in &pairs {
            typed_check(client, to)?;
            if from == to {
                return Err(Failure::local(format!("`{}` is both ends", from.logical())).into());
            }
        }
        Ok(pairs)
    }
}

/// Refuses a name that our own grammar does not have, before anything is written.
fn typed_check(client: &Client, to: &Route) -> anyhow::Result<()> {
    if client.is_own_agent() {
        to.logical().parse::<shared::path::SecretPath>()?;
    }
    Ok(())
}

pub(super) fn cp(global: &Global, args: &CpArgs) -> anyhow::Result<Exit> {
    global.format()?;
    let client = global.client()?;
    let pairs = args.ends.pairs(&client)?;
    for (from, to) in &pairs {
        let (from, to) = (End { client: &client, route: from }, End { client: &client, route: to });
        if args.all_versions {
            replicate::all(from, to)?;
        } else {
            copy_newest(from, to, args.force)?;
        }
        done(global, "Copied", from.route, to.route)?;
    }
    Ok(Exit::OK)
}

fn copy_newest(from: End<'_>, to: End<'_>, force: bool) -> anyhow::Result<()> {
    let path = from.route.api("data");
    let Some(content) = replicate::content(from, 0)? else {
        return Err(no_value(from.client, from.route, &path).into());
    };
    let path = to.route.api("data");
    let options = if force { json!({}) } else { json!({ "cas": 0 }) };
    let answer = to.client.put(&path, &json!({ "data": content, "options": options }));
    let answer = answer.map_err(|error| context(error, "writing data to", &path))?;
    if answer.status == 400 && !force && replicate::kept(to)?.is_some() {
        let text = format!("`{}` is there already; nothing was copied to it", to.route.logical());
        return Err(Failure::remote(text).hint("-force makes a new version of it").into());
    }
    refused(answer, "writing data to", &path)?;
    Ok(())
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
        replicate::all(from, to)?;
        // Read back, as the other one goes for good.
        if replicate::content(from, 0)? != replicate::content(to, 0)? {
            let text = format!("`{}` did not arrive whole; both are kept", to.route.logical());
            return Err(Failure::remote(text).hint("run the move again").into());
        }
        let path = from.route.api("metadata");
        let kind = if from.route.is_versioned() { path } else { from.route.api("data") };
        let answer = client.send(Method::DELETE, &kind, &[], None);
        refused(answer.map_err(|error| context(error, "deleting", &kind))?, "deleting", &kind)?;
        done(global, "Moved", from.route, to.route)?;
    }
    Ok(Exit::OK)
}

/// A deleted version can be brought back; after a move it could not.
fn refuse_deleted(from: End<'_>, now: &str) -> anyhow::Result<()> {
    let Some(kept) = replicate::kept(from)? else { return Ok(()) };
    let deleted: Vec<String> = kept
        .versions
        .iter()
        .filter(|version| !version.destroyed && version.is_deleted(now))
        .map(|version| version.n.to_string())
        .collect();
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
