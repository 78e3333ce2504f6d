//! Raft's values to and from their encodings (`proto/tandem/storage/v1/log.proto`).

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use openraft::vote::RaftLeaderId as _;

use crate::proto;
pub use crate::raft::Membership;
use crate::raft::{Command, Entry, LeaderId, LogId, Peer, StoredMembership, Vote};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("not an encoding: {0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("field {0} is missing")]
    Missing(&'static str),
    #[error("the membership makes no sense: {0}")]
    Membership(String),
    #[error("entry {index} follows entry {last}")]
    Hole { last: u64, index: u64 },
}

pub fn log_id(id: &LogId) -> proto::LogId {
    let leader = &id.leader_id;
    proto::LogId { term: leader.term, node: leader.node_id, index: id.index }
}

pub fn log_id_from(id: proto::LogId) -> LogId {
    let leader = LeaderId { term: id.term, node_id: id.node };
    LogId { leader_id: leader.to_committed(), index: id.index }
}

pub fn vote(vote: &Vote) -> proto::Vote {
    proto::Vote {
        term: vote.leader_id.term,
        node: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub fn vote_from(vote: proto::Vote) -> Vote {
    Vote { leader_id: LeaderId { term: vote.term, node_id: vote.node }, committed: vote.committed }
}

pub fn membership(membership: &Membership) -> proto::Membership {
    proto::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|ids| proto::membership::Voters { ids: ids.iter().copied().collect() })
            .collect(),
        peers: membership
            .nodes()
            .map(|(id, peer)| proto::Peer {
                id: *id,
                name: peer.name.clone(),
                address: peer.address.clone(),
                folder: peer.folder.clone(),
                witness: peer.witness,
                place: peer.place.clone(),
            })
            .collect(),
    }
}

pub fn membership_from(membership: proto::Membership) -> Result<Membership, Error> {
    if membership.configs.is_empty() {
        return Ok(Membership::default());
    }
    let configs: Vec<BTreeSet<u64>> =
        membership.configs.into_iter().map(|voters| voters.ids.into_iter().collect()).collect();
    let peers: BTreeMap<u64, Peer> =
        membership.peers.into_iter().map(|peer| (peer.id, peer_from(peer))).collect();
    Membership::new(configs, peers).map_err(|error| Error::Membership(error.to_string()))
}

fn peer_from(peer: proto::Peer) -> Peer {
    let proto::Peer { id: _, name, address, folder, witness, place } = peer;
    Peer { name, address, folder, witness, place }
}

pub fn stored_membership(stored: &StoredMembership) -> proto::StoredMembership {
    proto::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id),
        membership: Some(membership(stored.membership())),
    }
}

pub fn stored_membership_from(stored: proto::StoredMembership) -> Result<StoredMembership, Error> {
    let membership = stored.membership.ok_or(Error::Missing("membership"))?;
    Ok(StoredMembership::new(stored.log_id.map(log_id_from), membership_from(membership)?))
}

pub fn entry(entry: &Entry) -> proto::Entry {
    use proto::entry::Payload as To;
    let payload = match &entry.payload {
        EntryPayload::Blank => To::Blank(true),
        EntryPayload::Normal(command) => To::Command(command.0.clone()),
        EntryPayload::Membership(of) => To::Membership(membership(of)),
    };
    proto::Entry { log_id: Some(log_id(&entry.log_id)), payload: Some(payload) }
}

pub fn entry_from(entry: proto::Entry) -> Result<Entry, Error> {
    use proto::entry::Payload as From;
    let payload = match entry.payload.ok_or(Error::Missing("entry.payload"))? {
        From::Blank(_) => EntryPayload::Blank,
        From::Command(bytes) => EntryPayload::Normal(Command(bytes)),
        From::Membership(of) => EntryPayload::Membership(membership_from(of)?),
    };
    let id = entry.log_id.ok_or(Error::Missing("entry.log_id"))?;
    Ok(Entry { log_id: log_id_from(id), payload })
}
