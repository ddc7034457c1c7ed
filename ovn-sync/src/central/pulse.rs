//! Whether a server that does not answer is at work or has come to a stand.
//!
//! A southbound of 10,000 ports was seen silent for more than thirty seconds while it sent its
//! contents to six nodes that had come to it, on two cores that computed for them as well. Whoever
//! is made active instead has the same to do and begins at nothing, so that the role goes round and
//! nobody serves. A server that is stopped, or waits for a disk, uses no processor.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use tokio::time::{Instant, sleep};

/// Of a question's time, how much is watched: what it did before it was stopped does not count.
const WATCHED: Duration = Duration::from_millis(500);

/// In one of these, at least: 4 % of a core. One that is idle uses a tenth of that.
const AT_WORK: Duration = Duration::from_millis(20);

/// At work for so long without an answer, it is in a circle.
const PATIENCE: Duration = Duration::from_secs(120);

/// When a server last answered, and what it did since.
#[derive(Debug)]
pub(super) struct Pulse {
    answered: Instant,
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Self {
        Self { answered: now }
    }

    /// It has answered then, or is another one.
    pub(super) fn beats(&mut self, at: Instant) {
        self.answered = self.answered.max(at);
    }

    /// Waits for an answer of the process, and says as well whether it has been at work lately.
    pub(super) async fn during<T>(
        pid: Option<u32>,
        question: impl Future<Output = T>,
    ) -> (T, bool) {
        let mut question = pin!(question);
        let mut is_at_work = false;
        let mut used = pid.and_then(processor_time);
        loop {
            tokio::select! {
                answer = &mut question => return (answer, is_at_work),
                () = sleep(WATCHED) => {
                    let now = pid.and_then(processor_time);
                    let difference = now.zip(used).and_then(|(now, used)| now.checked_sub(used));
                    is_at_work = difference.is_some_and(|it| it >= AT_WORK);
                    used = now;
                }
            }
        }
    }

    /// Whether it may go on being silent.
    pub(super) fn is_excused(&self, now: Instant, is_at_work: bool) -> bool {
        is_at_work && now.duration_since(self.answered) < PATIENCE
    }
}

/// What a process has used so far, all threads together (`/proc/PID/stat`, proc(5)).
fn processor_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may have blanks and brackets.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    let per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    Some(Duration::from_millis(ticks * 1000 / per_second))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// Longer than what is watched, as a question's time is.
    const QUESTION: Duration = Duration::from_millis(1_200);

    async fn is_at_work(program: &mut Command) -> bool {
        let mut child: Child = program.spawn().unwrap();
        let ((), is_at_work) = Pulse::during(Some(child.id()), sleep(QUESTION)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        is_at_work
    }

    #[tokio::test]
    async fn who_computes_is_told_from_who_stands_still() {
        assert!(is_at_work(Command::new("sh").args(["-c", "while :; do :; done"])).await);
        assert!(!is_at_work(Command::new("sleep").arg("60")).await);
        // At work before it was stopped.
        let stopped = "n=0; while [ $n -lt 50000 ]; do n=$((n+1)); done; kill -STOP $$";
        assert!(!is_at_work(Command::new("sh").args(["-c", stopped])).await);
        let ((), of_nobody) = Pulse::during(None, sleep(QUESTION)).await;
        assert!(!of_nobody);
    }

    #[test]
    fn work_without_an_end_is_no_excuse() {
        let begun = Instant::now();
        let mut pulse = Pulse::new(begun);
        assert!(pulse.is_excused(begun, true) && !pulse.is_excused(begun, false));
        let later = begun + PATIENCE;
        assert!(!pulse.is_excused(later, true));
        pulse.beats(later);
        assert!(pulse.is_excused(later, true));
    }
}
