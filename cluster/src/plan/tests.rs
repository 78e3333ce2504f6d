//! Groups on their way, with leaders that die and members that come and go between the steps.

use proptest::prelude::*;

use super::*;

fn ids(of: &[NodeId]) -> BTreeSet<NodeId> {
    of.iter().copied().collect()
}

fn group(quorums: &[&[NodeId]], members: &[NodeId]) -> Group {
    Group { quorums: quorums.iter().map(|voters| ids(voters)).collect(), members: ids(members) }
}

/// The witness is 3.
fn facts(me: NodeId, able: &[NodeId]) -> Facts {
    Facts { me, able: ids(able), nodes: ids(&[1, 2, 4, 5]) }
}

#[test]
fn dead_voter_and_the_one_in_its_place_change_in_one_step_once_that_has_caught_up() {
    let wanted = ids(&[1, 3, 4]);
    let now = group(&[&[1, 2, 3]], &[1, 2, 3]);
    assert_eq!(next(&wanted, &now, &facts(1, &[1, 3])), Some(Step::Learn(4)));
    let now = group(&[&[1, 2, 3]], &[1, 2, 3, 4]);
    assert_eq!(next(&wanted, &now, &facts(1, &[1, 3])), None, "it has not caught up");
    assert_eq!(next(&wanted, &now, &facts(1, &[1, 3, 4])), Some(Step::Vote(wanted.clone())));
    assert_eq!(next(&wanted, &now, &facts(1, &[1, 4])), None, "no majority of those that vote now");
    let now = group(&[&[1, 2, 3], &[1, 3, 4]], &[1, 2, 3, 4]);
    assert_eq!(next(&wanted, &now, &facts(4, &[4])), Some(Step::Vote(wanted.clone())));
    let now = group(&[&[1, 3, 4]], &[1, 2, 3, 4]);
    assert_eq!(next(&wanted, &now, &facts(1, &[1])), Some(Step::Forget(2)));
    let now = group(&[&[1, 3, 4]], &[1, 3, 4]);
    assert_eq!(next(&wanted, &now, &facts(1, &[1])), None);
    assert!(is_there(&wanted, &now));
}

#[test]
fn who_goes_and_leads_gives_the_lead_to_a_node_that_stays() {
    let (wanted, now) = (ids(&[2, 3]), group(&[&[1, 2, 3]], &[1, 2, 3]));
    assert_eq!(next(&wanted, &now, &facts(1, &[1, 2, 3])), Some(Step::Lead(2)));
    assert_eq!(next(&wanted, &now, &facts(1, &[1, 3])), None, "the other node lacks something");
    assert_eq!(next(&wanted, &now, &facts(2, &[1, 2, 3])), Some(Step::Vote(wanted)));
}

#[test]
fn change_that_would_stop_the_group_waits() {
    let (wanted, now) = (ids(&[1, 2]), group(&[&[1, 2, 3]], &[1, 2, 3]));
    assert_eq!(next(&wanted, &now, &facts(1, &[1, 3])), None, "one of two would be there");
    assert_eq!(next(&ids(&[3]), &now, &facts(3, &[1, 2, 3])), None, "no node would be there");
    assert_eq!(next(&wanted, &Group::default(), &facts(1, &[1, 2, 3])), None, "not founded yet");
}

/// What the group is after a step. `halfway`: the leader dies between the two entries of a change.
fn taken(now: &Group, step: &Step, halfway: bool) -> Group {
    let mut after = now.clone();
    match step {
        Step::Learn(id) => {
            after.members.insert(*id);
        }
        Step::Forget(id) => {
            assert!(!now.is_voter(*id), "a voter is forgotten");
            after.members.remove(id);
        }
        Step::Lead(_) => {}
        Step::Vote(voters) => {
            let last = now.quorums.last().unwrap();
            let is_joint = now.quorums.len() > 1;
            if halfway && !is_joint && last != voters {
                after.quorums = vec![last.clone(), voters.clone()];
            } else {
                after.quorums = vec![voters.clone()];
                // As `change_membership` does without `retain`.
                let gone = |id: &NodeId| now.is_voter(*id) && !voters.contains(id);
                after.members.retain(|id| !gone(id));
            }
        }
    }
    after
}

#[derive(Clone, Debug)]
struct Turn {
    /// Which of those that may lead does.
    leader: usize,
    /// Who is there, and has caught up.
    able: BTreeSet<NodeId>,
    halfway: bool,
}

fn turn() -> impl Strategy<Value = Turn> {
    let able = proptest::collection::btree_set(1_u64..=7, 0..=7);
    (0_usize..8, able, any::<bool>()).prop_map(|(leader, able, halfway)| Turn {
        leader,
        able,
        halfway,
    })
}

/// Who may be elected: an able node that votes, where each quorum has a majority that is able.
fn leader(
    now: &Group,
    able: &BTreeSet<NodeId>,
    nodes: &BTreeSet<NodeId>,
    at: usize,
) -> Option<NodeId> {
    if !now.quorums.iter().all(|voters| has_majority(voters, able)) {
        return None;
    }
    let mut may = able.iter().filter(|id| nodes.contains(id) && now.is_voter(**id));
    let count = may.clone().count();
    may.nth(at % count.max(1)).copied()
}

proptest! {
    /// Any members, any leaders, deaths and returns between any two entries: no step leaves a group
    /// without a majority of those that are there, and when all are there it arrives.
    #[test]
    fn no_step_loses_the_quorum_and_all_lead_there(
        voters in proptest::collection::btree_set(1_u64..=7, 1..=5),
        wanted in proptest::collection::btree_set(1_u64..=7, 1..=5),
        witnesses in proptest::collection::btree_set(1_u64..=7, 0..=1),
        turns in proptest::collection::vec(turn(), 0..12),
    ) {
        let nodes: BTreeSet<NodeId> = (1..=7).filter(|id| !witnesses.contains(id)).collect();
        // A roster without a node, or without anybody who stays, is refused before.
        prop_assume!(wanted.intersection(&nodes).any(|id| voters.contains(id)));
        prop_assume!(!voters.is_disjoint(&nodes));
        let mut now = Group { quorums: vec![voters.clone()], members: voters };
        let last = (0..40).map(|at| Turn { leader: at, able: (1..=7).collect(), halfway: false });
        for Turn { leader: at, able, halfway } in turns.into_iter().chain(last) {
            let Some(me) = leader(&now, &able, &nodes, at) else { continue };
            let facts = Facts { me, able: able.clone(), nodes: nodes.clone() };
            let Some(step) = next(&wanted, &now, &facts) else { continue };
            // A transfer is to somebody who can lead, and the next turn draws a leader anyhow.
            if let Step::Lead(to) = &step {
                prop_assert!(able.contains(to) && nodes.contains(to) && now.is_voter(*to));
            }
            let after = taken(&now, &step, halfway);
            for quorum in &after.quorums {
                prop_assert!(has_majority(quorum, &able), "{now:?} {step:?} {after:?}");
            }
            prop_assert!(after.quorums.iter().flatten().all(|id| after.members.contains(id)));
            now = after;
        }
        prop_assert!(is_there(&wanted, &now), "{now:?} is not {wanted:?}");
    }
}
