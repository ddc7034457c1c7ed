//! The report `vectors`: recorded answers of another allocator, and ours.

use std::io::Write as _;
use std::path::Path;

use atoll_tests::report::{Report, Target};
use atoll_tests::vectors::{Ended, KNOWN, Verdict, own_dir, run_dir, surprises};

/// Says by name how every case ended, and counts.
fn tell(ended: &[Ended]) -> [usize; 3] {
    let mut out = std::io::stdout().lock();
    let mut counts = [0; 3];
    for Ended { id, verdict } in ended {
        let (kind, text) = match verdict {
            Verdict::Passed => (0, format!("passed       {id}")),
            Verdict::Different(what) => {
                let reason = KNOWN.iter().find(|(known, _)| known == id).map(|(_, reason)| *reason);
                let reason = reason.map(|it| format!("\n               {it}")).unwrap_or_default();
                (1, format!("different    {id}: {what}{reason}"))
            }
            Verdict::Unsupported(what) => (2, format!("unsupported  {id}: {what}")),
        };
        counts[kind] += 1;
        let _ = writeln!(out, "{text}");
    }
    counts
}

fn figure(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[test]
fn recorded_cases_are_answered_as_recorded_or_differ_as_listed() {
    let mut report = Report::new("vectors", "make vectors");
    let ended = run_dir(&own_dir()).unwrap();
    let [passed, different, unsupported] = tell(&ended);
    let surprises = surprises(&ended);
    report.note("cases passed", "cases", figure(passed));
    report.note("cases different on purpose", "cases", figure(different));
    report.note("cases unsupported", "cases", figure(unsupported));
    let none = Target::Exactly(0.0);
    report.claim(
        "differences that are not listed, and the reverse",
        "cases",
        figure(surprises.len()),
        none,
    );
    if let Ok(dir) = std::env::var("ATOLL_VECTORS") {
        let [passed, different, unsupported] = tell(&run_dir(Path::new(&dir)).unwrap());
        report.note("other cases passed", "cases", figure(passed));
        report.note("other cases different", "cases", figure(different));
        report.note("other cases unsupported", "cases", figure(unsupported));
    }
    writeln!(std::io::stdout(), "{}", report.table()).unwrap();
    report.save().unwrap();
    assert_eq!(surprises, Vec::<String>::new());
}
