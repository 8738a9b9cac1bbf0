//! Absolute paths without `..`, as serde reads them.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer};

pub(super) fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    checked_path(&PathBuf::deserialize(deserializer)?)
}

pub(super) fn checked_path<E: serde::de::Error>(path: &Path) -> Result<PathBuf, E> {
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(plain) || path.file_name().is_none() {
        return Err(E::custom(format!(
            "path `{}` is not absolute, or has `..` in it",
            path.display()
        )));
    }
    // Slashes doubled or at the end would make two names of one file.
    Ok(path.components().collect())
}

pub(super) fn some_absolute<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    absolute(deserializer).map(Some)
}
