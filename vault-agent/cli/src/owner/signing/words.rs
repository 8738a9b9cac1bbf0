//! Operations in plain words: what an admin is about to sign, one line for each thing.

use std::fmt::Display;

use shared::grant::Grants;
use shared::keys::{Recipient, Signature, VerifyKey};
use shared::log::{NewMachine, Number, Op, Put, Rekey};
use shared::name::Name;
use shared::token::MachineLine;

use super::check::Checked;
use machine::local::Machines;

/// Most re-encrypted paths that are named one by one.
const NAMED: usize = 5;

/// Says what the bodies of one act will do to `machines`; `left` are re-encryptions that follow.
pub fn act(checked: &[Checked], machines: &Machines, left: bool) -> Vec<String> {
    let (mut lines, mut paths) = (Vec::new(), Vec::new());
    let mut newest = 0;
    for op in checked.iter().flat_map(|one| &one.entry.ops) {
        match op {
            // Of the machine that stands just above.
            Op::MachineSet { number, sleeps: true, .. } if *number == newest => {
                lines.push("  it sleeps at times: its silence is normal".to_owned());
            }
            Op::Rewrap(Put { path, .. }) => paths.push(path),
            other => {
                if let Op::MachineAdd(NewMachine { number, .. })
                | Op::MachineRekey(Rekey { new_number: number, .. }) = other
                {
                    newest = *number;
                }
                lines.extend(operation(other, machines));
            }
        }
    }
    match paths.as_slice() {
        [] if left => lines.push("then re-encrypt what it makes necessary".to_owned()),
        [] => lines.push("re-encrypt nothing".to_owned()),
        [path] => lines.push(format!("re-encrypt `{path}` to its new readers")),
        many => {
            lines.push(format!("re-encrypt {} versions to their new readers:", many.len()));
            lines.extend(many.iter().take(NAMED).map(|path| format!("  {path}")));
            if many.len() > NAMED {
                let more = many.len() - NAMED;
                lines.push(format!("  and {more} more: `vault log show` lists all afterwards"));
            }
        }
    }
    lines
}

fn operation(op: &Op, machines: &Machines) -> Vec<String> {
    let one = |line: String| vec![line];
    let named = |number: Number| named(number, machines);
    match op {
        Op::MachineAdd(new) => vec![
            format!("add the machine `{}` (number {})", new.name, new.number),
            format!("  it reads   {}", grants(&new.read)),
            format!("  it writes  {}", grants(&new.write)),
            keys(&new.recipient, &new.sign),
            six_words(&new.name, &new.recipient, &new.sign, &new.proof),
        ],
        Op::MachineRename { number, to } => one(format!("rename the {} to `{to}`", named(*number))),
        Op::MachineRekey(new) => {
            let mut lines = vec![
                format!("give the {} other keys and number {}", named(new.number), new.new_number),
                keys(&new.recipient, &new.sign),
            ];
            // The proof is over the name that the machine has.
            let row = machines.machines.iter().find(|row| row.number == new.number);
            lines
                .extend(row.map(|row| six_words(&row.name, &new.recipient, &new.sign, &new.proof)));
            lines
        }
        Op::MachineSet { number, sleeps: true, .. } => {
            one(format!("take it as normal that the {} is silent", named(*number)))
        }
        Op::MachineSet { number, sleeps: false, .. } => {
            one(format!("expect the {} to report every day", named(*number)))
        }
        Op::AccessSet(access) => vec![
            format!("set the access of the {}", named(access.number)),
            format!("  it reads   {}", grants(&access.read)),
            format!("  it writes  {}", grants(&access.write)),
        ],
        Op::MachineRemove { number, reason } if reason.is_empty() => {
            one(format!("remove the {}", named(*number)))
        }
        Op::MachineRemove { number, reason } => {
            one(format!("remove the {}: {reason}", named(*number)))
        }
        Op::AdminAdd { name, key } => one(format!("appoint the admin `{name}` with key {key}")),
        Op::AdminRemove { name } => one(format!("remove the admin `{name}`")),
        Op::RootSet { key } => one(format!("replace the root key by {key}")),
        Op::RecoverySet { recipient } => one(format!("replace the recovery key by {recipient}")),
        Op::ServerSet { keys, .. } => one(format!("trust these server keys only: {}", list(keys))),
        Op::AddressesSet { addresses, .. } => {
            one(format!("have agents look for the server at {}", list(addresses)))
        }
        Op::MountSet(set) => one(format!("configure the mount `{}`", set.mount)),
        Op::MountDrop { mount } => one(format!("drop the mount `{mount}`")),
        Op::Put(put) => one(format!("write version {} of `{}`", put.ver, put.path)),
        Op::Rewrap(_) => Vec::new(),
        Op::Delete(at) => one(format!("delete versions {:?} of `{}`", at.versions, at.path)),
        Op::Undelete(at) => one(format!("undelete versions {:?} of `{}`", at.versions, at.path)),
        Op::Destroy(at) => one(format!("destroy versions {:?} of `{}`", at.versions, at.path)),
        Op::MetaSet(meta) => one(format!("set the metadata of `{}`", meta.path)),
        Op::Forget { path } => one(format!("forget `{path}` with all its versions")),
        Op::Resume(resume) => one(format!("go on after entry {}, restored", resume.seq)),
        Op::Checkpoint(named) => vec![
            format!("vouch for what the log leads to after entry {}", named.seq),
            format!("  its state  {} bytes, {}", named.size, named.state),
        ],
        Op::FormatSet { format } => one(format!("raise the format of the log to {format}")),
    }
}

/// Names a machine as people know it.
fn named(number: Number, machines: &Machines) -> String {
    let found = machines.machines.iter().find(|row| row.number == number);
    match found {
        Some(row) => format!("machine `{}` (number {number})", row.name),
        None => format!("machine with the number {number}"),
    }
}

fn keys(recipient: &Recipient, sign: &VerifyKey) -> String {
    format!("  its keys   {recipient} / {:.16}…", sign.to_string())
}

/// Shows the six words that the machine's host shows, too.
fn six_words(name: &Name, recipient: &Recipient, sign: &VerifyKey, proof: &Signature) -> String {
    let (name, recipient) = (name.clone(), recipient.clone());
    let line = MachineLine { name, recipient, sign: sign.clone(), proof: *proof };
    format!("  its words  {}", line.words())
}

fn list(items: &[impl Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Says what an access list covers.
pub fn grants(grants: &Grants) -> String {
    match grants.as_slice() {
        [] => "nothing".to_owned(),
        [all] if all.as_str() == "*" => "everything (*)".to_owned(),
        some => list(some),
    }
}

/// Says that versions stay with keys that are dead from then on.
pub fn behind(versions: u64) -> String {
    let (versions, stay) = match versions {
        1 => ("1 earlier version".to_owned(), "stays"),
        more => (format!("{more} earlier versions"), "stay"),
    };
    format!("{versions} {stay} encrypted to the keys of before, which no host has any more then")
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;
    use shared::keys::{Recipient, SignKey};
    use shared::log::{Access, Checkpoint, Entry, Resume};
    use shared::text::Text;
    use shared::time::Time;

    use super::*;
    use machine::local::MachineRow;

    fn checked(ops: Vec<Op>) -> Checked {
        let (prev, time) = (Hash::ZERO, Time::default());
        let entry = Entry { seq: 1, prev, time, by: "admin:jonas".parse().unwrap(), ops };
        Checked { entry, body: Vec::new() }
    }

    /// A vault with the machine `rtx1080`, whose number is 1.
    fn known() -> Machines {
        let row = MachineRow {
            name: "rtx1080".parse().unwrap(),
            number: 1,
            active: true,
            sleeps: false,
            sign: SignKey::from_seed(&[2; 32]).verify_key(),
            read: Grants::default(),
            write: Grants::default(),
            seen_at: None,
            agent: None,
        };
        Machines {
            machines: vec![row],
            next: 2,
            own: Some(1),
            server: Vec::new(),
            checkpoint: None,
        }
    }

    fn rewrap(number: usize) -> Op {
        let path = format!("secret/jjeco/{number}").parse().unwrap();
        let hash = Hash::ZERO;
        Op::Rewrap(Put { path, ver: 1, blob: hash, size: 1, commit: hash, readers: hash })
    }

    #[test]
    fn adding_a_machine_is_shown_with_rights_and_keys() {
        let recipient: Recipient =
            "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg".parse().unwrap();
        let key = SignKey::from_seed(&[1; 32]);
        let MachineLine { name, recipient, sign, proof } =
            MachineLine::new("vps".parse().unwrap(), recipient, &key).unwrap();
        let add = Op::MachineAdd(NewMachine {
            name,
            number: 2,
            recipient,
            sign,
            proof,
            read: Grants::parse(&["secret/jjeco/", "secret/mail"]).unwrap(),
            write: Grants::default(),
        });
        let shown = act(&[checked(vec![add, rewrap(1), rewrap(2)])], &known(), false).join("\n");
        insta::assert_snapshot!(shown, @r"
        add the machine `vps` (number 2)
          it reads   secret/jjeco/, secret/mail
          it writes  nothing
          its keys   age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg / 8a88e3dd7409f195…
          its words  lady tenant wolf distance control blame
        re-encrypt 2 versions to their new readers:
          secret/jjeco/1
          secret/jjeco/2
        ");
    }

    #[test]
    fn machines_are_called_by_their_names() {
        let was = Hash::ZERO;
        let key = SignKey::from_seed(&[1; 32]);
        let recipient =
            "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg".parse().unwrap();
        let MachineLine { recipient, sign, proof, .. } =
            MachineLine::new("rtx1080".parse().unwrap(), recipient, &key).unwrap();
        let (read, write) = (Grants::parse(&["*"]).unwrap(), Grants::default());
        let ops = vec![
            Op::AccessSet(Access { number: 1, was, read, write }),
            Op::MachineSet { number: 1, sleeps: true, was },
            Op::MachineSet { number: 1, sleeps: false, was },
            Op::MachineRename { number: 1, to: "desk".parse().unwrap() },
            Op::MachineRekey(Rekey { number: 1, new_number: 2, recipient, sign, proof }),
            Op::MachineRemove { number: 1, reason: "sold".parse().unwrap() },
            Op::MachineRemove { number: 7, reason: Text::default() },
            Op::AddressesSet { addresses: vec!["nas:8443".parse().unwrap()], was },
            Op::Resume(Resume { seq: 9, head: was, audit_n: 0, audit_head: was }),
            Op::Checkpoint(Checkpoint { seq: 9, state: was, size: 4096 }),
            Op::FormatSet { format: 2 },
        ];
        insta::assert_snapshot!(act(&[checked(ops)], &known(), false).join("\n"), @r"
        set the access of the machine `rtx1080` (number 1)
          it reads   everything (*)
          it writes  nothing
        take it as normal that the machine `rtx1080` (number 1) is silent
        expect the machine `rtx1080` (number 1) to report every day
        rename the machine `rtx1080` (number 1) to `desk`
        give the machine `rtx1080` (number 1) other keys and number 2
          its keys   age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg / 8a88e3dd7409f195…
          its words  idea yard school review pear ranch
        remove the machine `rtx1080` (number 1): sold
        remove the machine with the number 7
        have agents look for the server at nas:8443
        go on after entry 9, restored
        vouch for what the log leads to after entry 9
          its state  4096 bytes, 0000000000000000000000000000000000000000000000000000000000000000
        raise the format of the log to 2
        re-encrypt nothing
        ");
    }

    #[test]
    fn many_rewraps_are_counted_over_all_entries() {
        let first = checked((0..4).map(rewrap).collect());
        let shown =
            act(&[first, checked((4..9).map(rewrap).collect())], &known(), false).join("\n");
        insta::assert_snapshot!(shown, @r"
        re-encrypt 9 versions to their new readers:
          secret/jjeco/0
          secret/jjeco/1
          secret/jjeco/2
          secret/jjeco/3
          secret/jjeco/4
          and 4 more: `vault log show` lists all afterwards
        ");
    }

    #[test]
    fn grants_read_as_words() {
        for (list, expected) in [
            (vec![], "nothing"),
            (vec!["*"], "everything (*)"),
            (vec!["secret/a/", "secret/b"], "secret/a/, secret/b"),
        ] {
            assert_eq!(grants(&Grants::parse(&list).unwrap()), expected);
        }
    }
}
