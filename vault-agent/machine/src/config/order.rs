//! `after`: every name is a target, and no target comes after itself. Keeping the order is the
//! daemon's.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::target::Target;

/// A target whose `after` cannot be kept: its place in the list, and why.
pub(super) type Misplaced = (usize, String);

/// How far the walk has come with a target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    /// It is on the way from where the walk began.
    Entered,
    Done,
}

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
    let mut marks = vec![Mark::New; targets.len()];
    for start in 0..targets.len() {
        if let Some(circle) = circle_from(start, &after, &mut marks) {
            let names: Vec<String> =
                circle.iter().map(|n| format!("`{}`", targets[*n].path.display())).collect();
            return Err((circle[0], format!("a target after itself: {}", names.join(" after "))));
        }
    }
    Ok(())
}

/// Walks from `start` without recursion, as a configuration may be as deep as it is long; returns
/// the first circle, its first target at both ends.
fn circle_from(start: usize, after: &[Vec<usize>], marks: &mut [Mark]) -> Option<Vec<usize>> {
    // The way from the start, and how many of each target's names have been followed.
    let mut way: Vec<(usize, usize)> = Vec::new();
    if marks[start] == Mark::New {
        marks[start] = Mark::Entered;
        way.push((start, 0));
    }
    while let Some((n, followed)) = way.last_mut() {
        let Some(next) = after[*n].get(*followed).copied() else {
            marks[*n] = Mark::Done;
            way.pop();
            continue;
        };
        *followed += 1;
        match marks[next] {
            Mark::Done => {}
            Mark::New => {
                marks[next] = Mark::Entered;
                way.push((next, 0));
            }
            Mark::Entered => {
                let circle = way.iter().map(|(n, _)| *n).skip_while(|n| *n != next);
                return Some(circle.chain([next]).collect());
            }
        }
    }
    None
}
