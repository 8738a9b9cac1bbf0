//! `vault token`: tokens for programs that should see less than this machine does, with HashiCorp's
//! words.

use hyper::Method;
use serde_json::{Map, Value, json};

use crate::client::Answer;
use crate::context::Global;
use crate::kv::Secret;
use crate::print::{self, Format, table};
use crate::vault::secrets::{says, ttl};
use host::hint::{Exit, Failure};

/// Make, look up and revoke tokens for programs
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a token that may read, or write, some paths
    Create(CreateArgs),
    /// List the tokens that there are
    List,
    /// Show what a token may do; without one, the caller's own
    Lookup(LookupArgs),
    /// Renew the own token, or another one
    Renew(RenewArgs),
    /// End a token
    Revoke(RevokeArgs),
}

/// Make a token that may read, or write, some paths
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  vault token create -path secret/app/ -ttl 24h\n  vault token create -path secret/app/ -capability read -capability write -field=token"
)]
pub struct CreateArgs {
    /// Secret, folder with / at its end, or *; repeatable
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    path: Vec<String>,
    /// read (the default) or write; repeatable
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    capability: Vec<String>,
    /// How long it lives; for ever without it
    #[arg(long, value_name = "DURATION", value_parser = ttl)]
    ttl: Option<String>,
    /// Name for lists and the audit log
    #[arg(long, value_name = "NAME")]
    display_name: Option<String>,
    /// Policy of another Vault; repeatable
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    policy: Vec<String>,
    /// Of another Vault: no parent
    #[arg(long, hide_short_help = true)]
    orphan: bool,
    /// Of another Vault: how often it can be used
    #[arg(long, value_name = "N", hide_short_help = true)]
    use_limit: Option<u32>,
    /// Of another Vault: each renewal lasts this long
    #[arg(long, value_name = "DURATION", value_parser = ttl, hide_short_help = true)]
    period: Option<String>,
    /// Of another Vault: service or batch
    #[arg(long = "type", value_name = "TYPE", hide_short_help = true)]
    kind: Option<String>,
    /// Print this field of the answer only, e.g. token
    #[arg(long, value_name = "KEY")]
    field: Option<String>,
}

/// Show what a token may do; without one, the caller's own
#[derive(Debug, clap::Args)]
pub struct LookupArgs {
    /// Token, or accessor
    #[arg(value_name = "TOKEN", required_if_eq("accessor", "true"))]
    token: Option<String>,
    /// TOKEN is an accessor
    #[arg(long)]
    accessor: bool,
    /// Print this field only
    #[arg(long, value_name = "KEY")]
    field: Option<String>,
}

/// Renew the own token, or another one
#[derive(Debug, clap::Args)]
pub struct RenewArgs {
    /// Token
    #[arg(value_name = "TOKEN")]
    token: Option<String>,
    /// By how much
    #[arg(long, value_name = "DURATION", value_parser = ttl)]
    increment: Option<String>,
    /// Print this field only
    #[arg(long, value_name = "KEY")]
    field: Option<String>,
}

/// End a token
#[derive(Debug, clap::Args)]
pub struct RevokeArgs {
    /// Token, or accessor
    #[arg(value_name = "TOKEN", required_unless_present = "own", conflicts_with = "own")]
    token: Option<String>,
    /// TOKEN is an accessor
    #[arg(long, conflicts_with = "own")]
    accessor: bool,
    /// End the caller's own token
    #[arg(long = "self", id = "own")]
    own: bool,
}

pub(crate) fn run(global: &Global, command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Create(args) => create(global, args),
        Command::List => list(global),
        Command::Lookup(args) => lookup(global, args),
        Command::Renew(args) => renew(global, args),
        Command::Revoke(args) => revoke(global, args),
    }
}

fn create(global: &Global, args: &CreateArgs) -> anyhow::Result<Exit> {
    global.format_of_answer()?;
    let client = global.client()?;
    if args.path.is_empty() && client.is_own_agent() {
        let hint = "give -path: a secret, a folder with / at its end, or *";
        return Err(Failure::local("a token needs a path").hint(hint).into());
    }
    let mut body = Map::new();
    let list = |name: &str, items: &[String]| {
        (!items.is_empty()).then(|| (name.to_owned(), Value::from(items)))
    };
    body.extend(list("path", &args.path));
    body.extend(list("capabilities", &args.capability));
    body.extend(list("policies", &args.policy));
    let texts = [
        ("ttl", &args.ttl),
        ("display_name", &args.display_name),
        ("period", &args.period),
        ("type", &args.kind),
    ];
    for (name, text) in texts {
        body.extend(text.clone().map(|text| (name.to_owned(), text.into())));
    }
    body.extend(args.use_limit.map(|n| ("num_uses".to_owned(), n.into())));
    if args.orphan {
        body.insert("no_parent".to_owned(), true.into());
    }
    let body = Value::Object(body).to_string();
    let answer = client.send(Method::POST, "auth/token/create", &[], Some(body.into()));
    let answer = answer.and_then(Answer::success);
    let answer = answer.map_err(|error| says(error, "Error creating token"))?;
    let Some(secret) = Secret::of(&answer)? else { return Ok(Exit::OK) };
    secret.print(global, args.field.as_deref())
}

fn list(global: &Global) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    let query = [("list", "true".to_owned())];
    let answer = client.send(Method::GET, "auth/token/accessors", &query, None);
    let secret = answer.and_then(Secret::of_read);
    let secret = secret.map_err(|error| says(error, "Error listing tokens"))?;
    let data = secret.and_then(|secret| secret.data).unwrap_or_default();
    let keys = data.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut tokens = Vec::with_capacity(keys.len());
    for accessor in &keys {
        let body = json!({ "accessor": accessor }).to_string();
        let answer =
            client.send(Method::POST, "auth/token/lookup-accessor", &[], Some(body.into()));
        // One that ended meanwhile is none.
        let Ok(answer) = answer?.success() else { continue };
        tokens.extend(Secret::of(&answer)?.and_then(|secret| secret.data));
    }
    if format != Format::Table {
        global.term.line(print::data(format, &tokens.into())?)?;
        return Ok(Exit::OK);
    }
    if tokens.is_empty() {
        global.term.say_hinted("no token", "`vault token create -path PREFIX` makes one");
        return Ok(Exit::OK);
    }
    let rows: Vec<_> = tokens.iter().map(row).collect();
    let header = ["ACCESSOR", "NAME", "PATHS", "MAY", "ENDS"];
    global.term.line(table::plain(&header, &rows))?;
    Ok(Exit::OK)
}

fn row(token: &Map<String, Value>) -> Vec<String> {
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
            items.join(",")
        }
        Some(_) | None => String::new(),
    };
    let meta = |name: &str| text(token.get("meta").and_then(|meta| meta.get(name)));
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    vec![
        text(token.get("accessor")),
        text(token.get("display_name")),
        or(meta("paths"), "-"),
        or(meta("capabilities"), "-"),
        or(text(token.get("expire_time")), "never"),
    ]
}

fn lookup(global: &Global, args: &LookupArgs) -> anyhow::Result<Exit> {
    global.format_of_answer()?;
    let client = global.client()?;
    let token = args.token.as_deref().map(str::trim);
    let answer = match token {
        None => client.send(Method::GET, "auth/token/lookup-self", &[], None),
        Some(token) => {
            let (path, body) = if args.accessor {
                ("auth/token/lookup-accessor", json!({ "accessor": token }))
            } else {
                ("auth/token/lookup", json!({ "token": token }))
            };
            client.send(Method::POST, path, &[], Some(body.to_string().into()))
        }
    };
    let answer = answer.and_then(Answer::success);
    let answer = answer.map_err(|error| says(error, "Error looking up token"))?;
    let Some(secret) = Secret::of(&answer)? else { return Ok(Exit::OK) };
    secret.print(global, args.field.as_deref())
}

fn renew(global: &Global, args: &RenewArgs) -> anyhow::Result<Exit> {
    global.format_of_answer()?;
    let client = global.client()?;
    let mut body = Map::new();
    body.extend(args.increment.clone().map(|text| ("increment".to_owned(), text.into())));
    body.extend(args.token.clone().map(|token| ("token".to_owned(), token.into())));
    let path = if args.token.is_some() { "auth/token/renew" } else { "auth/token/renew-self" };
    let answer = client.put(path, &body.into()).and_then(Answer::success);
    let answer = answer.map_err(|error| says(error, "Error renewing token"))?;
    let Some(secret) = Secret::of(&answer)? else { return Ok(Exit::OK) };
    secret.print(global, args.field.as_deref())
}

fn revoke(global: &Global, args: &RevokeArgs) -> anyhow::Result<Exit> {
    let client = global.client()?;
    let token = args.token.as_deref().map(str::trim).unwrap_or_default();
    let (path, body) = match (args.own, args.accessor) {
        (true, _) => ("auth/token/revoke-self", json!({})),
        (false, true) => ("auth/token/revoke-accessor", json!({ "accessor": token })),
        (false, false) => ("auth/token/revoke", json!({ "token": token })),
    };
    let answer = client.put(path, &body).and_then(Answer::success);
    answer.map_err(|error| says(error, "Error revoking token"))?;
    global.term.line("Success! Revoked token (if it existed)")?;
    Ok(Exit::OK)
}
