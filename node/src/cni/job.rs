//! Work for one attachment, bounded in time and number.

use std::{sync::Arc, time::Duration};

use atoll_cni_wire::{CniError, Code};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tracing::error;

use super::{Attachments, server::Shared, turns::Turn};

/// How much longer than its deadline a request is waited for, so that one that ends by its
/// deadline can say why. Less than what the plugin keeps for itself.
pub(super) const GRACE: Duration = Duration::from_millis(200);

/// Work for one attachment.
pub(super) struct Job {
    /// For people.
    pub(super) what: String,
    pub(super) container_id: String,
    pub(super) ifname: String,
    pub(super) deadline: Instant,
    pub(super) permits: Arc<Semaphore>,
}

impl Job {
    /// Waits for its turn and for a permit, both until the deadline; then does the work.
    pub(super) async fn run<A: Attachments, T: Send + 'static>(
        self,
        shared: &Shared<A>,
        work: impl Future<Output = Result<T, CniError>> + Send + 'static,
    ) -> Result<T, CniError> {
        self.run_after(async { Ok(()) }, shared, work).await
    }

    /// The same after a wait that takes no permit, so that those that wait hold up nobody.
    pub(super) async fn run_after<A: Attachments, T: Send + 'static>(
        self,
        wait: impl Future<Output = Result<(), CniError>> + Send,
        shared: &Shared<A>,
        work: impl Future<Output = Result<T, CniError>> + Send + 'static,
    ) -> Result<T, CniError> {
        // The turn first: what waits for its own predecessor must not hold up others.
        let waiting = shared.turns.take(&self.container_id, &self.ifname);
        let Ok(turn) = timeout_at(self.deadline, waiting).await else {
            return Err(self.not_begun());
        };
        // By the deadline it says itself what is missing.
        match timeout_at(self.deadline + GRACE, wait).await {
            Ok(waited) => waited?,
            Err(_) => return Err(self.not_begun()),
        }
        self.run_in(turn, shared, work).await
    }

    /// The same with a turn that was taken already.
    pub(super) async fn run_in<A: Attachments, T: Send + 'static>(
        self,
        turn: Turn,
        shared: &Shared<A>,
        work: impl Future<Output = Result<T, CniError>> + Send + 'static,
    ) -> Result<T, CniError> {
        let waiting = Arc::clone(&self.permits).acquire_owned();
        let Ok(permit) = timeout_at(self.deadline, waiting).await else {
            return Err(self.not_begun());
        };
        let working = shared.running.spawn(async move {
            let result = work.await;
            drop((turn, permit));
            result
        });
        match timeout_at(self.deadline + GRACE, working).await {
            Ok(Ok(result)) => result,
            Ok(Err(panicked)) => {
                error!(error = %panicked, what = self.what, "a CNI request ended in a panic");
                Err(self.panicked())
            }
            Err(_) => Err(self.still_running()),
        }
    }

    fn not_begun(&self) -> CniError {
        let message = format!(
            "{} was not begun: the node agent is busy with other requests; the runtime tries \
             again by itself",
            self.what
        );
        CniError::new(Code::TRY_AGAIN_LATER, message)
    }

    fn still_running(&self) -> CniError {
        let message = format!(
            "{} did not end in time and goes on, outcome unknown; the node agent's log says what \
             it waits for, and the runtime tries again by itself",
            self.what
        );
        CniError::new(Code::TRY_AGAIN_LATER, message)
    }

    fn panicked(&self) -> CniError {
        let message = format!(
            "{} met a defect of the node agent, outcome unknown; please report it with its log",
            self.what
        );
        CniError::new(Code::INTERNAL, message)
    }
}
