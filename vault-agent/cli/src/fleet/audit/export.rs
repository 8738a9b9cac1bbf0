//! `vault audit export`: records for other programs, streamed. JSON holds them byte for byte, so
//! that they can be hashed; CSV (RFC 4180) has one column for each field.

use anyhow::bail;
use shared::audit::Record;

use super::query::{self, Filter};
use crate::context::Global;
use host::hint::{Exit, hinted};

const COLUMNS: &str = "n,time,at,machine,key,who,addr,op,path,ver,seq,count,result,nonce\n";

/// Print all records for other programs
#[derive(Debug, clap::Args)]
#[command(
    after_help = "-format is json (default): one array, a record a line, each as the chain hashes it; or csv.

Example:
  vault audit export --format csv --since 2026-11-01 > audit.csv"
)]
pub struct ExportArgs {
    /// Not before: 24h, 7d, 2026-11-01 or an RFC 3339 time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[command(flatten)]
    filter: Filter,
}

pub(super) fn run(global: &Global, args: &ExportArgs) -> anyhow::Result<Exit> {
    let since = args.since.as_deref().map(|text| query::since(text, global.now())).transpose()?;
    let query = args.filter.query(since);
    let archived = match global.flags.format.as_deref().unwrap_or("json") {
        "json" => {
            let mut before = "[\n";
            let archived = query::walk(&global.client()?, query, |records| {
                let mut text = String::new();
                for record in records {
                    text.push_str(before);
                    text.push_str(&record);
                    before = ",\n";
                }
                Ok(global.term.piece(text)?)
            })?;
            global.term.piece(if before == "[\n" { "[]\n" } else { "\n]\n" })?;
            archived
        }
        "csv" => {
            global.term.piece(COLUMNS)?;
            query::walk(&global.client()?, query, |records| {
                let mut text = String::new();
                for record in records {
                    text.push_str(&row(&query::parse(&record)?));
                }
                Ok(global.term.piece(text)?)
            })?
        }
        other => bail!(hinted(format!("Invalid output format: {other}"), "use json or csv")),
    };
    query::tell_archived(global, since, archived.as_ref());
    Ok(Exit::OK)
}

fn row(Record { n, nonce, time, fact }: &Record) -> String {
    fn text<T: ToString>(value: Option<&T>) -> String {
        value.map(ToString::to_string).unwrap_or_default()
    }
    let fields = [
        n.to_string(),
        time.to_string(),
        text(fact.at.as_ref()),
        text(fact.machine.as_ref()),
        text(fact.key.as_ref()),
        text(fact.who.as_ref()),
        text(fact.addr.as_ref()),
        fact.op.to_string(),
        text(fact.path.as_ref()),
        text(fact.ver.as_ref()),
        text(fact.seq.as_ref()),
        text(fact.count.as_ref()),
        fact.result.to_string(),
        nonce.to_string(),
    ];
    fields.map(quoted).join(",") + "\n"
}

/// Quotes a field where CSV asks for it.
fn quoted(field: String) -> String {
    if field.contains(['"', ',', '\n', '\r']) || field.starts_with(' ') || field.ends_with(' ') {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field
    }
}
