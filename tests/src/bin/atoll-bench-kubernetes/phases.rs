//! What is measured, one load after another.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Result;
use atoll_tests::report::{Report, Target};

use crate::apiserver::Requests;
use crate::load::{self, Made};
use crate::scene::Scene;

/// How long a load may take until all of it is written back.
const LOAD: Duration = Duration::from_secs(300);

/// The targets, for pods a second and requests for each.
const IN_NB_MIN: f64 = 500.0;
const WRITTEN_MIN: f64 = 150.0;
const REQUESTS_MAX: f64 = 2.0;

/// The generator and the apiserver alone.
pub(crate) async fn floor(scene: &mut Scene, report: &mut Report) -> Result<()> {
    let made = load::create(&scene.client, scene.clients, "floor", 0..scene.pods).await?;
    report.note("pods made, no member runs", "pods/s", rate(scene.pods, made.took));
    let gone = load::delete(&scene.client, scene.clients, "floor", 0..scene.pods).await?;
    report.note("pods deleted, no member runs", "pods/s", rate(scene.pods, gone.took));
    Ok(())
}

/// Pods are made; all of them are waited for.
pub(crate) async fn load(
    scene: &Scene,
    pods: Range<u32>,
    which: &str,
    report: &mut Report,
) -> Result<()> {
    let count = pods.end - pods.start;
    let (busy, _) = scene.cost().await?;
    let before = Requests::read(&scene.client).await?;
    let made = load::create(&scene.client, scene.clients, "load", pods.clone()).await?;
    let latest = scene.seen.all("load", pods.end, LOAD).await?;
    let requests = Requests::read(&scene.client).await?.since(before);
    let (busy_after, resident) = scene.cost().await?;

    let case = |what: &str| format!("{which} {count} pods: {what}");
    let own = rate(count, made.took);
    report.note(&case("made"), "pods/s", own);
    let in_nb = rate(count, latest.in_nb - made.began);
    report.claim(&case("addressed and in NB"), "pods/s", in_nb, Target::AtLeast(IN_NB_MIN));
    report.beside(own, "made in the same run");
    report.note(&case("the last in NB behind the last made"), "s", behind(made, latest.in_nb));
    let written = rate(count, latest.written - made.began);
    let target = Target::AtLeast(WRITTEN_MIN);
    report.claim(&case("annotations and IP objects written"), "pods/s", written, target);
    let each = requests.all() / f64::from(count);
    report.claim(&case("requests for each"), "requests", each, Target::AtMost(REQUESTS_MAX));
    report.details(vec![format!("{requests:?}")]);
    let busy = (busy_after - busy).as_secs_f64();
    report.note(&case("processor time of the leader"), "s", busy);
    report.note(&case("memory of the leader"), "MiB", resident);
    Ok(())
}

/// All pods of all loads are deleted.
pub(crate) async fn deletion(scene: &Scene, pods: Range<u32>, report: &mut Report) -> Result<()> {
    let count = pods.end - pods.start;
    let made = load::delete(&scene.client, scene.clients, "load", pods).await?;
    let gone = scene.seen.none("load", LOAD).await?;
    report.note(&format!("{count} pods: deleted"), "pods/s", rate(count, made.took));
    let all = rate(count, gone - made.began);
    report.note(&format!("{count} pods: freed, out of NB, no IP objects"), "pods/s", all);
    Ok(())
}

fn behind(made: Made, at: Instant) -> f64 {
    at.saturating_duration_since(made.began + made.took).as_secs_f64()
}

fn rate(count: u32, time: Duration) -> f64 {
    f64::from(count) / time.as_secs_f64()
}
