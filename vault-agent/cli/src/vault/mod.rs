//! Any path of the API, mounts, tokens, whole secrets in and out, rotation.

pub(crate) mod export;
pub(crate) mod generic;
pub(crate) mod import;
pub(crate) mod print;
pub(crate) mod rotate_due;
pub(crate) mod rotation;
pub(crate) mod secrets;
pub(crate) mod token;
