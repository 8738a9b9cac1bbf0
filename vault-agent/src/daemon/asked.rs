//! What others ask the loop over the targets, and the way to it. What is answered lives in
//! `answers`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::path::SecretPath;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use machine::config::Config;

use super::hooks::Waiter;

/// How long who has written a secret waits for the targets of this host that hold it.
const SETTLED: Duration = Duration::from_secs(1);

/// Questions that may wait to be heard.
const QUEUE: usize = 64;

/// What the loop is asked.
#[derive(Debug)]
pub enum Ask {
    /// Whether it still turns.
    Alive(oneshot::Sender<()>),
    /// To tell when no target that holds this secret is being written, or about to be.
    Settled(SecretPath, oneshot::Sender<()>),
    /// To run the hook of the target at this path once more.
    RunHook(PathBuf, oneshot::Sender<Result<(), NoRun>>, Waiter),
}

/// Why a hook cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRun {
    /// The path is no target.
    #[error("`{}` is no target of this machine", .0.display())]
    NoTarget(PathBuf),
    /// The target has no hook.
    #[error("`{}` has no `on_change`", .0.display())]
    NoHook(PathBuf),
    /// The file is not what the hook is to tell of: how it stands.
    #[error("the file is not right: {0}")]
    NotRight(String),
    /// The file or the target is another one by now, or the agent ends.
    #[error("it was not run: the file or its target is not as it was any more")]
    Gone,
}

/// The way to the loop over the targets.
#[derive(Clone, Debug)]
pub struct Targets {
    configs: watch::Receiver<Arc<Config>>,
    questions: mpsc::Sender<Ask>,
}

impl Targets {
    /// Makes the way to a loop with these configurations, and the loop's end of it.
    pub fn new(configs: watch::Receiver<Arc<Config>>) -> (Self, mpsc::Receiver<Ask>) {
        let (questions, asked) = mpsc::channel(QUEUE);
        (Self { configs, questions }, asked)
    }

    /// Waits until the loop has turned; tells whether it has.
    pub async fn are_tended(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.questions.send(Ask::Alive(answer)).await.is_ok() && answered.await.is_ok()
    }

    /// Waits until the targets that hold a secret have its newest version, or cannot have it now;
    /// one second at most, and not at all where none holds it.
    pub async fn settled(&self, secret: &SecretPath) {
        let held =
            |config: &Config| config.targets.iter().any(|target| target.secrets.contains(secret));
        if !held(&self.configs.borrow()) {
            return;
        }
        let told = async {
            let (answer, answered) = oneshot::channel();
            if self.questions.send(Ask::Settled(secret.clone(), answer)).await.is_ok() {
                let _ = answered.await;
            }
        };
        let _ = timeout(SETTLED, told).await;
    }

    /// Has the hook of a target run once more, and waits for its end.
    ///
    /// # Errors
    /// If it cannot be run; the inner one is how it failed.
    pub async fn run_hook(&self, target: PathBuf) -> Result<Result<(), String>, NoRun> {
        let ((accept, accepted), (tell, told)) = (oneshot::channel(), oneshot::channel());
        let asked = self.questions.send(Ask::RunHook(target, accept, tell)).await;
        asked.map_err(|_| NoRun::Gone)?;
        accepted.await.map_err(|_| NoRun::Gone)??;
        told.await.map_err(|_| NoRun::Gone)
    }
}
