//! `vault audit log` and `tail`: records as lines, once or for as long as one looks.

use std::time::Duration;

use super::filter::{Asked, Filter};
use super::nothing;
use super::pages;
use super::shape::{Printer, Shape};
use super::when::Period;
use super::words::Words;
use crate::client::Error;
use crate::context::Global;
use crate::print::Format;
use host::hint::{Exit, Failure};

/// Records shown when neither a number nor a time is asked for.
const LOG: u64 = 50;
/// Pause before a server that is away is asked again.
const AWAY: Duration = Duration::from_secs(2);

/// Print records, the oldest first: who read and wrote what, and what owners did
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A read is a read however it was delivered: `(delivered)`, `(fetched)`, `(re-encrypted)` are copies \
that came to a machine's agent; the others are reads of such a copy, by a process on that machine.
A time is 24h, 2w, today, yesterday, monday, \"last week\", \"last month\", \"3 days ago\", 2026-11-01, \
2026-11 or RFC 3339; days begin at midnight UTC.
-format is table (default), json, yaml, csv or logfmt.

Examples:
  vault audit log --key OPENAI_API_KEY --op read --since 'last week'
  vault audit log --op act --since monday
  vault audit log --machine vps --denied
  vault audit log --process ghost.service --since yesterday --until yesterday
  vault audit log --user jonas --path 'secret/jjeco/*' --format csv > reads.csv")]
pub struct LogArgs {
    #[command(flatten)]
    period: Period,
    #[command(flatten)]
    filter: Filter,
    /// Signs of life too, such as reports: a table leaves them out
    #[arg(long)]
    all: bool,
    /// The newest N only [default: 50 without --since]
    #[arg(short = 'n', long = "count", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// Print the newest records, and with -f new ones as they come
#[derive(Debug, clap::Args)]
#[command(after_help = "\
-format is table (default), json (a record a line), csv or logfmt.

Examples:
  vault audit tail -f
  vault audit tail -f --op read --key OPENAI_API_KEY
  vault audit tail -f --denied --format logfmt | systemd-cat -t vault-audit")]
pub struct TailArgs {
    #[command(flatten)]
    filter: Filter,
    /// Signs of life too, such as reports: a table leaves them out
    #[arg(long)]
    all: bool,
    /// Start with the newest N
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(0..=10_000))]
    count: u64,
    /// Go on until Ctrl-C; what this command itself reads is left out
    #[arg(short = 'f', long)]
    follow: bool,
}

pub(super) fn log(global: &Global, args: &LogArgs) -> anyhow::Result<Exit> {
    let shape = Shape::of(global)?;
    let period = args.period.read(global.now())?;
    let client = global.client()?;
    let asked = args.filter.ask(global, &client, period)?;
    let asked = asked.brief(shape == Shape::Table && !args.all);
    let mut printer = Printer::new(global, Words::new(&client), shape);
    let denied = args.filter.denied;
    let show = |lines| printer.show(lines, denied);
    let archived = match args.count.or(period.0.is_none().then_some(LOG)) {
        Some(count) => pages::newest(global, &client, &asked, count, show)?.0,
        None => pages::walk(global, &client, &asked, show)?,
    };
    let printed = printer.end()?;
    pages::tell_archived(global, &asked, archived.as_ref());
    if printed == 0 && shape == Shape::Table {
        nothing::say(global, &client, &asked)?;
    }
    tell_left_out(global, &asked);
    Ok(Exit::OK)
}

/// Says how many records are not in the table.
fn tell_left_out(global: &Global, asked: &Asked) {
    let count = asked.left_out();
    if count > 0 {
        let signs = if count == 1 { "sign of life is" } else { "signs of life are" };
        global.term.say(format!("{count} {signs} left out, such as reports: --all shows them"));
    }
}

pub(super) fn tail(global: &Global, args: &TailArgs) -> anyhow::Result<Exit> {
    let shape = match Shape::of(global)? {
        Shape::List(Format::Json) => Shape::JsonLines,
        Shape::List(_) => {
            return Err(Failure::local("`tail` prints table, json, csv or logfmt").into());
        }
        shape => shape,
    };
    let client = global.client()?;
    let asked = args.filter.ask(global, &client, (None, None))?;
    let asked = asked.brief(shape == Shape::Table && !args.all);
    let mut printer = Printer::new(global, Words::new(&client), shape);
    let denied = args.filter.denied;
    let show = |lines| match args.count {
        0 => Ok(()),
        _ => printer.show(lines, denied),
    };
    let (_, head) = pages::newest(global, &client, &asked, args.count.max(1), show)?;
    if !args.follow {
        if printer.end()? == 0 && args.count > 0 && shape == Shape::Table {
            nothing::say(global, &client, &asked)?;
        }
        tell_left_out(global, &asked);
        return Ok(Exit::OK);
    }
    global.term.end_with_reader();
    let mut query = asked.query.clone();
    (query.wait, query.after) = (true, head);
    let mut away = false;
    loop {
        match pages::page(&client, &query) {
            Ok(mut page) => {
                away = false;
                let mut lines = pages::lines(&mut page)?;
                let last = lines.last().map(|line| line.record.n);
                lines.retain(|line| asked.keeps(&line.record));
                printer.show(lines, denied)?;
                query.after = last.filter(|_| page.more).unwrap_or(page.head.n);
            }
            // The server or the agent restarts: what was missed is read afterwards.
            Err(Error::Refused(refusal)) if matches!(refusal.status, 502 | 503) => {
                if !std::mem::replace(&mut away, true) {
                    global.term.say("the server cannot be asked; trying again");
                }
                #[expect(
                    clippy::disallowed_methods,
                    reason = "nobody tells that a server is back"
                )]
                std::thread::sleep(AWAY);
            }
            Err(fault) => return Err(fault.into()),
        }
    }
}
