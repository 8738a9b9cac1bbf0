//! The book's table names every lie and every attack, and no other.

use std::collections::BTreeSet;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/design/attacks.md");

#[test]
fn the_book_lists_what_is_tried() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let listed: BTreeSet<&str> =
        rows.filter(|name| !["lie", "attack", "---"].contains(name)).collect();
    let lies = crate::lies::all().map(|lie| lie.name);
    let joins = crate::strangers::LIES.iter().map(|lie| lie.name);
    let tried: BTreeSet<&str> =
        lies.chain(crate::attacks::all().map(|attack| attack.name)).chain(joins).collect();
    let missing: Vec<_> = tried.difference(&listed).collect();
    let unknown: Vec<_> = listed.difference(&tried).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing {missing:?}, unknown {unknown:?}");
}

#[test]
fn the_book_tells_how_lies_end() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let joins = crate::strangers::LIES.iter().map(crate::strangers::Lie::row);
    let missing = crate::lies::all().map(crate::lie::Lie::row).chain(joins);
    let missing: Vec<_> = missing.filter(|row| !page.lines().any(|line| line == row)).collect();
    assert!(missing.is_empty(), "rows that are not in the book:\n{}", missing.join("\n"));
}
