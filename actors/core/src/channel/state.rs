use tandem_sip::Millis;

use crate::ids::{CallId, ChannelId};

/// A channel that is not idle. An idle one is no row.
///
/// ```text
/// Idle ──INVITE──▶ SeizedIn ──answered──▶ Active ──call over──▶ Guard ──guard over──▶ Idle
///   └──our INVITE──▶ SeizedOut ──▲           refused, cancelled──▲
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub id: ChannelId,
    pub state: State,
    pub since: Millis,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    SeizedIn {
        call: CallId,
    },
    /// We call out.
    SeizedOut {
        call: CallId,
    },
    Active {
        call: CallId,
    },
    /// The slot rests before it is seized again.
    Guard {
        until: Millis,
    },
}

impl Channel {
    pub fn call(&self) -> Option<CallId> {
        match self.state {
            State::SeizedIn { call } | State::SeizedOut { call } | State::Active { call } => {
                Some(call)
            }
            State::Guard { .. } => None,
        }
    }
}
