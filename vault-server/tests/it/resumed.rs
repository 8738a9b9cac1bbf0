//! A database that was set back more than once: what owners have resumed without is over for good.

use std::path::Path;

use hyper::StatusCode;
use shared::log::apply;
use shared::signed::Envelope;

use crate::restart::{copy, log_of};
use crate::restored::{Back, Lost, heal, lose, resuming};
use crate::world::Machine;

impl Lost {
    /// Has an owner resume from where the database was set back to, and writes an entry after.
    async fn go_on(&mut self) -> Envelope {
        let client = self.first().await;
        client.showing(&self.world.newest()).get("/v1/log").await;
        let (code, resume) = (self.code(), self.resume(&client, "me").await);
        assert_eq!(resuming(&client, &resume, code).await.0, 201);
        let mut past = self.past();
        apply(&mut past, &resume).unwrap();
        self.world.state = past;
        self.world.write(&client, "secret/c", "the vault goes on").await;
        resume
    }

    /// Puts an older data directory in place of the server's.
    async fn put_back(&mut self, older: &Path) {
        self.world.config.data = self.world.dir.path().join("put back");
        copy(older, &self.world.config.data);
        self.world.restart().await;
        drop(self.first().await);
    }
}

#[tokio::test]
async fn an_epoch_that_was_lost_and_given_up_sets_nothing_back_again() {
    let mut lost = lose(Back::Everything).await;
    let older = lost.world.dir.path().join("older");
    copy(&lost.world.config.data, &older);
    lost.go_on().await;
    let first_epoch = lost.world.newest();
    // The wrong copy: another one is put back, and an owner resumes once more.
    lost.put_back(&older).await;
    lost.go_on().await;
    assert!(!lost.is_restored().await);
    let second_epoch = lost.world.newest();
    assert_ne!(first_epoch.epoch, second_epoch.epoch);
    // Whoever was there, one that is removed by now included, still holds the head.
    for by in [&lost.vps, &Machine::new("nobody")] {
        drop(lost.world.client(by).await.showing(&first_epoch).get("/v1/log").await);
        assert!(!lost.is_restored().await, "{}: it was given up", by.name);
    }
    lost.kill().await;
    let client = lost.first().await;
    assert_eq!(client.showing(&first_epoch).get("/v1/log").await.0, StatusCode::OK);
    assert!(!lost.is_restored().await, "nor after a restart");
    lost.world.write(&client, "secret/c", "again").await;
}

#[tokio::test]
async fn what_an_earlier_resumption_gave_up_keeps_nobody_from_healing() {
    let mut lost = lose(Back::Everything).await;
    let older = lost.world.dir.path().join("older");
    copy(&lost.world.config.data, &older);
    let given_up = lost.world.newest();
    lost.go_on().await;
    let log = log_of(&lost.first().await).await;
    // The database alone is set back to before the resumption.
    std::fs::copy(lost.world.config.data.join("head"), older.join("head")).unwrap();
    lost.put_back(&older).await;
    assert!(lost.is_restored().await, "by the file");
    let nobody = lost.world.client(&Machine::new("nobody")).await;
    drop(nobody.showing(&given_up).get("/v1/log").await);
    let client = lost.first().await;
    let healed = heal(&client, &log[1..], lost.world.newest()).await;
    assert_eq!((healed.head, healed.restored), (lost.world.newest(), false));
    drop(nobody.showing(&given_up).get("/v1/log").await);
    assert!(!lost.is_restored().await);
}
