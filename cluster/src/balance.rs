//! Leaders spread over the nodes by load. Pure.

use std::collections::BTreeMap;

use tandem_storage::raft::{NodeId, ShardId};

/// A group that nothing is proposed to weighs as much as so many proposals a second: its leader
/// still costs something, and will get its share of what comes.
pub const IDLE_WEIGHT: u64 = 10;
/// A move must mend at least this part of the difference, or the lead would wander with the load.
const GAIN_SHARE: u64 = 4;

fn weight(load: u32) -> u64 {
    IDLE_WEIGHT + u64::from(load)
}

fn sum(loads: &[u32]) -> u64 {
    loads.iter().map(|load| weight(*load)).sum()
}

/// The group to give away, and to whom, where that mends a difference. `mine` are groups by their
/// proposals a second; `theirs`, of nodes that may take one.
pub fn next_move(
    mine: &BTreeMap<ShardId, u32>,
    theirs: &BTreeMap<NodeId, Vec<u32>>,
) -> Option<(ShardId, NodeId)> {
    let (to, loads) = theirs.iter().min_by_key(|(_, loads)| sum(loads))?;
    let own: u64 = mine.values().map(|load| weight(*load)).sum();
    let difference = own.checked_sub(sum(loads))?;
    let gain = |load: u32| difference.saturating_sub(difference.abs_diff(2 * weight(load)));
    // Of equals a tenant's before the meta shard, and the one with the highest number.
    let among_equals = |shard: ShardId| (shard != ShardId::META, shard);
    let by_load = mine
        .iter()
        .filter(|(_, load)| gain(**load) >= weight(**load).max(difference / GAIN_SHARE))
        .max_by_key(|(shard, load)| (gain(**load), among_equals(**shard)));
    // Quiet ones may be busy tomorrow.
    let by_count = || {
        let many = mine.len() >= loads.len() + 2;
        let quietest = mine
            .iter()
            .max_by_key(|(shard, load)| (std::cmp::Reverse(**load), among_equals(**shard)));
        quietest.filter(|(_, load)| many && difference >= 2 * weight(**load))
    };
    let (shard, _) = by_load.or_else(by_count)?;
    Some((*shard, *to))
}

/// Where each group goes that a node leads which is to lead none: to whoever has the least, the tenants' first.
pub fn give_all(
    mine: &BTreeMap<ShardId, u32>,
    mut theirs: BTreeMap<NodeId, Vec<u32>>,
) -> Vec<(ShardId, NodeId)> {
    let mut moves = Vec::new();
    for (shard, load) in mine {
        let least = theirs.iter_mut().min_by_key(|(id, loads)| (sum(loads), **id));
        let Some((to, loads)) = least else { return moves };
        loads.push(*load);
        moves.push((*shard, *to));
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(count: u16) -> BTreeMap<ShardId, u32> {
        (0..count).map(|at| (ShardId(at), 0)).chain([(ShardId::META, 0)]).collect()
    }

    #[test]
    fn balance_shares_quiet_groups_evenly_and_then_rests() {
        for count in [0, 1, 4, 16, 64] {
            let mut mine = groups(count);
            let mut theirs = BTreeMap::from([(2, Vec::new())]);
            let mut moves = 0;
            while let Some((shard, to)) = next_move(&mine, &theirs) {
                assert_ne!(shard, ShardId::META);
                theirs.get_mut(&to).unwrap().push(mine.remove(&shard).unwrap());
                moves += 1;
            }
            assert_eq!(moves, count.div_ceil(2), "of {count} and meta");
            let back = theirs[&2].iter().map(|load| (ShardId(0), *load)).collect();
            assert_eq!(next_move(&back, &BTreeMap::from([(1, vec![0; mine.len()])])), None);
        }
    }

    #[test]
    fn balance_leaves_a_busy_group_and_moves_quiet_ones_only_where_that_mends_something() {
        let mut mine = groups(2);
        mine.insert(ShardId(0), 1_000);
        assert_eq!(next_move(&mine, &BTreeMap::from([(2, vec![0, 0])])), None);
        assert_eq!(next_move(&mine, &BTreeMap::from([(2, vec![0])])), Some((ShardId(1), 2)));
        mine.insert(ShardId(1), 900);
        let moved = next_move(&mine, &BTreeMap::from([(2, vec![0, 0])]));
        assert_eq!(moved, Some((ShardId(1), 2)));
        // More groups, but less to do: nothing comes back.
        let many = (5..20).map(|at| (ShardId(at), 0)).collect();
        assert_eq!(next_move(&many, &BTreeMap::from([(1, vec![1_000])])), None);
    }

    #[test]
    fn node_that_is_emptied_gives_all_away_and_evenly() {
        let theirs = BTreeMap::from([(2, vec![0, 0]), (3, vec![])]);
        let moves = give_all(&groups(4), theirs);
        let to = |id| moves.iter().filter(|(_, to)| *to == id).count();
        assert_eq!((moves.len(), to(2), to(3)), (5, 2, 3), "{moves:?}");
        assert_eq!(give_all(&groups(4), BTreeMap::new()), [], "there is nobody");
    }

    #[test]
    fn balance_takes_the_node_with_the_least() {
        let theirs = BTreeMap::from([(2, vec![0, 0]), (3, vec![0])]);
        assert_eq!(next_move(&groups(5), &theirs).map(|it| it.1), Some(3));
        assert_eq!(next_move(&groups(5), &BTreeMap::new()), None);
    }
}
