use std::collections::BTreeMap;

use tandem_storage::raft::ShardId;

use super::*;
use crate::members::Group;

fn member(id: NodeId, name: &str) -> Member {
    Member {
        id,
        name: name.to_owned(),
        role: if name.starts_with("witness") { Role::Witness } else { Role::Node },
        address: format!("127.0.0.{}:7000", name.len() * 10 + name.as_bytes()[5] as usize % 10)
            .parse()
            .unwrap(),
        folder: format!("folder of {id}"),
        place: String::new(),
    }
}

fn three() -> Roster {
    let members = vec![member(1, "node-a"), member(2, "node-b"), member(3, "witness")];
    Roster { members, next_id: 4 }
}

fn fresh(name: &str) -> Member {
    Member { id: 0, folder: "a new folder".to_owned(), ..member(9, name) }
}

/// Every group has these members, and they vote.
fn live(members: &[Member]) -> Live {
    let ids: BTreeSet<NodeId> = members.iter().map(|member| member.id).collect();
    let group = Group { quorums: vec![ids.clone()], members: ids.clone() };
    let groups = BTreeMap::from([(ShardId::META, group.clone()), (ShardId(0), group)]);
    Live { members: members.to_vec(), groups, quorums: vec![ids] }
}

fn ids(of: &[NodeId]) -> BTreeSet<NodeId> {
    of.iter().copied().collect()
}

fn replace(name: &str) -> Change {
    Change::Replace { name: name.to_owned() }
}

fn remove(name: &str) -> Change {
    Change::Remove { name: name.to_owned() }
}

fn add(name: &str, witness: bool) -> Change {
    Change::Add { name: name.to_owned(), address: String::new(), witness }
}

#[track_caller]
fn refused(result: Result<Roster, Refused>, why: &str) {
    match result {
        Err(Refused::Unsafe(said)) => assert!(said.contains(why), "{said}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn replaced_member_is_another_replica_and_no_id_comes_twice() {
    let (now, alive) = (three(), ids(&[1, 3]));
    let live_now = live(&now.members);
    let fresh_b = fresh("node-b");
    let next = now.changed(&replace("node-b"), Some(&fresh_b), &live_now, &alive).unwrap();
    assert_eq!((next.ids(), next.next_id), (ids(&[1, 3, 4]), 5));
    assert_eq!(next.named("node-b").unwrap().folder, "a new folder");
    // Asked again, and again once its folder is lost again.
    assert_eq!(
        next.changed(&replace("node-b"), Some(&fresh_b), &live_now, &alive),
        Ok(next.clone())
    );
    let newer = Member { folder: "a newer one".to_owned(), ..fresh_b };
    let again = next.changed(&replace("node-b"), Some(&newer), &live_now, &alive).unwrap();
    assert_eq!((again.ids(), again.next_id), (ids(&[1, 3, 5]), 6));
    assert_eq!(Roster::read(&again.write()), Some(again));
}

#[test]
fn replacement_is_refused_where_nobody_waits_or_somebody_lives_or_too_few_are_there() {
    let now = three();
    let live = live(&now.members);
    let fresh_b = fresh("node-b");
    let change = replace("node-b");
    refused(now.changed(&change, None, &live, &ids(&[1, 3])), "start it with one first");
    refused(now.changed(&change, Some(&fresh_b), &live, &ids(&[1, 2, 3])), "alive as replica 2");
    refused(now.changed(&change, Some(&fresh_b), &live, &ids(&[1])), "1 of 3 voters are there, 2");
    let as_witness = Member { role: Role::Witness, ..fresh_b };
    refused(now.changed(&change, Some(&as_witness), &live, &ids(&[1, 3])), "another role");
    let unknown = now.changed(&replace("node-x"), Some(&fresh("node-x")), &live, &ids(&[1, 3]));
    assert_eq!(unknown, Err(Refused::Unknown("member \"node-x\"".to_owned())));
}

#[test]
fn removal_is_refused_where_the_quorum_or_the_last_node_would_be_lost() {
    let now = three();
    let live = live(&now.members);
    let all = ids(&[1, 2, 3]);
    assert_eq!(now.changed(&remove("witness"), None, &live, &all).unwrap().ids(), ids(&[1, 2]));
    assert_eq!(
        now.changed(&remove("node-b"), None, &live, &ids(&[1, 3])).unwrap().ids(),
        ids(&[1, 3])
    );
    refused(
        now.changed(&remove("witness"), None, &live, &ids(&[1, 3])),
        "the quorum would be lost",
    );
    refused(now.changed(&remove("node-a"), None, &live, &ids(&[1, 3])), "1 of 2 voters");
    let two = Roster { members: vec![member(1, "node-a"), member(3, "witness")], next_id: 4 };
    let live_two = super::tests::live(&two.members);
    refused(
        two.changed(&remove("node-a"), None, &live_two, &ids(&[1, 3])),
        "no node that runs calls",
    );
    assert_eq!(two.next_id, 4);
}

#[test]
fn new_member_needs_a_name_and_an_address_of_its_own_and_room() {
    let now = three();
    let live = live(&now.members);
    let (all, node_c) = (ids(&[1, 2, 3]), fresh("node-c"));
    let with = |fresh: &Member, change: &Change, alive: &BTreeSet<NodeId>| {
        now.changed(change, Some(fresh), &live, alive)
    };
    let next = with(&node_c, &add("node-c", false), &all).unwrap();
    assert_eq!(next.ids(), ids(&[1, 2, 3, 4]));
    refused(with(&node_c, &add("node-c", true), &all), "was started as a node");
    refused(with(&fresh("node-b"), &add("node-b", false), &all), "is a member already");
    let there = Member { address: now.members[0].address, ..node_c.clone() };
    refused(with(&there, &add("node-c", false), &all), "is the address of node-a");
    refused(with(&node_c, &add("node-c", false), &ids(&[1])), "2 of 4 voters are there, 3 are");
}

#[test]
fn one_change_at_a_time_and_what_is_under_way_may_be_taken_back() {
    let now = three();
    let alive = ids(&[1, 2, 3]);
    let before = live(&now.members);
    let node_c = fresh("node-c");
    let next = now.changed(&add("node-c", false), Some(&node_c), &before, &alive).unwrap();
    assert!(now.is_settled(&before) && !next.is_settled(&before));
    assert_eq!(next.under_way(&before), BTreeSet::from(["node-c".to_owned()]));
    refused(
        next.changed(&remove("witness"), None, &before, &alive),
        "another change is under way: that of node-c",
    );
    let back = next.changed(&remove("node-c"), None, &before, &alive).unwrap();
    assert_eq!((back.ids(), back.next_id), (now.ids(), 5));
    // One group is there and the other is not.
    let mut half = live(&next.members);
    let late = before.groups[&ShardId(0)].clone();
    half.groups.insert(ShardId(0), late);
    assert_eq!(next.under_way(&half), BTreeSet::from(["node-c".to_owned()]));
    assert!(next.is_settled(&live(&next.members)));
    assert_eq!(next.under_way(&live(&next.members)), BTreeSet::new());
}
