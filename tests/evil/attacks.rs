//! The attacks of a hostile member, by what they are about.

mod blobs;
mod entries;
mod floods;
mod reports;
mod stalled;

use super::{acts, attack, member, server};
use attack::Attack;

/// Every attack.
pub fn all() -> impl Iterator<Item = &'static Attack> {
    let all = [reports::ATTACKS, entries::ATTACKS, blobs::ATTACKS, floods::ATTACKS];
    all.into_iter().flatten()
}

#[test]
fn names_are_distinct() {
    let mut names = std::collections::HashSet::new();
    assert!(all().all(|attack| names.insert(attack.name)));
}
