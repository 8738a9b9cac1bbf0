//! `vault log compact`: entries go, and nobody needs them: who joins, who has slept, a server that
//! is killed meanwhile, and one that is made anew.

use tests::{Host, World, bins, find_line, watch};

use crate::restored::{holds, is_clean, put, put_when_back};
use crate::server::{adopting, new_server};

const SECRET: &str = "secret/jjeco/a";

/// Compacts the log, and returns the last entry that its checkpoint stands for.
fn compact(owner: &Host) -> u64 {
    let ran = owner.vault(&["log", "compact", "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let begun = ran.err.lines().find_map(|line| line.strip_prefix("the log begins anew: entry "));
    begun.unwrap_or_else(|| panic!("{}", ran.err)).parse::<u64>().unwrap() - 1
}

/// Waits until the server has dropped the entries up to `seq`.
fn dropped(world: &World, seq: u64) {
    watch::poll("the server drops the entries", || {
        let left = "SELECT count(*) FROM log WHERE by <> 'root' AND seq BETWEEN 1 AND ?1";
        let seq = i64::try_from(seq).unwrap();
        let left = world.tables().query_row(left, [seq], |row| row.get::<_, i64>(0));
        (left == Ok(0)).then_some(())
    });
}

/// A vault of two hosts, the second of which reads, with some history.
fn vault() -> (World, Host, Host) {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    for n in 0..12 {
        assert_eq!(put(&rtx, SECRET, &format!("K={n}")), 0);
    }
    holds(&vps, SECRET, "11");
    (world, rtx, vps)
}

fn is_whole(world: &World) {
    let looked = world.server_command(&["check"]);
    assert_eq!(looked.code, 0, "{}{}", looked.out, looked.err);
    assert!(looked.out.contains("after the checkpoint at entry"), "{}", looked.out);
}

#[test]
fn who_joins_after_it_and_who_is_there_go_on_without_the_entries() {
    let (world, mut rtx, vps) = vault();
    let last = compact(&rtx);
    dropped(&world, last);
    let again = rtx.vault(&["log", "compact", "--yes"]);
    assert!(again.code == 0 && again.err.contains("stands for the whole log"), "{}", again.err);
    // By a line, which names the checkpoint, and by asking.
    let nas = world.machine(&rtx, "nas", &["secret/"]);
    holds(&nas, SECRET, "11");
    assert_eq!(put(&rtx, SECRET, "K=12"), 0);
    for host in [&vps, &nas] {
        holds(host, SECRET, "12");
    }
    let told = nas.vault(&["log", "-n", "100"]).err;
    assert!(told.contains(&format!("stands for those up to {last}")), "{told}");
    let shown = nas.vault(&["log", "show", "2"]);
    assert!(shown.code != 0 && shown.err.contains("entry 2 is gone"), "{}", shown.err);
    // Its own entries go as well; a start looks at once.
    rtx.stop();
    rtx.start();
    watch::poll("the owner's agent drops them, too", || {
        rtx.vault(&["log", "show", "2"]).err.contains("entry 2 is gone").then_some(())
    });
    assert_eq!(rtx.vault(&["kv", "get", "-version=12", SECRET]).code, 0, "kept versions stay");
    is_whole(&world);
    is_clean(&rtx);
    is_clean(&nas);
}

#[test]
fn who_sleeps_holds_nobody_up_and_goes_on_from_the_checkpoint() {
    let (world, rtx, mut vps) = vault();
    vps.target(&[SECRET]);
    watch::until(&vps.env_file(), |text| text.contains("11"));
    vps.stop();
    let _ = rtx.vault(&["machine", "set", "vps", "--sleeps", "--yes"]).ok();
    assert_eq!(put(&rtx, SECRET, "K=12"), 0);
    let last = compact(&rtx);
    dropped(&world, last);
    assert_eq!(put(&rtx, SECRET, "K=13"), 0);
    vps.start();
    watch::until(&vps.env_file(), |text| text.contains("13"));
    is_clean(&vps);
    is_clean(&rtx);
}

#[test]
fn a_server_that_is_killed_while_it_drops_them_goes_on() {
    let (mut world, rtx, vps) = vault();
    for n in 12..40 {
        assert_eq!(put(&rtx, SECRET, &format!("K={n}")), 0);
    }
    let last = compact(&rtx);
    for round in 0..3 {
        watch::poll("the log begins later", || {
            let begins = "SELECT count(*) FROM checkpoint WHERE begins OR ?1";
            let begins = world.tables().query_row(begins, [round > 0], |row| row.get::<_, i64>(0));
            (begins == Ok(1)).then_some(())
        });
        world.server.take().unwrap().kill();
        world.start();
    }
    dropped(&world, last);
    put_when_back(&rtx, SECRET, "K=40");
    holds(&vps, SECRET, "40");
    is_whole(&world);
    is_clean(&vps);
}

#[test]
fn a_new_server_gets_the_vault_from_who_has_the_checkpoint_only() {
    let (mut world, mut rtx, mut vps) = vault();
    let last = compact(&rtx);
    dropped(&world, last);
    for host in [&mut rtx, &mut vps] {
        host.stop();
        host.start();
    }
    watch::poll("the owner's agent drops them, too", || {
        rtx.vault(&["log", "show", "2"]).err.contains("entry 2 is gone").then_some(())
    });
    world.server.take().unwrap().kill();
    world.burn();
    let setup = new_server(&world, None);
    world.start();
    let args = adopting(&world, &setup);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let adopted = watch::poll("the vault is given over", || {
        let ran = rtx.vault(&args);
        (ran.code == 0).then_some(ran)
    });
    let line = adopted.out.lines().find(|line| line.starts_with("vps: ")).unwrap();
    let joined = vps.agent_command(&["join", &find_line(line, "VLTP1-")]);
    assert_eq!(joined.code, 0, "{}", joined.err);
    put_when_back(&rtx, SECRET, "K=new");
    holds(&vps, SECRET, "new");
}
