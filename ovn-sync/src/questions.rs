//! What operators ask of a projection. Its loop answers between two passes.

use atoll_model::Revision;
use tokio::sync::{mpsc, oneshot, watch};

use crate::pass::Pending;
use crate::projector::PassStatus;

/// What an operator asks of a projection.
#[derive(Debug)]
pub(crate) enum Question {
    Pending(oneshot::Sender<Result<Pending, AskError>>),
    Sync { accepted: Option<Revision>, answer: oneshot::Sender<Result<Synced, AskError>> },
}

/// Questions that wait for their answer; a person asks them.
const WAITING_MOST: usize = 8;

/// What a pass that was asked for did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// The revision that the database is equal to now.
    pub revision: Revision,
    /// Operations that were sent.
    pub sent: usize,
}

/// Why a projection has no answer. Nothing was changed, unless a pass failed underway.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The loop has ended.
    #[error("the projection has ended")]
    Ended,
    /// There is no connection.
    #[error("the northbound database is not connected: {0}")]
    NotConnected(String),
    /// The state is not set up.
    #[error("there is no state to project yet")]
    NothingToProject,
    /// It is paused.
    #[error("the projection is paused; `atollctl ovn resume` first")]
    Paused,
    /// What was accepted is not what is stopped.
    #[error(
        "{accepted} was accepted, and the brake stopped the projection at {stopped}; the state is at \
         {now} now. Look at `atollctl ovn diff` and accept the revision that it shows"
    )]
    OtherAccident {
        /// What was accepted.
        accepted: Revision,
        /// The revision whose pass was stopped first.
        stopped: Revision,
        /// The state's.
        now: Revision,
    },
    /// The leader does it.
    #[error("this member does not lead, and only the leader writes into this database")]
    StandsBy,
    /// The pass failed.
    #[error("{0}")]
    Pass(String),
}

/// Asks a projection questions; cheap to clone.
#[derive(Debug, Clone)]
pub struct Asker {
    questions: mpsc::Sender<Question>,
    status: watch::Receiver<PassStatus>,
}

impl Asker {
    /// Asks a loop that takes its questions from the other half and tells in `status` how it is doing.
    pub(crate) fn new(status: watch::Receiver<PassStatus>) -> (Self, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(WAITING_MOST);
        (Self { questions, status }, asked)
    }

    /// How the loop is doing, from now on.
    pub(crate) fn status(&self) -> watch::Receiver<PassStatus> {
        self.status.clone()
    }

    /// What the next pass would change, also if it is paused or stopped.
    ///
    /// # Errors
    ///
    /// [`AskError`].
    pub async fn pending(&self) -> Result<Pending, AskError> {
        self.ask(Question::Pending).await
    }

    /// Makes a pass now. `accepted` is the revision at which a person looked at what the brake
    /// stopped, and consents to it; this one pass may delete it.
    ///
    /// # Errors
    ///
    /// [`AskError`].
    pub async fn sync(&self, accepted: Option<Revision>) -> Result<Synced, AskError> {
        self.ask(|answer| Question::Sync { accepted, answer }).await
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, AskError>>) -> Question,
    ) -> Result<T, AskError> {
        let not_connected = {
            let status = self.status.borrow();
            (!status.connected).then(|| status.error.clone().unwrap_or_default())
        };
        if let Some(why) = not_connected {
            return Err(AskError::NotConnected(why));
        }
        let (sender, answer) = oneshot::channel();
        self.questions.send(question(sender)).await.map_err(|_closed| AskError::Ended)?;
        // Nobody answers when the connection is lost meanwhile.
        let lost = || AskError::NotConnected("the connection was lost meanwhile".to_owned());
        answer.await.unwrap_or_else(|_dropped| Err(lost()))
    }
}
