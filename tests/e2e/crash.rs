//! Power cuts: every acknowledged write is there, with its audit row, without a human step.

use std::sync::Mutex;

use tests::{World, bins, watch};

#[test]
fn a_killed_server_keeps_every_acknowledged_write() {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let acknowledged = Mutex::new(Vec::new());
    for round in 0..3 {
        std::thread::scope(|scope| {
            for writer in 0..3 {
                let (rtx, acknowledged) = (&rtx, &acknowledged);
                scope.spawn(move || {
                    for n in 0..100 {
                        let path = format!("secret/crash/{round}-{writer}-{n}");
                        let ran = rtx.vault(&["kv", "put", &path, &format!("value={path}")]);
                        if ran.code != 0 {
                            return;
                        }
                        acknowledged.lock().unwrap().push(path);
                    }
                });
            }
            let enough = round * 20 + 20;
            watch::poll("some writes", || {
                (acknowledged.lock().unwrap().len() >= enough).then_some(())
            });
            world.server.as_mut().unwrap().kill();
        });
        world.start();
        watch::poll("the agent is back", || {
            (rtx.vault(&["kv", "put", "secret/crash/probe", "a=b"]).code == 0).then_some(())
        });
    }
    let paths = acknowledged.into_inner().unwrap();
    assert!(paths.len() >= 60, "{} writes", paths.len());
    for path in &paths {
        assert_eq!(rtx.vault(&["kv", "get", "-field=value", path]).ok(), *path);
    }
    let _ = rtx.vault(&["audit", "verify"]).ok();
    let log = rtx.vault(&["audit", "log", "--op", "put", "-n", "5000", "--format", "json"]).ok();
    for path in &paths {
        assert!(log.contains(&format!("\"{path}\"")), "no audit row for {path}");
    }
}
