//! A projection with nothing to do.

use std::time::Duration;

use anyhow::Result;
use atoll_ovn_sync::Projector;
use atoll_tests::report::{Report, Target};

use crate::northbound::Northbound;
use crate::thread::Thread;
use crate::{case, millis};

/// How long nothing happens; between two comparisons of everything, which are 30 s or more apart.
const QUIET: Duration = Duration::from_secs(5);

/// What a projection does while nothing happens.
pub(crate) async fn nothing(
    ports: usize,
    nb: &Northbound,
    projector: &Projector,
    report: &mut Report,
) -> Result<()> {
    let thread = Thread::begin()?;
    projector.asker().sync(None).await?;
    let full = millis(thread.used()?);
    report.note(&case("a comparison of everything, processor time", ports), "ms", full);
    let sent = || projector.status().borrow().transactions;
    let (before, size, thread) = (sent(), nb.size()?, Thread::begin()?);
    tokio::time::sleep(QUIET).await;
    let seconds = QUIET.as_secs();
    let what = |what: &str| case(&format!("{what} in {seconds} s without work"), ports);
    #[allow(clippy::cast_precision_loss, reason = "none are expected")]
    {
        let (sent, grown) = (sent() - before, nb.size()? - size);
        let zero = Target::Exactly(0.0);
        report.claim(&what("transactions"), "transactions", sent as f64, zero);
        report.claim(&what("growth of the database's file"), "bytes", grown as f64, zero);
    }
    let (percent, used) = (thread.percent()?, thread.used()?);
    report.claim(&what("the ovn-sync thread"), "% of a core", percent, Target::AtMost(1.0));
    report.details(vec![format!("{:.1} ms", millis(used))]);
    Ok(())
}
