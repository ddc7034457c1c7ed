//! Waiting for a condition, with a deadline.
//!
//! Networks settle in their own time, so a test may not assert at once; it may not sleep either,
//! because a sleep is too long on a quiet machine and too short on a busy one.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// How often a condition is looked at. Small against what a process start costs (about 5 ms).
const PERIOD: Duration = Duration::from_millis(20);

/// Calls `observe` until it answers `Ok`, and returns that.
///
/// An `Err` from `observe` means "not yet" and says what was seen instead. An observation that
/// hangs is given up at the deadline too. It is made at least once, also with a deadline of zero.
///
/// # Errors
///
/// At the deadline: what was awaited, for how long, and the last observation.
pub async fn wait_until<T, F, Observed>(deadline: Duration, what: &str, mut observe: F) -> Result<T>
where
    // Not `AsyncFnMut`: a future that waits for one cannot be spawned, as its being `Send` cannot
    // be proved. The price is that an observation may not borrow from its closure mutably.
    F: FnMut() -> Observed,
    Observed: Future<Output = Result<T>>,
{
    let end = Instant::now() + deadline;
    let mut last = String::from("nothing: the first observation did not come back");
    loop {
        match timeout_at(end, observe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => last = format!("{seen:#}"),
            Err(_) => bail!("waited {deadline:?} for {what}; last seen: {last}"),
        }
        if Instant::now() >= end {
            bail!("waited {deadline:?} for {what}; last seen: {last}");
        }
        sleep(PERIOD).await;
    }
}

/// Lets time pass, for what is counted while it does.
pub async fn pass(time: Duration) {
    sleep(time).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn the_value_of_the_first_success_is_returned() {
        let calls = Cell::new(0);
        let value = wait_until(Duration::from_secs(1), "three calls", async || {
            calls.set(calls.get() + 1);
            if calls.get() < 3 { bail!("{} calls", calls.get()) } else { Ok(calls.get()) }
        })
        .await
        .unwrap();
        assert_eq!(value, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_missed_deadline_names_the_condition_and_the_last_observation() {
        let error = wait_until(Duration::from_secs(1), "a leader", async || -> Result<()> {
            bail!("no votes")
        })
        .await
        .unwrap_err();
        assert_eq!(error.to_string(), "waited 1s for a leader; last seen: no votes");
    }

    /// Tests wait in tasks of their own.
    #[tokio::test(start_paused = true)]
    async fn waiting_can_be_spawned() {
        let seen = std::sync::Arc::new(std::sync::Mutex::new(0));
        let waiting = tokio::spawn({
            let seen = seen.clone();
            async move {
                wait_until(Duration::from_secs(1), "two calls", async || {
                    tokio::task::yield_now().await;
                    let mut calls = seen.lock().unwrap();
                    *calls += 1;
                    if *calls < 2 { bail!("{calls} calls") } else { Ok(()) }
                })
                .await
            }
        });
        waiting.await.unwrap().unwrap();
        assert_eq!(*seen.lock().unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_observation_that_hangs_does_not_outlive_the_deadline() {
        let error = wait_until(Duration::from_secs(1), "an answer", || {
            std::future::pending::<Result<()>>()
        })
        .await
        .unwrap_err();
        assert!(error.to_string().contains("for an answer"), "{error}");
    }
}
