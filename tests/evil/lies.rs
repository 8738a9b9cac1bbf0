//! The lies, one test each.

use shared::keys::SignKey;
use tests::{World, bins, watch};

use crate::scene::{Scene, harvest};
use crate::server::{Evil, Told};

fn check(code: &str, lie: impl FnOnce(&Scene, &mut Told)) {
    let scene = Scene::new();
    let mut told = scene.truth.clone();
    lie(&scene, &mut told);
    scene.check(told, code);
}

#[test]
fn a_withheld_entry() {
    check("E_SEQ", |scene, told| drop(told.log.remove(scene.seen + 1)));
}

#[test]
fn a_replayed_entry() {
    check("E_SEQ", |scene, told| {
        let again = told.log[scene.seen].clone();
        told.log.insert(scene.seen + 1, again);
    });
}

#[test]
fn a_flipped_bit() {
    check("E_BADSIG", |scene, told| {
        let body = &mut told.log[scene.seen + 1].body;
        let middle = body.len() / 2;
        body[middle] ^= 1;
    });
}

#[test]
fn a_database_of_yesterday() {
    check("E_SERVER_BEHIND", |scene, told| told.log.truncate(scene.seen));
}

#[test]
fn a_line_that_is_no_frame() {
    check("E_PARSE", |_, told| told.noise = b"{\"entry\":{\"envelope\":\n".to_vec());
}

#[test]
fn a_line_without_end() {
    check("E_LIMITS", |_, told| told.noise = vec![b'x'; 49 << 20]);
}

#[test]
fn a_damaged_blob() {
    check("E_BLOB_HASH", |_, told| {
        for blob in told.blobs.values_mut() {
            *blob.last_mut().unwrap() ^= 1;
        }
    });
}

#[test]
fn a_cut_blob() {
    check("E_BLOB_SIZE", |_, told| {
        told.blobs.values_mut().for_each(|blob| blob.truncate(blob.len() - 1));
    });
}

#[test]
fn a_server_with_another_key() {
    let scene = Scene::new();
    let evil = Evil::start(&scene.address, &SignKey::generate(), scene.truth.clone());
    scene.check_against(evil, "E_SERVER_PIN");
}

#[test]
fn another_vaults_log() {
    let mut other = World::new(bins!());
    let mut host = other.owner("rtx1080");
    host.stop();
    assert!(other.server.take().unwrap().stop());
    let other = harvest(&other.data());
    check("E_BADSIG", |scene, told| {
        told.log.truncate(scene.seen + 1);
        told.log.push(other.log[1].clone());
    });
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
