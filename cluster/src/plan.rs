//! The next step of one group towards who shall belong to it. Pure: the leader of the group asks
//! again after each step, and so does whoever leads after it. Nothing but the group's own
//! configuration says how far it has come.
//!
//! Who joins is a learner until it has caught up; then all voters that come and go change at once, by
//! a joint configuration (Raft dissertation §4.3), so that a dead replica and the one in its place
//! are never voters without a majority of each side that lives.

use std::collections::BTreeSet;

use tandem_storage::raft::NodeId;

use crate::members::Group;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It gets the log, and has no vote.
    Learn(NodeId),
    /// These are the voters from now on.
    Vote(BTreeSet<NodeId>),
    /// A learner that shall not be there.
    Forget(NodeId),
    /// Whoever leads is to go: first another leads.
    Lead(NodeId),
}

/// What the leader knows of the members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub me: NodeId,
    /// They live and lack next to nothing; the leader among them.
    pub able: BTreeSet<NodeId>,
    /// Those that may lead.
    pub nodes: BTreeSet<NodeId>,
}

/// Nothing where the group is as it shall be, or something has to come about first.
pub fn next(wanted: &BTreeSet<NodeId>, group: &Group, facts: &Facts) -> Option<Step> {
    let (voters, is_joint) = match group.quorums.as_slice() {
        [] => return None,
        [voters] => (voters, false),
        [.., voters] => (voters, true),
    };
    if is_joint {
        // The rest of a change whose leader has died in the middle.
        return Some(Step::Vote(voters.clone()));
    }
    if let Some(new) = wanted.difference(&group.members).next() {
        return Some(Step::Learn(*new));
    }
    if wanted == voters {
        return group.members.difference(wanted).next().map(|gone| Step::Forget(*gone));
    }
    let is_ready = wanted.difference(voters).all(|new| facts.able.contains(new));
    if !is_ready || !has_majority(wanted, &facts.able) || !has_majority(voters, &facts.able) {
        return None;
    }
    let may_lead = |id: &&NodeId| facts.able.contains(id) && facts.nodes.contains(id);
    if wanted.contains(&facts.me) {
        return wanted.iter().any(|id| may_lead(&id)).then(|| Step::Vote(wanted.clone()));
    }
    wanted.intersection(voters).find(may_lead).map(|next| Step::Lead(*next))
}

/// Whether the group is as it shall be.
pub fn is_there(wanted: &BTreeSet<NodeId>, group: &Group) -> bool {
    group.quorums.as_slice() == std::slice::from_ref(wanted) && group.members == *wanted
}

pub fn has_majority(of: &BTreeSet<NodeId>, there: &BTreeSet<NodeId>) -> bool {
    of.intersection(there).count() > of.len() / 2
}

#[cfg(test)]
mod tests;
