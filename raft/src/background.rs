//! Threads that stand back for consensus: what they do can wait, a heartbeat cannot.

use std::io;

use tokio::sync::oneshot;

/// Of the history's writer: a third of the consensus thread's share. It holds `apply` back when it falls
/// behind, so it must not starve.
pub(crate) const HISTORY: i32 = 5;

/// Of a snapshot's writer: a tenth of the consensus thread's share.
pub(crate) const SNAPSHOT: i32 = 10;

/// Makes the calling thread, and those that it starts, stand back by that many steps of niceness.
pub(crate) fn stand_back(niceness: i32) {
    // Linux counts threads here, not processes.
    if let Err(error) = rustix::process::setpriority_process(None, niceness) {
        tracing::warn!(%error, niceness, "cannot lower a thread's priority; going on as before");
    }
}

/// Does long work on a thread of its own that stands back.
pub(crate) async fn run<T: Send + 'static>(
    name: &str,
    niceness: i32,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        stand_back(niceness);
        // Nobody waits any more if the member shuts down.
        let _ = done.send(work());
    })?;
    result.await.map_err(|_| io::Error::other(format!("the thread {name} panicked")))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn niceness() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    #[tokio::test]
    async fn only_the_thread_of_the_work_stands_back() {
        let before = niceness();
        let inside = run("work", SNAPSHOT, || Ok(niceness())).await.unwrap();
        assert_eq!((inside, niceness()), (SNAPSHOT, before));
        let error = run::<()>("work", HISTORY, || panic!("on purpose")).await.unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
    }
}
