//! From an empty database to an equal one, against the raw insert of the same rows.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use atoll_model::Lineage;
use atoll_ovn_sync::Projector;
use atoll_tests::bench::machine::processor_time;
use atoll_tests::report::{Report, Target};

use crate::feed::{CLUSTER, Feed};
use crate::northbound::Northbound;
use crate::thread::Thread;
use crate::{Options, case, millis, raw};

/// However busy the machine is.
const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until the projector says that the database is equal to the state.
pub(crate) async fn equal(projector: &Projector, feed: &Feed) -> Result<()> {
    let (wanted, mut status) = (feed.revision(), projector.status());
    let equal = status.wait_for(|status| status.revision == Some(wanted));
    let found = tokio::time::timeout(DEADLINE, equal).await;
    found.with_context(|| format!("never equal to revision {wanted}"))??;
    Ok(())
}

/// How long each side takes, and how long the database computes for it.
#[derive(Debug, Default)]
struct Side {
    took: Vec<Duration>,
    server: Vec<Duration>,
}

impl Side {
    fn saw(&mut self, took: Duration, nb: &Northbound) -> Result<()> {
        self.took.push(took);
        self.server.push(processor_time(&[nb.pid()])?);
        Ok(())
    }
}

fn median(of: &mut [Duration]) -> f64 {
    of.sort_unstable();
    of.get(of.len() / 2).copied().map_or(0.0, millis)
}

/// Takes turns, so that whatever else the machine does meets both.
pub(crate) async fn compare(
    options: &Options,
    ports: usize,
    feed: &Feed,
    report: &mut Report,
) -> Result<()> {
    let rows = feed.rows()?;
    let lineage = Lineage::new(CLUSTER, feed.revision());
    let batches = raw::batches(&rows, &lineage)?;
    let (mut ours, mut raw, mut threads) = (Side::default(), Side::default(), Vec::new());
    for round in 0..options.rounds {
        let nb = Northbound::start().await?;
        raw.saw(raw::insert(&nb, &batches).await?, &nb)?;
        if round == 0 {
            nb.holds(&rows).await?;
        }
        drop(nb);
        let nb = Northbound::start().await?;
        let begun = Instant::now();
        let projector = Projector::start(feed.follow(), nb.endpoint())?;
        equal(&projector, feed).await?;
        ours.saw(begun.elapsed(), &nb)?;
        threads.push(Thread::total()?);
        projector.shutdown().await;
    }
    let what = format!("empty northbound to equal, {} rows", rows.len());
    let other = ("raw insert of the same rows", median(&mut raw.took));
    report.compare(&case(&what, ports), "ms", median(&mut ours.took), other);
    report.ratio_must_be(Target::AtMost(1.3));
    let other = ("raw", median(&mut raw.server));
    let what = "of that, processor time of ovsdb-server";
    report.compare(&case(what, ports), "ms", median(&mut ours.server), other);
    let what = "of that, processor time of the ovn-sync thread";
    report.note(&case(what, ports), "ms", median(&mut threads));
    Ok(())
}
