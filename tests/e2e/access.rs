//! Who may read what: the server refuses the blob, and the blob does not open even when handed over.

use shared::blob::{Expected, Place, open};
use shared::error::Code;
use shared::keys::Identity;
use shared::log::{Frame, readers};
use shared::path::SecretPath;

use tests::{World, bins, watch};
