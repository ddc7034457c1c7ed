//! How many members a cluster has.

use std::fmt;

/// A number of members that is worth having: an even one tolerates no more losses than the odd one
/// below it, and above seven every write waits for more disks than it gains safety.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterSize(u8);

/// That many members are not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cluster has 1, 3, 5 or 7 members, not {0}")]
pub struct ClusterSizeError(pub u32);

impl ClusterSize {
    /// Checks the number.
    ///
    /// # Errors
    ///
    /// It is not 1, 3, 5 or 7.
    pub fn new(members: u32) -> Result<Self, ClusterSizeError> {
        match u8::try_from(members) {
            Ok(members @ (1 | 3 | 5 | 7)) => Ok(Self(members)),
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
    fn only_odd_numbers_up_to_seven_are_sizes() {
        let sizes = (0..=300).filter_map(|members| ClusterSize::new(members).ok());
        assert_eq!(sizes.map(ClusterSize::get).collect::<Vec<_>>(), [1, 3, 5, 7]);
        let error = ClusterSize::new(4).unwrap_err();
        assert_eq!(error.to_string(), "a cluster has 1, 3, 5 or 7 members, not 4");
    }
}
