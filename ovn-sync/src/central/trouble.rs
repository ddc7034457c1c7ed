//! What is wrong with an ovn-central.

use std::error::Error;
use std::io;
use std::process::ExitStatus;

use crate::pass::chain;

/// What went wrong last; it stays until something else does.
#[derive(Debug, Default)]
pub(super) struct Trouble(Option<String>);

impl Trouble {
    pub(super) fn last(&self) -> Option<String> {
        self.0.clone()
    }

    /// Says an error once, however often it is met again.
    pub(super) fn note<E: Error + 'static>(&mut self, what: &'static str, result: Result<(), E>) {
        let Err(error) = result else { return };
        let text = format!("{what}: {}", chain(&error));
        if self.0.as_ref() != Some(&text) {
            tracing::warn!(error = text, "ovn-central is not as it should be");
            self.0 = Some(text);
        }
    }

    /// A program ended that should run.
    pub(super) fn ended(&mut self, program: &'static str, status: io::Result<ExitStatus>) {
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        tracing::warn!(program, how, "ended by itself; started again");
        self.0 = Some(format!("{program} ended: {how}"));
    }
}
