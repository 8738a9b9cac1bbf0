//! `vault token`: tokens for programs that should see less than this machine does, with HashiCorp's
//! words.

use hyper::Method;
use serde_json::{Map, Value, json};
use shared::duration;

use crate::context::Global;
use crate::kv::Secret;
use crate::kv::data::given;
use crate::print::{self, Format, table};
use crate::vault::generic::changed;
use host::hint::{Exit, Failure};

/// How every token of an agent begins.
const PREFIX: &str = "vltp.";

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

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  vault token create -path secret/app/ -ttl 24h
  vault token create -path secret/app/ -capability read -capability write -field=token")]
pub struct CreateArgs {
    /// Secret, folder with / at its end, or *; repeatable; without it all that the caller may
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

/// Seconds of a Go duration, as the API takes them.
fn ttl(text: &str) -> Result<String, String> {
    let seconds = text.parse::<u32>().is_ok();
    let known = seconds || duration::parse(text).is_some_and(|micros| micros >= 0);
    known.then(|| text.to_owned()).ok_or_else(|| "expected a duration such as 1h or 30m".to_owned())
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
    let body = given(json!({
        "path": args.path, "capabilities": args.capability, "policies": args.policy,
        "ttl": args.ttl, "display_name": args.display_name, "period": args.period,
        "type": args.kind, "num_uses": args.use_limit, "no_parent": args.orphan.then_some(true),
    }));
    let body = Some(body.to_string().into());
    let answer = client.send(Method::POST, "auth/token/create", &[], body);
    let answer = Secret::answered(answer, "creating", "token")?;
    if args.path.is_empty() && args.capability.is_empty() && client.is_own_agent() {
        global.term.say_hinted(
            "this token may do all that its maker may",
            "`-path PREFIX` makes one for less, `-ttl 24h` one that ends",
        );
    }
    changed(global, answer, args.field.as_deref(), None)
}

fn list(global: &Global) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    let query = [("list", "true".to_owned())];
    let answer = client.send(Method::GET, "auth/token/accessors", &query, None);
    let accessors = Secret::found(answer, "listing", "tokens")?.and_then(|secret| secret.names());
    let mut tokens = Vec::new();
    for accessor in accessors.unwrap_or_default() {
        let body = Some(json!({ "accessor": accessor }).to_string().into());
        let answer = client.send(Method::POST, "auth/token/lookup-accessor", &[], body);
        // One that ended meanwhile is none.
        let Ok(answer) = answer?.success() else { continue };
        tokens.extend(Secret::of(&answer)?.and_then(|secret| secret.data));
    }
    if format != Format::Table {
        global.term.document(print::data(format, &tokens.into())?)?;
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
    let answer = Secret::answered(answer, "looking up", "token")?;
    changed(global, answer, args.field.as_deref(), None)
}

fn renew(global: &Global, args: &RenewArgs) -> anyhow::Result<Exit> {
    global.format_of_answer()?;
    let client = global.client()?;
    let body = given(json!({ "increment": args.increment, "token": args.token }));
    let path = if args.token.is_some() { "auth/token/renew" } else { "auth/token/renew-self" };
    let answer = Secret::answered(client.put(path, &body), "renewing", "token")?;
    changed(global, answer, args.field.as_deref(), None)
}

fn revoke(global: &Global, args: &RevokeArgs) -> anyhow::Result<Exit> {
    let client = global.client()?;
    let token = args.token.as_deref().map(str::trim).unwrap_or_default();
    if !args.own && !args.accessor && client.is_own_agent() && !token.starts_with(PREFIX) {
        let hint = "`vault token list` shows accessors: `vault token revoke -accessor ACCESSOR`";
        return Err(Failure::local("that is no token of this agent's").hint(hint).into());
    }
    let (path, body) = match (args.own, args.accessor) {
        (true, _) => ("auth/token/revoke-self", json!({})),
        (false, true) => ("auth/token/revoke-accessor", json!({ "accessor": token })),
        (false, false) => ("auth/token/revoke", json!({ "token": token })),
    };
    Secret::answered(client.put(path, &body), "revoking", "token")?;
    global.term.line("Success! Revoked token (if it existed)")?;
    Ok(Exit::OK)
}
