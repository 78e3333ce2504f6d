use std::net::SocketAddr;

use tandem_sip::Millis;
use tandem_sip::reason::Q850;

use super::leg::{Leg, Party, Role};
use crate::cdr::{Disposition, Side};
use crate::ids::{AgentId, CallId, ChannelId, GatewayId, LegId, QueueId, RecordingId, TrunkId};
use crate::ivr::state::Run;
use crate::trunk::outward::Peer;

#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub id: CallId,
    pub state: State,
    /// Where the caller came in; the media of all legs are anchored there.
    pub gateway: GatewayId,
    pub from: String,
    pub to: String,
    /// None where an agent's phone calls.
    pub channel: Option<ChannelId>,
    /// The agent whose phone placed the call, or whom it is for since it was sent on.
    pub calling_agent: Option<AgentId>,
    /// The caller's leg is the first.
    pub legs: Vec<Leg>,
    pub started_at: Millis,
    pub answered_at: Option<Millis>,
    pub queued_at: Option<Millis>,
    pub connected_at: Option<Millis>,
    pub queue: Option<QueueId>,
    /// The agent who talks or talked.
    pub agent: Option<AgentId>,
    /// Leaders and lives of its gateway that went on with it.
    pub takeovers: u32,
    /// Of the last media plan.
    pub media_version: u64,
    pub recording: Option<RecordingId>,
    /// Until somebody resumes it: a transfer changes nothing.
    pub recording_paused: bool,
    /// The way through the flow that has the call, or had it.
    pub flow: Option<Run>,
    /// In the order in which they were asked for; only the last may be under way.
    pub transfers: Vec<Transfer>,
    /// Why it ends: set when it does, for those of its legs that are told later.
    pub q850: Option<Q850>,
    /// Who calls, as the carrier asserts it: kept from agents where the caller wants it so, and then
    /// `from` is no number.
    pub asserted: Option<String>,
    /// The number that sent the call on to ours last.
    pub diverted_from: Option<String>,
    /// The last time that the agent asked a colleague.
    pub consult: Option<Consult>,
    /// How it goes out by a trunk, or went the last time.
    pub outward: Option<Outward>,
    /// Nobody took it: the caller, who had been answered before, hears a tone until it ends.
    pub unreached: Option<Unreached>,
}

/// Why nobody took a call, as its record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreached {
    pub status: u16,
    pub how: Disposition,
    pub by: Side,
}

/// The caller was sent on to another number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub at: Millis,
    /// Who sent the caller on.
    pub agent: AgentId,
    pub to: String,
    /// The agent has spoken to whoever takes the call, or has waited for that.
    pub attended: bool,
    pub outcome: Outcome,
}

/// A way out by a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outward {
    pub number: String,
    /// What is still to be tried, at most [`HOPS_MAX`](crate::limits::HOPS_MAX).
    pub left: Vec<Hop>,
    /// The channel seized last.
    pub channel: Option<ChannelId>,
    /// Who has answered.
    pub peer: Option<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    pub trunk: TrunkId,
    pub peer: Peer,
}

/// A consultation: the agent speaks to a colleague while the caller hears music.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consult {
    pub at: Millis,
    /// Who asks.
    pub agent: AgentId,
    /// Who is asked.
    pub to: AgentId,
    pub outcome: Consulted,
}

/// How a consultation ended, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consulted {
    /// The colleague's phone rings, or both speak.
    Pending,
    /// All three speak.
    Joined,
    /// The caller goes to the colleague: from here on it is a transfer.
    Completed,
    Cancelled,
    /// The colleague did not take it, for this reason.
    Failed {
        status: u16,
    },
    /// The colleague hung up.
    HungUp,
    /// The call was over before.
    Ended,
}

impl Consulted {
    /// Both are still in it.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Joined)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Joined => "joined",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed { .. } => "failed",
            Self::HungUp => "hung_up",
            Self::Ended => "ended",
        }
    }
}

/// How a transfer ended: in one of three ways, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is under way; `leg` is of the one who waits for its end and has not hung up.
    Pending {
        leg: Option<LegId>,
    },
    WentOver,
    /// Nobody took it, for this reason.
    CameBack {
        status: u16,
    },
    /// The call was over before.
    Ended,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::WentOver => "went_over",
            Self::CameBack { .. } => "came_back",
            Self::Ended => "ended",
        }
    }
}

/// The conversation.
///
/// ```text
/// originate ──▶ Routing
///                  │ the phone answers
/// INVITE ──queue──▶ Queued ──agent answers──▶ Connected ──hang-up──▶ Ending ──last leg──▶ (gone)
///    ├─extension, out──▶ Dialing ─────────────────▲
///    ├─────echo──▶ InFlow ──hang-up──▶ Ending
///    └─────flow──▶ InFlow ──its queue, extension or hang-up──▶ Queued, Dialing, Ending
///                     ▲──────extension does not answer──────────────────┘
/// ```
///
/// A call that is transferred goes from Connected to one of the others: see `transfer`; one whose
/// agent asks a colleague is Consulting in between, and Conferenced where all three speak: see
/// `consult`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The tenant's number has the call: a flow, or without one the echo.
    /// We call for an agent, whose phone rings: where the call leads is looked up when it answers.
    Routing,
    /// The tenant's number has the call: the echo.
    InFlow,
    Queued {
        queue: QueueId,
    },
    /// An extension rings; where there is no agent, somebody outside.
    Dialing {
        agent: Option<AgentId>,
        leg: LegId,
    },
    Connected {
        leg: LegId,
    },
    /// The agent of `leg` asks a colleague, whose leg rings or is up; the caller hears music.
    Consulting {
        leg: LegId,
        consulted: LegId,
    },
    /// The agent of `leg`, the colleague who was asked and the caller hear each other.
    Conferenced {
        leg: LegId,
        joined: LegId,
    },
    /// Over, its CDR written: legs wait for their peers' last word.
    Ending,
}

impl Call {
    /// Of whom nothing is known yet but where it comes from and where it shall lead.
    pub fn new(
        id: CallId,
        state: State,
        gateway: GatewayId,
        from: String,
        to: String,
        started_at: Millis,
    ) -> Self {
        Self {
            id,
            state,
            gateway,
            from,
            to,
            channel: None,
            calling_agent: None,
            legs: Vec::new(),
            started_at,
            answered_at: None,
            queued_at: None,
            connected_at: None,
            queue: None,
            agent: None,
            takeovers: 0,
            media_version: 0,
            recording: None,
            recording_paused: false,
            flow: None,
            transfers: Vec::new(),
            q850: None,
            asserted: None,
            diverted_from: None,
            consult: None,
            outward: None,
            unreached: None,
        }
    }

    pub fn leg(&self, id: LegId) -> Option<&Leg> {
        self.legs.iter().find(|leg| leg.id == id)
    }

    pub fn leg_mut(&mut self, id: LegId) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|leg| leg.id == id)
    }

    pub fn caller(&self) -> Option<&Leg> {
        self.legs.iter().find(|leg| leg.is_caller())
    }

    /// Whom the call is for, as others are shown it.
    pub fn shown(&self) -> &str {
        match self.caller().map(|leg| &leg.role) {
            Some(Role::Transferee { who: Party::Colleague(agent), .. }) => &agent.0,
            Some(Role::Transferee { who: Party::Outside { number, .. }, .. }) => number,
            Some(
                Role::Caller
                | Role::Originator { .. }
                | Role::Agent { .. }
                | Role::Callee { .. }
                | Role::Trunk { .. },
            )
            | None => &self.from,
        }
    }

    /// Of the INVITE that has placed it.
    pub fn sip_call_id(&self) -> Option<&str> {
        let caller = self.caller()?;
        match &caller.role {
            Role::Transferee { known_as, .. } => Some(known_as),
            Role::Caller
            | Role::Originator { .. }
            | Role::Agent { .. }
            | Role::Callee { .. }
            | Role::Trunk { .. } => Some(&caller.invite.headers.call_id),
        }
    }

    /// Whether the agent's phone holds the call.
    pub fn is_held_by(&self, agent: &AgentId) -> bool {
        let calls = self.calling_agent.as_ref() == Some(agent);
        let of_agent = |leg: &&Leg| leg.agent() == Some(agent) || leg.is_caller() && calls;
        self.legs.iter().filter(of_agent).any(|leg| leg.held && leg.is_up())
    }

    /// The leg of the colleague who is asked, or has joined.
    pub fn consulted(&self) -> Option<&Leg> {
        match self.state {
            State::Consulting { consulted: leg, .. } | State::Conferenced { joined: leg, .. } => {
                self.leg(leg)
            }
            State::Routing
            | State::InFlow
            | State::Queued { .. }
            | State::Dialing { .. }
            | State::Connected { .. }
            | State::Ending => None,
        }
    }

    /// The leg that this one talks with, or shall.
    pub fn leg_beside(&self, id: LegId) -> Option<&Leg> {
        let caller = self.caller().filter(|leg| leg.id != id);
        let connected = match self.state {
            State::Connected { leg }
            | State::Consulting { leg, .. }
            | State::Conferenced { leg, .. }
                if leg != id =>
            {
                self.leg(leg)
            }
            State::Connected { .. }
            | State::Consulting { .. }
            | State::Conferenced { .. }
            | State::Routing
            | State::InFlow
            | State::Queued { .. }
            | State::Dialing { .. }
            | State::Ending => None,
        };
        caller.or(connected)
    }

    pub fn is_live(&self) -> bool {
        self.state != State::Ending
    }

    pub fn is_held(&self) -> bool {
        self.legs.iter().any(|leg| leg.held)
    }

    /// The state's name as the API shows it.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Routing => "routing",
            State::InFlow => "in_flow",
            State::Queued { .. } => "queued",
            State::Dialing { .. } => "dialing",
            State::Connected { .. } => "connected",
            State::Consulting { .. } => "consulting",
            State::Conferenced { .. } => "conferenced",
            State::Ending => "ended",
        }
    }
}
