//! Names of things. Newtypes, so that a call can't be taken for a leg.

use std::fmt;
use std::sync::Arc;

macro_rules! id64 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                u64::from_str_radix(text, 16).map(Self)
            }
        }
    };
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        /// Shared by its copies, of which there are many.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Arc<str>);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }
    };
}

id64!(
    /// A conversation: it joins legs. Drawn from the command's seed.
    CallId
);
id64!(
    /// One party's connection within a call. Drawn from the command's seed; unique in the shard.
    LegId
);
id64!(
    /// One attempt to ring one agent for one caller.
    OfferId
);
id64!(
    /// One recording; a takeover goes on with the same one.
    RecordingId
);
id64!(
    /// What a phone has subscribed to: the index of the entry that began it.
    SubscriptionId
);
name!(
    /// The agent's login and extension, for instance `1001`.
    AgentId
);
name!(
    /// The queue's name, for instance `support`.
    QueueId
);
name!(
    /// The trunk's name, for instance `carrier`.
    TrunkId
);
name!(
    /// The flow's name, for instance `main`.
    FlowId
);
name!(
    /// The prompt's name: that of its file, without `.wav`.
    PromptId
);
name!(
    /// The name of a list of music: that of its folder.
    MusicId
);
name!(
    /// The gateway process's name, for instance `gateway-a`.
    GatewayId
);

/// One call slot of a trunk (E1 words: a B channel). Counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId {
    pub trunk: TrunkId,
    pub number: u16,
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.trunk, self.number)
    }
}

/// What an actor runs and what a row of state holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntityId {
    Channel(ChannelId),
    Call(CallId),
    Agent(AgentId),
    Queue(QueueId),
    Gateway(GatewayId),
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(id) => write!(f, "channel {id}"),
            Self::Call(id) => write!(f, "call {id}"),
            Self::Agent(id) => write!(f, "agent {id}"),
            Self::Queue(id) => write!(f, "queue {id}"),
            Self::Gateway(id) => write!(f, "gateway {id}"),
        }
    }
}
