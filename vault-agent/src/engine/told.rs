//! What an entry does, in words for people: for what a vault went on without, or would.

use shared::log::{Entry, Op};

/// Operations that are named one by one.
const NAMED: usize = 8;

/// Says what the entry does; re-encryptions are counted.
pub(super) fn told(entry: &Entry) -> Vec<String> {
    let rewraps = entry.ops.iter().filter(|op| matches!(op, Op::Rewrap(_))).count();
    let others: Vec<&Op> = entry.ops.iter().filter(|op| !matches!(op, Op::Rewrap(_))).collect();
    let mut told: Vec<String> = others.iter().take(NAMED).map(|op| operation(op)).collect();
    if others.len() > NAMED {
        told.push(format!("{} more", others.len() - NAMED));
    }
    if rewraps > 0 {
        told.push(format!("{rewraps} re-encrypted"));
    }
    told
}

fn operation(op: &Op) -> String {
    let name = op.name();
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
        Op::MachineRename { number, to } => format!("{name} {number} to {to}"),
        Op::MachineRekey(rekey) => format!("{name} {}", rekey.number),
        Op::MachineSet { number, .. } | Op::MachineRemove { number, .. } => {
            format!("{name} {number}")
        }
        Op::AccessSet(access) => format!("{name} {}", access.number),
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
