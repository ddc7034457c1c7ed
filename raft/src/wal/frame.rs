//! The bytes of a frame: 512, as much as a disk writes or does not write as one. Pure.
//!
//! A frame says where it belongs (segment, batch, part), and its checksum covers that and its
//! position in the file. So what is found at a position is one of three things: *new*, written
//! for this segment; *old*, never written or left from the file's earlier life as another
//! segment; or *damaged*. No power cut makes a damaged frame: the disk did.

/// Bytes of a frame.
pub(super) const FRAME: usize = 512;

const HEAD: usize = 28;

/// Bytes of a batch in one frame.
pub(super) const PAYLOAD: usize = FRAME - HEAD;

const NEVER_WRITTEN: [u8; FRAME] = [0; FRAME];

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The batch.
    pub(super) sequence: u64,
    /// Which of the batch's frames this is, from 0 …
    pub(super) part: u32,
    /// … and how many it has.
    pub(super) parts: u32,
}

/// What is at a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Old,
    New(Place, &'a [u8]),
    Damaged(&'static str),
}

/// How many frames a batch of `length` bytes takes.
pub(super) fn count(length: usize) -> usize {
    length.div_ceil(PAYLOAD)
}

/// A batch as it goes to the disk: frames of segment `segment`, from its frame `position` on.
pub(super) fn write(batch: &[u8], segment: u64, sequence: u64, position: u64) -> Vec<u8> {
    let parts = u32::try_from(count(batch.len())).expect("a batch is a few megabytes");
    let mut bytes = Vec::with_capacity(count(batch.len()) * FRAME);
    for (part, payload) in (0_u32..).zip(batch.chunks(PAYLOAD)) {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&part.to_le_bytes());
        bytes.extend_from_slice(&parts.to_le_bytes());
        bytes.extend_from_slice(&segment.to_le_bytes());
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(start + FRAME, 0);
        let crc = checksum(position + u64::from(part), &bytes[start + 4..]);
        bytes[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

/// Judges what is at frame `position` of segment `segment`.
pub(super) fn read(bytes: &[u8], segment: u64, position: u64) -> Frame<'_> {
    if bytes == NEVER_WRITTEN {
        return Frame::Old;
    }
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    if number(0) != checksum(position, &bytes[4..]) {
        return Frame::Damaged("the frame's checksum does not match");
    }
    match long(12) {
        found if found < segment => Frame::Old,
        found if found > segment => Frame::Damaged("the frame belongs to a later segment"),
        _ => {
            let place = Place { sequence: long(20), part: number(4), parts: number(8) };
            Frame::New(place, &bytes[HEAD..])
        }
    }
}

fn checksum(position: u64, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&position.to_le_bytes());
    hasher.update(rest);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_found_in_its_frames_and_nowhere_else() {
        let batch: Vec<u8> = (0..1000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let bytes = write(&batch, 5, 77, 10);
        assert_eq!(bytes.len(), 3 * FRAME);
        let mut found = Vec::new();
        for (part, frame) in bytes.chunks(FRAME).enumerate() {
            let part = u32::try_from(part).unwrap();
            let position = 10 + u64::from(part);
            let Frame::New(place, payload) = read(frame, 5, position) else { panic!() };
            assert_eq!(place, Place { sequence: 77, part, parts: 3 });
            found.extend_from_slice(payload);
            assert_eq!(read(frame, 6, position), Frame::Old, "left from an earlier life");
            assert!(matches!(read(frame, 4, position), Frame::Damaged(_)));
            assert!(matches!(read(frame, 5, position + 1), Frame::Damaged(_)), "misplaced");
        }
        assert_eq!(found[..1000], batch);
    }

    #[test]
    fn a_flipped_bit_is_damage_wherever_it_is_and_whatever_was_there() {
        let new = write(&[1, 2, 3], 5, 1, 0);
        for frame in [new, NEVER_WRITTEN.to_vec()] {
            for bit in 0..FRAME * 8 {
                let mut bad = frame.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(matches!(read(&bad, 5, 0), Frame::Damaged(_)), "bit {bit}");
            }
        }
    }
}
