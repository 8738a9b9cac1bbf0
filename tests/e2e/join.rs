//! Coming into a vault: the same six words at both ends, what becomes of a line that was exchanged
//! on the way, and that no process ever shows the setup line.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use machine::identity::Pins;
use machine::paths::Paths;
use shared::keys::{Identity, SignKey};
use shared::token::{Line as _, MachineLine, PinLine};
use tests::{Host, World, api, bins, find_line, watch};

/// Returns what follows the label on a line of `text`.
fn after<'t>(text: &'t str, label: &str) -> &'t str {
    let found = text.lines().find_map(|line| line.trim_start().strip_prefix(label));
    found.unwrap_or_else(|| panic!("no `{label}` in:\n{text}")).trim()
}

/// Makes a host's keys; returns its line and the words that it shows.
fn keys(host: &Host) -> (MachineLine, String) {
    let out = host.agent_command(&["init", "--name", &host.name]).ok();
    let line = MachineLine::from_line(&find_line(&out, "VLTM1-")).unwrap();
    (line, after(&out, "words:").to_owned())
}

#[test]
fn both_ends_show_the_same_six_words() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let (line, words) = keys(&world.host("vps"));
    assert_eq!(words.split(' ').count(), 6, "{words}");
    let line = line.to_line().unwrap();
    let ran = rtx.vault(&["machine", "add", &line, "--read", "secret/jjeco/", "--yes"]);
    assert_eq!((ran.code, after(&ran.err, "its words")), (0, &*words), "{}", ran.err);
    let asked = "compare the six words below with those that `vault-agent init` shows on `vps`";
    assert!(ran.err.contains(asked), "{}", ran.err);
}

#[test]
fn a_recipient_exchanged_in_transit_is_refused() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let (line, _) = keys(&world.host("vps"));
    let forged = MachineLine { recipient: Identity::generate().recipient(), ..line };
    let forged = forged.to_line().unwrap();
    let ran = rtx.vault(&["machine", "add", &forged, "--read", "*", "--yes"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("E_BADSIG: proof of machine `vps`"), "{}", ran.err);
    assert!(!rtx.vault(&["machine", "list"]).ok().contains("vps"));
}

#[test]
fn a_line_exchanged_as_a_whole_has_other_words_and_joins_nobody() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let mut vps = world.host("vps");
    let (line, words) = keys(&vps);
    let add = |line: &MachineLine| {
        let line = line.to_line().unwrap();
        rtx.vault(&["machine", "add", &line, "--read", "secret/", "--yes"])
    };
    let thief = Identity::generate().recipient();
    let forged = MachineLine::new(line.name.clone(), thief, &SignKey::generate()).unwrap();
    let ran = add(&forged);
    assert_eq!(after(&ran.err, "its words"), forged.words().to_string());
    assert_ne!(after(&ran.err, "its words"), words);
    // Somebody did not look. The host does.
    let pin = find_line(&ran.ok(), "VLTP1-");
    // As if an attempt had been killed before it saw the server.
    let killed = Paths::resolve(Some(vps.state()), None).unwrap();
    Pins::from(PinLine::from_line(&pin).unwrap()).store(&killed).unwrap();
    let ran = vps.agent_command(&["join", &pin]);
    let text = "E_JOIN_SUBSTITUTED: the server knows no machine with this host's signing key\n\
                hint: on an admin's host remove that machine, then add this one anew and compare";
    assert!(ran.code == 2 && ran.err.starts_with(text), "{} {}", ran.code, ran.err);
    let left = tests::files_below(&vps.state());
    let names: Vec<_> = left.iter().map(|file| file.file_name().unwrap()).collect();
    assert_eq!(names.len(), 2, "keys alone: {names:?}");
    // The way out that it names.
    let _ = rtx.vault(&["machine", "remove", "vps", "--yes"]).ok();
    let pin = find_line(&add(&line).ok(), "VLTP1-");
    let _ = vps.agent_command(&["join", &pin]).ok();
    vps.start();
}

#[test]
fn a_machine_whose_keys_are_not_those_in_the_log_touches_no_target() {
    const SECRET: &str = "secret/jjeco/api-keys";
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let _ = rtx.vault(&["kv", "put", SECRET, "KEY=one"]).ok();
    let mut vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    vps.target(&[SECRET]);
    let right = watch::until(&vps.env_file(), |text| text.contains("KEY=one"));
    vps.stop();
    // As if the log had another encryption key: this host has.
    let file = vps.state().join("identity/age.key");
    std::fs::remove_file(&file).unwrap();
    let key = Identity::generate().to_text();
    host::files::write_private(&file, key.as_bytes()).unwrap();
    let _ = rtx.vault(&["kv", "put", SECRET, "KEY=two"]).ok();

    let ran = vps.agent_command(&["once"]);
    assert!(ran.code == 2 && ran.err.contains("E_JOIN_SUBSTITUTED"), "{} {}", ran.code, ran.err);
    assert_eq!(vps.env(), right);
    vps.start();
    let shown = watch::poll("the alarm", || {
        let ran = vps.vault(&["status"]);
        ran.err.contains("alarm E_JOIN_SUBSTITUTED").then_some(ran)
    });
    assert_eq!(shown.code, 2);
    assert!(shown.err.contains("hint: on an admin's host remove that machine"), "{}", shown.err);
    let denied = vps.vault(&["kv", "get", SECRET]);
    assert!(denied.code == 2 && denied.err.contains("E_JOIN_SUBSTITUTED"), "{}", denied.err);
    assert_eq!(vps.env(), right);
}

/// Looks at the arguments and the environment of every process again and again.
struct Overlooker {
    stop: Arc<AtomicBool>,
    looking: JoinHandle<BTreeSet<String>>,
}

impl Overlooker {
    /// Notes the setup lines that processes of the world in `dir` show.
    fn start(dir: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let looking = std::thread::spawn(move || {
            let mut shown = BTreeSet::new();
            while !ended.load(Relaxed) {
                look(&dir, &mut shown);
            }
            shown
        });
        Self { stop, looking }
    }

    fn stop(self) -> BTreeSet<String> {
        self.stop.store(true, Relaxed);
        self.looking.join().unwrap()
    }
}

fn look(dir: &Path, shown: &mut BTreeSet<String>) {
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |name| std::fs::read(process.path().join(name)).unwrap_or_default();
        let text = [read("cmdline"), read("environ")].concat();
        let text = String::from_utf8_lossy(&text);
        if text.contains(dir.to_str().unwrap()) {
            let lines = text.split('\0').filter(|word| word.contains("VLTS1-"));
            shown.extend(lines.map(str::to_owned));
        }
    }
}

#[test]
fn no_process_shows_the_setup_line() {
    let bins = bins!();
    let dir = tempfile::tempdir().unwrap();
    // That a line would be seen.
    let overlooker = Overlooker::start(dir.path().to_owned());
    let canary = ["-c", "sleep 1; true", "VLTS1-canary", dir.path().to_str().unwrap()];
    assert!(Command::new("sh").args(canary).status().unwrap().success());
    assert_eq!(overlooker.stop(), ["VLTS1-canary".to_owned()].into());

    let world = World::new(bins);
    let overlooker = Overlooker::start(world.dir().to_owned());
    let rtx = world.owner("rtx1080");
    let _vps = world.machine(&rtx, "vps", &["*"]);
    assert_eq!(overlooker.stop(), BTreeSet::new());

    let overlooker = Overlooker::start(dir.path().to_owned());
    let data = dir.path().join("vault");
    let mut dev = Command::new(bins.vault);
    dev.arg("dev").arg("--data").arg(&data).args(["--listen", "127.0.0.1:0"]);
    let mut dev = dev.stdout(std::process::Stdio::null()).spawn().unwrap();
    watch::poll("vault dev is up", || data.join("env").exists().then_some(()));
    let stopped = Command::new("kill").args(["-INT", &dev.id().to_string()]).status();
    assert!(stopped.unwrap().success() && dev.wait().unwrap().success());
    assert_eq!(overlooker.stop(), BTreeSet::new());

    // Nor does a person pass it that way.
    let host = world.host("twin");
    let ran = host.vault(&["init", world.setup()]);
    let text = "a setup line is not taken as an argument: every user of this host could read it";
    assert!(ran.code == 1 && ran.err.starts_with(text), "{}", ran.err);
}

#[test]
fn a_copied_host_raises_an_alarm_and_is_on_record() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let mut vps = world.machine(&rtx, "vps", &["secret/"]);
    vps.stop();
    let mut twin = world.host("twin");
    let copied = Command::new("cp").arg("-a").args([vps.state(), twin.state()]).status();
    assert!(copied.unwrap().success());
    vps.start();
    twin.start();
    // Both are right hosts for all they know: each keeps its connection, and makes it anew when its
    // server moves.
    let port = world.address().rsplit_once(':').unwrap().1;
    let mut turn = 0;
    let mut socket = UnixStream::connect(rtx.state().join("agent.sock")).unwrap();
    let shown = watch::poll("the owner is told", || {
        let copy = [&vps, &twin][turn % 2];
        let server = ["127.0.0.1", "localhost"][turn / 2 % 2];
        turn += 1;
        let config = copy.state().join("agent.toml");
        let text = format!("server = [\"{server}:{port}\"]\n");
        host::files::replace(&config, text.as_bytes(), host::files::Access::PRIVATE).unwrap();
        // Reports bring the news; else the next one is a minute away.
        api::request(&mut socket, "POST", "/v1/agent/sync", "");
        let ran = rtx.vault(&["status"]);
        ran.err.contains("alarm E_CLONE").then_some(ran)
    });
    assert_eq!(shown.code, 2);
    assert!(shown.err.contains("machine `vps` at 127.0.0.1 and at 127.0.0.1"), "{}", shown.err);
    assert!(shown.err.contains("hint: one host is a copy of the other"), "{}", shown.err);
    let records = rtx.vault(&["audit", "log", "--op", "clone"]).ok();
    assert_eq!(records.matches("E_CLONE").count(), 2, "{records}");
    // It is an alarm, and halts nothing.
    let _ = rtx.vault(&["kv", "put", "secret/a/b", "KEY=one"]).ok();
    watch::poll("the copy reads on", || {
        (vps.vault(&["kv", "get", "-field=KEY", "secret/a/b"]).out == "one").then_some(())
    });
}
