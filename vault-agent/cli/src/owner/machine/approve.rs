//! `vault machine approve`: adds a host that asks to join. What is signed, shown and asked is as
//! with a line that was copied; only the way that the line came is another.

use anyhow::{Result, bail};
use serde_json::json;
use shared::log::{Op, was};
use shared::name::Name;

use super::enrolment::enrolment;
use super::requests::{self, Request};
use crate::context::Global;
use crate::owner::owning::{Lists, Signing, active};
use crate::owner::signing::act::{Owner, Signed};
use crate::print::table;
use host::clock;
use host::hint::{Exit, Failure, hinted, parsed};
use host::shown::Shown;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The name that the host asks for
    #[arg(value_name = "NAME")]
    machine: Option<String>,

    /// The six words that the host shows, compared here instead of by eye
    #[arg(long, value_name = "WORDS", requires = "machine")]
    words: Option<String>,

    #[command(flatten)]
    lists: Lists,

    /// It sleeps at times, as a laptop does: nobody misses it then
    #[arg(long)]
    sleeps: bool,

    #[command(flatten)]
    signing: Signing,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let Some(name) = &args.machine else { return list(global) };
    let name: Name = parsed(name.parse())?;
    if args.signing.yes && args.words.is_none() {
        bail!(hinted(
            "nobody would compare the words: any host may ask for any name",
            "pass `--words '…'` as the host shows them, or leave `--yes` out"
        ));
    }
    let (read, write) = args.lists.parsed(global)?;
    let owner = Owner::at(global, &args.signing)?;
    let asking = requests::all(&global.client()?, &global.term)?;
    let line = chosen(asking, &name, args.words.as_deref(), global)?.line;
    let signed = owner.sign(|all| {
        if all.machines.iter().any(|row| row.active && row.sign == line.sign) {
            return Ok(Vec::new());
        }
        if active(all, &name).is_ok() {
            bail!(Failure::remote(format!("E_EXISTS: machine `{name}` is in the vault")).hint(
                "a host that asks never takes a machine's place: have it ask under another name, \
                 or remove the old one first with `vault machine remove NAME`"
            ));
        }
        if args.words.is_none() {
            global.term.say(format!(
                "compare the six words below with those that `{name}` shows; if they differ, \
                 another host asks, or somebody has changed the line"
            ));
        }
        let mut ops = vec![enrolment(&line, all.next, &read, &write)];
        if args.sleeps {
            let (number, was) = (all.next, was::machine(all.next, false));
            ops.push(Op::MachineSet { number, sleeps: true, was });
        }
        Ok(ops)
    })?;
    match signed {
        Signed::Needless => global.term.say(format!("machine `{name}` is in the vault already")),
        Signed::Declined => return Ok(Exit::LOCAL),
        Signed::Done(done) => {
            let seq = done.seq;
            global
                .term
                .say(format!("machine `{name}` is added: entry {seq}; it goes on by itself"));
        }
    }
    Ok(Exit::OK)
}

/// Chooses the request that is meant. Names are a stranger's own choice: where two hosts ask for
/// one, words tell them apart.
fn chosen(
    asking: Vec<Request>,
    name: &Name,
    words: Option<&str>,
    global: &Global,
) -> Result<Request> {
    let others: Vec<String> = asking.iter().map(|it| it.line.name.to_string()).collect();
    let mut own: Vec<_> = asking.into_iter().filter(|it| it.line.name == *name).collect();
    if own.is_empty() {
        let way = match others.as_slice() {
            [] => format!("`vault machine invite {name}` says what to type on that host"),
            some => format!("asking are: {}", some.join(", ")),
        };
        bail!(Failure::remote(format!("no host asks to join as `{name}`")).hint(way));
    }
    let shown: Vec<String> = own.iter().map(|it| it.line.words().to_string()).collect();
    if let Some(words) = words {
        let typed = words.to_lowercase();
        let typed: Vec<&str> = typed.split([' ', '-']).filter(|word| !word.is_empty()).collect();
        let typed = typed.join(" ");
        own.retain(|it| it.line.words().to_string() == typed);
        if own.is_empty() {
            bail!(
                Failure::remote(format!(
                    "`{name}` asks with the words `{}`, not with those",
                    shown.join("`, `")
                ))
                .hint(
                    "read them again on that host; if they differ, another host asks under this \
                     name, or somebody has changed the line on the way"
                )
            );
        }
    }
    let Some(found) = own.pop().filter(|_| own.is_empty()) else {
        global.term.say(format!("hosts that ask to join as `{name}`: {}", shown.len()));
        let way = "say which with `--words '…'`: the words that the right host shows";
        bail!(Failure::remote(format!("their words are `{}`", shown.join("`, `"))).hint(way));
    };
    Ok(found)
}

fn list(global: &Global) -> Result<Exit> {
    let asking = requests::all(&global.client()?, &global.term)?;
    let data = |it: &Request| {
        json!({
            "name": it.line.name, "words": it.line.words().to_string(), "addr": it.addr,
            "at": it.at.to_string(),
        })
    };
    let data: Vec<_> = asking.iter().map(data).collect();
    if asking.is_empty() {
        global.term.say_hinted(
            "no host asks to join",
            "`vault machine invite NAME` says what to type on it",
        );
    }
    global.show(global.format()?, || shown(&asking, global), &data)
}

fn shown(asking: &[Request], global: &Global) -> Shown {
    let cells = |it: &Request| {
        let since = format!("{} ago", clock::age(global.now().seconds_since(it.at)));
        vec![it.line.name.to_string(), it.line.words().to_string(), it.addr.to_string(), since]
    };
    let rows: Vec<_> = asking.iter().map(cells).collect();
    table::plain(&["ASKS AS", "WORDS", "FROM", "SINCE"], &rows)
}

#[cfg(test)]
mod tests {
    use shared::keys::{Identity, SignKey};
    use shared::text::Text;
    use shared::token::{Line as _, MachineLine};

    use crate::testing::{World, now};
    use machine::local::{JoinList, Machines, Waiting};

    fn line(name: &str, seed: u8) -> MachineLine {
        let key = SignKey::from_seed(&[seed; 32]);
        let recipient = "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg";
        MachineLine::new(name.parse().unwrap(), recipient.parse().unwrap(), &key).unwrap()
    }

    fn host(lines: &[String]) -> World {
        let addr = Text::lossy("10.8.0.7");
        let one = |line: &String| Waiting { line: line.clone(), addr: addr.clone(), at: now() };
        let list = JoinList { waiting: lines.iter().map(one).collect() };
        let list = serde_json::to_string(&list).unwrap();
        let server = vec![SignKey::from_seed(&[2; 32]).verify_key()];
        let none =
            Machines { machines: Vec::new(), next: 3, own: Some(1), server, checkpoint: None };
        let none = serde_json::to_string(&none).unwrap();
        let refused = r#"{"errors":["E_DENIED: this far, and no farther"]}"#;
        World::admin(&[
            ("GET /v1/agent/join", 200, &list),
            ("GET /v1/agent/machines", 200, &none),
            ("POST /v1/agent/prepare", 400, refused),
        ])
    }

    fn text(line: &MachineLine) -> String {
        line.to_line().unwrap()
    }

    /// Tells whether a run got as far as to have something prepared.
    fn signs(world: &World) -> bool {
        world.seen().iter().any(|call| call.starts_with("POST /v1/agent/prepare"))
    }

    #[test]
    fn who_asks_is_listed_by_words() {
        let world = host(&[text(&line("vps", 3)), text(&line("nas", 4))]);
        insta::assert_snapshot!(world.run("machine approve").shown());
        let empty = host(&[]).run("machine approve");
        assert!(empty.exit == 0 && empty.err.starts_with("no host asks to join"), "{}", empty.err);
    }

    #[test]
    fn what_the_server_calls_a_line_and_is_none_is_left_out() {
        let forged = MachineLine { recipient: Identity::generate().recipient(), ..line("vps", 3) };
        let escapes = "VLTM1-\u{1b}[2J".to_owned();
        let world = host(&[text(&forged), escapes, text(&line("nas", 4)), text(&line("nas", 4))]);
        let run = world.run("machine approve");
        assert_eq!(run.out.lines().count(), 2, "{}", run.out);
        assert!(run.err.contains("E_BADSIG") && run.err.contains("E_TOKEN"), "{}", run.err);
        assert!(!run.err.contains('\u{1b}'), "{}", run.err);
        let run = world.run("machine approve vps --read *");
        assert!(run.err.contains("no host asks to join as `vps`"), "{}", run.err);
    }

    #[test]
    fn nothing_is_signed_without_the_words_that_the_host_shows() {
        let (own, other) = (line("vps", 3), line("vps", 4));
        let words = own.words().to_string().replace(' ', "-").to_uppercase();
        // The server has exchanged the line.
        let world = host(&[text(&other)]);
        let run = world.run(&format!("machine approve vps --words {words} --yes"));
        assert!(run.exit == 2 && run.err.contains("not with those"), "{}", run.err);
        assert!(!signs(&world));
        // Scripts look at nothing.
        let run = world.run("machine approve vps --yes");
        assert!(run.exit == 1 && run.err.starts_with("nobody would compare"), "{}", run.err);
        // Two hosts ask for one name.
        let world = host(&[text(&own), text(&other)]);
        let run = world.run("machine approve vps");
        assert!(run.exit == 2 && run.err.contains("say which with `--words"), "{}", run.err);
        assert!(!signs(&world));
        let run = world.run(&format!("machine approve vps --words {words} --yes"));
        assert!(run.err.contains("E_DENIED"), "{}", run.err);
        assert!(signs(&world));
    }
}
