//! The page of `vault ui`: how everybody stands, on loopback, for who has shown a link of one use.
//! Owners act elsewhere: each screen ends in the command to type. No code lives here. The layers,
//! each using those below it only:
//!
//! 1. `door`
//! 2. `listen`
//! 3. `route`
//! 4. `live`
//! 5. `tail`
//! 6. `views`, `language`
//! 7. `frame`
//! 8. `site`
//! 9. `seen`, `records`, `answer`, `sessions`, `widget_token`
//! 10. `guard`
//! 11. `words`, `href`, `parts`

mod answer;
mod door;
mod frame;
mod guard;
mod href;
mod language;
mod listen;
mod live;
mod parts;
mod records;
mod route;
mod seen;
mod sessions;
mod site;
mod tail;
#[cfg(test)]
mod tests;
mod views;
mod widget_token;
mod words;

pub use door::Page;
