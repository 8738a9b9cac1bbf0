//! Where a file is that an owner names.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use host::files;

/// Returns an absolute path without links in its folder, as `files` wants it.
///
/// # Errors
/// If the folder does not exist.
pub fn absolute(file: &Path) -> Result<PathBuf> {
    let whole = files::absolute(file)?;
    let (Some(folder), Some(name)) = (whole.parent(), whole.file_name()) else {
        bail!("`{}` names no file", file.display());
    };
    let folder = folder
        .canonicalize()
        .with_context(|| format!("folder `{}` of `{}`", folder.display(), file.display()))?;
    Ok(folder.join(name))
}
