//! Encodings that older builds wrote are read by this one, and it writes the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use openraft::EntryPayload;
use prost::Message as _;

use crate::log::segment::{Batch, Kind, Record, encode, record_at};
use crate::raft::{Command, Entry, LogId, Membership, Peer, StoredMembership};
use crate::{proto, wire};

/// Today's build reads each golden file and writes the same bytes. `TANDEM_BLESS=1` writes those
/// that are missing.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if !path.exists() && std::env::var_os("TANDEM_BLESS").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let written = std::fs::read(&path).unwrap();
    assert_eq!(written, bytes, "{name} is encoded in another way");
    written
}

fn id(index: u64) -> LogId {
    wire::log_id_from(proto::LogId { term: 7, node: 2, index })
}

fn membership() -> Membership {
    let peer = |name: &str| Peer {
        name: name.to_owned(),
        address: format!("{name}.test:7000"),
        ..Peer::default()
    };
    let peers = BTreeMap::from([(1, peer("a")), (2, peer("b")), (3, peer("w"))]);
    Membership::new(vec![BTreeSet::from([1, 2]), BTreeSet::from([1, 2, 3])], peers).unwrap()
}

#[test]
fn encodings_are_those_of_the_golden_files() {
    let command = Command(b"a command".to_vec());
    for (name, payload) in [
        ("entry_blank.bin", EntryPayload::Blank),
        ("entry_command.bin", EntryPayload::Normal(command)),
        ("entry_membership.bin", EntryPayload::Membership(membership())),
    ] {
        let entry = Entry { log_id: id(41), payload };
        let bytes = golden(name, &wire::entry(&entry).encode_to_vec());
        let read = wire::entry_from(proto::Entry::decode(bytes.as_slice()).unwrap()).unwrap();
        assert_eq!(read, entry);
    }

    let vote = wire::vote_from(proto::Vote { term: 9, node: 3, committed: true });
    let bytes = golden("vote.bin", &wire::vote(&vote).encode_to_vec());
    assert_eq!(wire::vote_from(proto::Vote::decode(bytes.as_slice()).unwrap()), vote);

    let stored = StoredMembership::new(Some(id(4)), membership());
    let bytes = golden("membership.bin", &wire::stored_membership(&stored).encode_to_vec());
    let read = proto::StoredMembership::decode(bytes.as_slice()).unwrap();
    assert_eq!(wire::stored_membership_from(read).unwrap(), stored);

    let applied = proto::Applied {
        log_id: Some(wire::log_id(&id(99))),
        membership: Some(wire::stored_membership(&stored)),
    };
    let bytes = golden("applied.bin", &applied.encode_to_vec());
    assert_eq!(proto::Applied::decode(bytes.as_slice()).unwrap(), applied);

    let row = proto::snapshot::Row {
        family: "calls".to_owned(),
        key: b"key".to_vec(),
        value: b"value".to_vec(),
    };
    let snapshot = proto::Snapshot { rows: vec![row] };
    let bytes = golden("snapshot.bin", &snapshot.encode_to_vec());
    assert_eq!(proto::Snapshot::decode(bytes.as_slice()).unwrap(), snapshot);
}

#[test]
fn records_are_those_of_the_golden_file() {
    let record =
        Record { shard: 2, kind: Kind::Entry, index: 5, payload: b"payload".to_vec(), serial: 0 };
    let batch = Batch { number: 12, start: 4096 };
    let mut bytes = Vec::new();
    encode(&mut bytes, 3, batch, &record);
    let bytes = golden("record.bin", &bytes);
    let found = record_at(&bytes, 0, 3).unwrap();
    assert_eq!((found.record, found.batch), (record, batch));
    assert!(record_at(&bytes, 0, 4).is_none(), "a record of another life is none");
}
