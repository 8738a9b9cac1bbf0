//! Operations in plain words: what an admin is about to sign, one line for each thing.

use shared::grant::Grants;
use shared::log::{Op, Put};

use super::check::Checked;

/// Most re-encrypted paths that are named one by one.
const NAMED: usize = 5;

/// Says what the bodies of one act will do.
pub fn act(checked: &[Checked]) -> Vec<String> {
    let (mut lines, mut paths) = (Vec::new(), Vec::new());
    for op in checked.iter().flat_map(|one| &one.entry.ops) {
        match op {
            Op::Rewrap(Put { path, .. }) => paths.push(path),
            other => lines.extend(operation(other)),
        }
    }
    match paths.as_slice() {
        [] => lines.push("re-encrypt nothing".to_owned()),
        [path] => lines.push(format!("re-encrypt `{path}` to its new readers")),
        many => {
            lines.push(format!("re-encrypt {} versions to their new readers:", many.len()));
            lines.extend(many.iter().take(NAMED).map(|path| format!("  {path}")));
            if many.len() > NAMED {
                lines.push(format!("  and {} more", many.len() - NAMED));
            }
        }
    }
    lines
}

fn operation(op: &Op) -> Vec<String> {
    let one = |line: String| vec![line];
    match op {
        Op::MachineAdd(new) => vec![
            format!("add the machine `{}`", new.name),
            format!("  it reads   {}", grants(&new.read)),
            format!("  it writes  {}", grants(&new.write)),
            format!("  its keys   {} / {:.16}…", new.recipient, new.sign.to_string()),
        ],
        Op::AccessSet(access) => vec![
            format!("set the access of the machine `{}`", access.name),
            format!("  it reads   {}", grants(&access.read)),
            format!("  it writes  {}", grants(&access.write)),
        ],
        Op::MachineRemove { name, reason } if reason.is_empty() => {
            one(format!("remove the machine `{name}`"))
        }
        Op::MachineRemove { name, reason } => {
            one(format!("remove the machine `{name}`: {}", reason.escape_debug()))
        }
        Op::AdminAdd { name, key } => one(format!("appoint the admin `{name}` with key {key}")),
        Op::AdminRemove { name } => one(format!("remove the admin `{name}`")),
        Op::RootSet { key } => one(format!("replace the root key by {key}")),
        Op::RecoverySet { recipient } => one(format!("replace the recovery key by {recipient}")),
        Op::ServerSet { keys } => one(format!(
            "trust these server keys only: {}",
            keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        )),
        Op::MountSet(set) => one(format!("configure the mount `{}`", set.mount)),
        Op::MountDrop { mount } => one(format!("drop the mount `{mount}`")),
        Op::Put(put) => one(format!("write version {} of `{}`", put.ver, put.path)),
        Op::Rewrap(_) => Vec::new(),
        Op::Delete(at) => one(format!("delete versions {:?} of `{}`", at.versions, at.path)),
        Op::Undelete(at) => one(format!("undelete versions {:?} of `{}`", at.versions, at.path)),
        Op::Destroy(at) => one(format!("destroy versions {:?} of `{}`", at.versions, at.path)),
        Op::MetaSet(meta) => one(format!("set the metadata of `{}`", meta.path)),
        Op::Forget { path } => one(format!("forget `{path}` with all its versions")),
    }
}

/// Says what an access list covers.
pub fn grants(grants: &Grants) -> String {
    match grants.as_slice() {
        [] => "nothing".to_owned(),
        [all] if all.as_str() == "*" => "everything (*)".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;
    use shared::keys::{Recipient, SignKey};
    use shared::log::{Entry, NewMachine, Put};
    use shared::time::Time;

    use super::*;

    fn checked(ops: Vec<Op>) -> Checked {
        let (prev, time) = (Hash::ZERO, Time::default());
        let entry = Entry { seq: 1, prev, time, by: "admin:jonas".parse().unwrap(), ops };
        Checked { entry, body: Vec::new() }
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
        let add = Op::MachineAdd(NewMachine {
            name: "vps".parse().unwrap(),
            recipient,
            sign: SignKey::from_seed(&[1; 32]).verify_key(),
            read: Grants::parse(&["secret/jjeco/", "secret/mail"]).unwrap(),
            write: Grants::default(),
        });
        let shown = act(&[checked(vec![add, rewrap(1), rewrap(2)])]).join("\n");
        insta::assert_snapshot!(shown, @r"
        add the machine `vps`
          it reads   secret/jjeco/, secret/mail
          it writes  nothing
          its keys   age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg / 8a88e3dd7409f195…
        re-encrypt 2 versions to their new readers:
          secret/jjeco/1
          secret/jjeco/2
        ");
    }

    #[test]
    fn many_rewraps_are_counted_over_all_entries() {
        let first = checked((0..4).map(rewrap).collect());
        let shown = act(&[first, checked((4..9).map(rewrap).collect())]).join("\n");
        insta::assert_snapshot!(shown, @r"
        re-encrypt 9 versions to their new readers:
          secret/jjeco/0
          secret/jjeco/1
          secret/jjeco/2
          secret/jjeco/3
          secret/jjeco/4
          and 4 more
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
