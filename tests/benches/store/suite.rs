//! Criterion's measurements, and what they say in the report.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use atoll_tests::report::{Report, Target};
use criterion::{Criterion, SamplingMode};
use serde::Deserialize;

use crate::clock::ThreadTime;

/// One case.
pub(crate) struct Case {
    pub(crate) name: String,
    /// In microseconds.
    pub(crate) target: Option<Target>,
    /// What something else reached, and what that is.
    pub(crate) beside: Option<(f64, &'static str)>,
    /// How long criterion measures.
    pub(crate) lasts: Duration,
}

impl Case {
    pub(crate) fn new(name: &str, target: Target) -> Self {
        let (name, target, lasts) = (name.into(), Some(target), Duration::from_millis(400));
        Self { name, target, beside: None, lasts }
    }

    pub(crate) fn note(name: &str) -> Self {
        Self { target: None, ..Self::new(name, Target::AtMost(0.0)) }
    }

    pub(crate) fn lasting(self, lasts: Duration) -> Self {
        Self { lasts, ..self }
    }
}

/// All measurements of a run.
pub(crate) struct Suite {
    criterion: Criterion<ThreadTime>,
    cases: Vec<Case>,
    /// What is not criterion's.
    pub(crate) report: Report,
}

/// What criterion writes of a case.
#[derive(Deserialize)]
struct Sample {
    iters: Vec<f64>,
    times: Vec<f64>,
}

impl Suite {
    pub(crate) fn new(report: Report) -> Self {
        let criterion = Criterion::default()
            .with_measurement(ThreadTime)
            .output_directory(&directory())
            .sample_size(10)
            .warm_up_time(Duration::from_millis(100))
            .without_plots();
        Self { criterion, cases: Vec::new(), report }
    }

    /// Measures a case: `work` does so many operations and says how long they took.
    pub(crate) fn time(&mut self, case: Case, mut work: impl FnMut(u64) -> Duration) {
        let mut group = self.criterion.benchmark_group(folder(&case.name));
        group.measurement_time(case.lasts).sampling_mode(SamplingMode::Flat);
        group.bench_function("time", |bencher| bencher.iter_custom(&mut work));
        group.finish();
        self.cases.push(case);
    }

    /// The report, with the best and the median of criterion's samples of each case. The best is
    /// held against the target: what else runs on the machine only ever adds.
    #[allow(clippy::float_arithmetic, reason = "figures of measurements")]
    pub(crate) fn finish(mut self) -> anyhow::Result<Report> {
        for case in self.cases {
            let path = directory().join(folder(&case.name)).join("time/new/sample.json");
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("criterion left no {}", path.display()))?;
            let Sample { iters, times } = serde_json::from_str(&text)?;
            let each =
                times.iter().zip(&iters).map(|(nanoseconds, iters)| nanoseconds / iters / 1e3);
            let mut each: Vec<f64> = each.collect();
            each.sort_by(f64::total_cmp);
            let (best, median) = (each[0], each[each.len() / 2]);
            match case.target {
                Some(target) => self.report.claim(&case.name, "µs", best, target),
                None => self.report.note(&case.name, "µs", best),
            }
            if let Some((figure, name)) = case.beside {
                self.report.beside(figure, name);
            }
            self.report.note(&format!("{}, median", case.name), "µs", median);
        }
        Ok(self.report)
    }
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("criterion")
}

/// The name of a case as criterion's folder.
fn folder(name: &str) -> String {
    name.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '_' }).collect()
}
