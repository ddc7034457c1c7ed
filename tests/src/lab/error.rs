//! The two kinds of failure that a caller tells apart from all others.

use std::fmt;

/// The request makes sense but not now: nothing was changed. Exit code 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

/// The request makes no sense: nothing was changed. Exit code 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}
impl std::error::Error for Usage {}
