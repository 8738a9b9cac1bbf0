//! `vault server rekey`: two steps. First machines accept the old key and the new one; once the
//! server runs with the new one, the old one is accepted no more. The same command does whichever
//! is due.

use anyhow::{Result, bail};
use shared::keys::VerifyKey;
use shared::log::{Op, was};

use super::others;
use crate::context::Global;
use crate::owner::owning::{Signing, active, server_addresses};
use crate::owner::signing::act::{Owner, Signed};
use host::hint::{Exit, Failure, hinted, parsed};
use machine::local::{MACHINES, SERVER, ServerView};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "`vault-server rekey` on the server's host makes the new key and prints it. Once it \
                  is signed here, restart the server, and
run this again, without the key."
)]
pub struct Args {
    /// The new key, as `vault-server rekey` prints it
    #[arg(value_name = "KEY")]
    key: Option<String>,

    /// Print the line with which a machine that has slept through the change accepts the new key
    #[arg(long, value_name = "MACHINE", conflicts_with_all = ["key", "admin", "yes"])]
    line: Option<String>,

    #[command(flatten)]
    signing: Signing,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Both keys are to be accepted.
    Both(Vec<VerifyKey>),
    /// The new one alone is.
    One(Vec<VerifyKey>),
    /// Nothing: this key alone is accepted.
    Done,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let key = args.key.as_deref().map(|key| parsed(key.trim().parse::<VerifyKey>())).transpose()?;
    let owner = Owner::at(global, &args.signing)?;
    let client = global.client()?;
    let view = || client.get::<ServerView>(SERVER, &[]);
    let term = &global.term;
    if let Some(name) = &args.line {
        let ServerView { keys, seq, head, .. } = view()?;
        let [key] = &keys[..] else {
            bail!(hinted("two keys are accepted still", "run `vault server rekey` first"));
        };
        let addresses = server_addresses(global, &owner.pins)?;
        let name = parsed(name.parse())?;
        active(&client.get(MACHINES, &[])?, &name)?;
        let line = others::line(&owner.pins, name, addresses, key, (seq, head))?;
        term.say("on that host:");
        return Ok(term.line(format!("vault-agent join {line}")).map(|()| Exit::OK)?);
    }
    let mut due = Step::Done;
    let signed = owner.sign(|_| {
        let view = view()?;
        due = step(&view, key.as_ref())?;
        let was = was::server(&view.keys);
        Ok(match &due {
            Step::Both(keys) | Step::One(keys) => {
                vec![Op::ServerSet { keys: keys.clone(), was }]
            }
            Step::Done => Vec::new(),
        })
    })?;
    match signed {
        Signed::Declined => return Ok(Exit::LOCAL),
        Signed::Needless => term.say("nothing changes: the server's key alone is accepted"),
        Signed::Done(done) => term.say(format!("done: entry {}", done.seq)),
    }
    if let Step::Both(_) = due {
        term.say("now restart the server, then run `vault server rekey` again");
        return Ok(Exit::OK);
    }
    for name in others::asleep(&client)? {
        term.say_hinted(
            format!("{name} is away; if it has slept through both steps it says E_SERVER_PIN"),
            format!("`vault server rekey --line {name}` prints what to run there then"),
        );
    }
    Ok(Exit::OK)
}

/// Decides what is due, as the log has it and the server shows it.
fn step(view: &ServerView, key: Option<&VerifyKey>) -> Result<Step> {
    match (&view.keys[..], key) {
        ([one], Some(key)) if one == key => Ok(Step::Done),
        ([one], Some(key)) => Ok(Step::Both(vec![one.clone(), key.clone()])),
        ([one], None) if view.running.as_ref() == Some(one) => {
            let way = "run `vault-server rekey` on the server's host, and this with the key that it \
                       prints";
            bail!(hinted("no new key is named", way))
        }
        ([_], None) => Ok(Step::Done),
        ([_, new], key) if key.is_none_or(|key| key == new) => {
            if view.running.as_ref() == Some(new) {
                return Ok(Step::One(vec![new.clone()]));
            }
            let why = "the server still runs with the old key";
            let way = "restart it: it takes the new key at its start. Is that key lost? \
                       `vault-server rekey` prints another: run this with it";
            bail!(Failure::remote(why).hint(way))
        }
        // The key that was to come has been lost before the server took it.
        ([one, _], Some(key)) if view.running.as_ref() == Some(one) => {
            Ok(Step::Both(vec![one.clone(), key.clone()]))
        }
        (keys, Some(key)) => {
            let known: Vec<String> = keys.iter().map(ToString::to_string).collect();
            let (known, why) = (known.join(" and "), "the change before is not at its end");
            bail!(hinted(
                format!("{why}: accepted are {known}, and not yet {key}"),
                "run `vault server rekey` without a key first, then this again"
            ))
        }
        (_, None) => bail!("the log lists no key of the server"),
    }
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;
    use shared::keys::SignKey;

    use super::*;
    use crate::testing::World;

    fn key(seed: u8) -> VerifyKey {
        SignKey::from_seed(&[seed; 32]).verify_key()
    }

    fn view(keys: &[u8], running: u8) -> ServerView {
        let keys = keys.iter().map(|seed| key(*seed)).collect();
        let (addresses, seq, head) = (Vec::new(), 7, Hash::ZERO);
        ServerView { keys, running: Some(key(running)), addresses, seq, head }
    }

    #[test]
    fn a_line_is_for_a_machine_that_there_is() {
        let view = serde_json::to_string(&view(&[1], 1)).unwrap();
        let machines = serde_json::json!({ "machines": [], "next": 1, "server": [] }).to_string();
        let world = World::admin(&[
            ("GET /v1/agent/server", 200, &view),
            ("GET /v1/agent/machines", 200, &machines),
        ]);
        let ran = world.run("server rekey --line nope");
        assert_eq!((ran.exit, &*ran.out), (2, ""), "{}", ran.err);
        assert!(ran.err.starts_with("there is no machine `nope`\n"), "{}", ran.err);
    }

    #[test]
    fn each_step_follows_from_the_log_and_the_server() {
        let both = Step::Both(vec![key(1), key(2)]);
        assert_eq!(step(&view(&[1], 1), Some(&key(2))).unwrap(), both);
        assert_eq!(step(&view(&[1, 2], 2), None).unwrap(), Step::One(vec![key(2)]));
        assert_eq!(step(&view(&[1, 2], 2), Some(&key(2))).unwrap(), Step::One(vec![key(2)]));
        assert_eq!(step(&view(&[2], 2), Some(&key(2))).unwrap(), Step::Done);
        let refused =
            |view: &ServerView, key: Option<&VerifyKey>| step(view, key).unwrap_err().to_string();
        assert!(refused(&view(&[1], 1), None).contains("no new key"));
        assert!(refused(&view(&[1, 2], 1), None).contains("still runs with the old key"));
        assert!(refused(&view(&[1, 2], 2), Some(&key(3))).contains("is not at its end"));
        // The second key was lost before the server took it.
        let both = Step::Both(vec![key(1), key(3)]);
        assert_eq!(step(&view(&[1, 2], 1), Some(&key(3))).unwrap(), both);
    }
}
