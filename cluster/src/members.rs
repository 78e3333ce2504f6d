//! Who belongs to the cluster, as its groups have it now: what each group's log says of its voters
//! and learners, put together. The file that a process was started with names only those whom it may
//! ask first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tandem_storage::raft::{NodeId, Peer, ShardId, StoredMembership};
use tokio::sync::watch;

use crate::network::Hub;
use crate::pb;
use crate::pulse::Heart;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Node,
    /// Log and votes, no state machine.
    Witness,
}

/// A replica of the cluster's groups, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Never given twice: a voter that has lost its folder comes back as another replica.
    pub id: NodeId,
    pub name: String,
    pub role: Role,
    pub address: SocketAddr,
    /// The data folder that the id was given to; empty in clusters of earlier versions.
    pub folder: String,
    /// What the program around consensus wants to know of it.
    pub place: String,
}

impl Member {
    pub fn is_witness(&self) -> bool {
        self.role == Role::Witness
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer {
            name: self.name.clone(),
            address: self.address.to_string(),
            folder: self.folder.clone(),
            witness: self.is_witness(),
            place: self.place.clone(),
        }
    }

    /// Nothing where its address is none.
    fn of_peer(id: NodeId, peer: &Peer) -> Option<Self> {
        Some(Self {
            id,
            name: peer.name.clone(),
            role: role(peer.witness),
            address: peer.address.parse().ok()?,
            folder: peer.folder.clone(),
            place: peer.place.clone(),
        })
    }

    pub(crate) fn seat(&self) -> pb::Seat {
        pb::Seat {
            id: self.id,
            name: self.name.clone(),
            address: self.address.to_string(),
            folder: self.folder.clone(),
            witness: self.is_witness(),
            place: self.place.clone(),
        }
    }

    /// Nothing where its address is none.
    pub(crate) fn of_seat(seat: &pb::Seat) -> Option<Self> {
        Some(Self {
            id: seat.id,
            name: seat.name.clone(),
            role: role(seat.witness),
            address: seat.address.parse().ok()?,
            folder: seat.folder.clone(),
            place: seat.place.clone(),
        })
    }
}

fn role(witness: bool) -> Role {
    if witness { Role::Witness } else { Role::Node }
}

/// One group's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Two while a change is under way: a quorum is a majority of each.
    pub quorums: Vec<BTreeSet<NodeId>>,
    /// Voters and learners.
    pub members: BTreeSet<NodeId>,
}

impl Group {
    pub(crate) fn of(stored: &StoredMembership) -> Self {
        let membership = stored.membership();
        Self {
            quorums: membership.get_joint_config().clone(),
            members: membership.nodes().map(|(id, _)| *id).collect(),
        }
    }

    pub fn is_voter(&self, id: NodeId) -> bool {
        self.quorums.iter().any(|voters| voters.contains(&id))
    }
}

/// What is known at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// By id; learners, too.
    pub members: Vec<Member>,
    /// Each group that is founded.
    pub groups: BTreeMap<ShardId, Group>,
    /// Those of the meta group.
    pub quorums: Vec<BTreeSet<NodeId>>,
}

impl Live {
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The latest replica of that name.
    pub fn named(&self, name: &str) -> Option<&Member> {
        self.members.iter().rev().find(|member| member.name == name)
    }

    pub fn is_voter(&self, id: NodeId) -> bool {
        self.quorums.iter().any(|voters| voters.contains(&id))
    }

    /// Voters that run calls, and so may lead.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        let voters = self.members.iter().filter(|member| self.is_voter(member.id));
        voters.filter(|member| member.role == Role::Node).map(|member| member.id)
    }

    pub fn witnesses(&self) -> impl Iterator<Item = NodeId> {
        self.members.iter().filter(|member| member.is_witness()).map(|member| member.id)
    }
}

/// Follows the groups of this voter, and keeps links and detector as they are.
pub struct Directory {
    pub me: Member,
    /// For what no group says: those that the process was started with.
    given: Vec<Member>,
    known: Mutex<BTreeMap<ShardId, StoredMembership>>,
    live: watch::Sender<Arc<Live>>,
    hub: Arc<Hub>,
    heart: Arc<Heart>,
}

impl Directory {
    pub fn new(me: Member, given: Vec<Member>, hub: Arc<Hub>, heart: Arc<Heart>) -> Self {
        let live = watch::Sender::new(Arc::new(put_together(&given, &BTreeMap::new())));
        let directory = Self { me, given, known: Mutex::default(), live, hub, heart };
        directory.act();
        directory
    }

    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.borrow())
    }

    pub fn changes(&self) -> watch::Receiver<Arc<Live>> {
        self.live.subscribe()
    }

    /// The configuration of one group is another one now.
    pub fn note(&self, shard: ShardId, stored: &StoredMembership) {
        let mut known = self.known.lock();
        known.insert(shard, stored.clone());
        let now = Arc::new(put_together(&self.given, &known));
        let changed = self.live.send_if_modified(|live| {
            let changed = *live != now;
            *live = now;
            changed
        });
        if changed {
            // Under the lock, so that an older view is never the last to be acted upon.
            self.act();
        }
    }

    fn act(&self) {
        let live = self.live();
        self.hub.keep(live.members.iter().filter(|member| member.id != self.me.id));
        let peers = live.members.iter().map(|member| member.id).filter(|id| *id != self.me.id);
        let mut detector = self.heart.detector.lock();
        detector.follow(self.me.id, &live.quorums, peers, Instant::now());
    }
}

/// Pure.
fn put_together(given: &[Member], known: &BTreeMap<ShardId, StoredMembership>) -> Live {
    let mut members = BTreeMap::new();
    let mut groups = BTreeMap::new();
    for (shard, stored) in known {
        let group = Group::of(stored);
        if group.quorums.is_empty() {
            continue;
        }
        groups.insert(*shard, group);
        for (id, peer) in stored.membership().nodes() {
            // Clusters of earlier versions did not write down who is what.
            let by_file = given.iter().find(|member| member.id == *id && peer.folder.is_empty());
            match by_file.cloned().or_else(|| Member::of_peer(*id, peer)) {
                Some(member) => {
                    members.insert(*id, member);
                }
                None => tracing::error!(%shard, id, %peer, "TD0452 a member has no address"),
            }
        }
    }
    if members.is_empty() {
        let all: BTreeSet<NodeId> = given.iter().map(|member| member.id).collect();
        return Live { members: given.to_vec(), groups, quorums: vec![all] };
    }
    let quorums = groups.get(&ShardId::META).map(|group| group.quorums.clone());
    let quorums = quorums.unwrap_or_else(|| vec![members.keys().copied().collect()]);
    Live { members: members.into_values().collect(), groups, quorums }
}
