//! A thread with a runtime of its own.

use std::io;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Runs one future on a thread of its own until it ends or is told to.
///
/// The projection compares tens of thousands of rows in one go, and children die with the thread
/// that started them: neither belongs on a runtime that others share.
#[derive(Debug)]
pub(crate) struct Worker {
    cancel: CancellationToken,
    done: Option<oneshot::Receiver<()>>,
}

impl Worker {
    /// Starts the thread. `body` makes the future there and is told when to end.
    pub(crate) fn spawn<F: Future<Output = ()>>(
        name: &str,
        body: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let cancel = CancellationToken::new();
        let (sender, done) = oneshot::channel();
        let token = cancel.clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(body(token));
            // Nobody may be waiting any more.
            let _ = sender.send(());
        })?;
        Ok(Self { cancel, done: Some(done) })
    }

    /// Tells the future to end and waits until it has.
    pub(crate) async fn shutdown(mut self) {
        self.cancel.cancel();
        if let Some(done) = self.done.take() {
            // An error says that the thread panicked, and so has ended as well.
            let _ = done.await;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
