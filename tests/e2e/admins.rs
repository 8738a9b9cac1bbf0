//! A second admin, whose key is made on their own host; one who leaves; another passphrase.

use tests::{Host, PASSPHRASE, World, bins, find_line, watch};

use super::life::killed_at;
use super::moment::moments;

const OTHER: &str = "another horse battery staple";

/// Moments at which a command is killed; after more of them it has ended by itself.
const MOMENTS: usize = 6;

/// Makes a private file in the folder of a host.
fn private(host: &Host, name: &str, text: &str) -> String {
    let file = host.dir.join(name);
    host::files::write_private(&file, format!("{text}\n").as_bytes()).unwrap();
    file.to_str().unwrap().to_owned()
}

fn kit(rtx: &Host) -> String {
    rtx.dir.join("kit.txt").to_str().unwrap().to_owned()
}

/// Appoints `anna`, whose key is made on `vps`.
fn appoint(rtx: &Host, vps: &Host) {
    let made = vps.vault(&["admin", "add", "anna"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let line = find_line(&made.out, "VLTA1-");
    let words = made.out.lines().last().unwrap().strip_prefix("words: ").unwrap().to_owned();
    let again = vps.vault(&["admin", "add", "anna"]);
    assert_eq!((again.code, &again.out), (0, &made.out), "{}", again.err);

    let no_kit = rtx.vault(&["admin", "add", &line, "--yes"]);
    assert_eq!(no_kit.code, 1, "{}", no_kit.err);
    assert!(no_kit.err.contains("--kit FILE"), "{}", no_kit.err);
    let cut = rtx.vault(&["admin", "add", &line[..line.len() - 2], "--yes"]);
    assert!(cut.err.contains("admin line was cut or mistyped"), "{}", cut.err);
    let page = std::fs::read_to_string(kit(rtx)).unwrap();
    let added = rtx.vault_with(&["admin", "add", &line, "--kit", "-", "--yes"], &page);
    assert_eq!(added.code, 0, "{}", added.err);
    assert!(added.err.contains(&words), "{}", added.err);
    assert!(added.err.contains("`root` signs for vault"), "{}", added.err);
    let twice = rtx.vault(&["admin", "add", &line, "--kit", &kit(rtx), "--yes"]);
    assert!(twice.code == 0 && twice.err.contains("is an admin already"), "{}", twice.err);
    watch::poll("vps knows", || {
        let list = vps.vault(&["admin", "list"]).out;
        list.lines().any(|line| line.starts_with("anna ")).then_some(())
    });
}

#[test]
fn a_second_admin_signs_from_their_own_host_until_they_are_removed() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let nas = world.host("nas");
    world.enrol(&rtx, &nas, &["secret/nas/"]);
    appoint(&rtx, &vps);
    let taken = rtx.vault(&["admin", "add", "anna"]);
    assert!(taken.code == 2 && taken.err.contains("E_EXISTS"), "{}", taken.err);

    let set = ["machine", "set", "nas", "--sleeps", "--yes"];
    let signed = vps.vault(&set);
    assert_eq!(signed.code, 0, "{}", signed.err);
    let log = rtx.vault(&["log"]).ok();
    let line = log.lines().find(|line| line.contains("nas sleeps at times")).unwrap();
    assert!(line.contains("admin:anna"), "{line}");
    let list = rtx.vault(&["admin", "list"]).ok();
    let here = |name: &str| list.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(here("jonas").contains("on this host") && !here("anna").contains("on this"), "{list}");

    let stranger = World::new(bins!());
    let other = kit(&stranger.owner("other"));
    let wrong = rtx.vault(&["admin", "remove", "anna", "--kit", &other, "--yes"]);
    assert!(wrong.code == 2 && wrong.err.contains("not that of the vault"), "{}", wrong.err);
    let removed = rtx.vault(&["admin", "remove", "anna", "--kit", &kit(&rtx), "--yes"]);
    assert_eq!(removed.code, 0, "{}", removed.err);
    assert!(!removed.err.contains("yourself"), "{}", removed.err);
    let twice = rtx.vault(&["admin", "remove", "anna", "--kit", &kit(&rtx), "--yes"]);
    assert!(twice.code == 0 && twice.err.contains("removed already"), "{}", twice.err);
    let refused = watch::poll("vps knows", || {
        let ran = vps.vault(&["machine", "set", "nas", "--sleeps=false", "--yes"]);
        (ran.code != 0).then_some(ran)
    });
    assert!(refused.err.contains("anna") || refused.err.contains("E_"), "{}", refused.err);

    // Oneself, and the last one: it is said, and the kit appoints another.
    let last = rtx.vault(&["admin", "remove", "jonas", "--kit", &kit(&rtx), "--yes"]);
    assert_eq!(last.code, 0, "{}", last.err);
    assert!(last.err.contains("you remove yourself"), "{}", last.err);
    assert!(last.err.contains("`jonas` is the last admin"), "{}", last.err);
    let powerless = rtx.vault(&["machine", "set", "nas", "--sleeps=false", "--yes"]);
    assert_ne!(powerless.code, 0, "{}", powerless.err);
    let made = find_line(&rtx.vault(&["admin", "add", "maria"]).ok(), "VLTA1-");
    let added = rtx.vault(&["admin", "add", &made, "--kit", &kit(&rtx), "--yes"]);
    assert_eq!(added.code, 0, "{}", added.err);
    let set = ["machine", "set", "nas", "--sleeps=false", "--admin", "maria", "--yes"];
    let signed = rtx.vault(&set);
    assert_eq!(signed.code, 0, "{}", signed.err);
}

#[test]
fn a_new_passphrase_leaves_nothing_that_the_old_one_opens() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let (old, new) = (private(&rtx, "old", PASSPHRASE), private(&rtx, "new", OTHER));
    let short = private(&rtx, "short", "tiny");
    let change = |from: &str, to: &str| {
        let args = ["admin", "passphrase", "--passphrase-file", from, "--new-passphrase-file", to];
        rtx.vault(&args)
    };
    let refused = change(&old, &short);
    assert!(refused.err.contains("10 are needed"), "{}", refused.err);
    let wrong = change(&new, &short);
    assert!(wrong.err.contains("does not open with this passphrase"), "{}", wrong.err);
    let admin = rtx.state().join("admin");
    let link = admin.join("copy");
    std::fs::hard_link(admin.join("jonas.age"), &link).unwrap();
    let linked = change(&old, &new);
    assert!(linked.code == 1 && linked.err.contains("hard links"), "{}", linked.err);
    std::fs::remove_file(&link).unwrap();

    for moment in moments(MOMENTS) {
        let args =
            ["admin", "passphrase", "--passphrase-file", &old, "--new-passphrase-file", &new];
        let is_killed = killed_at(&rtx, "admin", &args, moment);
        println!("moment {moment}: {}", if is_killed { "killed" } else { "it had ended" });
        let again = change(&old, &new);
        assert_eq!(again.code, 0, "{}", again.err);
        let files: Vec<_> = tests::files_below(&admin);
        assert_eq!(files, [admin.join("jonas.age")], "nothing stays beside it");
        let sealed = change(&old, &old);
        assert!(sealed.err.contains("does not open with this passphrase"), "{}", sealed.err);
        let signs = rtx.vault(&[
            "machine",
            "set",
            "rtx1080",
            "--sleeps",
            "--passphrase-file",
            &new,
            "--yes",
        ]);
        assert_eq!(signs.code, 0, "{}", signs.err);
        assert_eq!(change(&new, &old).code, 0);
    }
}

#[test]
fn killed_while_an_admin_comes_the_same_lines_go_on() {
    for moment in moments(MOMENTS) {
        let world = World::new(bins!());
        let rtx = world.owner("rtx1080");
        let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
        host::files::create_dir_private(&vps.state().join("admin")).unwrap();
        let _ = killed_at(&vps, "admin", &["admin", "add", "anna"], moment);
        let made = vps.vault(&["admin", "add", "anna"]);
        assert_eq!(made.code, 0, "{}", made.err);
        let line = find_line(&made.out, "VLTA1-");
        let args = ["admin", "add", &line, "--kit", &kit(&rtx), "--yes"];
        let _ = killed_at(&rtx, ".", &args, moment);
        let added = rtx.vault(&args);
        assert_eq!(added.code, 0, "{}", added.err);
        let args = ["admin", "remove", "anna", "--kit", &kit(&rtx), "--yes"];
        let _ = killed_at(&rtx, ".", &args, moment);
        let removed = rtx.vault(&args);
        assert_eq!(removed.code, 0, "{}", removed.err);
        let list = rtx.vault(&["admin", "list"]).ok();
        assert!(!list.contains("anna"), "{list}");
    }
}
