//! `apply` against an independent model of its rules, over random histories; what the worst entries
//! cost (design/trust, *apply*); and two admins at once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod die;
mod hosts;
mod model;
mod owners;
mod play;
mod races;
mod worst;

use play::Play;

/// How many histories; HISTORIES asks for more.
const HISTORIES: u64 = 5_000;
/// How many entries each has.
const ENTRIES: usize = 3;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn apply_does_what_the_model_says() {
    let first = number("MATRIX_SEED").unwrap_or(1);
    let histories = number("HISTORIES").unwrap_or(HISTORIES);
    println!("MATRIX_SEED={first}: {histories} histories from this seed on");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for seed in (first..first + histories).skip(thread).step_by(threads) {
                    let mut play = Play::new(seed);
                    for _ in 0..ENTRIES {
                        play.step();
                    }
                }
            });
        }
    });
}
