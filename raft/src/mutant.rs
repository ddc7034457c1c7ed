//! Bugs that a test build can be told to have, to show that the tests which look for them see
//! them. Without the feature `mutants` none of this is in the program; with it there is no
//! release build.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!(
    "the feature `mutants` is for tests: a member built with it can be told to lose data"
);

/// A bug to be told of by `ATOLL_MUTANT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The log is written and never synced.
    NoFdatasync,
    /// Entries are acknowledged before they are written.
    EarlyAck,
    /// A vote is given at once and written with the next batch, as the commit position is.
    UnsyncedVote,
    /// Renames and creations are not synced.
    NoDirectorySync,
    /// Whoever believes that it leads reads its own state without asking a quorum.
    StaleRead,
    /// A pod that has an address is told, now and then, that the subnet is full.
    FalseFull,
    /// Two that are answered together are given each other's answers.
    SwappedAnswers,
    /// Transactions are answered by what they will do, before they are in the log.
    AnsweredEarly,
}

impl Mutant {
    /// Is this build to have this bug?
    #[cfg(not(feature = "mutants"))]
    pub(crate) const fn is_on(self) -> bool {
        false
    }

    /// Is this build to have this bug?
    #[cfg(feature = "mutants")]
    pub(crate) fn is_on(self) -> bool {
        use std::sync::OnceLock;
        static TOLD: OnceLock<String> = OnceLock::new();
        let told = TOLD.get_or_init(|| std::env::var("ATOLL_MUTANT").unwrap_or_default());
        let name = match self {
            Self::NoFdatasync => "no-fdatasync",
            Self::EarlyAck => "early-ack",
            Self::UnsyncedVote => "unsynced-vote",
            Self::NoDirectorySync => "no-directory-sync",
            Self::StaleRead => "stale-read",
            Self::FalseFull => "false-full",
            Self::SwappedAnswers => "swapped-answers",
            Self::AnsweredEarly => "answered-early",
        };
        told == name
    }
}

/// A size that a test build can be given in `variable`, so that rare events become frequent.
#[cfg(feature = "mutants")]
pub(crate) fn size(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A size that only a test build can be given.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn size(_variable: &str, default: u64) -> u64 {
    default
}
