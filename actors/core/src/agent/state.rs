use tandem_sip::Millis;

pub use super::binding::{Outbound, Registration};
use crate::ids::{AgentId, CallId, OfferId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    pub id: AgentId,
    pub state: State,
    /// When the state began. For `Ready` it is the idle rank, kept over withdrawn offers.
    pub since: Millis,
    /// The log index at which the state began: a deadline of an earlier one is stale.
    pub since_index: u64,
    /// The phones, the one that rings first before the others.
    pub bindings: Vec<Registration>,
    /// Asked for while busy, applied after; the last request wins.
    pub pending: Option<Rest>,
}

/// The voice session.
///
/// ```text
/// LoggedOut ──first registration──▶ Ready ⇄ NotReady(reason)
/// Ready ──offer──▶ Reserved ──answered──▶ Talking ⇄ Held ──last leg ended──▶ Acw ──▶ Ready
///                                            ▲       ⇅ second call placed, one of them over
///                                            └── Consulting
///   ▲                 │ ring out, rejected, phone lost ──▶ NotReady(missed, rejected, station_lost)
///   └──caller gone────┘ same since
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    LoggedOut,
    NotReady {
        reason: String,
    },
    Ready,
    /// `back` is where a withdrawn offer returns to.
    Reserved {
        call: CallId,
        offer: OfferId,
        back: Rest,
        back_since: Millis,
    },
    Talking {
        call: CallId,
        back: Rest,
    },
    /// The agent's phone holds the call.
    Held {
        call: CallId,
        back: Rest,
    },
    /// The phone held `call` when it placed `second`, to ask a colleague before it sends the caller
    /// on. Which of them it holds by now is their legs' to say.
    Consulting {
        call: CallId,
        second: CallId,
        back: Rest,
    },
    /// After-call work.
    Acw {
        until: Millis,
        next: Rest,
    },
}

/// A state without a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    LoggedOut,
    NotReady { reason: String },
    Ready,
}

impl Agent {
    pub fn new(id: AgentId) -> Self {
        Self {
            id,
            state: State::LoggedOut,
            since: Millis(0),
            since_index: 0,
            bindings: Vec::new(),
            pending: None,
        }
    }

    pub fn call(&self) -> Option<CallId> {
        match &self.state {
            State::Reserved { call, .. }
            | State::Talking { call, .. }
            | State::Held { call, .. }
            | State::Consulting { call, .. } => Some(*call),
            State::LoggedOut | State::NotReady { .. } | State::Ready | State::Acw { .. } => None,
        }
    }

    /// The call that the agent has placed beside the first.
    pub fn second(&self) -> Option<CallId> {
        match &self.state {
            State::Consulting { second, .. } => Some(*second),
            State::LoggedOut
            | State::NotReady { .. }
            | State::Ready
            | State::Reserved { .. }
            | State::Talking { .. }
            | State::Held { .. }
            | State::Acw { .. } => None,
        }
    }

    pub fn is_in(&self, call: CallId) -> bool {
        self.call() == Some(call) || self.second() == Some(call)
    }

    /// May the queue offer a call to this agent?
    pub fn is_available(&self) -> bool {
        self.state == State::Ready && self.is_registered()
    }

    pub fn is_registered(&self) -> bool {
        !self.bindings.is_empty()
    }

    /// The phone that rings first.
    pub fn registration(&self) -> Option<&Registration> {
        self.bindings.first()
    }

    /// The state's name as the API shows it.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::LoggedOut => "logged_out",
            State::NotReady { .. } => "not_ready",
            State::Ready => "ready",
            State::Reserved { .. } => "reserved",
            State::Talking { .. } | State::Consulting { .. } => "talking",
            State::Held { .. } => "held",
            State::Acw { .. } => "acw",
        }
    }
}

impl From<Rest> for State {
    fn from(rest: Rest) -> Self {
        match rest {
            Rest::LoggedOut => Self::LoggedOut,
            Rest::NotReady { reason } => Self::NotReady { reason },
            Rest::Ready => Self::Ready,
        }
    }
}
