//! Takes up a configuration: at the start, and while running when `agent.toml` has changed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::Instant;

use super::guard::Touched;
use super::order::Order;
use super::record::{self, Remembered};
use super::slot::Slot;
use super::{Daemon, apply};
use machine::config::{Config, Target};

impl Daemon {
    /// Takes up the configuration and what the last process remembered.
    pub(super) fn begin(&mut self) {
        let (remembered, contact) = record::load(&self.state);
        self.begin_contact(contact);
        let config = Arc::clone(&self.source.config.borrow());
        let targets = config.targets.iter().map(|target| target.path.clone());
        let sources = config.sources.iter().map(|source| source.path.clone());
        let files: Vec<PathBuf> = targets.chain(sources).collect();
        tokio::task::spawn_blocking(move || files.iter().for_each(|file| apply::sweep(file)));
        self.adopt(&config, remembered);
        // What was saved between the first reading and the watching would never be heard of.
        self.reload();
    }

    /// Makes the slots those of `config`; targets that have not changed are left alone.
    fn adopt(&mut self, config: &Config, mut remembered: HashMap<PathBuf, Remembered>) {
        let mut before = std::mem::take(&mut self.slots);
        let mut news = Vec::new();
        for target in &config.targets {
            let path = target.path.clone();
            let slot = match before.remove(&path) {
                Some(slot) if slot.target == *target => slot,
                changed => {
                    news.push(path.clone());
                    match changed {
                        Some(slot) => self.exchange(slot, target),
                        None => Slot::new(Arc::clone(target), remembered.remove(&path)),
                    }
                }
            };
            self.slots.insert(path, slot);
        }
        for slot in before.values() {
            self.release(slot);
            tracing::info!(file = %slot.target.path.display(), "no target any more; the file stays");
        }
        self.order = Order::of(&config.targets);
        let keys = self.slots.values().filter_map(|slot| slot.key.as_ref()).collect();
        self.hooks.forget_others(&keys);
        self.secrets.clear();
        for target in &config.targets {
            for secret in &target.secrets {
                let latest = || (self.engine.latest(secret), Vec::new());
                self.secrets
                    .entry(secret.clone())
                    .or_insert_with(latest)
                    .1
                    .push(target.path.clone());
            }
        }
        self.masters.set(&config.sources, Instant::now());
        self.watch();
        self.weigh();
        self.plan(&news);
        self.changed();
    }

    /// Gives a slot its new configuration.
    fn exchange(&mut self, slot: Slot, target: &Arc<Target>) -> Slot {
        self.release(&slot);
        let slot = slot.changed(Arc::clone(target));
        if let Some(key) = slot.key.as_ref().filter(|_| slot.is_active()) {
            self.hooks.hold(key);
        }
        slot
    }

    /// Lets the hook of an active slot run without waiting for it.
    fn release(&mut self, slot: &Slot) {
        if let Some(key) = slot.key.as_ref().filter(|_| slot.is_active()) {
            self.hooks.release(key);
        }
    }

    /// Watches the targets, their templates, and the configuration, at its link and where that
    /// leads.
    pub(super) fn watch(&mut self) {
        let file = &self.source.file;
        let real = file.canonicalize().unwrap_or_else(|_| file.clone());
        let targets = self.slots.keys().map(PathBuf::as_path);
        let templates = self.slots.values().filter_map(|slot| slot.target.template_file.as_deref());
        self.own_files = [file.clone(), real];
        let own = self.own_files.iter().map(PathBuf::as_path);
        let files = targets.chain(templates).chain(own).chain(self.masters.files());
        match self.guard.watch(files) {
            Ok(()) => self.engine.clear_alarm("E_WATCH"),
            Err(error) => {
                let detail = format!("some files are looked at every few seconds only: {error}");
                self.engine.alarm("E_WATCH", detail);
            }
        }
    }

    /// Renders targets anew whose template may have changed.
    pub(super) fn follow_templates(&mut self, touched: &Touched) {
        let mut stale = Vec::new();
        for (path, slot) in &mut self.slots {
            let template = slot.target.template_file.as_ref();
            if template.is_some_and(|file| touched.all || touched.files.contains(file)) {
                slot.template_changed();
                stale.push(path.clone());
            }
        }
        self.plan(&stale);
    }

    /// Takes up a changed `agent.toml`; one that is not understood changes nothing and alarms.
    pub(super) fn reload(&mut self) {
        let config = match Config::load(&self.source.file) {
            Ok(config) => Arc::new(config),
            // There never was one: nothing to alarm about.
            Err(error) if error.missing && **self.source.config.borrow() == Config::default() => {
                return;
            }
            Err(error) => {
                tracing::error!(hint = error.hint, "the old configuration stays: {error}");
                self.engine.clear_alarm("E_CONFIG");
                self.engine.alarm("E_CONFIG", format!("{error} (hint: {})", error.hint));
                return;
            }
        };
        self.engine.clear_alarm("E_CONFIG");
        if *self.source.config.borrow() == config {
            return;
        }
        tracing::info!(
            "`{}` has changed; targets: {}",
            self.source.file.display(),
            config.targets.len()
        );
        let before = self.source.config.send_replace(Arc::clone(&config));
        let later = config.for_next_start(&before);
        if !later.is_empty() {
            tracing::warn!("taken up when the agent is started again: {}", later.join(", "));
        }
        self.adopt(&config, HashMap::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::guard::{Guard, Make};
    use crate::engine::tests::Lone;

    #[tokio::test]
    async fn a_host_that_is_out_of_watches_is_told_so_once() {
        use tokio::sync::watch;
        let lone = Lone::new("vps", &["*"], &[]).await;
        let shown = || {
            let alarms = lone.engine().status().alarms;
            alarms.into_iter().map(|alarm| (alarm.code, alarm.text)).collect::<Vec<_>>()
        };
        let no_watch: Make = |_| Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch));
        let no_instance: Make = |_| Err(notify::Error::io(rustix::io::Errno::MFILE.into()));
        for (make, what) in [(no_watch, "watches"), (no_instance, "instances")] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().display();
            let file = folder.path().join("agent.toml");
            let targets = ["a/.env", "b/.env"].map(|name| {
                format!("[[target]]\npath = \"{path}/{name}\"\nsecrets = [\"secret/a\"]\n")
            });
            let access = host::files::Access::PRIVATE;
            host::files::replace(&file, targets.concat().as_bytes(), access).unwrap();
            let config = Arc::new(Config::load(&file).unwrap());
            let source = crate::daemon::Source { file, config: watch::Sender::new(config) };
            let guard = Guard::made_by(make);
            let mut daemon = Daemon::new(source, folder.path(), lone.engine(), guard);
            daemon.begin();
            daemon.watch();
            let expected = format!(
                "some files are looked at every few seconds only: this host's inotify {what} are \
                 used up; `sysctl fs.inotify.max_user_{what}` shows the limit"
            );
            assert_eq!(shown(), [("E_WATCH".to_owned(), expected)]);
            daemon.guard = Guard::new();
            daemon.watch();
            assert_eq!(shown(), []);
        }
    }
}
