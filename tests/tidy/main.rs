//! Rules of the house that no compiler checks: sizes, heads, names, widths, arrows, and a reference
//! that is complete. Each rule is a plain function over paths and texts, so that a test can feed it
//! a bad sample and see it fail.

mod arrows;
mod book;
mod crates;
mod flags;
mod keys;
mod modules;
mod rust;
mod shape;
mod streams;
mod tree;
mod ways_back;
mod width;

use std::fmt::Write as _;

/// Fails with every fault of a rule at once.
fn pass(faults: &[String]) {
    let mut list = String::new();
    for fault in faults {
        let _ = writeln!(list, "  {fault}");
    }
    assert!(faults.is_empty(), "\n{list}");
}

/// Fails unless the rule finds exactly these faults in a bad sample.
fn check(found: &[String], expected: &[&str]) {
    assert_eq!(found, expected);
}
