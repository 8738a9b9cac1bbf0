//! Decides what is to be done with targets: pure, from configuration, what the files hold, and the
//! newest versions.

use std::sync::Arc;

use shared::path::SecretPath;

use super::contact::Reach;
use crate::engine::Latest;
use machine::config::{OnDelete, OnStale, Target};

/// The version of each secret of a target, in the target's order; `None` for one that is deleted
/// and left out.
pub type Versions = Vec<Option<u64>>;

/// What is to be done with one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Its file must hold these versions.
    Write(Arc<Target>, Versions),
    /// All its secrets are deleted, and its file shall go with them.
    Remove(Arc<Target>, Versions),
    /// Its file stays as it is, for this reason.
    Hold(Arc<Target>, Hold),
    /// Its file holds the newest versions.
    Settled(Arc<Target>),
}

impl Action {
    /// Returns the target.
    #[must_use]
    pub fn target(&self) -> &Arc<Target> {
        match self {
            Self::Write(target, _)
            | Self::Remove(target, _)
            | Self::Hold(target, _)
            | Self::Settled(target) => target,
        }
    }
}

/// Why a file stays as it is although it does not hold the newest version of this secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// There is no such secret.
    Missing(SecretPath),
    /// This machine may not read it.
    Denied(SecretPath),
    /// It is deleted, and the file is to be kept.
    Deleted(SecretPath),
    /// Its content has not arrived yet.
    Waiting(SecretPath),
    /// None of them: the server has not been heard for longer than the target may be without it.
    Silent,
}

/// What is known of one target.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What the configuration says.
    pub target: &'a Arc<Target>,
    /// The versions its file is known to hold.
    pub held: Option<&'a Versions>,
    /// Versions that its hook has failed for, and those it holds instead.
    pub instead: Option<(&'a Versions, &'a Versions)>,
    /// Whether the server has been away for too long.
    pub reach: Reach,
}

/// Plans `targets`.
pub fn plan<'a>(
    targets: impl IntoIterator<Item = Known<'a>>,
    latest: impl Fn(&SecretPath) -> Latest,
) -> Vec<Action> {
    targets.into_iter().map(|known| decide(known, &latest)).collect()
}

fn decide(known: Known<'_>, latest: impl Fn(&SecretPath) -> Latest) -> Action {
    let Known { target, held, instead, reach } = known;
    match (target.on_stale, reach) {
        (Some(OnStale::Remove), Reach::Doubt) => {
            return Action::Hold(Arc::clone(target), Hold::Silent);
        }
        (Some(OnStale::Remove), Reach::Lost) => {
            let gone = vec![None; target.secrets.len()];
            return if held == Some(&gone) {
                Action::Hold(Arc::clone(target), Hold::Silent)
            } else {
                Action::Remove(Arc::clone(target), gone)
            };
        }
        (Some(OnStale::Remove), Reach::Fresh)
        | (Some(OnStale::Keep | OnStale::Alarm) | None, _) => {}
    }
    let mut versions = Versions::with_capacity(target.secrets.len());
    for (n, secret) in target.secrets.iter().enumerate() {
        // A secret that was in the file and is unknown now has been forgotten: deleted with all
        // traces.
        let forgotten = held.is_some_and(|held| held.get(n).is_some_and(Option::is_some));
        let hold = match latest(secret) {
            Latest::Version { ver, ready: true } => {
                versions.push(Some(ver));
                continue;
            }
            Latest::Deleted { .. } if target.on_delete == OnDelete::Remove => {
                versions.push(None);
                continue;
            }
            Latest::Missing
                if target.on_delete == OnDelete::Remove && (forgotten || left_out(held, n)) =>
            {
                versions.push(None);
                continue;
            }
            Latest::Version { ready: false, .. } => Hold::Waiting,
            Latest::Deleted { .. } => Hold::Deleted,
            Latest::Missing => Hold::Missing,
            Latest::NotReadable => Hold::Denied,
        };
        return Action::Hold(Arc::clone(target), hold(secret.clone()));
    }
    if let Some((_, good)) = instead.filter(|(bad, _)| **bad == versions) {
        versions.clone_from(good);
    }
    if held == Some(&versions) {
        Action::Settled(Arc::clone(target))
    } else if versions.iter().all(Option::is_none) {
        Action::Remove(Arc::clone(target), versions)
    } else {
        Action::Write(Arc::clone(target), versions)
    }
}

/// Tells whether the file is known to hold nothing of secret `n` because that was deleted.
fn left_out(held: Option<&Versions>, n: usize) -> bool {
    held.is_some_and(|held| held.get(n) == Some(&None))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use machine::config::Config;

    fn target(more: &str) -> Arc<Target> {
        let text =
            format!("[[target]]\npath = \"/a\"\nsecrets = [\"secret/a\", \"secret/b\"]\n{more}\n");
        Arc::clone(&Config::parse(&text, Path::new("t")).unwrap().targets[0])
    }

    fn check(more: &str, held: Option<&Versions>, latest: [Latest; 2], expected: &str) {
        let target = target(more);
        let latest = |path: &SecretPath| latest[usize::from(path.as_str() == "secret/b")];
        let actions =
            plan([Known { target: &target, held, instead: None, reach: Reach::Fresh }], latest);
        let shown: Vec<String> = actions
            .iter()
            .map(|action| match action {
                Action::Write(_, versions) => format!("write {versions:?}"),
                Action::Remove(_, versions) => format!("remove {versions:?}"),
                Action::Hold(_, hold) => format!("hold {hold:?}"),
                Action::Settled(_) => "settled".to_owned(),
            })
            .collect();
        assert_eq!(shown, [expected]);
    }

    const fn version(ver: u64) -> Latest {
        Latest::Version { ver, ready: true }
    }

    #[test]
    fn newest_versions_are_written_once() {
        check("", None, [version(1), version(2)], "write [Some(1), Some(2)]");
        check(
            "",
            Some(&vec![Some(1), Some(1)]),
            [version(1), version(2)],
            "write [Some(1), Some(2)]",
        );
        check("", Some(&vec![Some(1), Some(2)]), [version(1), version(2)], "settled");
    }

    #[test]
    fn a_file_is_held_rather_than_written_in_part() {
        let held = vec![Some(1), Some(1)];
        let held = || Some(&held);
        let coming = Latest::Version { ver: 2, ready: false };
        check("", held(), [version(2), coming], "hold Waiting(SecretPath(\"secret/b\"))");
        check(
            "",
            held(),
            [Latest::NotReadable, version(2)],
            "hold Denied(SecretPath(\"secret/a\"))",
        );
        check("", None, [version(1), Latest::Missing], "hold Missing(SecretPath(\"secret/b\"))");
    }

    #[test]
    fn deletion_keeps_the_file_unless_told_otherwise() {
        let gone = Latest::Deleted { ver: 1 };
        let held = vec![Some(1), Some(1)];
        let held = || Some(&held);
        let remove = "on_delete = \"remove\"";
        check("", held(), [gone, version(2)], "hold Deleted(SecretPath(\"secret/a\"))");
        check("", held(), [Latest::Missing, version(2)], "hold Missing(SecretPath(\"secret/a\"))");
        check(remove, held(), [gone, version(2)], "write [None, Some(2)]");
        check(remove, held(), [gone, gone], "remove [None, None]");
        check(remove, held(), [gone, Latest::Missing], "remove [None, None]");
        check(remove, Some(&vec![None, None]), [gone, Latest::Missing], "settled");
        check(
            remove,
            None,
            [version(1), Latest::Missing],
            "hold Missing(SecretPath(\"secret/b\"))",
        );
    }

    #[test]
    fn bad_versions_are_left_for_good_ones_until_there_are_newer_ones() {
        let (good, bad) = (vec![Some(1), Some(1)], vec![Some(2), Some(1)]);
        let decided = |held: &Versions, second: u64| {
            let (target, instead) = (target(""), Some((&bad, &good)));
            let latest =
                |path: &SecretPath| version(if path.as_str() == "secret/b" { second } else { 2 });
            decide(
                Known { target: &target, held: Some(held), instead, reach: Reach::Fresh },
                latest,
            )
        };
        assert!(matches!(decided(&bad, 1), Action::Write(_, versions) if versions == good));
        assert!(matches!(decided(&good, 1), Action::Settled(_)));
        let newer = vec![Some(2), Some(2)];
        assert!(matches!(decided(&good, 2), Action::Write(_, versions) if versions == newer));
    }

    #[test]
    fn what_is_too_old_is_removed_where_it_is_to_be_and_comes_back() {
        let (held, gone) = (vec![Some(1), Some(1)], vec![None, None]);
        let decided = |more: &str, held: &Versions, reach: Reach| {
            let target = target(&format!("max_stale = \"24h\"\n{more}"));
            decide(Known { target: &target, held: Some(held), instead: None, reach }, |_| {
                version(1)
            })
        };
        let remove = "on_stale = \"remove\"";
        let silent = |action: &Action| matches!(action, Action::Hold(_, Hold::Silent));
        assert!(matches!(decided(remove, &held, Reach::Fresh), Action::Settled(_)));
        assert!(silent(&decided(remove, &held, Reach::Doubt)));
        assert!(
            matches!(decided(remove, &held, Reach::Lost), Action::Remove(_, versions) if versions == gone)
        );
        assert!(silent(&decided(remove, &gone, Reach::Lost)));
        assert!(silent(&decided(remove, &gone, Reach::Doubt)));
        assert!(
            matches!(decided(remove, &gone, Reach::Fresh), Action::Write(_, versions) if versions == held)
        );
        for keeps in ["", "on_stale = \"alarm\"", "on_stale = \"keep\""] {
            assert!(matches!(decided(keeps, &held, Reach::Lost), Action::Settled(_)), "{keeps}");
        }
    }

    #[test]
    fn a_thousand_targets_are_planned_at_once() {
        let target = target("");
        let held = vec![Some(1), Some(1)];
        let known =
            Known { target: &target, held: Some(&held), instead: None, reach: Reach::Fresh };
        let actions = plan((0..1_000).map(|_| known), |_| version(1));
        assert!(actions.iter().all(|action| matches!(action, Action::Settled(_))));
    }
}
