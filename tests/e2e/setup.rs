//! `vault setup` with real programs as plain processes: from nothing to a file that is right, the
//! same line again after any interruption, and what it refuses.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;

use tests::{Bins, Host, MASTER, PASSPHRASE, Port, Ran, bins, files_below, run, watch};

use crate::moment::{killed_at, moments};

pub const SECRET: &str = "secret/jjeco/api-keys";

/// A host on which nothing is set up. What was started for it is killed in the end.
pub struct Bare {
    dir: tempfile::TempDir,
    pub host: Host,
    pub port: Port,
}

impl Bare {
    pub fn new(bins: Bins) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new("rtx1080", dir.path().join("rtx1080"), bins);
        fs::copy(MASTER, dir.path().join("env.master")).unwrap();
        Self { dir, host, port: Port::reserve() }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn state(&self, name: &str) -> PathBuf {
        self.host.state().join(name)
    }

    /// The line that a script types; `--user` without a runtime folder keeps systemd out.
    pub fn command(&self, more: &[&str]) -> Command {
        let mut command = self.line("127.0.0.1", self.port.address().port(), &self.at("kit.txt"));
        command.args(more);
        command
    }

    pub fn line(&self, address: &str, port: u16, kit: &Path) -> Command {
        let mut command = self.host.command(self.host.bins.vault);
        command.env("VAULT_SERVER_DATA", self.at("server"));
        command.args(["setup", "--user", "--yes", "--name", "rtx1080", "--address", address]);
        command.arg("--port").arg(port.to_string());
        command.arg("--kit").arg(kit).arg("--kit-confirmed");
        command
    }

    pub fn whole(&self) -> Command {
        let (master, file) = (self.at("env.master"), self.host.env_file());
        let [master, file] = [&master, &file].map(|path| path.to_str().unwrap());
        self.command(&["--import", master, SECRET, "--target", file])
    }

    pub fn setup(&self) -> Ran {
        run(&mut self.whole(), "")
    }

    /// Processes of this host, whoever started them.
    pub fn processes(&self) -> Vec<u32> {
        let here = self.dir.path().to_str().unwrap();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_ours = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(here)
        };
        pids.filter(is_ours).collect()
    }

    /// Kills every process of this host, as a power cut does.
    pub fn cut_power(&self) {
        for pid in self.processes() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        watch::poll("they are gone", || self.processes().is_empty().then_some(()));
    }

    /// Looks at everything that a finished set-up leaves.
    pub fn check(&self, said: &Ran) {
        assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
        let closing = format!("rtx1080 is right: ~/.env holds {SECRET} v1");
        assert!(said.out.starts_with(&closing), "{}", said.out);
        let next =
            "next: vault machine add NAME --ssh USER@HOST --read secret/jjeco/ --target ~/.env";
        assert!(said.out.contains(next), "{}", said.out);
        let value = self.host.vault(&["kv", "get", "-field=OPENAI_API_KEY", SECRET]).ok();
        assert!(self.host.env().contains(&format!("OPENAI_API_KEY={value}\n")));
        for text in [&said.out, &said.err] {
            assert!(!text.contains(&value) && !text.contains("VLTS1-"), "{text}");
        }
        for name in ["setup.json", "init.json", "names.json", "kit-shown.json"] {
            assert!(!self.state(name).exists(), "{name} stays");
        }
        // One that an interrupted run had started gives way.
        let pids = watch::poll("there are a server and an agent", || {
            Some(self.processes()).filter(|pids| pids.len() == 2)
        });
        for name in ["server.pid", "agent.pid"] {
            let noted = fs::read_to_string(self.state("run").join(name)).unwrap();
            assert!(pids.contains(&noted.trim().parse().unwrap()), "{name}: {noted}");
        }
        for pid in pids {
            assert_eq!(session(pid), (pid, 0), "its own session, without a terminal");
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&environment).contains("PASSPHRASE"));
        }
        let kit = self.at("kit.txt");
        let tested = self.host.vault(&["recovery", "test", "--kit", kit.to_str().unwrap()]);
        assert_eq!(tested.code, 0, "{}", tested.err);
        self.host.is_well();
    }

    /// Nobody else may read what could make a vault.
    fn check_private(&self) {
        for file in files_below(self.dir.path()) {
            // What a program renames or removes meanwhile is looked at under its new name.
            let Ok(content) = fs::read(&file) else { continue };
            let text = String::from_utf8_lossy(&content);
            if text.contains("VLTS1-") || text.contains("\"claim\"") {
                let mode = file.metadata().map_or(0, |found| found.mode());
                assert_eq!(mode & 0o077, 0, "{} is open to others", file.display());
            }
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    }
}

/// Session and terminal of a process (proc_pid_stat(5)).
fn session(pid: u32) -> (u32, i32) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (rest[3].parse().unwrap(), rest[4].parse().unwrap())
}

#[test]
fn one_line_goes_from_nothing_to_a_file_that_is_right() {
    let bare = Bare::new(bins!());
    let said = bare.setup();
    bare.check(&said);
    let plan: Vec<&str> = said.err.lines().take(7).collect();
    let port = bare.port.address().port();
    assert_eq!(plan[0], "this will be made on this host:");
    assert!(plan[1].contains("`rtx1080`, the first of vault `home`"), "{plan:?}");
    assert!(plan[2].ends_with(&format!("127.0.0.1:{port}")), "{plan:?}");
    assert!(plan[4].contains("plain processes until the next boot"), "{plan:?}");
    assert!(plan[6].contains("OPENAI_API_KEY"), "{plan:?}");

    let again = bare.setup();
    bare.check(&again);
    assert!(again.err.contains("this host has its vault"), "{}", again.err);
    assert!(again.err.contains("  machine    `rtx1080` of vault "), "{}", again.err);

    bare.cut_power();
    bare.check(&bare.setup());

    // What was changed in the vault, or in the file, is not set back by the same line.
    let _ = bare.host.vault(&["kv", "patch", SECRET, "OPENAI_API_KEY=changed"]).ok();
    watch::until(&bare.host.env_file(), |text| text.contains("OPENAI_API_KEY=changed\n"));
    let stays = bare.setup();
    assert_eq!(stays.code, 0, "{}", stays.err);
    assert!(stays.err.contains("and stays; it differs from"), "{}", stays.err);
    assert!(stays.err.contains("in OPENAI_API_KEY\n"), "{}", stays.err);
    assert!(bare.host.env().contains("OPENAI_API_KEY=changed\n"));
}

/// Moments at which it is killed; after more of them it has ended by itself.
const MOMENTS: usize = 120;

fn killed_and_repeated(moment: usize) {
    let bare = Bare::new(bins!());
    let is_killed = killed_at(bare.whole(), bare.dir.path(), moment);
    println!("moment {moment}: {}", if is_killed { "killed" } else { "it had ended" });
    bare.check_private();
    let is_there = |name: &str| bare.state(name).exists();
    let is_void = is_there("kit-shown.json") && !is_there("init.json") && !is_there("pins.json");
    let said = bare.setup();
    assert_eq!(said.err.contains("was never confirmed"), is_void, "{}", said.err);
    bare.check(&said);
}

#[test]
fn killed_at_any_moment_the_same_line_goes_on() {
    moments(MOMENTS).into_iter().for_each(killed_and_repeated);
}

/// A command with a terminal of its own, made by script(1).
pub(crate) struct Terminal {
    pub(crate) script: Child,
    input: ChildStdin,
    output: mpsc::Receiver<Vec<u8>>,
    /// What stands on it since the last answer.
    seen: String,
}

impl Terminal {
    pub(crate) fn open(command: &Command) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let mut script = Command::new("script");
        script.args(["-qec", &words.join(" "), "/dev/null"]).env_clear();
        script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = script.spawn().expect("script(1) of bsdutils is there");
        let (input, mut shown) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let (sender, output) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = shown.read(&mut buffer) {
                if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { script, input, output, seen: String::new() }
    }

    /// Waits until it asks so, and answers; returns what stood there before.
    pub(crate) fn answer(&mut self, question: &str, answer: &str) -> String {
        let text = self.until(question);
        writeln!(self.input, "{answer}").unwrap();
        text
    }

    pub(crate) fn until(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let more = self.output.recv_timeout(std::time::Duration::from_secs(60));
            let more = more.unwrap_or_else(|_| panic!("no `{text}` in:\n{}", self.seen));
            self.seen += &String::from_utf8_lossy(&more).replace('\r', "");
        }
    }

    /// The last six characters of a secret that stands there in rows.
    pub(crate) fn end_of(page: &str, prefix: &str) -> String {
        let rows = page.split(&format!("{prefix}\n")).nth(1).unwrap();
        let row = rows.lines().find(|line| line.starts_with("#   4 ")).unwrap();
        let groups: Vec<&str> = row.split_whitespace().skip(2).collect();
        let text = groups[..groups.len() - 1].concat();
        text[text.len() - 6..].to_owned()
    }
}

#[test]
fn at_a_terminal_everything_is_asked_and_an_unconfirmed_kit_is_void() {
    let bare = Bare::new(bins!());
    let old = "OWN=1\n";
    host::files::write_private(&bare.host.env_file(), old.as_bytes()).unwrap();
    fs::set_permissions(bare.host.env_file(), fs::Permissions::from_mode(0o644)).unwrap();
    let open = || {
        let mut command = bare.host.command(bare.host.bins.vault);
        command.env("VAULT_SERVER_DATA", bare.at("server")).env_remove("VAULT_PASSPHRASE_FILE");
        command.args(["setup", "--user", "--address", "127.0.0.1", "--name", "rtx1080"]);
        command.arg("--port").arg(bare.port.address().port().to_string());
        command.arg("--import").arg(bare.at("env.master")).arg(SECRET);
        command.arg("--target").arg(bare.host.env_file());
        Terminal::open(&command)
    };
    let begin = |terminal: &mut Terminal| {
        let before = terminal.answer("anything else ends it here.", "");
        terminal.answer("New passphrase for admin `admin`: ", PASSPHRASE);
        let asked = terminal.answer("The same once more: ", PASSPHRASE);
        assert!(!asked.contains("server "), "asked before programs start: {asked}");
        let page = terminal.until("Type the last 6 characters of the line VAULT-ROOT-SECRET-1");
        (before, page)
    };
    let mut first = open();
    let (_, void) = begin(&mut first);
    // The terminal is gone, and with it the command.
    first.script.kill().unwrap();
    first.script.wait().unwrap();
    watch::poll("the command is gone", || (bare.processes().len() == 1).then_some(()));

    let mut second = open();
    let (said, page) = begin(&mut second);
    assert!(said.contains("was never confirmed: it opens nothing"), "{said}");
    let [root, recovery] = ["VAULT-ROOT-SECRET-1", "AGE-SECRET-KEY-1"];
    assert_ne!(Terminal::end_of(&void, root), Terminal::end_of(&page, root));
    second.answer("…", "wrong");
    second.answer("That is not it. Type the last 6", &Terminal::end_of(&page, root));
    second.answer("of the line AGE-SECRET-KEY-1…", &Terminal::end_of(&page, recovery));
    let asked = second.answer("Enter leaves it as it is.", "b");
    assert!(asked.contains("E_TARGET_FOREIGN") && asked.contains("OWN"), "{asked}");
    assert!(asked.contains("its mode stays 0644"), "{asked}");
    let end = second.until("vault machine add NAME --ssh USER@HOST");
    assert!(end.contains("rtx1080 is right: ~/.env holds"), "{end}");
    assert!(second.script.wait().unwrap().success());
    assert!(bare.host.env().starts_with(old) && bare.host.env().contains("OPENAI_API_KEY="));
    // They have outlived the terminal; the rows of the page read back.
    assert_eq!(bare.processes().len(), 2);
    let tested = bare.host.vault_with(&["recovery", "test", "--kit", "-"], &page);
    assert_eq!(tested.code, 0, "{}", tested.err);
    let old = bare.host.vault_with(&["recovery", "test", "--kit", "-"], &void);
    assert_ne!(old.code, 0, "the first page opens nothing");
}

/// Starts what the user's unit says, as `systemctl --user` would.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >>"$HOME/asked"
for word; do case "$word" in *.service) unit=${word%.service};; esac; done
noted="$HOME/$unit.pid"
runs() { [ -f "$noted" ] && grep -q . "/proc/$(cat "$noted")/cmdline" 2>/dev/null; }
case "$*" in
*is-active*) runs ;;
*is-enabled*) exit 1 ;;
*MainPID*) cat "$noted" ;;
*restart*)
  while runs; do kill "$(cat "$noted")"; sleep 0.05; done
  line=$(sed -n 's/^ExecStart=//p' "$HOME/.config/systemd/user/$unit.service")
  setsid $line </dev/null >>"$HOME/$unit.log" 2>&1 &
  echo $! >"$noted" ;;
esac
"#;

#[test]
fn where_systemd_runs_both_are_units() {
    let bare = Bare::new(bins!());
    let (home, runtime) = (bare.host.dir.join("home"), bare.at("runtime"));
    fs::create_dir_all(runtime.join("systemd/private")).unwrap();
    fs::create_dir(bare.at("bin")).unwrap();
    for (name, text) in [("systemctl", SYSTEMCTL), ("loginctl", "#!/bin/sh\nexit 1\n")] {
        tests::script(&bare.at("bin").join(name), text);
    }
    let path = format!("{}:{}", bare.at("bin").display(), std::env::var("PATH").unwrap());
    let setup = || {
        let mut command = bare.whole();
        command.env("PATH", &path).env("XDG_RUNTIME_DIR", &runtime);
        let said = run(&mut command, "");
        assert_eq!(said.code, 0, "{}", said.err);
        let asked = fs::read_to_string(home.join("asked")).unwrap();
        fs::remove_file(home.join("asked")).unwrap();
        (said, asked.lines().filter(|line| line.contains(" restart ")).count())
    };
    let (said, restarts) = setup();
    assert!(said.out.starts_with("rtx1080 is right: ~/.env holds"), "{}", said.out);
    assert!(said.err.contains("units of this user (`systemctl --user`)"), "{}", said.err);
    assert!(said.err.contains("until you run once: `sudo loginctl enable-linger "), "{}", said.err);
    assert_eq!(restarts, 2, "each is started once");
    for name in ["vault-server", "vault-agent"] {
        let unit = home.join(format!(".config/systemd/user/{name}.service"));
        assert!(fs::read_to_string(unit).unwrap().contains(bare.dir.path().to_str().unwrap()));
        let pid = fs::read_to_string(home.join(format!("{name}.pid"))).unwrap();
        assert!(bare.processes().contains(&pid.trim().parse().unwrap()), "{name} runs");
    }
    assert!(!bare.state("run").exists(), "nothing was started beside systemd");
    assert_eq!(setup().1, 0, "what runs is left alone");
    bare.cut_power();
    assert_eq!(setup().1, 2, "what does not is started");
}

pub fn goes_on(ran: &Ran, text: &str) {
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains(text), "{}", ran.err);
}

pub fn refused(ran: &Ran, text: &str) {
    assert_ne!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains(text), "{}", ran.err);
}

#[test]
fn a_file_with_other_lines_waits_for_a_decision() {
    let bare = Bare::new(bins!());
    let old = "# mine\nOWN=1\n";
    host::files::write_private(&bare.host.env_file(), old.as_bytes()).unwrap();
    let ran = bare.setup();
    refused(&ran, "E_TARGET_FOREIGN");
    refused(&ran, "run the same line again with `--block`, `--replace` or `--import-target`");
    assert_eq!(bare.host.env(), old, "nothing of it is lost");
    fs::set_permissions(bare.host.env_file(), fs::Permissions::from_mode(0o644)).unwrap();
    let ran = run(bare.whole().args(["--block", "--mode", "0640"]), "");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let text = bare.host.env();
    assert!(text.starts_with(old) && text.contains("OPENAI_API_KEY="), "{text}");
    let mode = bare.host.env_file().metadata().unwrap().mode();
    assert_eq!(mode & 0o777, 0o640);
    let ran = run(bare.whole().args(["--replace", "--mode", "0600"]), "");
    goes_on(&ran, "without what is said now by --replace, --mode");
}

#[test]
fn what_stands_in_the_way_is_named_before_anything_is_made() {
    let bare = Bare::new(bins!());
    let untouched = || {
        assert!(bare.processes().is_empty(), "nothing was started");
        assert!(!bare.at("server").exists() && !bare.state("setup.json").exists());
    };
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = bare.host.command(bare.host.bins.vault);
    command.env("VAULT_SERVER_DATA", bare.at("server"));
    let line = ["setup", "--user", "--yes", "--name", "a", "--kit", "k", "--kit-confirmed"];
    command.args(line).args(["--port", &port]);
    refused(&run(&mut command, ""), &format!("port {port} cannot be used"));
    untouched();
    let import = ["--import", "/no/such/file"];
    refused(&run(&mut bare.command(&import), ""), "`/no/such/file`: No such file");
    untouched();
    let mut asks = bare.host.command(bare.host.bins.vault);
    asks.env("VAULT_SERVER_DATA", bare.at("server"));
    let line = ["setup", "--user", "--address", "127.0.0.1", "--kit", "k", "--kit-confirmed"];
    asks.args(line).args(["--name", "a"]);
    refused(&run(&mut asks, ""), "there is no terminal to agree at");
    untouched();

    let data = bare.at("server");
    let mut server = Command::new(bare.host.bins.server);
    let init = ["init", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    let _ = run(server.args(init), "").ok();
    refused(&bare.setup(), "holds a server that was not made by `vault setup`");
    assert!(data.join("server.key").exists(), "it is left alone");
}

#[test]
fn a_folder_that_others_may_read_is_refused() {
    let bare = Bare::new(bins!());
    fs::create_dir(bare.host.state()).unwrap();
    fs::set_permissions(bare.host.state(), fs::Permissions::from_mode(0o755)).unwrap();
    refused(&bare.setup(), "open to others");
    assert!(bare.processes().is_empty() && !Path::new(&bare.at("server")).exists());
}
