//! What an entry does, in words for people: for what a vault went on without, or would.

use shared::log::{Entry, Number, Op, State};

/// Operations that are named one by one.
const NAMED: usize = 8;

/// Says what the entry does; re-encryptions are counted. Machines have their names where `state`
/// holds the entry, else their numbers: another branch may have given those to others.
pub(super) fn told(entry: &Entry, state: Option<&State>) -> Vec<String> {
    let rewraps = entry.ops.iter().filter(|op| matches!(op, Op::Rewrap(_))).count();
    let others: Vec<&Op> = entry.ops.iter().filter(|op| !matches!(op, Op::Rewrap(_))).collect();
    let mut told: Vec<String> = others.iter().take(NAMED).map(|op| operation(op, state)).collect();
    if others.len() > NAMED {
        told.push(format!("{} more", others.len() - NAMED));
    }
    if rewraps > 0 {
        told.push(format!("{rewraps} re-encrypted"));
    }
    told
}

fn operation(op: &Op, state: Option<&State>) -> String {
    let name = op.name();
    let machine = |number: &Number| {
        let known = state.and_then(|state| state.machines().get(number));
        known.map_or_else(|| format!("machine {number}"), |machine| format!("`{}`", machine.name))
    };
    match op {
        Op::Put(put) | Op::Rewrap(put) => format!("{name} {} version {}", put.path, put.ver),
        Op::Delete(at) | Op::Undelete(at) | Op::Destroy(at) => {
            let versions = at.versions.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
            format!("{name} {} version {versions}", at.path)
        }
        Op::MetaSet(meta) => format!("{name} {}", meta.path),
        Op::Forget { path } => format!("{name} {path}"),
        Op::AdminAdd { name: admin, .. } | Op::AdminRemove { name: admin } => {
            format!("{name} {admin}")
        }
        Op::MachineAdd(new) => format!("{name} {}", new.name),
        Op::MachineRename { number, to } => format!("{name} {} to {to}", machine(number)),
        Op::MachineRekey(rekey) => format!("{name} {}", machine(&rekey.number)),
        Op::MachineSet { number, .. } | Op::MachineRemove { number, .. } => {
            format!("{name} {}", machine(number))
        }
        Op::AccessSet(access) => format!("{name} {}", machine(&access.number)),
        Op::MountSet(set) => format!("{name} {}", set.mount),
        Op::MountDrop { mount } => format!("{name} {mount}"),
        Op::RootSet { .. }
        | Op::RecoverySet { .. }
        | Op::ServerSet { .. }
        | Op::AddressesSet { .. }
        | Op::Resume(_)
        | Op::FormatSet { .. } => name.to_owned(),
    }
}
