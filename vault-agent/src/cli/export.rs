//! `vault export`: secrets as a file that other programs read. Later paths win over earlier ones.

use std::path::PathBuf;

use shared::path::SecretPath;
use zeroize::Zeroizing;

use super::Global;
use super::client::Client;
use super::kv::{Secret, Typed, context, fetch, no_value, say_age};
use crate::exit::{Exit, Failure};
use crate::files::{self, Access};
use crate::render::{self, Field, Format, Rules};

/// Print secrets as .env, JSON or shell lines
#[derive(Debug, clap::Args)]
#[command(
    after_help = "-format is dotenv (default), json or sh.\n\nExamples:\n  vault export secret/app > .env\n  vault export --format sh secret/app secret/vps    later paths win\n  vault export --out .env secret/app                written at once, for you alone (0600)"
)]
pub struct Args {
    /// Mount of the KV engine; PATH is then below it
    #[arg(long, value_name = "MOUNT")]
    mount: Option<String>,
    /// Secrets, e.g. secret/app
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
    /// Replace this file instead of printing
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only this key; repeatable
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// Allow this name although it changes what programs run, e.g. PATH; repeatable
    #[arg(long, value_name = "NAME")]
    allow_name: Vec<String>,
    /// Allow values of several lines, which many readers of .env files cannot take
    #[arg(long)]
    allow_newlines: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let format: Format = match &global.flags.format {
        Some(text) => text.parse().map_err(Failure::local)?,
        None => Format::default(),
    };
    let client = global.client()?;
    let mut secrets = Vec::with_capacity(args.paths.len());
    for path in &args.paths {
        let place = Typed { mount: args.mount.clone(), path: path.clone() };
        secrets.push(read(global, &client, &place)?);
    }
    let rules = Rules {
        keys: (!args.keys.is_empty()).then_some(args.keys.as_slice()),
        allow_names: &args.allow_name,
        allow_newlines: args.allow_newlines,
    };
    let rendered = render::render(format, &secrets, &rules).map_err(|refused| {
        let hint = refused.faults.first().map_or("", |fault| fault.hint());
        Failure::local(format!("the secrets {refused}")).hint(hint)
    })?;
    for warning in rendered.warnings {
        global.term.say(format!("warning: {warning}"));
    }
    match &args.out {
        None => global.term.print(rendered.content.expose())?,
        Some(file) => {
            let file = std::path::absolute(file)?;
            files::replace(&file, rendered.content.expose(), Access::PRIVATE)
                .map_err(|why| Failure::local(why.to_string()).hint(why.hint()))?;
            global.term.say(format!("wrote `{}`", file.display()));
        }
    }
    Ok(Exit::OK)
}

fn read(
    global: &Global,
    client: &Client,
    place: &Typed,
) -> anyhow::Result<(SecretPath, Vec<Field>)> {
    let (route, answer) = fetch(client, place, 0)?;
    let path = route.api("data");
    say_age(global, &answer);
    let secret = Secret::of_read(answer).map_err(|error| context(error, "reading", &path))?;
    let Some(secret) = secret else { return Err(no_value(&route, &path).into()) };
    let data = if route.is_versioned() { secret.part("data") } else { secret.data.as_ref() };
    let Some(data) = data else {
        return Err(Failure::remote(format!("No data found at {path}")).into());
    };
    let content = Zeroizing::new(serde_json::to_vec(data)?);
    let name = route.logical().parse().map_err(anyhow::Error::from)?;
    Ok((name, render::fields(&content)?))
}
