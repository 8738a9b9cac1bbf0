//! Power cuts: every acknowledged write is there, with its audit row, without a human step.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use tests::{World, bins, watch};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_killed_server_keeps_every_acknowledged_write() {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let acknowledged = Mutex::new(Vec::new());
    for round in 0..3 {
        let (done, some) = mpsc::channel();
        std::thread::scope(|scope| {
            for writer in 0..3 {
                let (rtx, acknowledged, done) = (&rtx, &acknowledged, done.clone());
                scope.spawn(move || {
                    for n in 0..100 {
                        let path = format!("secret/crash/{round}-{writer}-{n}");
                        let ran = rtx.vault(&["kv", "put", &path, &format!("value={path}")]);
                        if ran.code != 0 {
                            return;
                        }
                        acknowledged.lock().unwrap().push(path);
                        let _ = done.send(());
                    }
                });
            }
            (0..20).for_each(|_| some.recv_timeout(PATIENCE).expect("writes go on"));
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
