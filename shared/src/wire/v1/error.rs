//! The body of every answer that is not a success.

use serde::{Deserialize, Serialize};

/// Code of the answers 503 to what a restored server does not do before its log is whole again or
/// an owner has resumed it.
pub const RESTORED: &str = "restored";

/// Code of the answer 410 to who asks for entries that a checkpoint has taken the place of.
pub const COMPACTED: &str = "compacted";

/// Code of the answer 404 where the log has no checkpoint.
pub const NO_CHECKPOINT: &str = "no_checkpoint";

/// What was refused and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// An `E_…` code, or a reason in lower case (`forbidden`, `too_large`, [`RESTORED`], …).
    pub code: String,
    /// Names the object; no secret.
    pub detail: String,
}
