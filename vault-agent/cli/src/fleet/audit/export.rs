//! `vault audit export`: records for other programs, streamed. JSON holds them byte for byte, so
//! that they can be hashed.

use anyhow::bail;

use super::filter::Filter;
use super::pages;
use super::shape::{Printer, Shape};
use super::when::Period;
use super::words::Words;
use crate::context::Global;
use crate::print::Format;
use host::hint::{Exit, hinted};

/// Print all records for other programs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
-format is json (default): one array, a record a line, each as the chain hashes it; csv, with a \
column for each field and one for what was done in words; or logfmt. A field of CSV never begins a \
row, nor a formula: what would be one stands behind an apostrophe.

Examples:
  vault audit export --format csv --since 2026-11-01 > audit.csv
  vault audit export --since 'last month' --until 'last month' | jq length")]
pub struct ExportArgs {
    #[command(flatten)]
    period: Period,
    #[command(flatten)]
    filter: Filter,
}

pub(super) fn run(global: &Global, args: &ExportArgs) -> anyhow::Result<Exit> {
    let shape = match (&global.flags.format, Shape::of(global)) {
        (None, _) | (Some(_), Ok(Shape::List(Format::Json))) => Shape::Bytes,
        (Some(_), Ok(shape @ (Shape::Csv | Shape::Logfmt))) => shape,
        (Some(other), _) => {
            bail!(hinted(format!("Invalid output format: {other}"), "use json, csv or logfmt"))
        }
    };
    let period = args.period.read(global.now())?;
    let client = global.client()?;
    let asked = args.filter.ask(global, &client, period)?;
    let mut printer = Printer::new(global, Words::new(&client), shape);
    let denied = args.filter.denied;
    let archived = pages::walk(global, &client, &asked, |lines| printer.show(lines, denied))?;
    printer.end()?;
    pages::tell_archived(global, &asked, archived.as_ref());
    Ok(Exit::OK)
}
