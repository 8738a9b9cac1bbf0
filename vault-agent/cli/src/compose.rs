//! `vault compose`: a provider of Docker Compose, which puts secrets into the environment of the
//! services that depend on it. What Compose runs, and how it reads standard output, is in its
//! `docs/extension.md`.
//!
//! Compose passes the options in any order, and drops those that `metadata` does not tell. A line
//! of type `error` ends the provider, so nothing is printed before every value is proven.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args as _;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::argv::boolean;
use crate::context::Global;
use crate::kv::Typed;
use crate::print::exit;
use crate::vault::export;
use host::hint::{Exit, Failure, hinted, with_hint};
use host::shown::Shown;
use host::term::Term;
use machine::render::{self, Environment, Nested, Rules};

/// What Compose runs this by, and what starts every one of its calls.
pub const VERB: &str = "compose";

#[derive(Debug, clap::Args)]
#[command(after_help = "In compose.yaml:
  services:
    secrets:
      provider:
        type: vault
        options:
          secret: [secret/app, secret/smtp]
    app:
      depends_on: [secrets]")]
pub struct Args {
    /// Project, as Compose names it
    #[arg(long, value_name = "NAME")]
    project_name: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the keys of secrets as variables for the services that depend on this one
    Up(Up),
    /// Do nothing: there is nothing to release
    Down(Unused),
    /// Do nothing: nothing runs
    Stop(Unused),
    /// Print which options there are
    Metadata,
}

/// The options of a provider service; `metadata` is made from these.
#[derive(Debug, clap::Args)]
struct Up {
    /// Secret, e.g. secret/app; repeatable, later ones win
    #[arg(
        long = "secret",
        visible_alias = "secrets",
        alias = "path",
        alias = "paths",
        value_name = "PATH"
    )]
    secrets: Vec<String>,
    /// Only this key; repeatable
    #[arg(long = "key", visible_alias = "keys", value_name = "KEY")]
    keys: Vec<String>,
    /// Set KEY as NAME; repeatable
    #[arg(long, value_name = "KEY=NAME", value_parser = export::pair)]
    rename: Vec<(String, String)>,
    /// Put this before all other names
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    prefix: String,
    /// Put all other names in upper case: true or false
    #[arg(long, value_name = "BOOL", value_parser = boolean, default_value = "false",
          num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_default_value = true)]
    upper: bool,
    /// Lists and objects: refuse, or flatten to names joined by __
    #[arg(long, value_name = "HOW", value_parser = export::nested, default_value = "refuse")]
    nested: Nested,
    /// Allow this name although it changes what programs run, e.g. PATH; repeatable
    #[arg(
        long,
        visible_alias = "allow-names",
        alias = "allow_name",
        alias = "allow_names",
        value_name = "NAME"
    )]
    allow_name: Vec<String>,
    /// Service, as Compose names it
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
}

/// What Compose may pass to a command that needs nothing.
#[derive(Debug, clap::Args)]
struct Unused {
    /// Options and service, as Compose passes them
    #[arg(value_name = "SERVICE", trailing_var_arg = true, allow_hyphen_values = true)]
    _words: Vec<OsString>,
}

/// Runs what Compose asks for; a failure is a line of type `error`, and the last.
pub fn run(args: &Args, global: &Global) -> Result<Exit> {
    match &args.command {
        Command::Up(up) => match up.lines(global, args.project_name.as_deref()) {
            Ok(lines) => global.term.data(&lines)?,
            Err(why) => return Ok(fail(&global.term, &why)),
        },
        Command::Down(_) | Command::Stop(_) => {}
        Command::Metadata => {
            global.term.document(serde_json::to_string_pretty(&Metadata::new())?)?;
        }
    }
    Ok(Exit::OK)
}

/// Tells Compose of a failure: its first line is shown as the state of the service.
pub fn fail(term: &Term, why: &anyhow::Error) -> Exit {
    let hint = exit::hint(why).filter(|hint| !hint.is_empty());
    let text = exit::shown(why);
    let text = hint.map_or_else(|| text.clone(), |hint| with_hint(&text, hint));
    let mut line = Vec::new();
    push(&mut line, "error", &text);
    // Compose that went away has no use for it.
    let _ = term.data(line);
    exit::of(why)
}

/// Answers a wrong call, of which Compose reads nothing but standard output.
pub fn usage(term: &Term, wrong: &clap::Error) -> Exit {
    let text = wrong.to_string();
    let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let hint = "`vault compose up --help` tells the options";
    fail(term, &Failure::local(first).hint(hint).into())
}

impl Up {
    /// Reads all secrets, and returns everything that Compose is to be told.
    fn lines(&self, global: &Global, project: Option<&str>) -> Result<Zeroizing<Vec<u8>>> {
        let Environment { variables, warnings } = self.environment(global)?;
        let mut lines = Zeroizing::new(Vec::with_capacity(room(&variables)));
        let whose = [project, self.service.as_deref()].map(|name| name.unwrap_or("?"));
        let names: Vec<_> = variables.iter().map(|(name, _)| name.as_str()).collect();
        let told = format!("service `{}` of project `{}`: {}", whose[1], whose[0], names.join(" "));
        push(&mut lines, "debug", &Shown::from(told));
        for warning in warnings {
            push(&mut lines, "info", &Shown::from(format!("warning: {warning}")));
        }
        for (name, value) in &variables {
            let pair = Zeroizing::new([name, "=", value.as_str()].concat());
            push(&mut lines, "rawsetenv", &pair);
        }
        let count = format!("{} variables of {}", variables.len(), self.secrets.join(", "));
        push(&mut lines, "info", &Shown::from(count));
        Ok(lines)
    }

    fn environment(&self, global: &Global) -> Result<Environment> {
        if self.secrets.is_empty() {
            return Err(hinted(
                "the provider names no secret",
                "give it one in compose.yaml: `options: {secret: secret/app}`",
            ));
        }
        let client = global.client()?;
        let mut secrets = Vec::with_capacity(self.secrets.len());
        for path in &self.secrets {
            let place = Typed { mount: None, path: path.clone() };
            secrets.push(export::fields(global, &client, &place)?);
        }
        let rules = Rules {
            keys: (!self.keys.is_empty()).then_some(self.keys.as_slice()),
            rename: &self.rename,
            prefix: &self.prefix,
            upper: self.upper,
            nested: self.nested,
            allow_names: &self.allow_name,
            ..Rules::default()
        };
        render::environment(&secrets, &rules).map_err(|faults| {
            let shown: Vec<_> = faults.iter().map(ToString::to_string).collect();
            let text = format!("the secrets cannot be an environment: {}", shown.join("; "));
            hinted(text, faults.first().map_or("", |fault| fault.why.hint))
        })
    }
}

/// One line that Compose reads.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'a str,
    message: &'a str,
}

fn push(lines: &mut Vec<u8>, kind: &str, message: &str) {
    let line = Line { r#type: kind, message };
    serde_json::to_writer(&mut *lines, &line).expect("text is JSON, and memory takes it");
    lines.push(b'\n');
}

/// Returns how many bytes the lines have at most, so that no copy of a value is left behind by
/// growing: JSON writes a byte as six at most.
fn room(variables: &[(String, Zeroizing<String>)]) -> usize {
    let longest =
        |(name, value): &(String, Zeroizing<String>)| 7 * name.len() + 6 * value.len() + 64;
    4096 + variables.iter().map(longest).sum::<usize>()
}

/// What Compose is told about the options.
#[derive(Serialize)]
struct Metadata {
    description: &'static str,
    up: Parameters,
    down: Parameters,
    stop: Parameters,
}

#[derive(Default, Serialize)]
struct Parameters {
    parameters: Vec<Parameter>,
}

#[derive(Serialize)]
struct Parameter {
    name: String,
    description: String,
    required: bool,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<String>,
}

impl Metadata {
    fn new() -> Self {
        let up = Up::augment_args(clap::Command::new(VERB));
        let parameters = up.get_arguments().flat_map(parameters).collect();
        Self {
            description: "Secrets as environment variables, out of the vault and into no file",
            up: Parameters { parameters },
            down: Parameters::default(),
            stop: Parameters::default(),
        }
    }
}

/// Describes an option under every name that it goes by: what is not described does not arrive.
/// None is required, since Compose would insist on each of these names.
fn parameters(arg: &clap::Arg) -> Vec<Parameter> {
    let Some(long) = arg.get_long() else { return Vec::new() };
    let kind = if arg.get_id() == "upper" { "boolean" } else { "string" };
    let text = |value: &clap::builder::OsStr| value.to_string_lossy().into_owned();
    let default = arg.get_default_values().first().map(text).filter(|text| !text.is_empty());
    let names = std::iter::once(long).chain(arg.get_all_aliases().unwrap_or_default());
    let described = names.map(|name| Parameter {
        name: name.to_owned(),
        description: arg.get_help().map(ToString::to_string).unwrap_or_default(),
        required: false,
        r#type: kind,
        default: default.clone(),
    });
    described.collect()
}
