//! `vault machine`: which hosts belong to the vault, and adding one.

mod add;
mod approve;
mod both_ends;
mod enrolment;
mod exposed;
mod guests;
mod invite;
mod list;
mod new_keys;
mod over_ssh;
mod place;
mod rekey;
mod remove;
mod rename;
pub(crate) mod requests;
mod set;
mod waiting;

use anyhow::Result;

use crate::context::Global;
use host::hint::Exit;

/// List, add, rename, set and remove machines, and tell what they could read
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the machines
    List(list::Args),
    /// Add a machine: by the line that `vault-agent init` printed there, or over ssh
    Add(Box<add::Args>),
    /// Print what makes another host a machine: a script for its shell, or the commands to type
    Invite(Box<invite::Args>),
    /// Add a host that asks to join, after comparing its six words; without a name, list them
    Approve(Box<approve::Args>),
    /// Say whether a machine sleeps at times, so that its silence is normal
    Set(set::Args),
    /// Give a machine another name; it keeps its keys, its access and its history
    Rename(rename::Args),
    /// Give a machine new keys, over ssh or by a line; its name, its access and its history stay
    Rekey(rekey::Args),
    /// Remove a machine, and re-encrypt what it could read
    Remove(remove::Args),
    /// List each key that a machine could read: whether it did, and whether it is still in use
    #[command(after_help = EXPOSED)]
    Exposed(exposed::Args),
}

const EXPOSED: &str = "\
Exits with 2 until no key of it is in use any more. A key is still in use while the newest version
of its secret holds a value that was ever encrypted to the machine, or another key that this host
reads holds that very value. Not followed: a part of a value, values of less than 8 bytes, and
numbers. DID READ is the audit log's word; it takes a read grant on sys/audit.";

pub(crate) fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::List(args) => list::run(args, global),
        Command::Add(args) => add::run(args, global),
        Command::Invite(args) => invite::run(args, global),
        Command::Approve(args) => approve::run(args, global),
        Command::Set(args) => set::run(args, global),
        Command::Rename(args) => rename::run(args, global),
        Command::Rekey(args) => rekey::run(args, global),
        Command::Remove(args) => remove::run(args, global),
        Command::Exposed(args) => exposed::run(args, global),
    }
}

#[cfg(test)]
mod tests {
    use shared::grant::Grants;
    use shared::hash::Hash;
    use shared::keys::SignKey;
    use shared::token::{Line as _, MachineLine, PinLine};

    use crate::testing::{World, now};
    use machine::local::{MachineRow, Machines};

    /// A host of a vault with an admin key, and an agent that knows one machine, `vps`, which
    /// somebody else changes all the time.
    fn host(machines: &str) -> World {
        let moved = r#"{"errors":["E_MOVED: access of machine `vps`\nhint: look again"]}"#;
        World::admin(&[
            ("GET /v1/agent/machines", 200, machines),
            ("POST /v1/agent/prepare", 400, moved),
        ])
    }

    fn machines(sign: &SignKey) -> String {
        let none = Grants::default();
        let row = MachineRow {
            name: "vps".parse().unwrap(),
            number: 2,
            active: true,
            sleeps: false,
            sign: sign.verify_key(),
            read: Grants::parse(&["secret/jjeco/"]).unwrap(),
            write: none,
            seen_at: Some(now()),
            agent: Some("0.1.0".to_owned()),
        };
        let server = vec![SignKey::from_seed(&[2; 32]).verify_key()];
        serde_json::to_string(&Machines {
            machines: vec![row],
            next: 3,
            own: Some(1),
            server,
            checkpoint: None,
        })
        .unwrap()
    }

    fn line(sign: &SignKey) -> String {
        let recipient = "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg";
        let (name, recipient) = ("vps".parse().unwrap(), recipient.parse().unwrap());
        MachineLine::new(name, recipient, sign).unwrap().to_line().unwrap()
    }

    #[test]
    fn what_is_wrong_with_a_call_is_named_with_the_way_out() {
        let key = SignKey::from_seed(&[3; 32]);
        let (world, line) = (host(&machines(&key)), line(&SignKey::from_seed(&[4; 32])));
        let shown = [
            format!("machine add {line} --read secret"),
            format!("machine add {line} --read secret/../x"),
            format!("machine add {line}"),
            format!("machine add {} --read *", &line[..line.len() - 3]),
            format!("machine add {line} --read * --yes"),
            "machine add vps --ssh -x --read *".to_owned(),
            "access set nas --read *".to_owned(),
        ]
        .map(|line| world.run(&line).shown());
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn a_machine_that_is_in_already_gets_its_pin_line_again() {
        let key = SignKey::from_seed(&[3; 32]);
        let world = host(&machines(&key));
        let run = world.run(&format!("machine add {} --read *", line(&key)));
        assert_eq!((run.exit, run.err.lines().count()), (0, 2), "{}", run.err);
        let pin = run.out.strip_prefix("vault-agent join ").unwrap();
        let pin = PinLine::from_line(pin).unwrap();
        assert_eq!(pin.addresses, ["10.8.0.3:8443"]);
        assert_eq!(pin.server, [SignKey::from_seed(&[2; 32]).verify_key()]);
        assert_eq!((pin.vault, pin.name.as_str()), (Hash::of(&[b"vault"]), "vps"));
    }

    #[test]
    fn what_somebody_else_changed_is_not_signed_unseen() {
        let world = host(&machines(&SignKey::from_seed(&[3; 32])));
        insta::assert_snapshot!(world.run("access set vps --read * --yes").shown(), @r"
        exit 2
        --- stdout
        --- stderr
        reads   everything (*)   instead of   secret/jjeco/
        writes  nothing (as before)
        E_MOVED: somebody has changed it since it was looked at
        hint: look again, then repeat the command if it is still wanted
        ");
        world.seen();
        world.run("access set vps --read *");
        let prepared = world.seen().iter().filter(|call| call.starts_with("POST")).count();
        assert_eq!(prepared, 4, "looked at anew each time, and not for ever");
    }

    #[test]
    fn who_sleeps_is_set_on_what_was_shown() {
        let awake = machines(&SignKey::from_seed(&[3; 32]));
        let asleep = awake.replace("\"sleeps\":false", "\"sleeps\":true");
        for (machines, same, other) in
            [(&awake, "--sleeps=false", "--sleeps"), (&asleep, "--sleeps", "--sleeps=false")]
        {
            let world = host(machines);
            let run = world.run(&format!("machine set vps {same} --yes"));
            assert_eq!((run.exit, run.err.as_str()), (0, "nothing changes\n"));
            world.seen();
            let run = world.run(&format!("machine set vps {other} --yes"));
            assert!(run.exit == 2 && run.err.starts_with("E_MOVED: "), "{}", run.err);
            assert!(world.seen().iter().any(|call| call.starts_with("POST /v1/agent/prepare")));
        }
        let world = host(&asleep);
        assert!(world.run("machine list").out.contains("now (sleeps)"));
        assert!(world.run("machine set vps --yes").err.contains("--sleeps"));
        assert_eq!(world.run("machine set nas --sleeps --yes").exit, 2);
    }

    #[test]
    fn a_machine_does_not_remove_itself() {
        let own = machines(&SignKey::from_seed(&[3; 32])).replace("\"own\":1", "\"own\":2");
        let run = host(&own).run("machine remove vps --yes");
        assert!(run.err.starts_with("`vps` is this machine"), "{}", run.err);
    }
}
