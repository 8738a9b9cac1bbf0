//! Looks up where files are, off the loop over the targets: a mount that hangs, as that of a server
//! which is away, holds up whoever looks into it. What is watched does not live here.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long one watching waits for folders that do not answer, all together.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long it waits for each when that is used up.
const NO_PATIENCE: Duration = Duration::from_millis(20);

/// Folders that are to be watched for a file, each with the name in it that leads there.
pub(super) type Places = Vec<(PathBuf, PathBuf)>;

/// What the places of a file are found by.
type Look = fn(&Path) -> Places;

/// Finds places, and knows which folders do not answer.
pub(super) struct Looks {
    look: Look,
    /// Folders that do not answer, as long as a look into each is under way.
    hung: Vec<(PathBuf, Weak<()>)>,
}

/// What was found.
pub(super) struct FoundPlaces {
    /// The places of each file whose folder answers.
    pub(super) places: Vec<(PathBuf, Places)>,
    /// A folder that does not.
    pub(super) hangs: Option<PathBuf>,
}

impl Looks {
    pub(super) fn new(look: Look) -> Self {
        Self { look, hung: Vec::new() }
    }

    /// Finds the places of `files`, but of those in folders that do not answer; calls `answers` on
    /// another thread when one of these does after all.
    pub(super) fn at(
        &mut self,
        files: &[PathBuf],
        answers: impl Fn() + Clone + Send + 'static,
    ) -> FoundPlaces {
        self.hung.retain(|(_, look)| look.strong_count() > 0);
        let until = Instant::now() + PATIENCE;
        let mut places = Vec::with_capacity(files.len());
        let mut left: Vec<PathBuf> = files.to_vec();
        loop {
            left.retain(|file| !self.is_hung(file));
            let Some(count) = Some(left.len()).filter(|count| *count > 0) else { break };
            let (sender, found) = mpsc::sync_channel(count);
            let alive = Arc::new(());
            let under_way = Arc::downgrade(&alive);
            let (look, files, answers) = (self.look, left.clone(), answers.clone());
            std::thread::spawn(move || {
                let given_up = files.iter().any(|file| sender.send(look(file)).is_err());
                drop(alive);
                if given_up {
                    answers();
                }
            });
            let mut done = 0;
            while done < count {
                let wait = until.saturating_duration_since(Instant::now()).max(NO_PATIENCE);
                match found.recv_timeout(wait) {
                    Ok(of_file) => places.push((left[done].clone(), of_file)),
                    Err(RecvTimeoutError::Timeout) => {
                        let folder = left[done].parent().unwrap_or(&left[done]).to_owned();
                        self.hung.push((folder, under_way));
                        break;
                    }
                    // The look has failed on this file, by a fault of this program.
                    Err(RecvTimeoutError::Disconnected) => {}
                }
                done += 1;
            }
            left.drain(..done);
        }
        let hangs = self.hung.first().map(|(folder, _)| folder.clone());
        FoundPlaces { places, hangs }
    }

    fn is_hung(&self, file: &Path) -> bool {
        self.hung.iter().any(|(folder, _)| file.starts_with(folder))
    }
}
