//! Machines as they stand, the audit log, and the signed log in words.

pub(crate) mod audit;
pub(crate) mod blast;
pub(crate) mod history;
pub(crate) mod log;
pub(crate) mod status;
mod told;
