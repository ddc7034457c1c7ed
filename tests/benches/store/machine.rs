//! `atoll-store`: entries, forks, restoring.

use std::time::{Duration, Instant};

use atoll_model::{PodSpec, Txn};
use atoll_store::State;
use atoll_tests::report::{Report, Target};

use crate::clock::{spent, spent_by_all};
use crate::cluster::{Cluster, bind, delete, put};
use crate::suite::{Case, Suite};

/// Entries while one fork is held: a snapshot or a plan lasts for many.
const HELD: usize = 10_000;

impl Cluster {
    fn timed(&mut self, txns: &[Txn]) -> Duration {
        let work = || txns.iter().filter(|txn| self.apply(txn).is_err()).count();
        let (took, failed) = spent(work);
        assert_eq!(failed, 0, "entries were refused");
        took
    }

    /// Announces pods and deletes them again, so that there are no more in the end. Returns how
    /// long either took.
    fn churn(&mut self, iterations: u64, held: bool) -> (Duration, Duration) {
        let mut left = usize::try_from(iterations).expect("a number of entries");
        let mut sums = (Duration::ZERO, Duration::ZERO);
        while left > 0 {
            let count = left.min(HELD);
            let specs = (0..count).map(|_| self.next_pod().expect("a sound pod"));
            let specs: Vec<PodSpec> = specs.collect();
            let puts: Vec<Txn> = specs.iter().map(put).collect();
            let deletes: Vec<Txn> = specs.iter().map(delete).collect();
            let fork = held.then(|| self.state.clone());
            sums.0 += self.timed(&puts);
            drop(fork);
            sums.1 += self.timed(&deletes);
            left -= count;
        }
        sums
    }

    fn binds(&mut self, iterations: u64, round: &mut u64) -> Duration {
        let mut left = usize::try_from(iterations).expect("a number of entries");
        let mut sum = Duration::ZERO;
        while left > 0 {
            *round += 1;
            let known = self.known.iter().take(left);
            let txns = known.map(|it| bind(it, *round)).collect::<anyhow::Result<Vec<_>>>();
            let txns = txns.expect("sound names");
            left -= txns.len();
            sum += self.timed(&txns);
        }
        sum
    }
}

/// Puts, deletes and binds with this many pods.
fn entries(suite: &mut Suite, cluster: &mut Cluster, label: &str, targets: [Option<Target>; 3]) {
    let case = |what: &str, target: Option<Target>, seconds| {
        let name = format!("{label}: {what}");
        Case { target, ..Case::note(&name) }.lasting(Duration::from_secs(seconds))
    };
    let [in_place, held, bound] = targets;
    suite.time(case("put pod", in_place, 1), |count| cluster.churn(count, false).0);
    suite.time(case("put pod, a fork held", held, 3), |count| cluster.churn(count, true).0);
    suite.time(case("delete pod", None, 1), |count| cluster.churn(count, false).1);
    let mut round = 0;
    suite.time(case("bind", bound, 1), |count| cluster.binds(count, &mut round));
}

pub(crate) fn measure(suite: &mut Suite, quick: bool) -> anyhow::Result<()> {
    let at_most = |bound| Some(Target::AtMost(bound));
    let mut cluster = Cluster::new()?;
    cluster.grow_to(10_000)?;
    entries(suite, &mut cluster, "10 k pods", [at_most(5.0), None, at_most(2.0)]);
    restore(&mut suite.report, &cluster.state, "10 k pods", 1.0)?;
    // kube-ovn's re-build after a change of the leader.
    suite.report.beside(0.36, "kube-ovn, another run, 10,000 pods");
    // A cluster takes a million pods, and what is measured adds some.
    let (large, label) = if quick { (100_000, "100 k pods") } else { (985_000, "985 k pods") };
    cluster.grow_to(large)?;
    entries(suite, &mut cluster, label, [at_most(15.0), at_most(15.0), None]);
    pause(&mut suite.report, &mut cluster, label)?;
    let state = std::mem::take(&mut cluster.state);
    drop(cluster);
    restore(&mut suite.report, &state, label, 5.0)
}

#[allow(clippy::float_arithmetic, reason = "figures of measurements")]
fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The best of several forks, and of the slowest entries after one.
fn pause(report: &mut Report, cluster: &mut Cluster, label: &str) -> anyhow::Result<()> {
    let (mut forks, mut slowest) = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        let specs = (0..1_000).map(|_| cluster.next_pod()).collect::<anyhow::Result<Vec<_>>>()?;
        let (took, fork) = spent(|| cluster.state.clone());
        forks = forks.min(took);
        let each = specs.iter().map(|spec| cluster.timed(&[put(spec)]));
        slowest = slowest.min(each.max().unwrap_or_default());
        drop(fork);
        cluster.timed(&specs.iter().map(delete).collect::<Vec<_>>());
    }
    let target = Target::AtMost(5.0);
    report.claim(&format!("{label}: making a fork"), "ms", millis(forks), target);
    let slow = format!("{label}: slowest of 1,000 entries after a fork");
    report.claim(&slow, "ms", millis(slowest), target);
    Ok(())
}

/// A member's start, apart from reading its disk: bytes to a dump, and a dump to a state that is
/// checked. Two threads work, and the processor time of both counts: the wall clock shows what
/// that saves, on a machine with nothing else to do.
fn restore(report: &mut Report, state: &State, label: &str, seconds: f64) -> anyhow::Result<()> {
    let (took, dump) = spent(|| state.dump());
    report.note(&format!("{label}: dump"), "s", took.as_secs_f64());
    let bytes = atoll_codec::encode_dump(&dump);
    drop(dump);
    let wall = Instant::now();
    let (decoding, dump) = spent_by_all(|| atoll_codec::decode_dump(&bytes));
    let (restoring, restored) = spent_by_all(|| State::restore(dump?).map_err(anyhow::Error::from));
    let wall = wall.elapsed();
    anyhow::ensure!(restored?.digest() == state.digest(), "another state was restored");
    report.note(&format!("{label}: decode the dump"), "s", decoding.as_secs_f64());
    report.note(&format!("{label}: decode and restore, wall clock"), "s", wall.as_secs_f64());
    let target = Target::AtMost(seconds);
    report.note(&format!("{label}: restore the dump"), "s", restoring.as_secs_f64());
    let both = decoding + restoring;
    report.claim(&format!("{label}: decode and restore"), "s", both.as_secs_f64(), target);
    Ok(())
}
