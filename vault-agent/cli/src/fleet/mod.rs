//! Machines as they stand, and the audit log.

pub(crate) mod audit;
pub(crate) mod status;
