//! `vault man`: manual pages, made from the same descriptions as the help. `vault-server` has pages
//! of its own, so that those of `vault server` are called `vault.server`.

use std::path::PathBuf;

use clap::Command;
use host::hint::Exit;
use host::man;

use crate::context::Global;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  vault man kv get | man -l -
  vault man --out ~/.local/share/man/man1       all pages")]
pub struct Args {
    /// Write every page into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Command whose page is printed, e.g. kv get
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    command: Vec<String>,
}

pub(crate) fn run(global: &Global, args: &Args, mut vault: Command) -> anyhow::Result<Exit> {
    vault = vault.mut_subcommand("server", |server| server.display_name("vault.server"));
    // The flags of every command stand in the page of `vault`, and there alone.
    vault.build();
    let vault = vault.mut_args(|arg| arg.hide(false));
    match &args.out {
        None => global.term.data(man::page(vault, &args.command)?)?,
        Some(folder) => {
            let count = man::write(vault, folder)?;
            global.term.say(format!("wrote {count} pages to `{}`", folder.display()));
        }
    }
    Ok(Exit::OK)
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    #[test]
    fn every_command_has_a_page() {
        let world = World::new("");
        let folder = world.path().join("share/man1");
        let run = world.run_args(&["man", "--out", &folder.display().to_string()]);
        assert_eq!(run.exit, 0, "{}", run.err);
        for name in ["vault", "vault-kv", "vault-kv-get", "vault-kv-metadata-patch", "vault-run"] {
            let page = std::fs::read_to_string(folder.join(format!("{name}.1"))).unwrap();
            assert!(page.contains(".TH ") && page.contains(".SH NAME"), "{name}");
        }
        for entry in std::fs::read_dir(&folder).unwrap() {
            let page = entry.unwrap().file_name().into_string().unwrap();
            let others = ["vault-server", "vault-agent"];
            assert!(!others.iter().any(|it| page.starts_with(it)), "{page} is another program's");
        }
        let page = std::fs::read_to_string(folder.join("vault.1")).unwrap();
        assert!(page.contains("vault.server(1)") && !page.contains("vault\\-server(1)"));
        let with_flags = |name: &str| {
            let page = std::fs::read_to_string(folder.join(format!("{name}.1"))).unwrap();
            page.contains("namespace")
        };
        assert!(with_flags("vault") && !with_flags("vault-kv-get"));
        let run = world.run_args(&["man", "kv", "get"]);
        assert!(run.out.contains("Print a secret, or one field of it"));
        let run = world.run_args(&["man", "kv", "gett"]);
        assert_eq!((run.exit, run.err.as_str()), (1, "`vault kv` has no command `gett`\n"));
    }
}
