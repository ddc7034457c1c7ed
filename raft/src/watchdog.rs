//! Asks the consensus thread, again and again, how long it takes to answer.
//!
//! Raft, apply and the API share one thread. Whatever holds it for long delays heartbeats and can
//! depose a healthy leader, so it has to be seen: as a histogram, and in the log.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::stages::{Stage, Stages};

/// How often it is asked: as often as a heartbeat wakes it anyway.
const INTERVAL: Duration = Duration::from_millis(100);

/// An answer that took longer is logged: half of the shortest election.
const WORTH_A_LINE: Duration = Duration::from_millis(200);

/// Asks until the returned guard is dropped.
pub(crate) fn start(runtime: Handle, stages: Stages) -> std::io::Result<Watchdog> {
    let (stop, stopped) = mpsc::channel::<()>();
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(INTERVAL) {
            let (answer, answered) = mpsc::sync_channel(1);
            let asked = Instant::now();
            runtime.spawn(async move {
                // Nobody waits any more if the runtime ends.
                let _ = answer.send(());
            });
            if answered.recv().is_err() {
                return;
            }
            let lag = stages.took(Stage::Lag, asked);
            if lag >= WORTH_A_LINE {
                let ms = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(ms, "something held the consensus thread; heartbeats were late");
            }
        }
    })?;
    Ok(Watchdog { _stop: stop })
}

/// Ends the thread when it is dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    _stop: mpsc::Sender<()>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::until;
    use prometheus_client::registry::Registry;

    /// Buckets of the lag at or below 65 ms, and all.
    fn counts(stages: &Stages) -> (u64, u64) {
        let mut registry = Registry::default();
        stages.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let number = |start: &str| {
            let line = text.lines().find(|line| line.starts_with(start)).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        (number("atoll_lag_seconds_bucket{le=\"0.065536\""), number("atoll_lag_seconds_count"))
    }

    #[tokio::test]
    async fn a_thread_that_is_held_is_seen() {
        let stages = Stages::default();
        let _watchdog = start(Handle::current(), stages.clone()).unwrap();
        until("a first answer", async || (counts(&stages).1 > 0).then_some(())).await;
        // Longer than the interval: one question falls into it.
        let held = Instant::now();
        while held.elapsed() < INTERVAL * 4 {
            std::hint::spin_loop();
        }
        let is_seen = || counts(&stages).1 > counts(&stages).0;
        until("the lag to be seen", async || is_seen().then_some(())).await;
    }
}
