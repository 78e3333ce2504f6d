//! One party's connection: its SIP dialog and its media, all that another gateway would need.

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_sip::dialog::Dialog;
use tandem_sip::sdp::{Audio, Beside, Codec, Direction, Payload};
use tandem_sip::{Carrier, Millis, Request, Uri};

use super::early::Early;
use super::early_media::EarlyMedia;
use super::protection::Protection;
use super::reliable::Reliable;
use super::session_timer::SessionTimer;
use crate::cdr::Side;
use crate::command::TransactionKey;
use crate::ids::{AgentId, ChannelId, GatewayId, LegId, OfferId};

#[derive(Clone, Debug, PartialEq)]
pub struct Leg {
    pub id: LegId,
    pub role: Role,
    pub state: State,
    /// Whose SIP socket the dialog uses.
    pub gateway: GatewayId,
    /// Where requests of ours go.
    pub peer: SocketAddr,
    /// What they go over.
    pub carrier: Carrier,
    /// The INVITE that made the leg: the peer's, or ours.
    /// Shared by all copies of the leg.
    pub invite: Arc<Request>,
    /// The server transaction of the peer's INVITE; none where the INVITE is ours.
    pub transaction: Option<TransactionKey>,
    /// Our tag.
    pub local_tag: String,
    /// Shared by all copies of the leg, until one has a request of its own.
    pub dialog: Option<Arc<Dialog>>,
    /// The Via branch of the BYE that we sent.
    pub bye_branch: Option<String>,
    /// What the peer is told of the transfer that it has asked for.
    pub refer: Option<Refer>,
    pub media: Media,
    /// The peer holds: it wants to hear nothing (RFC 3264 §8.4).
    pub held: bool,
    /// When an unanswered release is given up.
    pub release_at: Option<Millis>,
    /// When the session must be refreshed.
    pub timer: Option<SessionTimer>,
    /// An offer of ours in a 2xx waits for the answer in its ACK, until then at most.
    pub offer_until: Option<Millis>,
    /// Another phone has sent the call here (302): this one may not send it further.
    pub redirected: bool,
    /// Dialogs of an INVITE of ours that nobody has answered yet.
    pub early: Vec<Early>,
    /// The phone's tags in all of those, at most
    /// [`EARLY_DIALOGS_MAX`](crate::limits::EARLY_DIALOGS_MAX): another phone may name one to pick the
    /// call up.
    pub rang: Vec<String>,
    /// What the caller hears of a carrier before it answers.
    pub early_media: Option<Box<EarlyMedia>>,
    /// Contacts of the agent's phones that were called before this one.
    pub tried: Vec<Uri>,
    /// What the peer was told reliably before its INVITE was answered.
    pub reliable: Option<Reliable>,
    /// The peer was told 183 with our answer, because it hears whom it has called already.
    pub previewed: bool,
    /// What has answered challenges within the dialog, of a server and of a proxy.
    pub proofs: Vec<Proof>,
}

/// Credentials by which requests of ours go on, from the one of that CSeq.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// For the proxy; else for the server.
    pub proxy: bool,
    /// The Authorization of the first of them.
    pub value: String,
    pub cseq: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Who called in.
    Caller,
    /// An agent for whom we call (click-to-dial): the phone was rung first, and is the caller since
    /// it answered.
    Originator { agent: AgentId, offer: OfferId, ring_until: Millis },
    /// An agent to whom the queue offered the call.
    Agent { agent: AgentId, offer: OfferId, ring_until: Millis },
    /// A dialled extension.
    Callee { agent: AgentId, offer: OfferId, ring_until: Millis },
    /// Somebody outside, by a trunk. `ring_until` is short until the peer has said anything.
    Trunk { channel: ChannelId, offer: OfferId, ring_until: Millis },
    /// Whom an agent had called, and has sent on: it is the caller since then. The call goes on under
    /// the Call-ID by which it was placed.
    Transferee { who: Party, known_as: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    Colleague(AgentId),
    /// By a trunk.
    Outside {
        number: String,
        channel: ChannelId,
    },
}

/// Where an agent's phone can't be reached the next one is called: Calling again.
///
/// ```text
/// inbound   Trying ──200──▶ Answered ──ACK──▶ Active ──BYE──▶ Releasing ──200──▶ Released
/// outbound  Calling ──1xx──▶ Proceeding ──180──▶ Alerting ──200, ACK──▶ Active
///              └──────CANCEL──┴───────────────────▶ Cancelling ──487──▶ Released
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// An INVITE of the peer that has no final answer yet.
    Trying,
    /// Answered, its ACK not seen.
    Answered,
    Active,
    /// An INVITE of ours that nobody answered yet.
    Calling,
    Proceeding,
    Alerting,
    /// To be cancelled; `sent` once a provisional answer allowed it (RFC 3261 §9.1).
    Cancelling {
        sent: bool,
    },
    /// A BYE of ours waits for its answer.
    Releasing,
    Released,
}

/// The subscription that a REFER has made (RFC 3515 §2.4.4). One NOTIFY at a time is on its way, so
/// that none overtakes another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refer {
    /// The CSeq number of the REFER: the subscription's name (RFC 3515 §2.4.6).
    pub id: u32,
    /// The Via branch of the NOTIFY that waits for its answer.
    pub branch: Option<String>,
    /// That one tells how it ended: the subscription is over with it.
    pub last: bool,
    /// What is to be told then.
    pub next: Option<u16>,
}

/// What the leg's RTP needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Granted by the call's gateway; 0 once it was given back.
    pub port: u16,
    pub ssrc: u32,
    pub remote: Option<SocketAddr>,
    pub codec: Codec,
    pub payload: u8,
    /// What the peer says of its codec (`a=fmtp`), and what we say: what the peer of the other leg
    /// does.
    pub fmtp: Option<String>,
    pub said: Option<String>,
    pub telephone_event: Option<u8>,
    /// Its events are counted at 48 kHz.
    pub events_wide: bool,
    /// The caller's offer, while we have not answered it and are free to choose.
    pub open: Option<Box<Audio>>,
    pub session_id: u64,
    pub session_version: u64,
    /// What may be spoken, the best first, by the policy of its trunk; empty: whatever we know.
    pub allowed: Vec<Codec>,
    /// None: in the clear.
    pub protection: Option<Protection>,
    /// What else the peer's description holds.
    pub beside: Beside,
}

impl Leg {
    /// What its RTP needs now: until the answer, what its early dialog says.
    pub fn media_now(&self) -> &Media {
        self.early_media.as_deref().map_or(&self.media, |early| &early.media)
    }

    /// How long it may ring.
    pub fn ring_until(&self) -> Option<Millis> {
        match self.role {
            Role::Caller | Role::Transferee { .. } => None,
            Role::Originator { ring_until, .. }
            | Role::Agent { ring_until, .. }
            | Role::Callee { ring_until, .. }
            | Role::Trunk { ring_until, .. } => Some(ring_until),
        }
    }

    pub fn agent(&self) -> Option<&AgentId> {
        match &self.role {
            Role::Caller
            | Role::Trunk { .. }
            | Role::Transferee { who: Party::Outside { .. }, .. } => None,
            Role::Transferee { who: Party::Colleague(agent), .. }
            | Role::Originator { agent, .. }
            | Role::Agent { agent, .. }
            | Role::Callee { agent, .. } => Some(agent),
        }
    }

    pub fn offer(&self) -> Option<OfferId> {
        match &self.role {
            Role::Caller | Role::Transferee { .. } => None,
            Role::Originator { offer, .. }
            | Role::Agent { offer, .. }
            | Role::Callee { offer, .. }
            | Role::Trunk { offer, .. } => Some(*offer),
        }
    }

    /// The channel of the trunk that it goes out by.
    pub fn channel(&self) -> Option<&ChannelId> {
        match &self.role {
            Role::Trunk { channel, .. }
            | Role::Transferee { who: Party::Outside { channel, .. }, .. } => Some(channel),
            Role::Caller
            | Role::Originator { .. }
            | Role::Agent { .. }
            | Role::Callee { .. }
            | Role::Transferee { who: Party::Colleague(_), .. } => None,
        }
    }

    /// The party for whom the call is made: it lasts as long as this one is there.
    pub fn is_caller(&self) -> bool {
        match self.role {
            Role::Caller | Role::Originator { .. } | Role::Transferee { .. } => true,
            Role::Agent { .. } | Role::Callee { .. } | Role::Trunk { .. } => false,
        }
    }

    /// An INVITE of ours that may still be answered.
    pub fn is_ringing(&self) -> bool {
        matches!(self.state, State::Calling | State::Proceeding | State::Alerting)
    }

    /// The peer talks, or will once its ACK is here.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Answered | State::Active)
    }

    /// The Via branches of what we have sent within the dialog and wait to be answered.
    pub fn branches(&self) -> impl Iterator<Item = &String> {
        let notify = self.refer.as_ref().and_then(|refer| refer.branch.as_ref());
        let refresh = self.timer.as_ref().and_then(|timer| timer.refresh.as_ref());
        let pracks = self.early.iter().filter_map(|early| early.prack_branch.as_ref());
        let refresh = refresh.map(|refresh| &refresh.branch);
        self.bye_branch.iter().chain(notify).chain(refresh).chain(pracks)
    }

    pub fn invite_branch(&self) -> &str {
        self.invite.headers.branch()
    }

    pub fn role_name(&self) -> &'static str {
        match self.role {
            Role::Caller | Role::Originator { .. } | Role::Transferee { .. } => "caller",
            Role::Agent { .. } => "agent",
            Role::Callee { .. } | Role::Trunk { .. } => "callee",
        }
    }

    /// Who talks over the leg.
    pub fn side(&self) -> Side {
        match self.role {
            Role::Caller | Role::Originator { .. } => Side::Caller,
            Role::Agent { .. } => Side::Agent,
            Role::Callee { .. } | Role::Trunk { .. } | Role::Transferee { .. } => Side::Callee,
        }
    }

    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Trying => "trying",
            State::Answered => "answered",
            State::Active => "active",
            State::Calling => "calling",
            State::Proceeding => "proceeding",
            State::Alerting => "alerting",
            State::Cancelling { .. } => "cancelling",
            State::Releasing => "releasing",
            State::Released => "released",
        }
    }
}

impl Media {
    /// The peer's key is not known yet: nothing may be sent.
    pub fn awaits_keys(&self) -> bool {
        self.protection.as_ref().is_some_and(|keys| keys.theirs.is_none())
    }

    /// Our description of this leg's audio.
    pub fn describe(&self, address: std::net::IpAddr, direction: Direction) -> Audio {
        Audio {
            address,
            port: self.port,
            payloads: vec![Payload {
                number: self.payload,
                codec: self.codec,
                fmtp: self.said.clone(),
            }],
            telephone_event: self.telephone_event.filter(|_| !self.events_wide),
            telephone_event_wide: self.telephone_event.filter(|_| self.events_wide),
            direction,
            ptime_ms: Some(20),
            session_id: self.session_id,
            session_version: self.session_version,
            crypto: self.protection.iter().map(Protection::line).collect(),
            secure: self.protection.as_ref().is_some_and(|keys| keys.required),
            beside: self.beside.clone(),
        }
    }
}
