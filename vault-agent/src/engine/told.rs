//! What an entry does, in words for people: for the log, and for what a vault went on without, or
//! would.

use shared::grant::{Grant, Grants};
use shared::hash::Hash;
use shared::log::{Access, Entry, Number, Op, State};

/// Operations that are named one by one.
const NAMED: usize = 8;

/// Says what the entry does; re-encryptions are counted. Machines have their names where `state`
/// holds the entry, else their numbers: another branch may have given those to others.
pub(super) fn told(entry: &Entry, state: Option<&State>) -> Vec<String> {
    let name = |number: Number| {
        let known = state.and_then(|state| state.machines().get(&number));
        known.map_or_else(|| unnamed(number), |machine| machine.name.to_string())
    };
    let rewraps = entry.ops.iter().filter(|op| matches!(op, Op::Rewrap(_))).count();
    let others: Vec<&Op> = entry.ops.iter().filter(|op| !matches!(op, Op::Rewrap(_))).collect();
    let mut told: Vec<String> =
        others.iter().take(NAMED).map(|op| operation(op, &name, None)).collect();
    if others.len() > NAMED {
        told.push(format!("{} more", others.len() - NAMED));
    }
    if rewraps > 0 {
        let versions = if rewraps == 1 { "version" } else { "versions" };
        told.push(format!("re-encrypted {rewraps} {versions}"));
    }
    told
}

/// Names a machine of which only the number is known.
pub(super) fn unnamed(number: Number) -> String {
    format!("machine {number}")
}

/// Says what an operation does; new access lists by what they change, if those of `before` are
/// known.
pub(super) fn operation(
    op: &Op,
    name: &dyn Fn(Number) -> String,
    before: Option<(&Grants, &Grants)>,
) -> String {
    match op {
        Op::AdminAdd { name, .. } => format!("made {name} an admin"),
        Op::AdminRemove { name } => format!("removed admin {name}"),
        Op::RootSet { .. } => "replaced the root key".to_owned(),
        Op::RecoverySet { .. } => "replaced the recovery key".to_owned(),
        Op::ServerSet { keys, .. } if keys.len() > 1 => {
            "announced the server's next key".to_owned()
        }
        Op::ServerSet { .. } => "set the server's key".to_owned(),
        Op::AddressesSet { addresses, .. } => {
            format!("set the server's addresses: {}", list(addresses))
        }
        Op::MountSet(set) if set.was == Hash::ZERO => {
            format!("made mount {}/", set.mount)
        }
        Op::MountSet(set) => format!("set mount {}/", set.mount),
        Op::MountDrop { mount } => format!("dropped mount {mount}/"),
        Op::MachineAdd(new) => {
            format!("added {}: reads {}, writes {}", new.name, new.read, new.write)
        }
        Op::MachineRename { number, to } => format!("renamed {} to {to}", name(*number)),
        Op::MachineRekey(rekey) => {
            let (name, number) = (name(rekey.number), rekey.new_number);
            format!("gave {name} new keys; it is machine {number} now")
        }
        Op::MachineSet { number, sleeps: true, .. } => {
            format!("noted that {} sleeps at times", name(*number))
        }
        Op::MachineSet { number, .. } => {
            format!("noted that {} never sleeps", name(*number))
        }
        Op::MachineRemove { number, reason } if reason.as_str().is_empty() => {
            format!("removed {}", name(*number))
        }
        Op::MachineRemove { number, reason } => {
            format!("removed {}: {reason}", name(*number))
        }
        Op::AccessSet(access) => access_set(access, &name(access.number), before),
        Op::Put(put) => format!("wrote {} v{}", put.path, put.ver),
        Op::Rewrap(put) => format!("re-encrypted {} v{}", put.path, put.ver),
        Op::Delete(at) => format!("deleted {} {}", at.path, versions(&at.versions)),
        Op::Undelete(at) => format!("undeleted {} {}", at.path, versions(&at.versions)),
        Op::Destroy(at) => format!("destroyed {} {}", at.path, versions(&at.versions)),
        Op::MetaSet(meta) => format!("set the metadata of {}", meta.path),
        Op::Forget { path } => format!("dropped {path} with all its versions"),
        Op::Resume(resume) => {
            format!("resumed the vault after a restore, from entry {}", resume.seq)
        }
        Op::Checkpoint(named) => format!("vouched for the log up to entry {}", named.seq),
        Op::FormatSet { format } => format!("raised the log's format to {format}"),
    }
}

/// Tells new access lists by what they change.
fn access_set(access: &Access, name: &str, before: Option<(&Grants, &Grants)>) -> String {
    let Some((read, write)) = before else {
        let Access { read, write, .. } = access;
        return format!("set the access of {name}: reads {read}, writes {write}");
    };
    let changes = [
        (less(&access.read, read), format!("gave {name} "), ""),
        (less(read, &access.read), "took ".to_owned(), " from "),
        (less(&access.write, write), format!("let {name} write "), ""),
        (less(write, &access.write), format!("let {name} no longer write "), ""),
    ];
    let told = changes.into_iter().filter(|(grants, ..)| !grants.is_empty());
    let told: Vec<String> = told
        .map(|(grants, before, after)| {
            let whom = if after.is_empty() { "" } else { name };
            format!("{before}{}{after}{whom}", list(&grants))
        })
        .collect();
    if told.is_empty() {
        return format!("left the access of {name} as it was");
    }
    told.join("; ")
}

/// Returns the grants of one list that the other lacks.
fn less(grants: &Grants, without: &Grants) -> Vec<Grant> {
    let more = grants.as_slice().iter().filter(|grant| !without.as_slice().contains(grant));
    more.cloned().collect()
}

fn list<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn versions(all: &[u64]) -> String {
    all.iter().map(|ver| format!("v{ver}")).collect::<Vec<_>>().join(", ")
}
