//! The lies, one test each. What the engine makes of every other lie is told to it in process,
//! beside its code; here one of them goes all the way to the files and to what people see.

use tests::watch;

use crate::scene::Scene;
use crate::server::Evil;

#[test]
fn a_withheld_entry_is_an_alarm_and_the_truth_ends_it() {
    let mut scene = Scene::new();
    let mut lie = scene.truth.clone();
    lie.log.remove(scene.seen + 1);
    let evil = Evil::start(&scene.address, &scene.key, lie);
    let before = std::fs::read(scene.host.env_file()).unwrap();
    scene.host.start();
    scene.await_alarm("E_SEQ");
    assert_eq!(std::fs::read(scene.host.env_file()).unwrap(), before, "the target stays");
    drop(evil);
    scene.world.start();
    watch::until(&scene.host.env_file(), |text| text.contains("K=three\n"));
    watch::poll("the alarm is over", || {
        (!scene.host.agent_command(&["status"]).out.contains(" E_SEQ:")).then_some(())
    });
}

#[test]
fn withheld_contents_take_nothing_from_a_host_that_boots() {
    let mut scene = Scene::new();
    let mut lie = scene.truth.clone();
    lie.blobs.clear();
    let evil = Evil::start(&scene.address, &scene.key, lie);
    scene.host.start();
    scene.await_alarm("E_BLOB_SIZE");
    let file = scene.host.env_file();
    let before = std::fs::read(&file).unwrap();
    assert!(String::from_utf8_lossy(&before).contains("K=one\n"), "the target stays");
    // As after a boot, where the target was in memory: with the liar there, and with nobody.
    let boot = |scene: &mut Scene| {
        scene.host.stop();
        std::fs::remove_file(&file).unwrap();
        scene.host.start();
        watch::until(&file, |text| text.contains("K=one\n"));
        assert_eq!(std::fs::read(&file).unwrap(), before);
    };
    boot(&mut scene);
    scene.await_alarm("E_BLOB_SIZE");
    drop(evil);
    boot(&mut scene);
    scene.world.start();
    watch::until(&file, |text| text.contains("K=three\n"));
}

#[test]
fn two_histories_for_two_machines() {
    let mut scene = Scene::new();
    let fork = scene.other_history();
    let honest = Evil::start(&scene.address, &scene.key, scene.truth.clone());
    scene.host.start();
    watch::until(&scene.host.env_file(), |text| text.contains("K=three\n"));
    let before = std::fs::read(scene.host.env_file()).unwrap();
    drop(honest);

    let _evil = Evil::start(&scene.address, &scene.key, fork);
    scene.await_alarm("E_FORK");
    scene.host.stop();
    scene.host.start();
    scene.await_alarm("E_FORK");
    assert_eq!(std::fs::read(scene.host.env_file()).unwrap(), before, "the target stays");
}
