//! Who shall belong to the cluster: a value of the meta shard, and what an operator may ask of it.
//! Pure. What would lose the quorum is refused before anything is written (etcd's strict
//! reconfiguration check), and so is a second change while one is under way.

use std::collections::BTreeSet;

use prost::Message as _;
use tandem_storage::raft::NodeId;

use crate::Refused;
use crate::members::{Live, Member, Role};
use crate::pb;
use crate::plan;

/// The key of the meta shard.
pub const KEY: &str = "cluster/members";
/// Voters and learners; with more, a majority takes longer than it is worth.
pub const MEMBERS_MAX: usize = 9;

/// Who shall belong to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    pub members: Vec<Member>,
    /// Of the next replica: greater than any that there ever was.
    pub next_id: NodeId,
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Add {
        name: String,
        address: String,
        witness: bool,
    },
    Remove {
        name: String,
    },
    /// The same name with an empty folder, as another replica.
    Replace {
        name: String,
    },
}

impl Change {
    pub fn name(&self) -> &str {
        let (Self::Add { name, .. } | Self::Remove { name } | Self::Replace { name }) = self;
        name
    }
}

impl From<Change> for pb::ChangeRequest {
    fn from(change: Change) -> Self {
        use pb::change_request::{Add, Change as To};
        Self {
            change: Some(match change {
                Change::Add { name, address, witness } => To::Add(Add { name, address, witness }),
                Change::Remove { name } => To::Remove(name),
                Change::Replace { name } => To::Replace(name),
            }),
        }
    }
}

impl Roster {
    /// Of a cluster that has none yet.
    pub fn of(live: &Live) -> Self {
        let next_id = live.members.iter().map(|member| member.id).max().unwrap_or(0) + 1;
        Self { members: live.members.clone(), next_id }
    }

    /// Nothing where it can't be read.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let read = pb::Roster::decode(bytes).ok()?;
        let members = read.members.iter().map(Member::of_seat).collect::<Option<_>>()?;
        Some(Self { members, next_id: read.next_id })
    }

    pub fn write(&self) -> Vec<u8> {
        let members = self.members.iter().map(Member::seat).collect();
        pb::Roster { members, next_id: self.next_id }.encode_to_vec()
    }

    pub fn ids(&self) -> BTreeSet<NodeId> {
        self.members.iter().map(|member| member.id).collect()
    }

    pub fn named(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// Whether every group has come there.
    pub fn is_settled(&self, live: &Live) -> bool {
        let ids = self.ids();
        live.groups.values().all(|group| plan::is_there(&ids, group))
    }

    /// The names of those that come or go.
    pub fn under_way(&self, live: &Live) -> BTreeSet<String> {
        let (ids, mut names) = (self.ids(), BTreeSet::new());
        for group in live.groups.values().filter(|group| !plan::is_there(&ids, group)) {
            let voters: BTreeSet<NodeId> = group.quorums.iter().flatten().copied().collect();
            let differ = ids.symmetric_difference(&voters).chain(ids.difference(&group.members));
            let differ = differ.chain(group.members.difference(&ids));
            for id in differ {
                let member = self.members.iter().find(|member| member.id == *id);
                let member = member.or_else(|| live.member(*id));
                names.extend(member.map(|member| member.name.clone()));
            }
        }
        names
    }

    /// The roster that `change` makes of it. `fresh`: who waits with an empty folder where it is to
    /// be; `alive`: replicas that are heard of now, the leader among them.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn changed(
        &self,
        change: &Change,
        fresh: Option<&Member>,
        live: &Live,
        alive: &BTreeSet<NodeId>,
    ) -> Result<Self, Refused> {
        let name = change.name();
        let under_way = self.under_way(live);
        if let Some(other) = under_way.iter().find(|other| *other != name) {
            return unsafe_now(format!("another change is under way: that of {other}"));
        }
        match change {
            Change::Add { witness, .. } => self.with(name, *witness, fresh, alive),
            Change::Remove { .. } => self.without(name, alive),
            Change::Replace { .. } => self.replaced(name, fresh, alive),
        }
    }

    fn with(
        &self,
        name: &str,
        witness: bool,
        fresh: Option<&Member>,
        alive: &BTreeSet<NodeId>,
    ) -> Result<Self, Refused> {
        let fresh = waiting(name, fresh)?;
        if let Some(known) = self.named(name) {
            if known.folder == fresh.folder {
                return Ok(self.clone());
            }
            return unsafe_now(format!("{name} is a member already: it can be replaced"));
        }
        if fresh.is_witness() != witness {
            let what = if fresh.is_witness() { "a witness" } else { "a node" };
            return unsafe_now(format!("{name} was started as {what}"));
        }
        if self.members.len() >= MEMBERS_MAX {
            return unsafe_now(format!("{MEMBERS_MAX} members are as many as there may be"));
        }
        if let Some(other) = self.members.iter().find(|it| it.address == fresh.address) {
            return unsafe_now(format!("{} is the address of {}", fresh.address, other.name));
        }
        let mut next = self.clone();
        let id = next.take_id();
        next.members.push(Member { id, ..fresh.clone() });
        let mut alive = alive.clone();
        alive.insert(id);
        enough(&next, &alive, &format!("with {name}"))?;
        Ok(next)
    }

    fn without(&self, name: &str, alive: &BTreeSet<NodeId>) -> Result<Self, Refused> {
        if self.named(name).is_none() {
            return Err(Refused::Unknown(format!("member {name:?}")));
        }
        let mut next = self.clone();
        next.members.retain(|member| member.name != name);
        enough(&next, alive, &format!("without {name}"))?;
        Ok(next)
    }

    fn replaced(
        &self,
        name: &str,
        fresh: Option<&Member>,
        alive: &BTreeSet<NodeId>,
    ) -> Result<Self, Refused> {
        let old = self.named(name);
        let old = old.ok_or_else(|| Refused::Unknown(format!("member {name:?}")))?.clone();
        let fresh = waiting(name, fresh)?;
        if old.folder == fresh.folder {
            return Ok(self.clone());
        }
        if old.role != fresh.role {
            return unsafe_now(format!("{name} was started in another role"));
        }
        if alive.contains(&old.id) {
            return unsafe_now(format!("{name} is alive as replica {}", old.id));
        }
        let mut next = self.clone();
        let id = next.take_id();
        for member in next.members.iter_mut().filter(|member| member.name == name) {
            *member = Member { id, ..fresh.clone() };
        }
        // The fresh one counts for nothing until it has caught up.
        enough(&next, alive, &format!("until {name} has caught up"))?;
        Ok(next)
    }

    fn take_id(&mut self) -> NodeId {
        self.next_id += 1;
        self.next_id - 1
    }
}

/// Without a majority of them, and a node that runs calls, nothing could be decided any more.
fn enough(next: &Roster, alive: &BTreeSet<NodeId>, when: &str) -> Result<(), Refused> {
    let there = next.ids().intersection(alive).count();
    let needed = next.members.len() / 2 + 1;
    if there < needed {
        let all = next.members.len();
        return unsafe_now(format!(
            "the quorum would be lost: {when}, {there} of {all} voters are there, {needed} are needed"
        ));
    }
    let runs_calls = |member: &Member| member.role == Role::Node && alive.contains(&member.id);
    if !next.members.iter().any(runs_calls) {
        return unsafe_now(format!("{when}, no node that runs calls is there"));
    }
    Ok(())
}

fn waiting<'a>(name: &str, fresh: Option<&'a Member>) -> Result<&'a Member, Refused> {
    fresh.filter(|fresh| fresh.name == name).ok_or_else(|| {
        Refused::Unsafe(format!(
            "{name} does not wait with an empty folder: start it with one first"
        ))
    })
}

fn unsafe_now<T>(why: String) -> Result<T, Refused> {
    Err(Refused::Unsafe(why))
}

#[cfg(test)]
mod tests;
