//! `vault run`: a program with secrets in its environment and in no file. What runs and restarts it
//! is in `child`.

mod child;
mod environment;
mod redact;
mod watch;

use std::ffi::OsString;
use std::time::Duration;

use crate::context::Global;
use crate::kv::{Freshness, Typed};
use host::hint::{Exit, hinted};
use shared::duration;
use tokio::sync::mpsc;

use environment::Wanted;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Signals and the exit code are passed on; a program that a signal ended exits with 128 and its number.

Examples:
  vault run secret/app -- ./server --port 8080
  vault run -w secret/app secret/smtp -- ./server        start it anew when a secret changes
  vault run --redact secret/app -- ./deploy.sh           values do not appear in its output"
)]
pub struct Args {
    /// Mount of the KV engine; PATH is then below it
    #[arg(long, value_name = "MOUNT")]
    mount: Option<String>,
    /// Secrets, e.g. secret/app; later ones win
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
    /// As PATH; repeatable
    #[arg(long = "path", visible_alias = "secret", value_name = "PATH")]
    named: Vec<String>,
    /// Only this key; repeatable
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// Allow this name although it changes what programs run, e.g. PATH; repeatable
    #[arg(long, value_name = "NAME")]
    allow_name: Vec<String>,
    /// Start the program anew when a secret changes
    #[arg(short, long)]
    watch: bool,
    /// Show *** in place of the values in what the program prints
    #[arg(long)]
    redact: bool,
    /// How long the program may take to end before it is killed
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = grace)]
    grace: Duration,
    #[command(flatten)]
    freshness: Freshness,
    /// Program and its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<OsString>,
}

fn grace(text: &str) -> Result<Duration, String> {
    let micros = duration::parse(text).and_then(|micros| u64::try_from(micros).ok());
    micros.map(Duration::from_micros).ok_or_else(|| "expected a duration such as 10s".to_owned())
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let place = |path: &String| Typed { mount: args.mount.clone(), path: path.clone() };
    let places: Vec<Typed> = args.paths.iter().chain(&args.named).map(place).collect();
    if places.is_empty() {
        return Err(hinted("no secret is named", "vault run secret/app -- COMMAND"));
    }
    let wanted = Wanted { places, keys: args.keys.clone(), allowed: args.allow_name.clone() };
    let client = args.freshness.client(global)?;
    let environment = wanted.read(&client, |answer| args.freshness.look(global, answer))?;
    for warning in &environment.warnings {
        global.term.say(format!("warning: {warning}"));
    }
    let changes = if args.watch {
        if client.is_alone() {
            return Err(hinted(
                "-w needs a running agent, which hears of changes",
                "start the agent (`vault-agent install`), or leave -w out",
            ));
        }
        watch::start(client, wanted, environment.clone())?
    } else {
        // An agent that was started for this command alone ends here.
        drop(client);
        mpsc::channel(1).1
    };
    let program = child::Program {
        command: &args.command,
        redact: args.redact,
        grace: args.grace,
        term: &global.term,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(program.run(environment, changes))
}
