//! The text while it is edited: a file in memory-backed storage, for this user alone.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::context::Global;
use host::files::{self, Access};
use host::hint::Failure;

/// What the folders' names start with.
const PREFIX: &str = "vault-edit-";

/// A text in a folder of its own, so that what the editor leaves beside it goes with it.
pub(super) struct Draft {
    folder: PathBuf,
    pub(super) file: PathBuf,
    start: Zeroizing<Vec<u8>>,
}

impl Draft {
    /// Makes the file.
    pub(super) fn new(global: &Global, extension: &str, start: &[u8]) -> anyhow::Result<Self> {
        let storage = storage(global)?;
        let mut number = [0; 8];
        rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty())
            .context("the system has no randomness")?;
        let folder = storage.join(format!("{PREFIX}{:016x}", u64::from_le_bytes(number)));
        files::create_dir_private(&folder)?;
        let file = folder.join(format!("secret.{extension}"));
        let draft = Self { folder, file, start: Zeroizing::new(start.to_vec()) };
        files::replace(&draft.file, start, Access::PRIVATE)?;
        Ok(draft)
    }

    /// Returns the folder of a file that an earlier edit has kept.
    pub(super) fn folder_of(file: &Path) -> Option<PathBuf> {
        let folder = file.parent()?;
        let name = folder.file_name()?.to_str()?;
        name.starts_with(PREFIX).then(|| folder.to_owned())
    }

    /// Runs the editor.
    pub(super) fn edit(&self, global: &Global) -> anyhow::Result<()> {
        let named = global.env("VISUAL").or_else(|| global.env("EDITOR"));
        let editor = named.unwrap_or_else(|| "vi".to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ended = runtime.block_on(async {
            // Ctrl-C is for the editor.
            let _interrupt = signal(SignalKind::interrupt())?;
            let _quit = signal(SignalKind::quit())?;
            // As git does it: the variable may hold arguments.
            tokio::process::Command::new("sh")
                .args(["-c", &format!("{editor} \"$@\""), "sh"])
                .arg(&self.file)
                .status()
                .await
        });
        let ended = ended.with_context(|| format!("the editor `{editor}` cannot be started"))?;
        if !ended.success() {
            let text = format!("the editor `{editor}` ended with {ended}; nothing was written");
            return Err(Failure::local(text).hint("name another one with EDITOR").into());
        }
        Ok(())
    }

    /// Reads the text as it is now.
    pub(super) fn read(&self) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let text = std::fs::read(&self.file);
        Ok(Zeroizing::new(text.with_context(|| format!("`{}`", self.file.display()))?))
    }

    /// Tells whether the user has typed anything that would be lost.
    pub(super) fn is_worth_keeping(&self) -> bool {
        self.read().is_ok_and(|text| *text != *self.start)
    }

    /// Overwrites and removes the text.
    pub(super) fn wipe(&self) -> anyhow::Result<()> {
        files::wipe_folder(&self.folder)
            .with_context(|| format!("cannot wipe `{}`", self.folder.display()))
    }
}

/// Finds a folder that lives in memory.
fn storage(global: &Global) -> Result<PathBuf, Failure> {
    let runtime = global.env("XDG_RUNTIME_DIR").map(PathBuf::from);
    let mut known = [PathBuf::from("/dev/shm")].into_iter().chain(runtime);
    let in_memory = |folder: &PathBuf| {
        // Numbers of tmpfs and ramfs.
        let kind = rustix::fs::statfs(folder).map(|found| found.f_type);
        kind.is_ok_and(|kind| matches!(kind, 0x0102_1994 | 0x8584_58f6))
    };
    known.find(in_memory).ok_or_else(|| {
        Failure::local("there is no memory-backed folder for the text")
            .hint("mount a tmpfs at /dev/shm, or use `vault kv put PATH @FILE`")
    })
}
