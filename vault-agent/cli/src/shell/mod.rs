//! Completion and manual pages: what shells and `man` are told.

pub(crate) mod complete;
pub(crate) mod completions;
pub(crate) mod help;
pub(crate) mod man;
