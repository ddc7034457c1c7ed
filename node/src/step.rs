//! The moments between the steps of an ADD and a DEL, at which a test has the agent die.
//!
//! A release build knows none of this. In a debug build the variable `ATOLL_NODE_DIES_AT` names a
//! file; while that holds the name of a step, the agent kills itself when it comes there, as the
//! kernel would: nothing is finished, nothing is said.

/// A moment of an ADD or a DEL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// ADD: what the store decided is known; nothing was made.
    Decided,
    /// ADD: the record is on disk.
    Recorded,
    /// ADD: the veth pair is there, without addresses.
    Paired,
    /// ADD: the links are complete.
    Linked,
    /// ADD: the port is on the bridge.
    Plugged,
    /// ADD: its flows are installed.
    Installed,
    /// ADD: the report is on disk; the plugin was not answered.
    Reported,
    /// DEL: nothing was taken away.
    Asked,
    /// DEL: the port is off the bridge.
    Unplugged,
    /// DEL: the links are gone.
    Detached,
    /// DEL: the report is on disk.
    Told,
    /// DEL: the record is gone; the plugin was not answered.
    Forgotten,
}

impl Step {
    /// Those of an ADD, in order, but that the record is written while the links are made.
    pub const ADD: [Self; 7] = [
        Self::Decided,
        Self::Recorded,
        Self::Paired,
        Self::Linked,
        Self::Plugged,
        Self::Installed,
        Self::Reported,
    ];

    /// Those of a DEL, in order.
    pub const DEL: [Self; 5] =
        [Self::Asked, Self::Unplugged, Self::Detached, Self::Told, Self::Forgotten];

    /// What the file holds that has the agent die here.
    #[must_use]
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

/// The agent comes to a step; it dies if a test wants that.
#[cfg(debug_assertions)]
pub(crate) fn reached(step: Step) {
    use std::sync::OnceLock;

    use nix::sys::signal::{Signal, raise};

    static FILE: OnceLock<Option<std::ffi::OsString>> = OnceLock::new();
    let Some(file) = FILE.get_or_init(|| std::env::var_os("ATOLL_NODE_DIES_AT")) else { return };
    if std::fs::read_to_string(file).is_ok_and(|named| named == step.name()) {
        tracing::warn!(?step, "dying, as a test wants it");
        let _ = raise(Signal::SIGKILL);
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub(crate) fn reached(_: Step) {}
