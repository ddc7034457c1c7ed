//! Cuts a byte stream into JSON messages.
//!
//! OVSDB messages follow one another with nothing between them, so the end of one is found only
//! by its brackets. The decoder remembers where it is in a message, so that however the stream
//! arrives, each byte is looked at once: the first contents of a large database come in thousands
//! of reads.

use bytes::{Buf, Bytes, BytesMut};

/// Finds the ends of messages. Does not check that they are JSON beyond their brackets.
#[derive(Debug)]
pub(crate) struct Decoder {
    message_bytes_max: usize,
    /// Bytes at the front of the input already looked at; all belong to the message begun.
    scanned: usize,
    /// Brackets open at `scanned`; zero between messages.
    depth: usize,
    in_string: bool,
    /// Whether the byte before `scanned` is a backslash that escapes the next one.
    escaped: bool,
}

/// Why the stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("byte {byte:#04x} where a message should begin")]
    NotAnObject { byte: u8 },
    #[error("message exceeds {max} bytes")]
    TooLong { max: usize },
}

impl Decoder {
    pub(crate) fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, scanned: 0, depth: 0, in_string: false, escaped: false }
    }

    /// Takes the next complete message off the front of `input`; `None` if it needs more bytes.
    ///
    /// `input` belongs to the decoder between calls: the caller may only append to it.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, DecodeError> {
        if self.depth == 0 {
            let blank = input.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            input.advance(blank);
            match input.first() {
                None => return Ok(None),
                Some(b'{') => (),
                Some(&byte) => return Err(DecodeError::NotAnObject { byte }),
            }
        }
        let end = self.scan(input);
        let length = end.unwrap_or(input.len());
        if length > self.message_bytes_max {
            return Err(DecodeError::TooLong { max: self.message_bytes_max });
        }
        self.scanned = if end.is_some() { 0 } else { length };
        Ok(end.map(|end| input.split_to(end).freeze()))
    }

    /// Goes on from `scanned`; the length of the message if its end is there.
    fn scan(&mut self, input: &[u8]) -> Option<usize> {
        for (position, byte) in input.iter().enumerate().skip(self.scanned) {
            if self.escaped {
                self.escaped = false;
                continue;
            }
            match (self.in_string, byte) {
                (true, b'\\') => self.escaped = true,
                (_, b'"') => self.in_string = !self.in_string,
                (false, b'{' | b'[') => self.depth += 1,
                (false, b'}' | b']') => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(position + 1);
                    }
                }
                _ => (),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::datum;

    const MAX: usize = 1 << 20;

    /// Feeds the stream in pieces of the given sizes, the rest at once.
    fn decode(stream: &[u8], pieces: &[usize], max: usize) -> Result<Vec<Bytes>, DecodeError> {
        let mut decoder = Decoder::new(max);
        let (mut input, mut rest, mut messages) = (BytesMut::new(), stream, Vec::new());
        for &piece in pieces.iter().chain([&stream.len()]) {
            let (head, tail) = rest.split_at(piece.min(rest.len()));
            input.extend_from_slice(head);
            rest = tail;
            while let Some(message) = decoder.next(&mut input)? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn messages_may_follow_one_another_with_or_without_space() {
        let messages = decode(b" {\"a\":1}{\"b\":[]}\r\n\t{} ", &[], MAX).unwrap();
        assert_eq!(messages, [&b"{\"a\":1}"[..], b"{\"b\":[]}", b"{}"]);
    }

    #[test]
    fn brackets_in_strings_do_not_count() {
        let stream = br#"{"a}":"]\"}\\"}{"b":"\\\""}"#;
        for cut in 0..stream.len() {
            let messages = decode(stream, &[cut], MAX).unwrap();
            assert_eq!(messages, [&br#"{"a}":"]\"}\\"}"#[..], br#"{"b":"\\\""}"#], "cut at {cut}");
        }
    }

    #[test]
    fn only_objects_are_messages() {
        for (stream, byte) in [(&b"[]"[..], b'['), (b"{} 1", b'1'), (b"}", b'}')] {
            assert_eq!(decode(stream, &[], MAX), Err(DecodeError::NotAnObject { byte }));
        }
    }

    #[test]
    fn a_message_that_exceeds_the_maximum_is_refused_before_it_is_complete() {
        let stream = br#"{"a":"1234"}"#;
        assert!(decode(stream, &[], stream.len()).is_ok());
        let too_long = Err(DecodeError::TooLong { max: 8 });
        assert_eq!(decode(stream, &[], 8), too_long);
        assert_eq!(decode(&stream[..9], &[4], 8), too_long);
    }

    proptest! {
        #[test]
        fn messages_survive_being_cut_anywhere(
            data in prop::collection::vec(datum(), 0..6),
            pieces in prop::collection::vec(0..40_usize, 0..40),
        ) {
            let sent: Vec<Value> = data.iter().map(|datum| json!({"params": [datum]})).collect();
            let stream: String = sent.iter().map(Value::to_string).collect();
            let messages = decode(stream.as_bytes(), &pieces, MAX).unwrap();
            let read: Vec<Value> =
                messages.iter().map(|message| serde_json::from_slice(message).unwrap()).collect();
            prop_assert_eq!(read, sent);
        }

        #[test]
        fn any_bytes_are_read_alike_however_they_are_cut(
            stream in prop::collection::vec(
                prop::sample::select(br#"{}[]"\ a,"#.to_vec()), 0..60),
            pieces in prop::collection::vec(0..8_usize, 0..20),
        ) {
            prop_assert_eq!(decode(&stream, &pieces, 32), decode(&stream, &[], 32));
        }
    }
}
