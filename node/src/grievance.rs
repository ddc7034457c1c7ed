//! What is wrong, told once, however often a loop meets it again.

/// What a loop said last.
#[derive(Debug, Default)]
pub(crate) struct Grievance(String);

impl Grievance {
    /// Warns of `error`, unless that is what was said last.
    pub(crate) fn tell(&mut self, what: &str, error: &anyhow::Error) {
        let text = format!("{error:#}");
        if text != self.0 {
            tracing::warn!(error = text, "{what}");
            self.0 = text;
        }
    }

    /// All is well: the same error would be news.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
