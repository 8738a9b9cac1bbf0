//! How the programs of a release are linked: with the unwinder as an archive, because to load a library for what never runs is
//! a twentieth of the time that `vault kv get` takes; and with code that a running agent never calls lying apart, so that
//! it is not in memory (`apart.ld`). A linker that will have none of it links as ever. The tests build the same programs,
//! under names of their own, with this script too.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn main() -> Result<(), Box<dyn Error>> {
    let layout = format!("{}/../vault-agent/apart.ld", var("CARGO_MANIFEST_DIR"));
    println!("cargo:rerun-if-changed=../vault-agent/build.rs");
    println!("cargo:rerun-if-changed={layout}");
    println!("cargo:rerun-if-env-changed=CC");
    let is_gnu = var("CARGO_CFG_TARGET_OS") == "linux" && var("CARGO_CFG_TARGET_ENV") == "gnu";
    if !is_gnu || var("PROFILE") != "release" || var("HOST") != var("TARGET") {
        return Ok(());
    }
    let folder = PathBuf::from(var("OUT_DIR"));
    if has_archive() {
        // The linker finds this script where it looks for the library.
        let mut script = File::create(folder.join("libgcc_s.so"))?;
        script.write_all(b"GROUP ( libgcc.a libgcc_eh.a )\n")?;
        println!("cargo:rustc-link-search=native={}", folder.display());
    }
    let argument = format!("-Wl,-T,{layout}");
    if links(&folder.join("probe"), &argument) {
        let before = if var("CARGO_PKG_NAME") == "tests" { "e2e-" } else { "" };
        println!("cargo:rustc-link-arg-bin={before}vault={argument}");
        println!("cargo:rustc-link-arg-bin={before}vault-agent={argument}");
    }
    Ok(())
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// Tells whether the C compiler brings the unwinder as an archive, as gcc does.
fn has_archive() -> bool {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let asked = Command::new(compiler).arg("-print-file-name=libgcc_eh.a").output();
    asked
        .is_ok_and(|answer| Path::new(String::from_utf8_lossy(&answer.stdout).trim()).is_absolute())
}

/// Tells whether a program that is linked with `argument`, by the linker of this build, runs and finds its way back.
fn links(program: &Path, argument: &str) -> bool {
    let mut compiler = Command::new(var("RUSTC"));
    let flags = var("CARGO_ENCODED_RUSTFLAGS");
    compiler.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        compiler.arg(format!("-Clinker={linker}"));
    }
    compiler.args(["--crate-type=bin", "-Cpanic=abort"]).arg(format!("-Clink-arg={argument}"));
    let source = program.with_extension("rs");
    let text = b"fn main() { let _ = std::backtrace::Backtrace::force_capture(); }";
    let written = File::create(&source).and_then(|mut file| file.write_all(text));
    compiler.arg("-o").arg(program).arg(&source).stdout(Stdio::null()).stderr(Stdio::null());
    written.is_ok()
        && [&mut compiler, &mut Command::new(program)]
            .into_iter()
            .all(|command| command.status().is_ok_and(|ended| ended.success()))
}
