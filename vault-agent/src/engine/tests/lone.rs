//! One machine and its server, for tests of the layers above the engine.

use shared::audit::Fact;

use super::world::{Machine, World};
use crate::engine::Engine;
use machine::paths::Paths;

/// A running machine that has caught up.
pub(crate) struct Lone {
    world: World,
    machine: Option<Machine>,
}

impl Lone {
    /// Makes a vault with one machine.
    pub(crate) async fn new(name: &str, read: &[&str], write: &[&str]) -> Self {
        let world = World::new().await;
        let machine = world.machine(name, read, write).await;
        Self { world, machine: Some(machine) }
    }

    fn machine(&self) -> &Machine {
        self.machine.as_ref().unwrap()
    }

    pub(crate) fn engine(&self) -> Engine {
        self.machine().engine.clone()
    }

    pub(crate) fn paths(&self) -> Paths {
        self.machine().paths.clone()
    }

    /// Takes the server away for good and waits until the engine knows.
    pub(crate) async fn lose_server(&self) {
        let mut changes = self.machine().engine.changes();
        self.world.server.data().hang_up();
        while self.machine().engine.away().is_none() {
            changes.changed().await.unwrap();
        }
        // Nobody listens on the port that only the system may use.
        self.machine().move_server("127.0.0.1:1");
    }

    /// Has the alarm stand that the vault has other keys for the machine.
    pub(crate) fn substitute(&self) {
        let why = shared::error::Code::JoinSubstituted.because("on demand");
        self.machine().engine.parts.alarms.substituted(Some(why));
    }

    /// Ends the engine as SIGTERM would; the server stays.
    pub(crate) async fn stop(&mut self) -> Paths {
        self.machine.take().unwrap().stop().await
    }

    /// Returns the local accesses that the server has, oldest first, once it has all.
    pub(crate) async fn accesses(&self) -> Vec<Fact> {
        self.machine().engine.settle().await.unwrap();
        self.world.server.data().reads.clone()
    }
}
