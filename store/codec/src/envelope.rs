//! Format, kind and checksum around each persisted body.

use crate::DecodeError;

/// The format that this release writes. A reader knows all formats up to its own.
pub const FORMAT: u8 = 1;

pub(crate) const HEADER_BYTES: usize = 6;

/// What the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A log entry's transaction.
    Txn = 1,
    /// A snapshot's state.
    Dump = 2,
    /// One revision's changes.
    Changes = 3,
    /// What became of a transaction.
    Outcome = 4,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Txn => 1,
            Self::Dump => 2,
            Self::Changes => 3,
            Self::Outcome => 4,
        }
    }
}

/// Wraps `body`. The checksum covers format, kind and body.
#[must_use]
pub fn seal(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut sealing = Sealing::begin(kind);
    sealing.update(body);
    let mut sealed = Vec::with_capacity(HEADER_BYTES + body.len());
    sealed.extend_from_slice(&sealing.header());
    sealed.extend_from_slice(body);
    sealed
}

/// An envelope around a body that comes in pieces.
#[derive(Debug)]
pub(crate) struct Sealing {
    kind: Kind,
    checksum: crc32fast::Hasher,
}

impl Sealing {
    pub(crate) fn begin(kind: Kind) -> Self {
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&[FORMAT, kind.byte()]);
        Self { kind, checksum }
    }

    /// The next piece of the body.
    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.checksum.update(piece);
    }

    /// What stands before the body.
    pub(crate) fn header(&self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = self.checksum.clone().finalize().to_le_bytes();
        [FORMAT, self.kind.byte(), a, b, c, d]
    }
}

/// Checks the envelope and returns the body.
///
/// # Errors
///
/// [`DecodeError`] saying which check failed.
pub fn open(expected: Kind, sealed: &[u8]) -> Result<&[u8], DecodeError> {
    let Some((header, body)) = sealed.split_at_checked(HEADER_BYTES) else {
        return Err(DecodeError::Short(sealed.len()));
    };
    let (format, kind) = (header[0], header[1]);
    if format == 0 || format > FORMAT {
        return Err(DecodeError::Format(format));
    }
    let stored = u32::from_le_bytes([header[2], header[3], header[4], header[5]]);
    if stored != checksum(format, kind, body) {
        return Err(DecodeError::Checksum);
    }
    if kind != expected.byte() {
        return Err(DecodeError::Kind { found: kind, expected: expected.byte() });
    }
    Ok(body)
}

fn checksum(format: u8, kind: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[format, kind]);
    hasher.update(body);
    hasher.finalize()
}

/// The checksum alone, for bytes that have a frame of their own.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}
