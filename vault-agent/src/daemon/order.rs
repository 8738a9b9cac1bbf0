//! Which targets come before which. What that holds up is decided where files are written and hooks
//! are started.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use machine::config::Target;

/// The order of all targets that have one; the configuration has seen to it that it has no circles.
#[derive(Debug, Default)]
pub(super) struct Order(HashMap<PathBuf, Vec<PathBuf>>);

impl Order {
    /// Returns the order that `targets` ask for.
    pub(super) fn of(targets: &[Arc<Target>]) -> Self {
        let ordered = targets.iter().filter(|target| !target.after.is_empty());
        Self(ordered.map(|target| (target.path.clone(), target.after.clone())).collect())
    }

    /// Tells whether no target has a place in it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells whether any target that comes before `path`, near or far, `is`.
    pub(super) fn any_before(&self, path: &Path, is: impl Fn(&Path) -> bool) -> bool {
        let mut seen: HashSet<&Path> = HashSet::new();
        let mut ahead: Vec<&PathBuf> = self.0.get(path).into_iter().flatten().collect();
        while let Some(path) = ahead.pop() {
            if is(path) {
                return true;
            }
            if seen.insert(path) {
                ahead.extend(self.0.get(path).into_iter().flatten());
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::config::Config;

    #[test]
    fn what_is_far_ahead_comes_before_too() {
        let target = |name: &str, after: &str| {
            format!("[[target]]\npath = \"/{name}\"\nsecrets = [\"secret/a\"]\nafter = [{after}]\n")
        };
        let text = [target("a", ""), target("b", "\"/a\""), target("c", "\"/b\""), target("d", "")];
        let config = Config::parse(&text.concat(), Path::new("t")).unwrap();
        let order = Order::of(&config.targets);
        let before = |path: &str, other: &str| {
            order.any_before(Path::new(path), |path| path == Path::new(other))
        };
        assert!(before("/c", "/a") && before("/c", "/b") && before("/b", "/a"));
        assert!(!before("/a", "/c") && !before("/c", "/c") && !before("/d", "/a"));
        assert!(!order.is_empty() && Order::default().is_empty());
    }
}
