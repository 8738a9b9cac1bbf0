//! Machines as they stand, and the audit log.

pub(crate) mod audit;
pub(crate) mod log;
pub(crate) mod status;
