//! What is written once, at a call's end, and never changed.

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_sip::Millis;
use tandem_sip::reason::Q850;

use crate::call::state::Transfer;
use crate::command::{Gap, Quality};
use crate::ids::{AgentId, CallId, ChannelId, FlowId, GatewayId, QueueId, RecordingId};

/// The call detail record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cdr {
    pub call: CallId,
    pub sip_call_id: String,
    pub from: String,
    pub to: String,
    pub channel: Option<ChannelId>,
    pub started_at: Millis,
    pub answered_at: Option<Millis>,
    pub queued_at: Option<Millis>,
    pub connected_at: Option<Millis>,
    pub ended_at: Millis,
    pub queue: Option<QueueId>,
    pub agent: Option<AgentId>,
    pub disposition: Disposition,
    pub hung_up_by: Side,
    /// `normal_clearing`, or the SIP status that refused.
    pub cause: String,
    pub takeovers: u32,
    pub recording: Option<RecordingId>,
    /// The flow that the caller was in, and the names of the first steps there.
    pub flow: Option<FlowId>,
    pub flow_path: Vec<Arc<str>>,
    /// At most [`TRANSFERS_MAX`](crate::limits::TRANSFERS_MAX).
    pub transfers: Vec<Transfer>,
    /// What a peer has given as the cause, or what `cause` stands for.
    pub q850: Option<Q850>,
    /// As in the call.
    pub asserted: Option<String>,
    pub diverted_from: Option<String>,
    pub outward: Option<Outward>,
    /// The call in which the conversation went on: this one was a consultation of its caller.
    pub joined: Option<CallId>,
}

/// How a call went out, the last time that it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outward {
    pub number: String,
    /// None where none was free.
    pub channel: Option<ChannelId>,
    /// Who has answered.
    pub peer: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Somebody or something answered and talked.
    Answered,
    /// The caller gave up in the queue.
    Abandoned,
    NoAnswer,
    Busy,
    /// Refused before it was answered.
    Rejected,
    /// Broken off by a fault.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Caller,
    Agent,
    Callee,
    System,
    Operator,
}

/// The manifest of one recording. Written when it begins, and again when it is sealed. Of the same
/// form is what a gateway tells that it has of one, while it runs or as another's copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub recording: RecordingId,
    pub call: CallId,
    pub gateway: GatewayId,
    pub duration_ms: u64,
    pub chunks: u32,
    pub gaps: Vec<Gap>,
    pub sealed: bool,
    pub hash: String,
    /// Spans that were not to be recorded: silent.
    pub pauses: Vec<Gap>,
    /// The gateway that recorded it is gone, and what came after these chunks with it.
    pub cut: bool,
    /// None in manifests of before this was kept.
    pub began_at: Option<Millis>,
}

impl Manifest {
    /// Of a recording of which there is nothing yet.
    pub fn new(recording: RecordingId, call: CallId, gateway: GatewayId, began_at: Millis) -> Self {
        Self {
            recording,
            call,
            gateway,
            duration_ms: 0,
            chunks: 0,
            gaps: Vec::new(),
            sealed: false,
            hash: String::new(),
            pauses: Vec::new(),
            cut: false,
            began_at: Some(began_at),
        }
    }

    pub fn key(&self) -> Vec<u8> {
        self.recording.0.to_be_bytes().to_vec()
    }

    /// Of the row that says what one gateway has. Events commit out of order: what is whole has a
    /// row that what was told before can't replace.
    pub fn holding_key(&self) -> Vec<u8> {
        let mut key = self.key();
        key.push(if self.sealed { HOLDS_ALL } else { HOLDS_SOME });
        key.extend(self.gateway.0.as_bytes());
        key
    }
}

const HOLDS_SOME: u8 = 1;
const HOLDS_ALL: u8 = 2;

/// How one leg's media was: a row of its own beside the record, for it comes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegQuality {
    /// Who carried the leg: after a takeover there are two rows of it.
    pub gateway: GatewayId,
    /// And in which of its lives: a later one may have carried the leg for a moment.
    pub incarnation: u64,
    pub quality: Quality,
}

impl LegQuality {
    /// Sorts by call, then leg.
    pub fn key(&self) -> Vec<u8> {
        let mut key = self.quality.call.0.to_be_bytes().to_vec();
        key.extend(self.quality.leg.0.to_be_bytes());
        key.extend(self.incarnation.to_be_bytes());
        key.extend(self.gateway.0.as_bytes());
        key
    }
}

impl Disposition {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Abandoned => "abandoned",
            Self::NoAnswer => "no_answer",
            Self::Busy => "busy",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

impl Side {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Agent => "agent",
            Self::Callee => "callee",
            Self::System => "system",
            Self::Operator => "operator",
        }
    }
}

impl Cdr {
    /// Sorts by time of end; unique by call.
    pub fn key(&self) -> Vec<u8> {
        let mut key = self.ended_at.0.to_be_bytes().to_vec();
        key.extend(self.call.0.to_be_bytes());
        key
    }
}
