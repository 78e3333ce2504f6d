//! What the log of a shard carries: one envelope an entry.

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_sip::reason::Q850;
use tandem_sip::{Carrier, ConnectionId, Millis, Request, Response, sdp};

use crate::cdr::{Manifest, Side};
use crate::config::Config;
use crate::deadline::Deadline;
use crate::effect::{EffectId, Rollover};
use crate::ids::{AgentId, CallId, EntityId, GatewayId, LegId, RecordingId};
use crate::ivr::keys::Digit;
use crate::leases::Leases;
use crate::trunk::state::{PeerChange, RegistrationChange};

/// A command with everything that `handle` may not take from its surroundings.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The proposer's clock. The world's time is the greatest seen: it never goes back.
    pub at: Millis,
    /// The randomness of this command: ids, tags and branches are drawn from it.
    pub seed: u64,
    /// The feature version that the proposer speaks.
    pub version: u32,
    /// Set where the command came from a gateway: the event is applied once, however often
    /// it is proposed.
    pub origin: Option<Origin>,
    /// Effects that gateways have done; they leave the outbox with this entry.
    pub done: Vec<EffectId>,
    pub command: Command,
}

/// Which event of which life of which gateway this is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    pub gateway: GatewayId,
    /// Grows with each start of the process.
    pub incarnation: u64,
    /// Counted from 1 within the incarnation. Events may commit out of order.
    pub sequence: u64,
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly all commands are events: a box would be one more allocation for each"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// The tenant's configuration, copied from the meta shard by the leader.
    Configure(Box<Config>),
    /// The first command of a new leader. Live calls count one takeover for each.
    Elected {
        node: String,
        /// It has heard of no other leader in its process's life: all nodes were dead, as where the power went.
        dark: bool,
    },
    Gateway(GatewayEvent),
    /// The leader's clock passed a replicated deadline. Stale ones are ignored.
    Due(Deadline),
    Operator(OperatorCommand),
    /// An operator's command under a name: it counts once, however often it is proposed.
    Keyed(Keyed),
    /// The supervisor gave an entity up after repeated crashes of its actor: the audio stays
    /// up, an agent is made not ready.
    Quarantine {
        entity: EntityId,
        reason: String,
    },
    /// What is leased to the tenant from now on, in the place of what was: the meta shard has said it before.
    Lease(Leases),
    /// Carries only `done`.
    Trim,
}

/// What a gateway reports. Each is proposed until it is committed.
#[derive(Clone, Debug, PartialEq)]
pub enum GatewayEvent {
    /// The gateway logs in to the shard: who it is and what it brings. A new incarnation
    /// replaces the old one.
    Login(Login),
    /// A new INVITE outside any dialog.
    Invite(Inbound),
    /// A REGISTER whose digest the gateway has verified.
    Register(Register),
    /// Any other request on a dialog of ours, and requests that match none.
    Request(Inbound),
    /// A CANCEL; its own 200 was sent by the gateway. `transaction` names the INVITE's, `q850` is
    /// what it gave as its cause.
    Cancel { transaction: TransactionKey, q850: Option<Q850> },
    /// The ACK of a 2xx.
    Ack { call_id: String, local_tag: String, cseq: u32, answer: Option<sdp::Audio> },
    /// A response to a request that an effect sent. `branch` is of the topmost Via.
    Response { branch: String, response: Box<Response>, answer: Option<sdp::Audio> },
    /// Timer B or F fired, or the transport refused (RFC 3261 §17.1, §18.4).
    ClientTimeout { branch: String },
    /// No ACK came for a 2xx in 64·T1 (RFC 3261 §13.3.1.4).
    AckTimeout { transaction: TransactionKey },
    /// No RTP came for longer than the limit.
    RtpSilence { call: CallId, leg: LegId, since_ms: u64 },
    /// The sequence numbers of a leg's SRTP have gone on by a quarter of a round.
    Rollover { call: CallId, leg: LegId, rollover: Rollover },
    /// A recording was closed and hashed.
    Recorded(Recorded),
    /// What the gateway has of recordings: its own that run, and copies of other gateways'.
    Holdings(Vec<Manifest>),
    /// A leg's media was let go: how it was to talk over.
    Quality(Quality),
    /// A key in the RTP of a leg (RFC 4733): the leg's `number`-th in the gateway's life, from 1.
    Digit { call: CallId, leg: LegId, number: u64, digit: Digit, duration_ms: u32 },
    /// A prompt was played to its end. `missing`: the gateway has no such prompt.
    PromptEnded { call: CallId, leg: LegId, play: u64, missing: bool },
    /// A connection is gone over which a phone has registered.
    FlowGone { source: SocketAddr, connection: ConnectionId },
    /// An INFO in a dialog with a key in its body (RFC 6086).
    Info { inbound: Inbound, digit: Digit },
    /// OPTIONS has found a trunk's peer gone, or there again.
    PeerChange(PeerChange),
    /// A SUBSCRIBE outside of dialogs, of whom it names as its sender: as a REGISTER is proven.
    Subscribe(Register),
    /// A MESSAGE outside of dialogs, proven likewise.
    Message(Register),
    /// A NOTIFY was refused for good, or nobody has answered it (RFC 6665 §4.2.2).
    SubscriptionGone { call_id: String, local_tag: String },
    /// A carrier has the gateway's Contact, or no longer.
    RegistrationChange(RegistrationChange),
}

/// A server transaction as its gateway knows it (RFC 3261 §17.2.3): unique in the gateway's life.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionKey {
    /// First, for it tells most of them apart.
    pub branch: Arc<str>,
    pub sent_by: Arc<str>,
    pub method: Arc<str>,
    pub gateway: GatewayId,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Login {
    /// The service address for SIP, for instance `127.0.0.10:5060`.
    pub vip: SocketAddr,
    /// Local RTP ports that are bound and granted to this shard (even ones; RTCP is the next).
    pub ports: Vec<u16>,
}

/// A request with what the gateway parsed out of it. The body is left out of `request` where
/// it is SDP: `offer` carries it.
#[derive(Clone, Debug, PartialEq)]
pub struct Inbound {
    pub transaction: TransactionKey,
    /// Where the packet came from.
    pub source: SocketAddr,
    pub carrier: Carrier,
    /// An INVITE's is shared with the leg that it makes.
    pub request: Arc<Request>,
    pub offer: Option<sdp::Audio>,
    /// What the peer's certificate has proven it to be called.
    pub names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Register {
    pub transaction: TransactionKey,
    pub source: SocketAddr,
    pub carrier: Carrier,
    pub request: Box<Request>,
    /// The user whose password was proven.
    pub agent: AgentId,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    pub call: CallId,
    pub recording: RecordingId,
    pub duration_ms: u64,
    pub chunks: u32,
    pub gaps: Vec<Gap>,
    /// BLAKE3 of the finished file, hex.
    pub hash: String,
    /// Bytes of the finished file.
    pub bytes: u64,
    pub pauses: Vec<Gap>,
    /// By the gateway's clock.
    pub began_at: Option<Millis>,
    /// The process that has the file, where it is another than the line that tells it; else empty.
    pub holder: GatewayId,
}

/// What the RTP and RTCP of one leg came to at one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quality {
    pub call: CallId,
    pub leg: LegId,
    /// Whose leg it was; none where the plan did not say.
    pub role: Option<Side>,
    pub codec: sdp::Codec,
    pub packets_sent: u64,
    pub packets_received: u64,
    /// Of what the peer sent, packets that never came.
    pub packets_lost: u64,
    pub packets_late: u64,
    pub packets_duplicate: u64,
    /// The mean (RFC 3550 §A.8).
    pub jitter_us: u32,
    /// The mean; none where the peer has reported none.
    pub round_trip_us: Option<u32>,
    /// Hundredths of a mean opinion score (ITU-T G.107); none where nothing was received.
    pub mos_x100: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub at_ms: u64,
    pub len_ms: u64,
}

/// The same key brings the same answer, for as long as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Keyed {
    pub key: String,
    /// Asked for; bounded by [`KEY_MS_MAX`](crate::limits::KEY_MS_MAX).
    pub keep_ms: u64,
    pub command: OperatorCommand,
}

/// What an operator or an agent's desk asks for over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub enum OperatorCommand {
    SetAgentState {
        agent: AgentId,
        state: RequestedState,
    },
    /// Hang up every leg of the call.
    ReleaseCall {
        call: CallId,
    },
    /// Rings the agent's phone, and once it has answered dials the number for it.
    Originate {
        from: AgentId,
        to: String,
    },
    /// Sends the caller of a connected call on to the number.
    TransferCall {
        call: CallId,
        to: String,
    },
    /// Nothing is recorded while a call's recording is paused, for instance a card's number.
    PauseRecording {
        call: CallId,
        paused: bool,
    },
    /// Rings an extension for the agent of a connected call, while the caller waits.
    Consult {
        call: CallId,
        to: String,
    },
    /// The caller goes to whoever is consulted.
    /// Caller, agent and colleague speak together.
    Conference {
        call: CallId,
    },
    CompleteConsult {
        call: CallId,
    },
    /// The agent goes back to the caller.
    CancelConsult {
        call: CallId,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedState {
    Ready,
    NotReady { reason: String },
    LoggedOut,
}
