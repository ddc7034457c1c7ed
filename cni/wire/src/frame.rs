//! Length-prefixed JSON frames with an upper bound.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// The largest body of a frame.
///
/// A result is under 1 KiB for each address and route; 256 KiB leaves room for a pod with a
/// hundred routes and bounds what one broken peer can make the other side allocate.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;

/// Bytes of the length that precedes each body, big endian.
pub const LENGTH_BYTES: usize = 4;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed or its time ran out; whether the peer acted is unknown.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The peer closed the connection before the frame was complete.
    #[error("the connection was closed in the middle of a message")]
    Closed,
    /// The body is larger than [`FRAME_BYTES_MAX`]; nothing of it was read or sent.
    #[error("a message of {length} bytes is larger than the limit of {FRAME_BYTES_MAX}")]
    TooLarge {
        /// Length of the body in bytes.
        length: usize,
    },
    /// The body is not the JSON that was expected.
    #[error("the message cannot be understood")]
    Json(#[from] serde_json::Error),
}

/// Encodes a message as a whole frame, length included.
///
/// # Errors
///
/// [`FrameError::TooLarge`] and [`FrameError::Json`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; LENGTH_BYTES];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - LENGTH_BYTES;
    let prefix = u32::try_from(length).ok().filter(|_| length <= FRAME_BYTES_MAX);
    let prefix = prefix.ok_or(FrameError::TooLarge { length })?;
    frame[..LENGTH_BYTES].copy_from_slice(&prefix.to_be_bytes());
    Ok(frame)
}

/// Reads the length prefix: how many bytes of body follow.
///
/// # Errors
///
/// [`FrameError::TooLarge`].
pub fn frame_length(prefix: [u8; LENGTH_BYTES]) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX { Err(FrameError::TooLarge { length }) } else { Ok(length) }
}

/// Decodes the body of a frame.
///
/// # Errors
///
/// [`FrameError::Json`].
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(body)?)
}

/// Writes one frame and flushes it.
///
/// # Errors
///
/// [`FrameError::TooLarge`] and [`FrameError::Json`] before anything is written;
/// [`FrameError::Io`] with an unknown part written.
pub fn write<T: Serialize>(stream: &mut impl Write, message: &T) -> Result<(), FrameError> {
    stream.write_all(&encode(message)?)?;
    Ok(stream.flush()?)
}

/// Reads one frame.
///
/// # Errors
///
/// All of [`FrameError`]. The stream is of no further use after any of them.
pub fn read<T: DeserializeOwned>(stream: &mut impl Read) -> Result<T, FrameError> {
    let mut prefix = [0; LENGTH_BYTES];
    fill(stream, &mut prefix)?;
    let mut body = vec![0; frame_length(prefix)?];
    fill(stream, &mut body)?;
    decode(&body)
}

fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> Result<(), FrameError> {
    stream.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => FrameError::Closed,
        _ => FrameError::Io(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_way_through_a_frame() {
        let mut stream = Vec::new();
        write(&mut stream, &vec!["a", "b"]).unwrap();
        assert_eq!(stream[..LENGTH_BYTES], [0, 0, 0, 9]);
        assert_eq!(read::<Vec<String>>(&mut stream.as_slice()).unwrap(), ["a", "b"]);
    }

    // A length of 4 GiB must be refused before the buffer for it is made.
    #[test]
    fn a_frame_larger_than_the_limit_is_refused_from_its_length_alone() {
        let refused = read::<String>(&mut [0xff_u8; 4].as_slice()).unwrap_err();
        assert!(matches!(refused, FrameError::TooLarge { length: 0xffff_ffff }), "{refused}");
    }

    #[test]
    fn a_message_larger_than_the_limit_is_not_sent() {
        let mut stream = Vec::new();
        let refused = write(&mut stream, &"x".repeat(FRAME_BYTES_MAX)).unwrap_err();
        assert!(matches!(refused, FrameError::TooLarge { .. }), "{refused}");
        assert!(stream.is_empty());
    }

    #[test]
    fn a_frame_cut_short_is_told_apart_from_a_malformed_one() {
        let cut = read::<String>(&mut [0_u8, 0, 0, 9, b'"'].as_slice()).unwrap_err();
        assert!(matches!(cut, FrameError::Closed), "{cut}");
        let malformed = read::<String>(&mut [0_u8, 0, 0, 1, b'{'].as_slice()).unwrap_err();
        assert!(matches!(malformed, FrameError::Json(_)), "{malformed}");
    }
}
