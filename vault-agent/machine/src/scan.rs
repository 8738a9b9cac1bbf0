//! Looking for values of the vault where they do not belong: in which forms, which of them at all,
//! and in what. Used by `vault scan` and by the agent's own scan; what they do with a find lives
//! with them. Values are in memory alone, and wiped.

pub mod forms;
pub mod guessable;
pub mod search;
pub mod size;
pub mod told;
pub mod tree;
pub mod values;
