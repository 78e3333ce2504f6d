//! What the HTTP API shows of the world, field by field. Times are RFC 3339 UTC with
//! milliseconds, ids are strings.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub id: String,
    /// `routing, in_flow, queued, dialing, connected, consulting, conferenced`.
    pub state: String,
    pub held: bool,
    pub from: String,
    pub to: String,
    pub queue: Option<String>,
    pub agent: Option<String>,
    /// Place in the queue, from 1.
    pub position: Option<u32>,
    pub gateway: String,
    pub shard: String,
    pub started_at: String,
    pub answered_at: Option<String>,
    pub connected_at: Option<String>,
    pub legs: Vec<Leg>,
    /// The number that sent the call on to ours last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverted_from: Option<String>,
    /// Where a caller in a flow is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    /// Of a call that is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<CallRecording>,
    /// The last time that its agent asked a colleague.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consult: Option<Consult>,
    /// `in, out, internal`.
    #[serde(default)]
    pub direction: String,
    /// Of the trunk by which it came in, or else goes out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<u16>,
    /// How it goes out by a trunk, or went the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outward: Option<Outward>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outward {
    pub number: String,
    pub trunk: Option<String>,
    pub channel: Option<u16>,
    /// The carrier's peer that has answered.
    pub peer: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecording {
    pub id: String,
    pub paused: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Consult {
    pub at: String,
    /// Who asks.
    pub agent: String,
    /// Who is asked.
    pub to: String,
    /// `ringing, talking, completed, cancelled, failed, hung_up`.
    pub state: String,
    /// Why it failed, as a SIP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    pub name: String,
    /// Grows with each change of the flow; a call finishes on the version that it began with.
    pub version: u64,
    pub step: String,
    /// What is heard.
    pub prompt: Option<String>,
    /// Pressed at this step, or collected at the last.
    pub digits: String,
    /// Tries of this step that came to nothing.
    pub tries: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leg {
    /// `caller, agent, callee`.
    pub role: String,
    pub sip_call_id: String,
    pub state: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    pub name: String,
    /// `longest_idle`.
    pub strategy: String,
    pub waiting: Vec<Waiting>,
    pub agents: Vec<QueueAgent>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    pub call: String,
    pub position: u32,
    /// When the caller joined; fixed for as long as the caller waits.
    pub since: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueAgent {
    pub id: String,
    pub state: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    pub id: String,
    /// `logged_out, not_ready, ready, reserved, talking, held, acw`.
    pub state: String,
    pub reason: Option<String>,
    pub since: String,
    pub call: Option<String>,
    /// The call that the agent's phone has placed beside the first, which it held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_call: Option<String>,
    pub registered: bool,
    /// Of the phone that rings first.
    pub gateway: Option<String>,
    /// In the order in which they ring.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phones: Vec<Phone>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phone {
    pub contact: String,
    pub gateway: String,
    /// `udp, tcp, tls, ws, wss`.
    pub transport: String,
    pub until: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trunk {
    pub name: String,
    pub channels: u16,
    pub idle: u16,
    pub busy: u16,
    /// Where calls of ours go out, in the order in which they are tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// Where the carrier wants us registered: each gateway, once it has been answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registrations: Vec<TrunkRegistration>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrunkRegistration {
    pub gateway: String,
    /// `registered, absent`.
    pub state: String,
    /// What the registrar has answered; 408 where that was nothing.
    pub status: u16,
    pub since: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    pub address: String,
    /// `up`; `held` where it gets no new call until then; `down` where OPTIONS of every gateway find
    /// it so, `degraded` where those of some do.
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// What it has answered; 408 where that was nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Since when it is down or degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// What OPTIONS of each gateway came to, where it has ever changed in the gateway's life.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<PeerOptions>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerOptions {
    pub gateway: String,
    /// `up, down`.
    pub state: String,
    pub status: u16,
    pub since: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    pub number: u16,
    /// `idle, seized_in, seized_out, active, releasing, guard`.
    pub state: String,
    pub call: Option<String>,
    pub since: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cdr {
    pub id: String,
    pub call: String,
    /// The caller's Call-ID.
    pub sip_call_id: String,
    pub from: String,
    pub to: String,
    pub trunk: Option<String>,
    pub channel: Option<u16>,
    pub started_at: String,
    pub answered_at: Option<String>,
    pub queued_at: Option<String>,
    pub connected_at: Option<String>,
    pub ended_at: String,
    pub wait_ms: Option<u64>,
    pub talk_ms: Option<u64>,
    pub queue: Option<String>,
    pub agent: Option<String>,
    /// `answered, abandoned, no_answer, busy, rejected, failed`.
    pub disposition: String,
    /// `caller, agent, callee, system, operator`.
    pub hung_up_by: String,
    /// The SIP status or Q.850-like word that ended it, for instance `normal_clearing`, `404`.
    pub cause: String,
    /// The cause of ITU-T Q.850 that a peer gave, or that stands for `cause`.
    #[serde(default)]
    pub q850: Option<u8>,
    /// Leader changes that the call lived through.
    pub takeovers: u32,
    pub recording: Option<String>,
    /// The flow that the caller was in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// The first steps that it led through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_path: Option<Vec<String>>,
    pub transfers: Vec<Transfer>,
    /// The number that the carrier asserts (RFC 3325), where the caller's own may be another or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asserted_from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverted_from: Option<String>,
    /// `in, out, internal`.
    #[serde(default)]
    pub direction: String,
    /// How it went out by a trunk, the last time that it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outward: Option<Outward>,
    /// The call in which the conversation went on, where this one was its agent's consultation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    pub at: String,
    /// Who sent the caller on.
    pub agent: String,
    pub to: String,
    /// `blind`, or `attended` where the agent spoke to whoever takes the call, or waited for it.
    pub kind: String,
    /// `went_over, came_back, ended`.
    pub outcome: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    pub id: String,
    pub call: String,
    pub began_at: Option<String>,
    /// Where it is recorded.
    pub gateway: String,
    pub duration_ms: u64,
    pub chunks: u32,
    pub gaps: Vec<RecordingGap>,
    /// Spans that were not to be recorded: silent, too.
    pub pauses: Vec<RecordingGap>,
    /// Names of the gateways that hold all of it.
    pub copies: Vec<String>,
    pub sealed: bool,
    /// Its gateway is gone: this is what another has of it.
    pub cut: bool,
    /// BLAKE3 of the file, hex.
    pub hash: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordingGap {
    pub at_ms: u64,
    pub len_ms: u64,
}
