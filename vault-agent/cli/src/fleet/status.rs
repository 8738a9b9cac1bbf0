//! `vault status`: which machine holds which version of what, and what is not as it should be.
//! Ends with 0 only if everything is known to be right; what is not, `machine::findings` judges.

mod asking;
mod document;
mod fetch;
mod narrow;
mod seal;
mod show;
mod wait;
mod watch;

use anyhow::bail;

use crate::client::Client;
use crate::context::Global;
use crate::print::{self, Format};
use host::hint::{Exit, hinted};
use machine::findings::findings;
use machine::local;

/// Print who holds which version, and what is wrong
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits 0 only if everything is known to be right; else 2, and says since when what is wrong \
where, and what to type.
Where VAULT_ADDR names another Vault, its seal status is printed as HashiCorp's does:
0 unsealed, 1 no answer, 2 sealed."
)]
pub struct Args {
    /// Print this field only, of another Vault's status
    #[arg(long, value_name = "KEY")]
    field: Option<String>,
    /// Follow: on a terminal the screen is drawn anew, elsewhere a line comes with each change
    #[arg(long, conflicts_with = "wait")]
    watch: bool,
    /// Wait until every machine that does not sleep and has this secret in a target holds its
    /// newest version, or this one, and its hook has ended
    #[arg(long, value_name = "PATH[@VERSION]")]
    wait: Option<wait::Wanted>,
    /// Wait for so long at most [default: 60s]
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = wait::patience)]
    timeout: Option<std::time::Duration>,
}

/// Tells whether the API at a named address is one of our agents, for a caller who may see the
/// fleet.
fn knows_a_fleet(client: &Client) -> bool {
    !client.only_shows() && client.ask(local::STATUS, &[]).is_ok_and(|answer| answer.status == 200)
}

pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    if !client.is_own_agent() && !knows_a_fleet(&client) {
        return seal::run(global, &client, format, args.field.as_deref());
    }
    if args.field.is_some() {
        bail!(hinted(
            "-field is for the status of another Vault",
            "-format=json prints the fleet for scripts"
        ));
    }
    if let Some(wanted) = &args.wait {
        return wait::run(global, &client, wanted, args.timeout);
    }
    if args.watch {
        return watch::run(global, &client, format);
    }
    let status = fetch::fetch(&client)?;
    let found = findings(&status);
    if format == Format::Table {
        // The last line is what sums it up.
        asking::remark(global, &client, &status);
        show::print(global, &status, &found)?;
    } else {
        let document = document::of(&status, &found, global.now());
        global.term.document(print::data(format, &document)?)?;
    }
    Ok(if found.is_empty() { Exit::OK } else { Exit::REMOTE })
}
