//! This machine as a member of its vault. Nothing here changes while the engine runs.

use shared::name::Name;

use machine::identity::{MachineKeys, Pins};

/// Who this machine is, and which vault and server it believes.
pub(super) struct Own {
    pub(super) name: Name,
    pub(super) pins: Pins,
    pub(super) keys: MachineKeys,
}
