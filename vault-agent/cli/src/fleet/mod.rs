//! Machines as they stand, the audit log, the signed log in words, and the page of all of it.

pub(crate) mod audit;
pub(crate) mod blast;
pub(crate) mod history;
pub(crate) mod log;
pub(crate) mod status;
mod told;
pub(crate) mod ui;
