//! `after`: every name is a target, and no target comes after itself. Keeping the order is the
//! daemon's.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::target::Target;

/// A target whose `after` cannot be kept: its place in the list, and why.
pub(super) type Misplaced = (usize, String);

/// Refuses names that are no target, and circles.
pub(super) fn check(targets: &[Arc<Target>]) -> Result<(), Misplaced> {
    let places: HashMap<&Path, usize> =
        targets.iter().enumerate().map(|(n, target)| (target.path.as_path(), n)).collect();
    let mut after: Vec<Vec<usize>> = Vec::with_capacity(targets.len());
    for (n, target) in targets.iter().enumerate() {
        let found = target.after.iter().map(|path| {
            let unknown = || (n, format!("`{}` is no target", path.display()));
            places.get(path.as_path()).copied().ok_or_else(unknown)
        });
        after.push(found.collect::<Result<_, _>>()?);
    }
    let Some(circle) = circle(&after) else { return Ok(()) };
    let names: Vec<String> =
        circle.iter().map(|n| format!("`{}`", targets[*n].path.display())).collect();
    Err((circle[0], format!("a target after itself: {}", names.join(" after "))))
}

/// Returns the first circle, its first target at both ends.
fn circle(after: &[Vec<usize>]) -> Option<Vec<usize>> {
    // Takes out, round by round, the targets that wait for none of the others: the rest is held up
    // by a circle.
    let mut left: BTreeSet<usize> = (0..after.len()).collect();
    loop {
        let before = left.len();
        let free = |n: &usize| after[*n].iter().all(|other| !left.contains(other));
        let turn: Vec<usize> = left.iter().copied().filter(free).collect();
        turn.iter().for_each(|n| _ = left.remove(n));
        if left.len() == before {
            break;
        }
    }
    let mut way = vec![*left.first()?];
    loop {
        let next = *after[*way.last()?].iter().find(|other| left.contains(other))?;
        let met = way.iter().position(|n| *n == next);
        way.push(next);
        if let Some(start) = met {
            return Some(way.split_off(start));
        }
    }
}
