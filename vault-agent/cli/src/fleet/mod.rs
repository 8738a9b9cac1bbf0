//! Machines as they stand, the audit log, and the signed log in words.

pub(crate) mod audit;
pub(crate) mod log;
pub(crate) mod status;
