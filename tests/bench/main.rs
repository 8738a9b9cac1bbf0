//! Every figure the project promises, measured side by side: `cargo bench -p tests [-- NAME…]`.

#![allow(clippy::unwrap_used, reason = "a bench may panic")]

mod table;
mod trust;

/// Name, heading, and what measures it.
type Section = (&'static str, &'static str, fn() -> Vec<table::Row>);

const SECTIONS: &[Section] = &[("fold", "The log", trust::fold), ("open", "Blobs", trust::open)];

fn main() {
    // Cargo passes `--bench`; every other argument names a section.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    for (name, heading, measure) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|want| want == name) {
            table::print(heading, &measure());
        }
    }
}
