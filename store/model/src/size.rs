//! How many members a cluster has.

use std::fmt;

/// A number of members that is worth having: an even one tolerates no more losses than the odd one
/// below it, and above five every write waits for more disks than it gains safety.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterSize(u8);

/// That many members are not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1, 3 or 5, not {0}: an even number adds no safety, more only cost")]
pub struct ClusterSizeError(pub u32);

impl ClusterSize {
    /// Checks the number.
    ///
    /// # Errors
    ///
    /// It is not 1, 3 or 5.
    pub fn new(members: u32) -> Result<Self, ClusterSizeError> {
        match u8::try_from(members) {
            Ok(members @ (1 | 3 | 5)) => Ok(Self(members)),
            _ => Err(ClusterSizeError(members)),
        }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for ClusterSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_odd_numbers_up_to_five_are_sizes() {
        let sizes = (0..=300).filter_map(|members| ClusterSize::new(members).ok());
        assert_eq!(sizes.map(ClusterSize::get).collect::<Vec<_>>(), [1, 3, 5]);
        let error = ClusterSize::new(4).unwrap_err();
        assert!(error.to_string().starts_with("must be 1, 3 or 5, not 4"));
    }
}
