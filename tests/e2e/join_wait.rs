//! Asking to join: a host that has nothing but the server's address and the vault's words waits,
//! shows six words, and goes on once they were approved; whatever happens in between.

use std::fs::File;
use std::process::{Child, Command, ExitStatus, Stdio};

use tests::{Host, World, bins, files_below, watch};

const SECRET: &str = "secret/jjeco/api-keys";

/// Returns the vault's words, as an owner's host prints them.
fn words(owner: &Host) -> String {
    let shown = owner.vault(&["machine", "invite", "any", "-format=json"]).ok();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    shown["words"].as_str().unwrap().to_owned()
}

/// A host that asks and waits; killed when dropped.
struct Asking<'a> {
    host: &'a Host,
    child: Child,
}

impl<'a> Asking<'a> {
    /// Runs `vault-agent join --wait`, with more arguments.
    fn start(host: &'a Host, address: &str, vault: &str, more: &[&str]) -> Self {
        let mut command: Command = host.command(host.bins.agent);
        command.args(["join", "--wait", address, "--vault", vault, "--name", &host.name]);
        let file = |name| File::create(host.dir.join(name)).unwrap();
        command.args(more).stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        Self { host, child: command.spawn().unwrap() }
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.host.dir.join(name)).unwrap_or_default()
    }

    /// Waits until it says something.
    fn says(&self, what: &str) {
        watch::poll(what, || self.text("err").contains(what).then_some(()));
    }

    /// Returns the six words that it shows.
    fn words(&self) -> String {
        let shown = watch::poll("six words", || {
            let out = self.text("out");
            out.lines().find_map(|line| line.strip_prefix("words: ")).map(str::to_owned)
        });
        assert_eq!(shown.split(' ').count(), 6, "{shown}");
        shown
    }

    fn ends(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Waits until it has ended well.
    fn joins(mut self) -> String {
        let status = self.ends();
        let (out, err) = (self.text("out"), self.text("err"));
        assert!(status.success(), "{status}\n{out}\n{err}");
        err
    }

    /// Waits until it has ended badly.
    fn fails(mut self) -> String {
        let (status, err) = (self.ends(), self.text("err"));
        assert_eq!(status.code(), Some(2), "{err}");
        err
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the owner sees a host that asks, and returns the words beside it.
fn listed(owner: &Host, name: &str) -> String {
    watch::poll(&format!("{name} asks"), || {
        let list = owner.vault(&["machine", "approve", "-format=json"]).ok();
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        let found = list.as_array().unwrap().iter().find(|it| it["name"] == name);
        found.map(|it| it["words"].as_str().unwrap().to_owned())
    })
}

/// Names of the files in a host's state.
fn left(host: &Host) -> Vec<String> {
    let mut names: Vec<_> = files_below(&host.state())
        .iter()
        .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_host_waits_and_goes_on_once_its_words_were_approved() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let _ = rtx.vault(&["kv", "put", SECRET, "KEY=one"]).ok();
    let (vault, mut thinkpad) = (words(&rtx), world.host("thinkpad"));
    let asking = Asking::start(&thinkpad, world.address(), &vault, &[]);
    let shown = asking.words();
    assert_eq!(listed(&rtx, "thinkpad"), shown);
    asking.says(&format!("waiting with the words `{shown}`\nhint: on an admin's host, `vault"));
    // Nothing is believed and nothing is pinned before it is approved.
    assert_eq!(left(&thinkpad), ["age.key", "sign.key"]);
    // It is a remark, and nothing is wrong.
    let status = rtx.vault(&["status"]);
    assert!(status.err.contains("waiting to join: thinkpad\nhint: `vault machine approve`"));
    assert_eq!(status.code, 0, "{}", status.err);

    let approve = ["machine", "approve", "thinkpad", "--read", "secret/jjeco/", "--sleeps"];
    // Other words than those that are shown there.
    let wrong =
        rtx.vault(&[&approve[..], &["--words", "zoo zoo zoo zoo zoo zoo", "--yes"]].concat());
    assert!(wrong.code == 2 && wrong.err.contains("not with those"), "{}", wrong.err);
    let ran = rtx.vault(&[&approve[..], &["--words", &shown, "--yes"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains(&format!("its words  {shown}")), "{}", ran.err);
    let said = asking.joins();
    assert!(said.contains("it reads secret/jjeco/, and writes nothing"), "{said}");
    assert!(said.contains("secrets readable here: 1"), "{said}");
    let machines = rtx.vault(&["machine", "list"]).ok();
    let row = machines.lines().find(|line| line.starts_with("thinkpad ")).unwrap();
    assert!(row.contains("secret/jjeco/") && row.contains("(sleeps)"), "{machines}");
    assert!(!rtx.vault(&["status"]).err.contains("waiting to join"));

    // The same line once more repairs whatever is missing: here its configuration.
    std::fs::remove_file(thinkpad.state().join("agent.toml")).unwrap();
    Asking::start(&thinkpad, world.address(), &vault, &[]).joins();
    thinkpad.target(&[SECRET]);
    thinkpad.start();
    watch::until(&thinkpad.env_file(), |text| text.contains("KEY=one"));
    let asked = rtx.vault(&["audit", "log", "--op", "stranger"]).ok();
    assert!(!asked.contains("thinkpad"), "no name of a stranger's choice: {asked}");
}

#[test]
fn a_host_that_was_killed_goes_on_by_the_same_command() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let (vault, vps) = (words(&rtx), world.host("vps"));
    let shown = {
        let asking = Asking::start(&vps, world.address(), &vault, &[]);
        listed(&rtx, "vps");
        asking.words()
    };
    // Killed, and while it is away, approved.
    let approve = ["machine", "approve", "vps", "--words", &shown, "--yes"];
    let ran = rtx.vault(&approve);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let asking = Asking::start(&vps, world.address(), &vault, &[]);
    assert_eq!(asking.words(), shown, "the same keys");
    let said = asking.joins();
    assert!(said.contains("it reads nothing, and writes nothing"), "{said}");
    // A pin that was written is believed, and the rest is made anew.
    for file in ["agent.toml", "agent.db"] {
        let _ = std::fs::remove_file(vps.state().join(file));
    }
    Asking::start(&vps, world.address(), &vault, &[]).joins();
    assert!(vps.state().join("agent.toml").exists());
}

#[test]
fn nobody_waits_for_ever_and_a_server_that_is_away_is_waited_for() {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let (vault, vps) = (words(&rtx), world.host("vps"));
    let said = Asking::start(&vps, world.address(), &vault, &["--timeout", "1s"]).fails();
    let text = "nobody approved this host within 1 s: its request is dropped\n\
                hint: the same command asks again";
    assert!(said.contains(text), "{said}");
    assert!(world.server.take().unwrap().stop());
    let asking = Asking::start(&vps, world.address(), &vault, &[]);
    asking.says("trying again");
    world.start();
    let shown = listed(&rtx, "vps");
    let ran = rtx.vault(&["machine", "approve", "vps", "--words", &shown, "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    asking.joins();
}

#[test]
fn what_cannot_join_is_told_why_and_leaves_keys_alone() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vault = words(&rtx);
    let other = World::new(bins!());
    let other = words(&other.owner("rtx1080"));
    let vps = world.host("vps");
    let said = Asking::start(&vps, world.address(), &other, &[]).fails();
    assert!(said.contains("does not keep this vault\nhint: compare the words"), "{said}");
    assert_eq!(left(&vps), ["age.key", "sign.key"]);
    // A name that a machine bears is never given away.
    let mut twin = world.host("twin");
    twin.name = "rtx1080".to_owned();
    let said = Asking::start(&twin, world.address(), &vault, &[]).fails();
    assert!(said.contains("E_EXISTS: machine `rtx1080` is in the vault already"), "{said}");
    for (vault, name, why) in [
        ("zoo zoo", "nas", "a vault has twelve words, not 2"),
        ("zoo-zoo-zoo-zoo-zoo-zo\u{1b}[2J", "nas", "is not a word of the list"),
        (&*vault, "n\u{1b}[2Jas", "E_NAME"),
    ] {
        let args = ["join", "--wait", world.address(), "--vault", vault, "--name", name];
        let ran = world.host("nas").agent_command(&args);
        assert!(ran.code == 1 && ran.err.contains(why), "{} {}", ran.code, ran.err);
        assert!(!ran.err.contains('\u{1b}'), "{}", ran.err);
    }
    let args = ["join", "--wait", "10.8.0.3", "--vault", &vault];
    let ran = world.host("nas").agent_command(&args);
    assert!(ran.code == 1 && ran.err.contains("is not host:port"), "{} {}", ran.code, ran.err);
    // One that is in a vault asks no other one.
    let ran = rtx.agent_command(&["join", "--wait", world.address(), "--vault", &other]);
    assert!(ran.code == 1 && ran.err.contains("is `rtx1080` of vault"), "{}", ran.err);
}

#[test]
fn a_host_that_was_removed_comes_back_with_new_keys() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let (vault, mut vps) = (words(&rtx), world.machine(&rtx, "vps", &["secret/"]));
    vps.stop();
    let _ = rtx.vault(&["machine", "remove", "vps", "--yes"]).ok();
    let state = vps.state();
    // By what it has, with pins and without: each time the way out is the right one.
    let said = Asking::start(&vps, world.address(), &vault, &[]).fails();
    let text = "it was removed, or has others there\nhint: if `vault machine rekey vps` was not";
    assert!(said.contains(text), "{said}");
    let way = format!("move `{}` away, run `vault-agent init --name vps`", state.display());
    assert!(said.contains(&way), "{said}");
    std::fs::remove_file(state.join("pins.json")).unwrap();
    let said = Asking::start(&vps, world.address(), &vault, &[]).fails();
    assert!(said.contains("says: E_KEY: this host's keys were in the vault before"), "{said}");
    assert!(said.contains(&format!("move `{}` away", state.display())), "{said}");
    std::fs::rename(&state, vps.dir.join("away")).unwrap();
    let asking = Asking::start(&vps, world.address(), &vault, &[]);
    let shown = listed(&rtx, "vps");
    let _ = rtx.vault(&["machine", "approve", "vps", "--words", &shown, "--yes"]).ok();
    asking.joins();
}

#[test]
fn hosts_behind_one_address_wait_beside_each_other() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vault = words(&rtx);
    let hosts: Vec<Host> = (0..5).map(|n| world.host(&format!("lab-{n}"))).collect();
    let asking: Vec<_> =
        hosts.iter().map(|host| Asking::start(host, world.address(), &vault, &[])).collect();
    for (host, asking) in hosts.iter().zip(asking) {
        let shown = listed(&rtx, &host.name);
        assert_eq!(asking.words(), shown);
        let _ = rtx.vault(&["machine", "approve", &host.name, "--words", &shown, "--yes"]).ok();
        asking.joins();
    }
}
