use super::*;
use crate::members::Role;

fn member(id: NodeId, name: &str, folder: &str) -> Member {
    Member {
        id,
        name: name.to_owned(),
        role: if name == "witness" { Role::Witness } else { Role::Node },
        address: "127.0.0.1:7000".parse().unwrap(),
        folder: folder.to_owned(),
        place: String::new(),
    }
}

fn given() -> Vec<Member> {
    vec![member(1, "node-a", ""), member(2, "node-b", ""), member(3, "witness", "")]
}

fn fresh(name: &str, folder: &str) -> (String, Said) {
    (name.to_owned(), Said::Fresh(member(0, name, folder)))
}

fn runs(name: &str, id: NodeId) -> (String, Said) {
    (name.to_owned(), Said::Runs { id, members: given() })
}

fn told(me: &str, said: &[(String, Said)]) -> Decision {
    decide(&member(0, me, "A"), &given(), &said.iter().cloned().collect())
}

#[test]
fn first_node_founds_only_when_all_others_are_new() {
    let founding = told("node-a", &[fresh("node-b", "B"), fresh("witness", "W")]);
    let members =
        vec![member(1, "node-a", "A"), member(2, "node-b", "B"), member(3, "witness", "W")];
    assert_eq!(founding, Decision::Be(Identity { id: 1, founds: true, members }));
    // One that says nothing may have voted.
    assert_eq!(told("node-a", &[fresh("node-b", "B")]), Decision::Ask);
    assert_eq!(told("node-a", &[]), Decision::Ask);
    assert_eq!(told("node-b", &[fresh("node-a", "A"), fresh("witness", "W")]), Decision::Ask);
}

#[test]
fn empty_folder_waits_where_the_cluster_is_there_and_does_not_know_it() {
    let unknown = [fresh("node-b", "B"), runs("witness", 0)];
    for me in ["node-a", "node-b"] {
        assert_eq!(told(me, &unknown), Decision::Wait);
    }
    // Nobody becomes who its place in the file says, be it the first.
    assert_eq!(told("node-a", &[runs("node-b", 0), runs("witness", 0)]), Decision::Wait);
}

#[test]
fn folder_is_of_the_replica_that_the_groups_say() {
    let known = [runs("node-a", 0), runs("witness", 4)];
    let be = Decision::Be(Identity { id: 4, founds: false, members: given() });
    assert_eq!(told("node-b", &known), be);
}
