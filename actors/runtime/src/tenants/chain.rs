//! What all entries of a group have written, as one hash: replicas that have the same are in the same state,
//! for rows are all that a state is made of. It goes on from entry to entry, is stored with the rows, and comes
//! with them to whoever is sent a snapshot. Who leads puts its own into the log now and then, and every
//! replica looks whether it had the same there.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tandem_core::rows::RowChange;

use super::{Outcome, TENANTS};

/// Entries behind the last whose hashes are known: more than there may be under way.
const RECENT_MAX: usize = 8_192;
/// The row of it; those of tenants have keys of two bytes.
pub(super) const KEY: &[u8] = b"chain";
const INDEX_BYTES: usize = 8;

/// Where a group is, for whoever compares: of the replica on this node.
#[derive(Clone, Debug, Default)]
pub struct Chain(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    index: u64,
    hash: [u8; blake3::OUT_LEN],
    /// The beginnings of the hashes behind the last entries.
    recent: VecDeque<(u64, u64)>,
    /// The first comparison that failed.
    differs_at: Option<u64>,
}

/// Of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Same,
    Differs,
    /// It was too long ago, or before this replica was here.
    Unknown,
}

impl Chain {
    /// What the last entry has come to, with its index; none before the first.
    pub fn last(&self) -> Option<(u64, u64)> {
        let state = self.0.lock();
        (state.index > 0).then(|| (state.index, beginning(&state.hash)))
    }

    /// All of it, in hexadecimal.
    pub fn shown(&self) -> String {
        blake3::Hash::from_bytes(self.0.lock().hash).to_hex().to_string()
    }

    /// The index at which this replica was first found in another state than who led then.
    pub fn differs_at(&self) -> Option<u64> {
        self.0.lock().differs_at
    }

    /// Goes on with what an entry has written, and writes that down.
    pub(super) fn add(&self, index: u64, outcome: &mut Outcome) {
        let mut state = self.0.lock();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&state.hash);
        hasher.update(&index.to_be_bytes());
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        for (family, prefix) in &outcome.cleared {
            part(family.as_bytes());
            part(prefix);
        }
        for RowChange { family, key, value } in &outcome.rows {
            part(family.as_bytes());
            part(key);
            part(if value.is_some() { b"put" } else { b"gone" });
            part(value.as_deref().unwrap_or_default());
        }
        state.hash = *hasher.finalize().as_bytes();
        state.index = index;
        let known = (index, beginning(&state.hash));
        state.recent.push_back(known);
        if state.recent.len() > RECENT_MAX {
            state.recent.pop_front();
        }
        let value = [&index.to_be_bytes()[..], &state.hash].concat();
        outcome.rows.push(RowChange { family: TENANTS, key: KEY.to_vec(), value: Some(value) });
    }

    /// Was it the same here?
    pub(super) fn compare(&self, index: u64, hash: u64) -> Found {
        let mut state = self.0.lock();
        let at = state.recent.binary_search_by_key(&index, |(index, _)| *index);
        let Some((_, known)) = at.ok().and_then(|at| state.recent.get(at)) else {
            return Found::Unknown;
        };
        if *known == hash {
            return Found::Same;
        }
        state.differs_at.get_or_insert(index);
        Found::Differs
    }

    /// As it was stored with the rows; none where nothing was.
    pub(super) fn restore(&self, stored: Option<&[u8]>) -> Result<(), String> {
        let mut state = State::default();
        if let Some(stored) = stored {
            let read = stored.split_first_chunk::<INDEX_BYTES>();
            let read = read.and_then(|(index, hash)| Some((*index, hash.try_into().ok()?)));
            let (index, hash) = read.ok_or("the hash of the rows can't be read")?;
            (state.index, state.hash) = (u64::from_be_bytes(index), hash);
            state.recent.push_back((state.index, beginning(&state.hash)));
        }
        *self.0.lock() = state;
        Ok(())
    }
}

fn beginning(hash: &[u8; blake3::OUT_LEN]) -> u64 {
    hash.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrote(value: Option<&[u8]>) -> Outcome {
        let row = RowChange { family: "calls", key: vec![1], value: value.map(<[u8]>::to_vec) };
        Outcome { rows: vec![row], ..Outcome::default() }
    }

    #[test]
    fn one_row_that_differs_is_found_and_stays_found() {
        let (one, other) = (Chain::default(), Chain::default());
        assert_eq!((one.last(), one.compare(1, 0)), (None, Found::Unknown));
        for index in 1..5_u64 {
            let (mut here, mut there) = (wrote(Some(b"a")), wrote(Some(b"a")));
            if index == 3 {
                there = wrote(None);
            }
            one.add(index, &mut here);
            other.add(index, &mut there);
            let (at, hash) = one.last().unwrap();
            assert_eq!(at, index);
            assert_eq!(here.rows.len(), 2);
            let found = if index < 3 { Found::Same } else { Found::Differs };
            assert_eq!(other.compare(at, hash), found);
            assert_eq!(other.differs_at(), (index >= 3).then_some(3));
            assert_eq!(one.compare(at, hash), Found::Same);
        }
        assert_eq!(other.compare(9, 0), Found::Unknown);
    }

    #[test]
    fn chain_goes_on_where_it_was_stored() {
        let (one, other) = (Chain::default(), Chain::default());
        let mut outcome = wrote(Some(b"a"));
        one.add(7, &mut outcome);
        let stored = outcome.rows.pop().and_then(|row| row.value).unwrap();
        other.restore(Some(&stored)).unwrap();
        assert_eq!(other.last(), one.last());
        for index in 8..8 + 2 * RECENT_MAX as u64 {
            one.add(index, &mut wrote(Some(b"b")));
            other.add(index, &mut wrote(Some(b"b")));
        }
        assert_eq!(other.last(), one.last());
        assert_eq!(one.compare(7, 0), Found::Unknown, "it is forgotten");
        assert!(other.restore(Some(&stored[..9])).is_err());
        other.restore(None).unwrap();
        assert_eq!(other.last(), None);
    }
}
