//! The main job: a secret changed on one host is in the other hosts' `.env` at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use tests::{Host, MASTER, World, bins, watch};

const SECRET: &str = "secret/jjeco/api-keys";

/// What a shell reads from a `.env`: an oracle that knows nothing of our own parser.
pub fn shell_reads(file: &Path) -> BTreeMap<String, String> {
    let script = format!("set -a; . '{}'; exec env -0", file.display());
    let output = Command::new("sh").env_clear().arg("-c").arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let pairs = text.split_terminator('\0').filter_map(|pair| pair.split_once('='));
    let own = ["PWD", "OLDPWD", "SHLVL", "_"];
    pairs
        .filter(|(name, _)| !own.contains(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// rtx1080 (owner), vps (`secret/jjeco/`), thinkpad (`*`), the master file imported, a target each.
pub fn homelab(world: &World) -> [Host; 3] {
    let rtx = world.owner("rtx1080");
    let _ = rtx.vault(&["import", SECRET, MASTER]).ok();
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let thinkpad = world.machine(&rtx, "thinkpad", &["*"]);
    let hosts = [rtx, vps, thinkpad];
    for host in &hosts {
        host.target(&[SECRET]);
        watch::until(&host.env_file(), |text| text.contains("OPENAI_API_KEY="));
    }
    hosts
}

#[test]
fn a_change_on_one_host_is_in_the_others_env() {
    let world = World::new(bins!());
    let hosts = homelab(&world);
    let [rtx, vps, thinkpad] = &hosts;
    let master = shell_reads(Path::new(MASTER));
    assert!(master.len() >= 25, "{} keys in the master file", master.len());
    for host in &hosts {
        assert_eq!(shell_reads(&host.env_file()), master, "{}", host.name);
    }
    assert_eq!(rtx.env(), vps.env());
    assert_eq!(rtx.env(), thinkpad.env());

    for host in &hosts {
        watch::until(&host.hook_log(), |text| !text.is_empty());
    }
    let before: Vec<usize> = hosts.iter().map(Host::hook_runs).collect();
    let _ = rtx.vault_with(&["kv", "patch", SECRET, "OPENAI_API_KEY=-"], "sk-new-value").ok();
    for (host, before) in hosts.iter().zip(before) {
        watch::until(&host.env_file(), |text| text.contains("OPENAI_API_KEY=sk-new-value\n"));
        watch::until(&host.hook_log(), |text| text.lines().count() > before);
    }
    let status = watch::poll("status is green", || {
        let ran = rtx.vault(&["status"]);
        // A machine that has not reported yet has no row, or one of the version before: nobody is
        // called late so soon.
        (ran.code == 0 && ran.out.matches("v2").count() == 6).then_some(ran.out)
    });
    for host in &hosts {
        let row = status.lines().find(|line| line.starts_with(&host.name)).unwrap();
        assert_eq!(row.matches("v2").count(), 2, "wanted and applied:\n{status}");
    }
    let _ = rtx.vault(&["audit", "verify"]).ok();
}

#[test]
fn status_fails_while_an_awake_host_lags() {
    let world = World::new(bins!());
    let hosts = homelab(&world);
    let [rtx, vps, _] = &hosts;
    rtx.is_well();
    // Its own file cannot be replaced any more: a folder stands in its place.
    watch::poll("a folder is quicker than the agent", || {
        let _ = std::fs::remove_file(vps.env_file());
        std::fs::create_dir(vps.env_file()).ok()
    });
    let _ = rtx.vault(&["kv", "patch", SECRET, "OPENAI_API_KEY=other"]).ok();
    watch::until(&rtx.env_file(), |text| text.contains("OPENAI_API_KEY=other\n"));
    let status = watch::poll("the lag shows", || {
        let ran = rtx.vault(&["status"]);
        let row = ran.out.lines().find(|line| line.starts_with("vps"))?.to_owned();
        (ran.code != 0 && row.matches("v2").count() == 1).then_some(row)
    });
    assert!(status.contains(SECRET), "{status}");
    std::fs::remove_dir(vps.env_file()).unwrap();
    watch::until(&vps.env_file(), |text| text.contains("OPENAI_API_KEY=other\n"));
    rtx.is_well();
}

#[test]
fn an_edit_by_hand_is_put_back() {
    let world = World::new(bins!());
    let hosts = homelab(&world);
    let vps = &hosts[1];
    let right = vps.env();
    std::fs::OpenOptions::new().append(true).open(vps.env_file()).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(vps.env_file()).unwrap();
    std::io::Write::write_all(&mut file, b"EVIL=1\n").unwrap();
    drop(file);
    watch::until(&vps.env_file(), |text| text == right);
    std::fs::remove_file(vps.env_file()).unwrap();
    watch::until(&vps.env_file(), |text| text == right);
}
