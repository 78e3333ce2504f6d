//! Replicated deadlines: they follow from entities, so they survive with them. The leader proposes
//! [`Command::Due`] when its clock has passed one; an entity that has moved on ignores it.
//!
//! [`Command::Due`]: crate::command::Command::Due

use crate::ids::{AgentId, CallId, ChannelId, EntityId, LegId, OfferId, SubscriptionId};

/// Why something must happen at a time. Closed: each names what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Deadline {
    /// The agent let the offer ring out (RONA), or a dialled extension did not answer.
    RingOut { call: CallId, offer: OfferId },
    /// After-call work is over. `since_index` names which.
    AcwOver { agent: AgentId, since_index: u64 },
    /// A registration was not refreshed.
    RegistrationExpired { agent: AgentId, since_index: u64 },
    /// The channel's guard time is over.
    GuardOver { channel: ChannelId },
    /// A released leg's peer never answered.
    ReleaseOver { call: CallId, leg: LegId },
    /// The call has lasted longer than any call may.
    TooLong { call: CallId },
    /// What a flow waits for did not come: a digit, or the end of a prompt. `turn` names which.
    FlowWait { call: CallId, turn: u64 },
    /// A subscription was not refreshed, or its last NOTIFY has had its time.
    SubscriptionDue { agent: AgentId, subscription: SubscriptionId },
    /// A leg's session is to be refreshed, or was not (RFC 4028).
    SessionTimer { call: CallId, leg: LegId },
}

impl Deadline {
    /// Whose actor owns it.
    pub fn entity(&self) -> EntityId {
        match self {
            Self::RingOut { call, .. }
            | Self::ReleaseOver { call, .. }
            | Self::TooLong { call }
            | Self::SessionTimer { call, .. }
            | Self::FlowWait { call, .. } => EntityId::Call(*call),
            Self::AcwOver { agent, .. }
            | Self::RegistrationExpired { agent, .. }
            | Self::SubscriptionDue { agent, .. } => EntityId::Agent(agent.clone()),
            Self::GuardOver { channel } => EntityId::Channel(channel.clone()),
        }
    }
}
