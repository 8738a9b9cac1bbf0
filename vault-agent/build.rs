//! Links the unwinder into the programs of a release, where nothing unwinds: to load a library for it is a twentieth of the
//! time that `vault kv get` takes.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CC");
    let var = |name: &str| env::var(name).unwrap_or_default();
    let is_gnu = var("CARGO_CFG_TARGET_OS") == "linux" && var("CARGO_CFG_TARGET_ENV") == "gnu";
    if !is_gnu || var("PROFILE") != "release" || var("HOST") != var("TARGET") || !has_archive() {
        return Ok(());
    }
    // The linker finds this script where it looks for the library.
    let folder = PathBuf::from(var("OUT_DIR"));
    let mut script = File::create(folder.join("libgcc_s.so"))?;
    script.write_all(b"GROUP ( libgcc.a libgcc_eh.a )\n")?;
    println!("cargo:rustc-link-search=native={}", folder.display());
    Ok(())
}

/// Tells whether the C compiler brings the unwinder as an archive, as gcc does.
fn has_archive() -> bool {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let asked = Command::new(compiler).arg("-print-file-name=libgcc_eh.a").output();
    asked
        .is_ok_and(|answer| Path::new(String::from_utf8_lossy(&answer.stdout).trim()).is_absolute())
}
