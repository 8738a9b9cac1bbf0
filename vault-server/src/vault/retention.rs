//! When audit records leave the database for sealed files, and when these are deleted. How files
//! are written lives in `store::segment`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use shared::time::Time;

use crate::config;
use crate::store::segment::{self, Draft, Segment};
use crate::store::{Connection, audit};

/// Most bytes of one segment.
const SEGMENT: u64 = 4 << 20;
/// Most segments with a file.
const SEGMENTS: u64 = 4096;

/// What bounds the audit.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Folder of the sealed files.
    pub folder: PathBuf,
    /// The bounds.
    pub audit: config::Audit,
}

impl Retention {
    /// Makes the next segment if one is due, and returns it for the table; its file is written,
    /// unless the database is the archive.
    pub(super) fn seal(&self, conn: &Connection, now: Time) -> Result<Option<Draft>> {
        if !conn.holds_archive() {
            segment::sweep(conn, &self.folder)?;
        }
        let Some((bytes, oldest)) = audit::extent(conn)? else { return Ok(None) };
        let config::Audit { keep, database_bytes, .. } = self.audit;
        let before = |age: u64| Time::from_micros(now.as_micros().saturating_sub(age));
        // Not a segment a minute: they come together for a while first.
        let late = before(keep.saturating_add((keep / 8).max(config::DAY)));
        let draft = if bytes > database_bytes {
            Draft::of_oldest(conn, SEGMENT.min(database_bytes / 8), |_| true)?
        } else if keep > 0 && oldest < late {
            Draft::of_oldest(conn, SEGMENT, |time| time < before(keep))?
        } else {
            None
        };
        if let Some(draft) = draft.as_ref().filter(|_| !conn.holds_archive()) {
            draft.write(&self.folder)?;
        }
        Ok(draft)
    }

    /// Deletes the file of the oldest segment if there are too many, and returns it for the table.
    pub(super) fn delete(&self, conn: &Connection) -> Result<Option<Segment>> {
        let surplus = segment::surplus(conn, self.audit.archive_bytes, SEGMENTS)?;
        let Some(oldest) = surplus else { return Ok(None) };
        if conn.holds_archive() {
            return Ok(Some(oldest));
        }
        let file = self.folder.join(oldest.file_name());
        match std::fs::remove_file(&file) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                Err(why).with_context(|| format!("cannot remove `{}`", file.display()))
            }
            Ok(()) | Err(_) => Ok(Some(oldest)),
        }
    }
}
