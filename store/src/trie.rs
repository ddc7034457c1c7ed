//! A persistent table of rows by 64-bit hashes: a tree of 16-way branches over leaves of few rows.
//!
//! The nodes of `imbl`'s ordered map are 64 wide. In a table of a million rows that costs twice:
//! on the way to a row half a dozen distant lines of memory are searched, and while a fork is held
//! each change copies 45 rows. Here a branch is entered by four bits of the hash, without a search,
//! the upper branches of a large table stay in the cache, and a leaf has 15 rows or so. (The
//! figures of both are in ARCHITECTURE.md, "Decisions".)

use std::sync::Arc;

/// How many bits of the hash a branch takes.
const BITS: u32 = 4;
const WIDTH: usize = 1 << BITS;
/// A leaf of more rows becomes a branch, unless all bits are used up.
const LEAF_MAX: usize = 32;
/// The children of a branch become one leaf if they have no more rows, fewer than
/// [`LEAF_MAX`] so that a row that comes and goes does not split and join each time.
const JOINED_MAX: usize = 16;

/// Rows by hash; rows that share one are told apart by the caller. A clone is O(1) and is a fork.
#[derive(Debug, Clone)]
pub(crate) struct Trie<V> {
    root: Node<V>,
    len: usize,
}

#[derive(Debug, Clone)]
enum Node<V> {
    Empty,
    /// In no order.
    Leaf(Arc<Vec<(u64, V)>>),
    Branch(Arc<[Node<V>; WIDTH]>),
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self { root: Node::Empty, len: 0 }
    }
}

impl<V> Trie<V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The rows with this hash. O(log n).
    pub(crate) fn get(&self, hash: u64) -> impl Iterator<Item = &V> {
        let (mut node, mut rest) = (&self.root, hash);
        let rows: &[(u64, V)] = loop {
            match node {
                Node::Empty => break &[],
                Node::Leaf(rows) => break rows,
                Node::Branch(children) => node = &children[slot(rest)],
            }
            rest >>= BITS;
        };
        rows.iter().filter(move |(its, _)| *its == hash).map(|(_, row)| row)
    }

    /// All rows, in no order that means anything. O(n).
    pub(crate) fn iter(&self) -> Iter<'_, V> {
        Iter { nodes: vec![std::slice::from_ref(&self.root).iter()], rows: [].iter() }
    }
}

impl<V: Clone> FromIterator<(u64, V)> for Trie<V> {
    /// A table of rows of which no two are the same. O(n log n), at a tenth of what it costs to
    /// insert them one by one.
    fn from_iter<I: IntoIterator<Item = (u64, V)>>(rows: I) -> Self {
        let rows: Vec<(u64, V)> = rows.into_iter().collect();
        Self { len: rows.len(), root: Node::of(0, rows) }
    }
}

impl<V: Clone> Trie<V> {
    /// Stores a row in place of the first with this hash that is the `same`, which is returned.
    /// O(log n).
    pub(crate) fn insert(&mut self, hash: u64, row: V, same: impl Fn(&V) -> bool) -> Option<V> {
        let before = self.root.insert(0, hash, row, same);
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes out the first row with this hash that is `meant`. O(log n).
    pub(crate) fn remove(&mut self, hash: u64, meant: impl Fn(&V) -> bool) -> Option<V> {
        // A fork is not copied for nothing.
        self.get(hash).find(|row| meant(row))?;
        let row = self.root.remove(hash, hash, meant)?;
        self.len -= 1;
        Some(row)
    }
}

/// Which child the next bits name.
fn slot(rest: u64) -> usize {
    usize::try_from(rest % (1 << BITS)).expect("four bits")
}

impl<V: Clone> Node<V> {
    /// `used` bits of the hash have led here.
    fn insert(&mut self, used: u32, hash: u64, row: V, same: impl Fn(&V) -> bool) -> Option<V> {
        match self {
            Self::Empty => {
                *self = Self::Leaf(Arc::new(vec![(hash, row)]));
                None
            }
            Self::Branch(children) => {
                let child = &mut Arc::make_mut(children)[slot(hash >> used)];
                child.insert(used + BITS, hash, row, same)
            }
            Self::Leaf(rows) => {
                let known = rows.iter().position(|(its, row)| *its == hash && same(row));
                let rows = Arc::make_mut(rows);
                if let Some(known) = known {
                    return Some(std::mem::replace(&mut rows[known].1, row));
                }
                rows.push((hash, row));
                if rows.len() > LEAF_MAX && used < u64::BITS {
                    let rows = std::mem::take(rows);
                    *self = Self::of(used, rows);
                }
                None
            }
        }
    }

    /// All of `rows`, whose first `used` bits are alike.
    fn of(used: u32, rows: Vec<(u64, V)>) -> Self {
        match rows.len() {
            0 => Self::Empty,
            1..=LEAF_MAX => Self::Leaf(Arc::new(rows)),
            _ if used >= u64::BITS => Self::Leaf(Arc::new(rows)),
            _ => {
                let mut parts: [Vec<(u64, V)>; WIDTH] = Default::default();
                rows.into_iter().for_each(|row| parts[slot(row.0 >> used)].push(row));
                Self::Branch(Arc::new(parts.map(|part| Self::of(used + BITS, part))))
            }
        }
    }

    /// The bits of `hash` that have not led here are `rest`.
    fn remove(&mut self, rest: u64, hash: u64, meant: impl Fn(&V) -> bool) -> Option<V> {
        match self {
            Self::Empty => None,
            Self::Leaf(rows) => {
                let at = rows.iter().position(|(its, row)| *its == hash && meant(row))?;
                let row = Arc::make_mut(rows).swap_remove(at).1;
                if rows.is_empty() {
                    *self = Self::Empty;
                }
                Some(row)
            }
            Self::Branch(children) => {
                let children = Arc::make_mut(children);
                let child = &mut children[slot(rest)];
                let row = child.remove(rest >> BITS, hash, meant)?;
                // To look at the others each time would cost more than a sparse branch does.
                if matches!(child, Self::Empty)
                    && let Some(joined) = Self::joined(children)
                {
                    *self = joined;
                }
                Some(row)
            }
        }
    }

    /// The rows of all children as one node, if they are few.
    fn joined(children: &[Self; WIDTH]) -> Option<Self> {
        let mut rows = Vec::new();
        for child in children {
            match child {
                Self::Empty => {}
                Self::Leaf(more) if rows.len() + more.len() <= JOINED_MAX => {
                    rows.extend_from_slice(more);
                }
                Self::Leaf(_) | Self::Branch(_) => return None,
            }
        }
        Some(if rows.is_empty() { Self::Empty } else { Self::Leaf(Arc::new(rows)) })
    }
}

/// See [`Trie::iter`].
pub(crate) struct Iter<'a, V> {
    /// What is left of each branch on the way down.
    nodes: Vec<std::slice::Iter<'a, Node<V>>>,
    /// What is left of the leaf.
    rows: std::slice::Iter<'a, (u64, V)>,
}

impl<'a, V> Iterator for Iter<'a, V> {
    type Item = (u64, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((hash, row)) = self.rows.next() {
                return Some((*hash, row));
            }
            match self.nodes.last_mut()?.next() {
                None => drop(self.nodes.pop()),
                Some(Node::Empty) => {}
                Some(Node::Leaf(rows)) => self.rows = rows.iter(),
                Some(Node::Branch(children)) => self.nodes.push(children.iter()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Hashes that are alike in their first bits, in all of them, or in none.
    fn hashes() -> impl Strategy<Value = u64> {
        prop_oneof![0..64u64, (0..64u64).prop_map(|it| it << 60), Just(7), any::<u64>()]
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64, u8),
        Remove(u64, u8),
        /// Takes out most rows, so that branches become leaves.
        Thin(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (hashes(), 0..60u8).prop_map(|(hash, id)| Step::Insert(hash, id)),
            2 => (hashes(), 0..60u8).prop_map(|(hash, id)| Step::Remove(hash, id)),
            1 => (1..9usize).prop_map(Step::Thin),
        ];
        prop::collection::vec(step, 0..300)
    }

    type Model = BTreeMap<(u64, u8), usize>;

    fn same(trie: &Trie<(u8, usize)>, model: &Model) {
        let mut rows: Vec<_> = trie.iter().map(|(hash, row)| (hash, *row)).collect();
        rows.sort_unstable();
        let expected = model.iter().map(|((hash, id), row)| (*hash, (*id, *row)));
        assert_eq!(rows, expected.collect::<Vec<_>>());
        assert_eq!(trie.len(), model.len());
        for &(hash, id) in model.keys() {
            assert!(trie.get(hash).any(|row| row.0 == id));
        }
    }

    proptest! {
        #[test]
        fn a_trie_behaves_as_a_map_of_hash_and_id(steps in steps()) {
            let (mut trie, mut model) = (Trie::default(), Model::new());
            let (mut fork, mut forked) = (trie.clone(), model.clone());
            for (position, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(hash, id) => {
                        let before = trie.insert(hash, (id, position), |row| row.0 == id);
                        let expected = model.insert((hash, id), position);
                        prop_assert_eq!(before, expected.map(|row| (id, row)));
                    }
                    Step::Remove(hash, id) => {
                        let gone = trie.remove(hash, |row| row.0 == id);
                        prop_assert_eq!(gone.map(|row| row.1), model.remove(&(hash, id)));
                    }
                    Step::Thin(keep) => {
                        (fork, forked) = (trie.clone(), model.clone());
                        let keys: Vec<_> = model.keys().copied().collect();
                        for (hash, id) in keys.into_iter().skip(keep) {
                            prop_assert!(trie.remove(hash, |row| row.0 == id).is_some());
                            model.remove(&(hash, id));
                        }
                    }
                }
            }
            same(&trie, &model);
            same(&fork, &forked);
            let again: Trie<_> = trie.iter().map(|(hash, row)| (hash, *row)).collect();
            same(&again, &model);
        }
    }

    /// Else a table that was once large would stay so.
    #[test]
    fn a_trie_that_loses_its_rows_loses_its_branches() {
        let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut trie = Trie::default();
        for number in 0..10_000 {
            trie.insert(hash(number), number, |_| false);
        }
        assert!(matches!(trie.root, Node::Branch(_)));
        for number in 10..10_000 {
            trie.remove(hash(number), |_| true).unwrap();
        }
        let Node::Branch(children) = &trie.root else { return };
        let deep = children.iter().filter(|child| matches!(child, Node::Branch(_)));
        assert!(deep.count() <= 2, "{:?}", trie.root);
    }
}
