//! Bytes into a hash, field by field, in a form that never changes by itself.
//!
//! Neither `Hash` nor an encoding is used: both may change with a compiler or a dependency, and
//! members on different releases compare what comes out.

use std::hash::Hasher;
use std::net::IpAddr;

use atoll_model::{Addresses, Labels, Revision};
use siphasher::sip128::{Hasher128, SipHasher13};

/// The key of every hash. It guards against accident, not against malice: who can choose names in
/// the store is no stranger to it. Members have to have the same one.
const KEY: (u64, u64) = (0x6174_6f6c_6c20_6469, 0x6765_7374_2072_6f77);

/// What of a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of it.
    Row,
    /// What an operator would see, whenever it happens: no revisions, no numbers that only OVN
    /// sees.
    Effect,
}

/// One hash in the making. Every part says where it ends, so that no two rows feed alike.
pub(crate) struct Feed {
    hasher: SipHasher13,
    scope: Scope,
    /// What the hasher has yet to see: fields are short, and it takes eight bytes at a time.
    pending: [u8; PENDING],
    pending_len: usize,
}

/// Most rows are fed to the hasher at once.
const PENDING: usize = 512;

impl Feed {
    /// A hash of a row of one kind; the number of a kind is for ever.
    pub(crate) fn new(kind: u8, scope: Scope) -> Self {
        let hasher = SipHasher13::new_with_keys(KEY.0, KEY.1);
        let mut feed = Self { hasher, scope, pending: [0; PENDING], pending_len: 0 };
        feed.byte(kind);
        feed
    }

    fn write(&mut self, bytes: &[u8]) {
        let end = self.pending_len + bytes.len();
        if let Some(room) = self.pending.get_mut(self.pending_len..end) {
            room.copy_from_slice(bytes);
            self.pending_len = end;
        } else {
            self.flush();
            self.hasher.write(bytes);
        }
    }

    fn flush(&mut self) {
        self.hasher.write(&self.pending[..self.pending_len]);
        self.pending_len = 0;
    }

    pub(crate) fn byte(&mut self, byte: u8) {
        self.write(&[byte]);
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.byte(u8::from(flag));
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    pub(crate) fn wide(&mut self, number: u128) {
        self.write(&number.to_le_bytes());
    }

    /// How many parts follow.
    pub(crate) fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.write(bytes);
    }

    pub(crate) fn text(&mut self, text: impl AsRef<str>) {
        self.bytes(text.as_ref().as_bytes());
    }

    /// When it happened: no part of the effect.
    pub(crate) fn revision(&mut self, revision: Revision) {
        if self.scope == Scope::Row {
            self.number(revision.0);
        }
    }

    /// When it happened by the cluster's clock: no part of the effect.
    pub(crate) fn time(&mut self, clock_ms: u64) {
        if self.scope == Scope::Row {
            self.number(clock_ms);
        }
    }

    /// A number that only OVN sees: no part of the effect.
    pub(crate) fn key(&mut self, key: u32) {
        if self.scope == Scope::Row {
            self.number(key.into());
        }
    }

    pub(crate) fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.bytes(&v4.octets()),
            IpAddr::V6(v6) => self.bytes(&v6.octets()),
        }
    }

    pub(crate) fn addresses(&mut self, addresses: Addresses) {
        self.count(addresses.iter().count());
        addresses.iter().for_each(|address| self.address(address));
    }

    pub(crate) fn labels(&mut self, labels: &Labels) {
        self.count(labels.len());
        for (key, value) in labels {
            self.text(key);
            self.text(value);
        }
    }

    /// What may be missing.
    pub(crate) fn option<T>(&mut self, value: Option<T>, feed: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            feed(self, value);
        }
    }

    /// All of several, in their order.
    pub(crate) fn each<T>(
        &mut self,
        values: impl ExactSizeIterator<Item = T>,
        mut feed: impl FnMut(&mut Self, T),
    ) {
        self.count(values.len());
        values.for_each(|value| feed(self, value));
    }

    pub(crate) fn finish(mut self) -> u128 {
        self.flush();
        self.hasher.finish128().as_u128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(feed: impl FnOnce(&mut Feed)) -> u128 {
        let mut it = Feed::new(1, Scope::Row);
        feed(&mut it);
        it.finish()
    }

    /// Members on different releases must make the same hash of the same fields.
    #[test]
    fn the_hash_of_given_fields_never_changes() {
        let found = hash(|it| {
            it.text("a");
            it.number(7);
            it.option(None::<u64>, Feed::number);
        });
        assert_eq!(found, GOLDEN, "{found:#x}");
    }

    const GOLDEN: u128 = 0x3ebb_7443_ddd0_5025_0e3b_be0f_1f09_606d;

    /// Whatever of it is held back on the way.
    #[test]
    fn long_rows_have_the_hash_of_all_their_bytes() {
        for length in [0, 500, 501, 503, 511, 512, 513, 2_000] {
            let text = "x".repeat(length);
            let mut plain = SipHasher13::new_with_keys(KEY.0, KEY.1);
            plain.write(&[1]);
            for part in [text.as_str(), "end"] {
                plain.write(&(part.len() as u64).to_le_bytes());
                plain.write(part.as_bytes());
            }
            let found = hash(|it| {
                it.text(&text);
                it.text("end");
            });
            assert_eq!(found, plain.finish128().as_u128(), "{length}");
        }
    }

    #[test]
    fn where_one_part_ends_and_the_next_begins_matters() {
        let two = |a: &'static str, b: &'static str| {
            hash(|it| {
                it.text(a);
                it.text(b);
            })
        };
        assert_ne!(two("ab", "c"), two("a", "bc"));
        assert_ne!(hash(|it| it.option(None::<u64>, Feed::number)), hash(|it| it.flag(true)));
    }
}
