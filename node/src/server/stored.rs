//! Rows of a tenant as this node's disk has them, of all the groups in which it has been.

use std::iter::Peekable;

use tandem_storage::raft::ShardId;
use tandem_storage::state::{Error, KeyValue, State};

use super::records::Rows;

pub struct Stored {
    pub state: State,
    /// The one where it is first, then where it was before: a row of a later one counts.
    pub groups: Vec<ShardId>,
    /// Before its keys.
    pub under: [u8; 2],
    pub family: &'static str,
}

impl Stored {
    fn failed(&self, error: &Error) {
        tracing::error!(family = self.family, %error, "TD0205 rows can't be read");
    }

    fn scan(
        &self,
        before: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        let rows = |group: &ShardId| {
            let rows = self.state.rows_down(*group, self.family, &self.under, before)?;
            Ok(rows.peekable())
        };
        let mut groups = self.groups.iter().map(rows).collect::<Result<Vec<_>, Error>>()?;
        while let Some(key) = highest(&mut groups) {
            let mut newest = None;
            for rows in &mut groups {
                let has = |row: &Result<KeyValue, Error>| match row {
                    Ok((known, _)) => Some(known) == key.as_ref(),
                    Err(_) => true,
                };
                if let Some(row) = rows.next_if(has) {
                    newest.get_or_insert(row?);
                }
            }
            if newest.is_none_or(|(key, value)| !visit(&key, &value)) {
                break;
            }
        }
        Ok(())
    }
}

/// The highest key that comes next, or none to say that one can't be read. Nothing where no row is left.
fn highest<I>(groups: &mut [Peekable<I>]) -> Option<Option<Vec<u8>>>
where
    I: Iterator<Item = Result<KeyValue, Error>>,
{
    let mut highest = None;
    for rows in groups {
        match rows.peek() {
            None => {}
            Some(Err(_)) => return Some(None),
            Some(Ok((key, _))) if highest.as_ref().is_none_or(|known| known < key) => {
                highest = Some(key.clone());
            }
            Some(Ok(_)) => {}
        }
    }
    highest.map(Some)
}

impl Rows for Stored {
    fn scan_down(&self, before: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        if let Err(error) = self.scan(before, visit) {
            self.failed(&error);
        }
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let key = [&self.under[..], key].concat();
        let mut found = self.groups.iter().map(|group| {
            let found = self.state.get(*group, self.family, &key);
            found.inspect_err(|error| self.failed(error)).ok().flatten()
        });
        found.find_map(std::convert::identity)
    }
}

#[cfg(test)]
mod tests {
    use tandem_storage::raft::StoredMembership;
    use tandem_storage::state::Change;

    use super::*;

    const FAMILIES: &[&str] = &["cdrs"];

    #[test]
    fn history_of_a_tenant_is_one_wherever_it_has_been() {
        let state = State::in_memory(FAMILIES).unwrap();
        let write = |group: u16, rows: &[(u8, u8)]| {
            let put =
                |(key, value): &(u8, u8)| Change::of("cdrs", vec![0, 7, *key], Some(vec![*value]));
            let mut rows: Vec<Change> = rows.iter().map(put).collect();
            // Another tenant's.
            rows.push(Change::of("cdrs", vec![0, 8, 4], Some(vec![0])));
            state.write(ShardId(group), &rows, None, &StoredMembership::default()).unwrap();
        };
        // 3 was written again after the move.
        write(1, &[(1, 1), (3, 1), (6, 1)]);
        write(2, &[(3, 2), (5, 2)]);
        let groups = vec![ShardId(2), ShardId(1), ShardId(0)];
        let stored = Stored { state, groups, under: [0, 7], family: "cdrs" };
        let down = |before: Option<&[u8]>, most: usize| {
            let mut seen = Vec::new();
            stored.scan_down(before, &mut |key, value| {
                seen.push((key[0], value[0]));
                seen.len() < most
            });
            seen
        };
        assert_eq!(down(None, 9), [(6, 1), (5, 2), (3, 2), (1, 1)]);
        assert_eq!(down(None, 2), [(6, 1), (5, 2)]);
        assert_eq!(down(Some(&[5]), 9), [(3, 2), (1, 1)]);
        assert_eq!(stored.get(&[3]), Some(vec![2]));
        assert_eq!(stored.get(&[1]), Some(vec![1]));
        assert_eq!(stored.get(&[4]), None);
    }
}
