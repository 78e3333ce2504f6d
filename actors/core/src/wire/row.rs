//! Entities as rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tandem_sip::dialog::Dialog;
use tandem_sip::protobuf::{Encode, Writer};
use tandem_sip::reason::Q850;
use tandem_sip::sdp::{Beside, Section};
use tandem_sip::srtp::Key;
use tandem_sip::{Millis, Request};

use super::consult::consult_from;
use super::early::{early_from, early_media_from, reliable_from};
use super::history::unreached_from;
use super::timer::timer_from;
use super::trunk::call_outward_from;
use super::{Error, carrier_from, narrow, need, parse, parse_some, put_carrier, q850_from};
use crate::agent::binding::{Outbound, Q_DEFAULT, Registration, id_at};
use crate::agent::state::{Agent, Rest, State as AgentState};
use crate::answered::{self, Answered};
use crate::call::leg::{Leg, Media, Party, Proof, Refer, Role, State as LegState};
use crate::call::protection::Protection;
use crate::call::refused::Refused;
use crate::call::state::{Call, Outcome, State as CallState, Transfer};
use crate::channel::state::{Channel, State as ChannelState};
use crate::effect::Rollover;
use crate::gateway::{Counts, Gateway, Runs};
use crate::ids::{AgentId, CallId, GatewayId, LegId, OfferId, QueueId, RecordingId};
use crate::proto;
use crate::queue::state::{Entry, Queue, State as EntryState};

impl Encode for Call {
    fn encode(&self, to: &mut Writer) {
        to.fixed(1, self.id.0);
        match &self.state {
            CallState::Routing => to.flag(30, true),
            CallState::InFlow => to.flag(2, true),
            CallState::Queued { queue } => to.some_text(3, Some(&queue.0)),
            CallState::Dialing { agent, leg } => to.delimited(4, |to| {
                to.text(1, agent.as_ref().map_or("", |agent| &agent.0));
                to.fixed(2, leg.0);
            }),
            CallState::Connected { leg } => to.some_fixed(5, Some(leg.0)),
            CallState::Consulting { leg, consulted } => to.delimited(36, |to| {
                to.fixed(1, leg.0);
                to.fixed(2, consulted.0);
            }),
            CallState::Conferenced { leg, joined } => to.delimited(120, |to| {
                to.fixed(1, leg.0);
                to.fixed(2, joined.0);
            }),
            CallState::Ending => to.flag(6, true),
        }
        to.text(7, &self.gateway.0);
        to.text(8, &self.from);
        to.text(9, &self.to);
        to.some_message(10, self.channel.as_ref());
        to.some_text(11, self.calling_agent.as_ref().map(|agent| &*agent.0));
        to.messages(12, &self.legs);
        to.uint(13, self.started_at.0);
        to.some_uint(14, self.answered_at.map(|at| at.0));
        to.some_uint(15, self.queued_at.map(|at| at.0));
        to.some_uint(16, self.connected_at.map(|at| at.0));
        to.some_text(17, self.queue.as_ref().map(|queue| &*queue.0));
        to.some_text(18, self.agent.as_ref().map(|agent| &*agent.0));
        to.uint(19, self.takeovers);
        to.uint(20, self.media_version);
        to.some_fixed(21, self.recording.map(|recording| recording.0));
        to.some_message(22, self.flow.as_ref());
        to.messages(31, &self.transfers);
        to.some_uint(32, self.q850.map(Q850::get));
        to.some_text(33, self.asserted.as_deref());
        to.some_text(34, self.diverted_from.as_deref());
        to.some_message(35, self.consult.as_ref());
        to.flag(50, self.recording_paused);
        to.some_message(60, self.outward.as_ref());
        if let Some(unreached) = &self.unreached {
            to.delimited(122, |to| {
                to.uint(1, unreached.status);
                to.text(2, unreached.how.as_str());
                to.text(3, unreached.by.as_str());
            });
        }
    }
}

/// The row of an INVITE.
pub(crate) struct Invite<'l>(pub &'l Leg);

impl Encode for Invite<'_> {
    fn encode(&self, to: &mut Writer) {
        let Self(leg) = self;
        to.fixed(1, leg.id.0);
        to.message(2, &*leg.invite);
    }
}

pub(crate) fn invite_from(row: proto::Invite) -> Result<(LegId, Arc<Request>), Error> {
    let request = need(row.request, "invite.request")?.try_into()?;
    Ok((LegId(row.leg), Arc::new(request)))
}

impl Call {
    /// A call from its row; its legs' INVITEs are taken out of `invites`.
    pub(crate) fn from_rows(
        call: proto::Call,
        invites: &mut BTreeMap<LegId, Arc<Request>>,
    ) -> Result<Self, Error> {
        use proto::call::State as From;
        let state = match need(call.state, "call.state")? {
            From::Routing(_) => CallState::Routing,
            From::InFlow(_) => CallState::InFlow,
            From::Queued(queue) => CallState::Queued { queue: queue.into() },
            From::Dialing(dialing) => {
                let agent = (!dialing.agent.is_empty()).then(|| dialing.agent.into());
                CallState::Dialing { agent, leg: LegId(dialing.leg) }
            }
            From::Connected(leg) => CallState::Connected { leg: LegId(leg) },
            From::Consulting(of) => {
                CallState::Consulting { leg: LegId(of.leg), consulted: LegId(of.consulted) }
            }
            From::Conferenced(of) => {
                CallState::Conferenced { leg: LegId(of.leg), joined: LegId(of.consulted) }
            }
            From::Ending(_) => CallState::Ending,
        };
        Ok(Self {
            id: CallId(call.id),
            state,
            gateway: call.gateway.into(),
            from: call.from,
            to: call.to,
            channel: call.channel.map(TryInto::try_into).transpose()?,
            calling_agent: call.calling_agent.map(AgentId::from),
            legs: call
                .legs
                .into_iter()
                .map(|leg| Leg::from_rows(leg, invites))
                .collect::<Result<_, _>>()?,
            started_at: Millis(call.started_at),
            answered_at: call.answered_at.map(Millis),
            queued_at: call.queued_at.map(Millis),
            connected_at: call.connected_at.map(Millis),
            queue: call.queue.map(QueueId::from),
            agent: call.agent.map(AgentId::from),
            takeovers: call.takeovers,
            media_version: call.media_version,
            recording: call.recording.map(RecordingId),
            recording_paused: call.recording_paused,
            flow: call.flow.map(TryInto::try_into).transpose()?,
            transfers: transfers_from(call.transfers)?,
            q850: q850_from(call.q850, "call.q850")?,
            asserted: call.asserted,
            diverted_from: call.diverted_from,
            consult: call.consult.map(consult_from).transpose()?,
            outward: call.outward.map(call_outward_from).transpose()?,
            unreached: call.unreached.map(unreached_from).transpose()?,
        })
    }
}

impl Encode for Leg {
    fn encode(&self, to: &mut Writer) {
        to.fixed(1, self.id.0);
        to.text(2, role_name(&self.role));
        match &self.role {
            Role::Caller => {}
            Role::Transferee { who: Party::Colleague(agent), .. } => to.text(3, &agent.0),
            Role::Transferee { who: Party::Outside { .. }, .. } => {}
            Role::Originator { agent, offer, ring_until }
            | Role::Agent { agent, offer, ring_until }
            | Role::Callee { agent, offer, ring_until } => {
                to.text(3, &agent.0);
                to.fixed(4, offer.0);
                to.uint(5, ring_until.0);
            }
            Role::Trunk { offer, ring_until, .. } => {
                to.fixed(4, offer.0);
                to.uint(5, ring_until.0);
            }
        }
        to.text(6, self.state_name());
        to.flag(7, self.state == LegState::Cancelling { sent: true });
        to.text(8, &self.gateway.0);
        to.socket(9, &self.peer);
        to.some_message(11, self.transaction.as_ref());
        to.text(12, &self.local_tag);
        to.some_message(13, self.dialog.as_deref());
        to.some_text(14, self.bye_branch.as_deref());
        to.message(15, &self.media);
        to.flag(16, self.held);
        to.some_uint(17, self.release_at.map(|at| at.0));
        put_carrier(to, 18, self.carrier);
        to.some_message(30, self.refer.as_ref());
        to.some_message(31, self.timer.as_ref());
        to.some_uint(32, self.offer_until.map(|at| at.0));
        to.flag(33, self.redirected);
        to.messages(34, &self.early);
        to.some_message(35, self.reliable.as_ref());
        to.some_message(60, self.channel());
        to.texts(70, self.rang.iter().map(String::as_str));
        for proof in &self.proofs {
            to.delimited(100, |to| {
                to.flag(1, proof.proxy);
                to.text(2, &proof.value);
                to.uint(3, proof.cseq);
            });
        }
        to.messages(110, &self.tried);
        to.some_message(130, self.early_media.as_deref());
        to.flag(131, self.previewed);
        if let Role::Transferee { who, known_as } = &self.role {
            match who {
                Party::Outside { number, .. } => to.text(132, number),
                Party::Colleague(_) => {}
            }
            to.text(133, known_as);
        }
    }
}

/// As the row has it; the API shows both kinds of callers as one.
fn role_name(role: &Role) -> &'static str {
    match role {
        Role::Caller => "caller",
        Role::Originator { .. } => "originator",
        Role::Agent { .. } => "agent",
        Role::Callee { .. } => "callee",
        Role::Trunk { .. } => "trunk",
        Role::Transferee { .. } => "transferee",
    }
}

impl Leg {
    fn from_rows(
        leg: proto::Leg,
        invites: &mut BTreeMap<LegId, Arc<Request>>,
    ) -> Result<Self, Error> {
        let id = LegId(leg.id);
        let invite = match leg.invite {
            Some(request) => Arc::new(request.try_into()?),
            None => need(invites.remove(&id), "leg.invite")?,
        };
        let (agent, offer) = (leg.agent.into(), OfferId(leg.offer));
        let ring_until = Millis(leg.ring_until);
        let role = match leg.role.as_str() {
            "caller" => Role::Caller,
            "originator" => Role::Originator { agent, offer, ring_until },
            "agent" => Role::Agent { agent, offer, ring_until },
            "callee" => Role::Callee { agent, offer, ring_until },
            "trunk" => {
                let channel = need(leg.channel, "leg.channel")?.try_into()?;
                Role::Trunk { channel, offer, ring_until }
            }
            "transferee" => {
                let who = match leg.channel {
                    Some(channel) => {
                        Party::Outside { number: leg.number, channel: channel.try_into()? }
                    }
                    None => Party::Colleague(agent),
                };
                Role::Transferee { who, known_as: leg.known_as }
            }
            other => return Err(Error::Unknown("role", other.to_owned())),
        };
        let state = match leg.state.as_str() {
            "trying" => LegState::Trying,
            "answered" => LegState::Answered,
            "active" => LegState::Active,
            "calling" => LegState::Calling,
            "proceeding" => LegState::Proceeding,
            "alerting" => LegState::Alerting,
            "cancelling" => LegState::Cancelling { sent: leg.cancel_sent },
            "releasing" => LegState::Releasing,
            "released" => LegState::Released,
            other => return Err(Error::Unknown("leg state", other.to_owned())),
        };
        Ok(Self {
            id,
            role,
            state,
            gateway: leg.gateway.into(),
            peer: parse(&leg.peer, "leg.peer")?,
            carrier: carrier_from(leg.carrier)?,
            invite,
            transaction: leg.transaction.map(Into::into),
            local_tag: leg.local_tag,
            dialog: leg.dialog.map(Dialog::try_from).transpose()?.map(Arc::new),
            bye_branch: leg.bye_branch,
            refer: leg.refer.map(refer_from).transpose()?,
            media: need(leg.media, "leg.media")?.try_into()?,
            held: leg.held,
            release_at: leg.release_at.map(Millis),
            timer: leg.timer.map(timer_from).transpose()?,
            offer_until: leg.offer_until.map(Millis),
            redirected: leg.redirected,
            early: leg.early.into_iter().map(early_from).collect::<Result<_, _>>()?,
            rang: leg.rang,
            proofs: leg
                .proofs
                .into_iter()
                .map(|proto::Proof { proxy, value, cseq }| Proof { proxy, value, cseq })
                .collect(),
            tried: leg.tried.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            reliable: leg.reliable.map(reliable_from).transpose()?,
            early_media: leg.early_media.map(early_media_from).transpose()?.map(Box::new),
            previewed: leg.previewed,
        })
    }
}

impl Encode for Refer {
    fn encode(&self, to: &mut Writer) {
        to.uint(1, self.id);
        to.some_text(2, self.branch.as_deref());
        to.flag(3, self.last);
        to.some_uint(4, self.next);
    }
}

fn refer_from(refer: proto::Refer) -> Result<Refer, Error> {
    let next = refer.next.map(|status| narrow(status, "refer.next")).transpose()?;
    Ok(Refer { id: refer.id, branch: refer.branch, last: refer.last, next })
}

impl Encode for Transfer {
    fn encode(&self, to: &mut Writer) {
        to.uint(1, self.at.0);
        to.text(2, &self.agent.0);
        to.text(3, &self.to);
        to.text(4, self.outcome.as_str());
        match self.outcome {
            Outcome::Pending { leg } => to.some_fixed(5, leg.map(|leg| leg.0)),
            Outcome::CameBack { status } => to.uint(6, status),
            Outcome::WentOver | Outcome::Ended => {}
        }
        to.flag(7, self.attended);
    }
}

pub(crate) fn transfers_from(rows: Vec<proto::Transfer>) -> Result<Vec<Transfer>, Error> {
    let transfer = |row: proto::Transfer| {
        let outcome = match row.outcome.as_str() {
            "pending" => Outcome::Pending { leg: row.leg.map(LegId) },
            "went_over" => Outcome::WentOver,
            "came_back" => Outcome::CameBack { status: narrow(row.status, "transfer.status")? },
            "ended" => Outcome::Ended,
            other => return Err(Error::Unknown("outcome of a transfer", other.to_owned())),
        };
        Ok(Transfer {
            at: Millis(row.at),
            agent: row.agent.into(),
            to: row.to,
            attended: row.attended,
            outcome,
        })
    };
    rows.into_iter().map(transfer).collect()
}

impl Encode for Media {
    fn encode(&self, to: &mut Writer) {
        to.uint(1, self.port);
        to.uint(2, self.ssrc);
        to.some_socket(3, self.remote.as_ref());
        to.text(4, self.codec.name());
        to.uint(5, self.payload);
        to.some_uint(6, self.telephone_event);
        to.uint(7, self.session_id);
        to.uint(8, self.session_version);
        if let Some(keys) = &self.protection {
            to.delimited(9, |to| {
                to.uint(1, keys.tag);
                to.text(2, keys.suite.name());
                to.blob(3, keys.ours.bytes());
                to.some_blob(4, keys.theirs.as_ref().map(Key::bytes));
                to.flag(5, keys.required);
                to.uint(230, keys.rollover.sent);
                to.uint(231, keys.rollover.received);
            });
        }
        to.messages(10, &self.beside.before);
        to.messages(11, &self.beside.after);
        to.some_text(80, self.fmtp.as_deref());
        to.flag(81, self.events_wide);
        to.some_message(82, self.open.as_deref());
        to.some_text(83, self.said.as_deref());
        to.texts(121, self.allowed.iter().map(|codec| codec.name()));
    }
}

fn protection_from(row: proto::Protection) -> Result<Protection, Error> {
    let suite = tandem_sip::wire::suite(&row.suite)?;
    let key = |bytes| tandem_sip::wire::key(suite, bytes);
    Ok(Protection {
        tag: row.tag,
        suite,
        ours: key(row.ours)?,
        theirs: row.theirs.map(key).transpose()?,
        required: row.required,
        rollover: Rollover { sent: row.sent, received: row.received },
    })
}

impl TryFrom<proto::LegMedia> for Media {
    type Error = Error;

    fn try_from(media: proto::LegMedia) -> Result<Self, Error> {
        let telephone_event = media.telephone_event.map(|n| narrow(n, "media.telephone_event"));
        Ok(Self {
            port: narrow(media.port, "media.port")?,
            ssrc: media.ssrc,
            remote: parse_some(media.remote.as_deref(), "media.remote")?,
            codec: tandem_sip::wire::codec(&media.codec)?,
            payload: narrow(media.payload, "media.payload")?,
            fmtp: media.fmtp,
            said: media.said,
            telephone_event: telephone_event.transpose()?,
            events_wide: media.events_wide,
            open: media.open.map(|offer| offer.try_into().map(Box::new)).transpose()?,
            session_id: media.session_id,
            session_version: media.session_version,
            protection: media.protection.map(protection_from).transpose()?,
            allowed: super::codecs_from(&media.allowed)?,
            beside: Beside {
                before: media.before.into_iter().map(Section::from).collect(),
                after: media.after.into_iter().map(Section::from).collect(),
            },
        })
    }
}

impl Encode for Rest {
    fn encode(&self, to: &mut Writer) {
        let (state, reason) = match self {
            Rest::Ready => ("ready", ""),
            Rest::NotReady { reason } => ("not_ready", reason.as_str()),
            Rest::LoggedOut => ("logged_out", ""),
        };
        to.text(1, state);
        to.text(2, reason);
    }
}

impl TryFrom<proto::Rest> for Rest {
    type Error = Error;

    fn try_from(rest: proto::Rest) -> Result<Self, Error> {
        match rest.state.as_str() {
            "ready" => Ok(Self::Ready),
            "not_ready" => Ok(Self::NotReady { reason: rest.reason }),
            "logged_out" => Ok(Self::LoggedOut),
            other => Err(Error::Unknown("agent state", other.to_owned())),
        }
    }
}

impl Encode for Agent {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.id.0);
        let consulting = matches!(self.state, AgentState::Consulting { .. });
        to.text(2, if consulting { CONSULTING } else { self.state_name() });
        match &self.state {
            AgentState::LoggedOut | AgentState::Ready => {}
            AgentState::NotReady { reason } => to.text(3, reason),
            AgentState::Reserved { call, offer, back, back_since } => {
                to.fixed(4, call.0);
                to.fixed(5, offer.0);
                to.message(6, back);
                to.uint(7, back_since.0);
            }
            AgentState::Talking { call, back }
            | AgentState::Held { call, back }
            | AgentState::Consulting { call, back, .. } => {
                to.fixed(4, call.0);
                to.message(6, back);
            }
            AgentState::Acw { until, next } => {
                to.message(6, next);
                to.uint(8, until.0);
            }
        }
        to.uint(9, self.since.0);
        to.uint(10, self.since_index);
        to.some_message(11, self.bindings.first());
        to.some_message(12, self.pending.as_ref());
        to.fixed(70, self.second().map_or(0, |call| call.0));
        to.messages(110, self.bindings.get(1..).unwrap_or_default());
    }
}

/// As the row has it; the API shows that the agent talks.
const CONSULTING: &str = "consulting";

impl Encode for Registration {
    fn encode(&self, to: &mut Writer) {
        to.message(1, &self.contact);
        to.socket(2, &self.source);
        to.text(3, &self.gateway.0);
        to.uint(4, self.expires_at.0);
        to.uint(5, self.since_index);
        put_carrier(to, 6, self.carrier);
        to.text(110, &self.call_id);
        to.uint(111, self.cseq);
        to.uint(112, Q_DEFAULT.saturating_sub(self.q));
        if let Some(Outbound { instance, reg_id }) = &self.outbound {
            to.text(113, instance);
            to.uint(114, *reg_id);
        }
        to.messages(115, &self.path);
        // Of a phone that has registered once it follows from its index.
        to.uint(116, if self.id == id_at(self.since_index, 0) { 0 } else { self.id });
    }
}

impl TryFrom<proto::Agent> for Agent {
    type Error = Error;

    fn try_from(agent: proto::Agent) -> Result<Self, Error> {
        let call = CallId(agent.call);
        let back = agent.back.map(Rest::try_from).transpose()?;
        let state = match agent.state.as_str() {
            "logged_out" => AgentState::LoggedOut,
            "not_ready" => AgentState::NotReady { reason: agent.reason },
            "ready" => AgentState::Ready,
            "reserved" => AgentState::Reserved {
                call,
                offer: OfferId(agent.offer),
                back: need(back, "agent.back")?,
                back_since: Millis(agent.back_since),
            },
            "talking" => AgentState::Talking { call, back: need(back, "agent.back")? },
            "held" => AgentState::Held { call, back: need(back, "agent.back")? },
            CONSULTING => AgentState::Consulting {
                call,
                second: CallId(agent.second),
                back: need(back, "agent.back")?,
            },
            "acw" => {
                AgentState::Acw { until: Millis(agent.until), next: need(back, "agent.back")? }
            }
            other => return Err(Error::Unknown("agent state", other.to_owned())),
        };
        let registration = |row: proto::Registration| -> Result<Registration, Error> {
            Ok(Registration {
                contact: need(row.contact, "registration.contact")?.try_into()?,
                source: parse(&row.source, "registration.source")?,
                carrier: carrier_from(row.carrier)?,
                gateway: row.gateway.into(),
                expires_at: Millis(row.expires_at),
                since_index: row.since_index,
                id: if row.id == 0 { id_at(row.since_index, 0) } else { row.id },
                call_id: row.call_id,
                cseq: row.cseq,
                q: Q_DEFAULT.saturating_sub(narrow(row.below_q, "registration.below_q")?),
                outbound: (row.reg_id != 0)
                    .then_some(Outbound { instance: row.instance, reg_id: row.reg_id }),
                path: row.path.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            })
        };
        Ok(Self {
            id: agent.id.into(),
            state,
            since: Millis(agent.since),
            since_index: agent.since_index,
            bindings: agent
                .registration
                .into_iter()
                .chain(agent.bindings)
                .map(registration)
                .collect::<Result<_, _>>()?,
            pending: agent.pending.map(Rest::try_from).transpose()?,
        })
    }
}

impl Encode for Queue {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.id.0);
        to.messages(2, &self.entries);
    }
}

impl Encode for Entry {
    fn encode(&self, to: &mut Writer) {
        to.fixed(1, self.call.0);
        to.uint(2, self.enqueued_at.0);
        match &self.state {
            EntryState::Waiting => {}
            EntryState::Offered { agent, offer } => {
                to.some_text(3, Some(&agent.0));
                to.fixed(4, offer.0);
            }
        }
    }
}

impl From<proto::Queue> for Queue {
    fn from(queue: proto::Queue) -> Self {
        let entry = |entry: proto::queue::Entry| Entry {
            call: CallId(entry.call),
            enqueued_at: Millis(entry.enqueued_at),
            state: match entry.agent {
                None => EntryState::Waiting,
                Some(agent) => {
                    EntryState::Offered { agent: agent.into(), offer: OfferId(entry.offer) }
                }
            },
        };
        Self { id: queue.id.into(), entries: queue.entries.into_iter().map(entry).collect() }
    }
}

impl Encode for Channel {
    fn encode(&self, to: &mut Writer) {
        let (state, call, until) = match self.state {
            ChannelState::SeizedIn { call } => ("seized_in", call.0, 0),
            ChannelState::SeizedOut { call } => ("seized_out", call.0, 0),
            ChannelState::Active { call } => ("active", call.0, 0),
            ChannelState::Guard { until } => ("guard", 0, until.0),
        };
        to.message(1, &self.id);
        to.text(2, state);
        to.fixed(3, call);
        to.uint(4, until);
        to.uint(5, self.since.0);
    }
}

impl TryFrom<proto::Channel> for Channel {
    type Error = Error;

    fn try_from(channel: proto::Channel) -> Result<Self, Error> {
        let call = CallId(channel.call);
        let state = match channel.state.as_str() {
            "seized_in" => ChannelState::SeizedIn { call },
            "seized_out" => ChannelState::SeizedOut { call },
            "active" => ChannelState::Active { call },
            "guard" => ChannelState::Guard { until: Millis(channel.until) },
            other => return Err(Error::Unknown("channel state", other.to_owned())),
        };
        Ok(Self {
            id: need(channel.id, "channel.id")?.try_into()?,
            state,
            since: Millis(channel.since),
        })
    }
}

impl Encode for Gateway {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.id.0);
        to.uint(2, self.incarnation);
        to.socket(3, &self.vip);
        to.packed(4, self.granted.iter().copied().map(u64::from));
    }
}

impl Encode for Refused {
    fn encode(&self, to: &mut Writer) {
        to.fixed(1, self.call.0);
        to.message(2, &self.transaction);
        to.uint(3, self.until.0);
    }
}

pub(crate) fn refused_from(row: proto::Refused) -> Result<Refused, Error> {
    Ok(Refused {
        call: CallId(row.call),
        transaction: need(row.transaction, "refused.transaction")?.into(),
        until: Millis(row.until),
    })
}

impl Encode for Answered {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.key);
        to.uint(2, self.until.0);
        to.message(3, &self.command);
        match &self.outcome {
            answered::Outcome::Done { json } => {
                to.text(4, "done");
                to.blob(6, json);
            }
            answered::Outcome::NotFound { what } => {
                to.text(4, "not_found");
                to.text(5, what);
            }
            answered::Outcome::Refused { sentence } => {
                to.text(4, "refused");
                to.text(5, sentence);
            }
        }
    }
}

pub(crate) fn answered_from(row: proto::Answered) -> Result<Answered, Error> {
    let outcome = match row.outcome.as_str() {
        "done" => answered::Outcome::Done { json: row.json },
        "not_found" => answered::Outcome::NotFound { what: row.sentence },
        "refused" => answered::Outcome::Refused { sentence: row.sentence },
        other => return Err(Error::Unknown("outcome", other.to_owned())),
    };
    Ok(Answered {
        key: row.key,
        until: Millis(row.until),
        command: need(row.command, "answered.command")?.try_into()?,
        outcome,
    })
}

/// The row of counts.
pub(crate) struct Counted<'g>(pub &'g GatewayId, pub &'g Counts);

impl Encode for Counted<'_> {
    fn encode(&self, to: &mut Writer) {
        let Self(gateway, Counts { counted, ahead, dark }) = self;
        to.text(1, &gateway.0);
        to.uint(2, *counted);
        to.packed(3, ahead.iter().flat_map(|(first, last)| [first, last]));
        to.flag(4, *dark);
    }
}

pub(crate) fn counts_from(row: proto::Counts) -> Result<(GatewayId, Counts), Error> {
    let mut ahead = Runs::default();
    let (pairs, rest) = row.ahead.as_chunks::<2>();
    for [first, last] in pairs {
        ahead.push(*first, *last).ok_or(Error::Range("counts.ahead"))?;
    }
    if !rest.is_empty() {
        return Err(Error::Range("counts.ahead"));
    }
    Ok((row.gateway.into(), Counts { counted: row.counted, ahead, dark: row.dark }))
}

impl TryFrom<proto::Gateway> for Gateway {
    type Error = Error;

    fn try_from(gateway: proto::Gateway) -> Result<Self, Error> {
        let port = |port: u32| narrow(port, "gateway.port");
        let granted: BTreeSet<u16> =
            gateway.granted.into_iter().map(port).collect::<Result<_, _>>()?;
        let (counted, ahead) = (gateway.counted, gateway.ahead.into_iter().collect());
        Ok(Self {
            id: gateway.id.into(),
            incarnation: gateway.incarnation,
            vip: parse(&gateway.vip, "gateway.vip")?,
            free_ports: granted.clone(),
            granted,
            counts: Counts { counted, ahead, dark: false },
        })
    }
}
