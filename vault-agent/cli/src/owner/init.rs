//! `vault init`: makes a vault on a fresh server, and this host its first machine.

mod begun;
mod set_up;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use shared::token::{Line as _, SetupLine};
use zeroize::Zeroizing;

use crate::context::Global;
use crate::owner::owning::passphrase;
use crate::owner::signing::admin::{self, Work};
use crate::owner::signing::founding::Wish;
use host::files;
use host::hint::{Exit, hinted, parsed};

pub use begun::{Asked, Names, ShownKit};
pub use set_up::{Here, Keeping, check_kit_place, forget, keep_kit, set_up};

/// Set this machine up with a server's setup line
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File with the line that `vault-server init` printed; by default it is asked for, or read
    /// from standard input
    #[arg(value_name = "FILE", default_value = "-", hide_default_value = true)]
    setup: String,

    /// Name of this machine [default: that of an earlier attempt, else the host's]
    #[arg(long, value_name = "HOST")]
    name: Option<String>,

    /// Name of the vault, for people [default: home]
    #[arg(long, value_name = "NAME")]
    vault_name: Option<String>,

    /// Name of the first admin [default: admin]
    #[arg(long, value_name = "NAME")]
    admin: Option<String>,

    #[command(flatten)]
    keep: Keep,
}

/// How the kit and the admin key are kept.
#[derive(Debug, clap::Args)]
pub struct Keep {
    /// Write the recovery kit to a new file instead of the terminal
    #[arg(long, value_name = "FILE")]
    kit: Option<PathBuf>,

    /// Make that file a page to print, with a QR code
    #[arg(long, requires = "kit")]
    html: bool,

    /// Do not ask to type back part of the recovery kit
    #[arg(long)]
    kit_confirmed: bool,

    /// Read the passphrase of the admin key from the first line of a file [env:
    /// VAULT_PASSPHRASE_FILE]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Keep {
    /// Returns how both are kept by a person who is asked at this terminal.
    pub fn keeping(&self, global: &Global) -> Keeping {
        Keeping {
            passphrase: passphrase(self.passphrase_file.clone(), global),
            work: Work::Second,
            kit: self.kit.clone(),
            html: self.html,
            kit_confirmed: self.kit_confirmed,
            chosen: None,
        }
    }
}

/// Runs `vault init`; running it again after a failure is safe.
pub(crate) fn run(args: Args, global: &Global) -> Result<Exit> {
    let term = &global.term;
    let line = setup_line(&args.setup, global)?;
    let setup = parsed(SetupLine::from_line(&line))?;
    let paths = global.paths()?;
    let asked = Asked { host: args.name, vault: args.vault_name, admin: args.admin };
    let Names { host, vault, admin } = Names::choose(asked, &paths)?;
    let wish = Wish { setup, host, vault_name: vault, admin };
    let keeping = args.keep.keeping(global);
    let kit = keeping.kit.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let made = runtime.block_on(set_up(wish, &keeping, &Here::default(), &paths, global))?;
    // One that goes on with an earlier attempt has the name of that time.
    let state = shared::log::start(&made.request.genesis)?;
    term.line(format!("vault    {} {}", state.name(), made.vault))?;
    term.line(format!("machine  {}", made.host))?;
    let file = admin::place(&paths, &made.admin);
    term.line(format!("admin    {} ({})", made.admin, file.display()))?;
    if let Some(kit) = kit {
        let kit = kit.display();
        term.say(format!("the recovery kit is in `{kit}`: print it, then delete the file"));
    } else {
        term.say("clear this terminal once the kit is on paper: it stands in the scrollback");
    }
    term.say(
        "next: `vault-agent install --user`, as root without --user; then `vault import secret/NAME \
         FILE`",
    );
    Ok(Exit::OK)
}

/// Takes the setup line from a file, the terminal or standard input: never from the arguments,
/// which everybody on this host can read, as it holds the claim code.
fn setup_line(from: &str, global: &Global) -> Result<Zeroizing<String>> {
    if from.starts_with(SetupLine::PREFIX) {
        bail!(hinted(
            "a setup line is not taken as an argument: every user of this host could read it there",
            "run `vault init` without it, and paste it when asked"
        ));
    }
    if from != "-" {
        let Some(bytes) = files::read_private_named(from.as_ref())? else {
            let way = "`vault init` without a file asks for the line";
            bail!(hinted(format!("there is no file `{from}`"), way));
        };
        let text = std::str::from_utf8(&bytes);
        let text = text.with_context(|| format!("`{from}` is not UTF-8"))?;
        return Ok(Zeroizing::new(text.to_owned()));
    }
    let typed = if global.can_ask() {
        rpassword::prompt_password("Setup line, VLTS1-… (not shown): ")
    } else if global.term.in_is_tty {
        Ok(String::new())
    } else {
        global.term.read_line().map(Option::unwrap_or_default)
    };
    let line = Zeroizing::new(typed.context("reading the setup line")?);
    if line.trim().is_empty() {
        bail!(hinted(
            "there is no setup line",
            "`vault-server init` prints it: paste it when asked, pipe it in, or name its file"
        ));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;
    use shared::keys::SignKey;

    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::testing::World;
    use machine::identity::Pins;
    use machine::paths::Paths;

    fn fresh_line() -> String {
        // Nobody listens on port 1.
        let addresses = vec!["127.0.0.1:1".to_owned()];
        let server = SignKey::from_seed(&[1; 32]).verify_key();
        SetupLine { addresses, server, claim: Hash::ZERO }.to_line().unwrap()
    }

    /// Runs `vault init` on a fresh host that is given the line on standard input.
    fn run(world: &World, flags: &str) -> String {
        let state = world.path().join("state");
        world.run(&format!("init --state {} {flags}", state.display())).shown()
    }

    fn scripted(world: &World) -> String {
        format!("--name host --kit-confirmed --kit {}/kit", world.path().display())
    }

    #[test]
    fn wrong_and_truncated_lines_are_named_with_the_way_out() {
        let line = fresh_line();
        let cut = &line[..line.len() - 9];
        let shown = ["hello", cut, "VLTM1-abc", ""].map(|line| {
            let world = World::new(line);
            run(&world, &scripted(&world))
        });
        insta::assert_snapshot!(shown.join("\n"));
        insta::assert_snapshot!(run(&World::new(&line), "--name 4770"), @r"
        exit 1
        --- stdout
        --- stderr
        E_NAME: name `4770` consists of digits only
        hint: use 1 to 32 of a to z, 0 to 9 and `-`, not starting with `-`, not digits only
        ");
    }

    #[test]
    fn a_setup_line_comes_from_a_private_file_and_is_no_argument() {
        let (line, world) = (fresh_line(), World::new(""));
        let init = |from: &str| {
            let state = world.path().join("state");
            let flags = scripted(&world);
            world.run(&format!("init {from} --state {} {flags}", state.display()))
        };
        let run = init(&line);
        assert!(run.err.starts_with("a setup line is not taken as an argument"), "{}", run.err);
        assert!(!run.err.contains(&line[6..]), "{}", run.err);
        let file = world.path().join("setup");
        let at = file.display().to_string();
        assert!(init(&at).err.starts_with("there is no file `DIR/setup`"));
        files::write_private(&file, line.as_bytes()).unwrap();
        let mode = |mode| std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o640);
        assert!(init(&at).err.contains("is open to others (mode 640)"));
        mode(0o600);
        let run = init(&at);
        assert!(run.err.starts_with("no server at `127.0.0.1:1`"), "{}", run.err);
    }

    #[test]
    fn a_server_that_does_not_answer_leaves_nothing_but_keys_and_names() {
        let world = World::new(&fresh_line());
        insta::assert_snapshot!(run(&world, &scripted(&world)));
        let names = |dir: &Path| {
            let entries = std::fs::read_dir(dir).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&world.path()), ["state"]);
        assert_eq!(names(&world.path().join("state")), ["identity", "names.json"]);
        // The next attempt has the name of this one, whatever the host is called.
        let _ = run(&world, &scripted(&world).replace("--name host ", ""));
        let kept = std::fs::read_to_string(world.path().join("state/names.json")).unwrap();
        assert!(kept.contains("\"host\": \"host\""), "{kept}");
    }

    #[test]
    fn without_a_terminal_the_kit_needs_a_file_and_no_typing() {
        let world = World::new(&fresh_line());
        let kit = world.file("old-kit", "x");
        let shown = [
            "--kit-confirmed".to_owned(),
            format!("--kit {}/kit", world.path().display()),
            format!("--kit-confirmed --kit {kit}"),
        ]
        .map(|flags| run(&world, &format!("--name host {flags}")));
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn a_host_belongs_to_one_vault() {
        let world = World::new(&fresh_line());
        let pins = Pins {
            vault: Hash::of(&[b"vault"]),
            server: vec![SignKey::from_seed(&[1; 32]).verify_key()],
            name: "host".parse().unwrap(),
            addresses: Vec::new(),
            checkpoint: None,
        };
        let paths = Paths::resolve(Some(world.path().join("state")), None).unwrap();
        pins.store(&paths).unwrap();
        insta::assert_snapshot!(run(&world, &scripted(&world)));
    }
}
