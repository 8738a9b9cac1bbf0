//! `vault server move`: says in the log where the server is.

use anyhow::{Result, bail};
use shared::keys::VerifyKey;
use shared::log::{Address, Op, was};

use super::others;
use crate::context::Global;
use crate::owner::answering::{self, Who};
use crate::owner::owning::Signing;
use crate::owner::signing::act::{Owner, Signed};
use host::hint::{Exit, Failure, hinted};
use machine::local::{SERVER, ServerView};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Machines that are awake know the addresses at once, and try those of before too. \
                  Run it before the server moves."
)]
pub struct Args {
    /// Where the server is from now on, in the order to try
    #[arg(value_name = "HOST:PORT", required = true, num_args = 1..)]
    addresses: Vec<String>,

    #[command(flatten)]
    signing: Signing,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let wanted = args.addresses.iter().map(|text| address(text)).collect::<Result<Vec<_>>>()?;
    let owner = Owner::at(global, &args.signing)?;
    let client = global.client()?;
    let ServerView { keys, .. } = client.get(SERVER, &[])?;
    let silent = silent(&wanted, &keys)?;
    let signed = owner.sign(|_| {
        let now: ServerView = client.get(SERVER, &[])?;
        if now.addresses == wanted {
            return Ok(Vec::new());
        }
        let was = was::addresses(&now.addresses);
        Ok(vec![Op::AddressesSet { addresses: wanted.clone(), was }])
    })?;
    let term = &global.term;
    match signed {
        Signed::Needless => term.say("nothing changes"),
        Signed::Declined => return Ok(Exit::LOCAL),
        Signed::Done(done) => {
            term.say(format!("done: entry {}; machines look for the server there, too", done.seq));
        }
    }
    for address in silent {
        term.say(format!(
            "nobody answers at {address} yet: until the server does, machines find it where it was"
        ));
    }
    let list = wanted.iter().map(|address| format!("{:?}", address.as_str()));
    let list = list.collect::<Vec<_>>().join(", ");
    for name in others::asleep(&client)? {
        term.say_hinted(
            format!("{name} is away, and hears of it from the server alone"),
            format!(
                "have the server answer at an old address until it was back; else write \
                 `server = [{list}]` into its `agent.toml`"
            ),
        );
    }
    Ok(Exit::OK)
}

/// Returns the addresses at which nobody answers.
///
/// # Errors
/// If another server answers at one: machines would knock there in vain.
fn silent<'a>(wanted: &'a [Address], keys: &[VerifyKey]) -> Result<Vec<&'a Address>> {
    let mut silent = Vec::new();
    for address in wanted {
        match answering::who(address.as_str(), keys)? {
            Who::Ours => {}
            Who::Nobody => silent.push(address),
            Who::Another => bail!(
                Failure::remote(format!(
                    "E_SERVER_PIN: at {address} answers a server with another key"
                ))
                .hint(
                    "name another address, or end that one first; a server keeps its key when \
                         it moves: take `server.key` along"
                )
            ),
        }
    }
    Ok(silent)
}

/// Reads an address, and refuses what no agent could connect to.
pub(super) fn address(text: &str) -> Result<Address> {
    let parts = text.rsplit_once(':').filter(|(host, port)| {
        let plain = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
        !host.is_empty() && plain && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    match text.parse() {
        Ok(address) if parts.is_some() && !text.contains(char::is_whitespace) => Ok(address),
        Ok(_) | Err(_) => bail!(hinted(
            format!("address `{text}` is not host:port"),
            "write it as host:port, e.g. 10.8.0.3:8443"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_host_and_port() {
        for good in ["10.8.0.3:8443", "vault.example:1", "[::1]:8443"] {
            assert_eq!(address(good).unwrap().as_str(), good);
        }
        for bad in ["", "vault", ":8443", "::1:8443", "a:99999", "a:0", "a b:1"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
