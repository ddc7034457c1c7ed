//! What is wrong, told once, however often a loop meets it again, and counted each time.

use crate::metrics::Meter;

/// What a loop said last.
#[derive(Debug)]
pub(crate) struct Grievance {
    concern: &'static str,
    meter: Meter,
    said: String,
}

impl Grievance {
    /// Those of one loop, which `/metrics` knows by this name.
    pub(crate) fn of(concern: &'static str, meter: &Meter) -> Self {
        Self { concern, meter: meter.clone(), said: String::new() }
    }

    /// A pass has failed: warns of `error`, unless that is what was said last.
    pub(crate) fn tell(&mut self, what: &str, error: &anyhow::Error) {
        self.meter.passed(self.concern, false);
        let text = format!("{error:#}");
        if text != self.said {
            tracing::warn!(error = text, "{what}");
            self.said = text;
        }
    }

    /// All is well: the same error would be news.
    pub(crate) fn clear(&mut self) {
        self.meter.passed(self.concern, true);
        self.said.clear();
    }
}
