//! What a file says about itself: a comment that every reader of its format passes over.

use shared::path::SecretPath;

use super::text::Text;

/// What the comment tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The vault, as short as people compare it.
    pub vault: String,
    /// The secrets with their versions, in order.
    pub secrets: Vec<(SecretPath, u64)>,
    /// Whether an edit is put back; otherwise it is reported.
    pub restores: bool,
}

impl Header {
    /// Writes two lines of comment at column 0.
    pub(super) fn write(&self, out: &mut Text) {
        let secrets: Vec<String> =
            self.secrets.iter().map(|(path, ver)| format!("{path} v{ver}")).collect();
        out.push(&format!("# vault {}: {}\n", self.vault, secrets.join(", ")));
        let fate = if self.restores { "put back" } else { "reported" };
        out.push(&format!("# Edited here? It will be {fate}: change it with `vault kv patch`.\n"));
    }
}

/// Tells whether a line is one of those that [`Header`] writes.
pub(super) fn is_line(line: &[u8]) -> bool {
    line.starts_with(b"# vault ") || line.starts_with(b"# Edited here? It will be ")
}
