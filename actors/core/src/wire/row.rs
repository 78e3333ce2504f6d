//! Entities as rows.

use std::sync::Arc;

use tandem_sip::Millis;

use super::{Error, narrow, need, parse, parse_some};
use crate::agent::state::{Agent, Registration, Rest, State as AgentState};
use crate::call::leg::{Leg, Media, Role, State as LegState};
use crate::call::state::{Call, State as CallState};
use crate::channel::state::{Channel, State as ChannelState};
use crate::gateway::Gateway;
use crate::ids::{AgentId, CallId, GatewayId, LegId, OfferId, QueueId, RecordingId};
use crate::proto;
use crate::queue::state::{Entry, Queue, State as EntryState};

impl From<&Call> for proto::Call {
    fn from(call: &Call) -> Self {
        use proto::call::State as To;
        let state = match &call.state {
            CallState::InFlow => To::InFlow(true),
            CallState::Queued { queue } => To::Queued(queue.0.clone()),
            CallState::Dialing { agent, leg } => {
                To::Dialing(proto::call::Dialing { agent: agent.0.clone(), leg: leg.0 })
            }
            CallState::Connected { leg } => To::Connected(leg.0),
            CallState::Ending => To::Ending(true),
        };
        Self {
            id: call.id.0,
            state: Some(state),
            gateway: call.gateway.0.clone(),
            from: call.from.clone(),
            to: call.to.clone(),
            channel: call.channel.as_ref().map(Into::into),
            calling_agent: call.calling_agent.as_ref().map(|agent| agent.0.clone()),
            legs: call.legs.iter().map(Into::into).collect(),
            started_at: call.started_at.0,
            answered_at: call.answered_at.map(|at| at.0),
            queued_at: call.queued_at.map(|at| at.0),
            connected_at: call.connected_at.map(|at| at.0),
            queue: call.queue.as_ref().map(|queue| queue.0.clone()),
            agent: call.agent.as_ref().map(|agent| agent.0.clone()),
            takeovers: call.takeovers,
            media_version: call.media_version,
            recording: call.recording.map(|recording| recording.0),
        }
    }
}

impl TryFrom<proto::Call> for Call {
    type Error = Error;

    fn try_from(call: proto::Call) -> Result<Self, Error> {
        use proto::call::State as From;
        let state = match need(call.state, "call.state")? {
            From::InFlow(_) => CallState::InFlow,
            From::Queued(queue) => CallState::Queued { queue: QueueId(queue) },
            From::Dialing(dialing) => {
                CallState::Dialing { agent: AgentId(dialing.agent), leg: LegId(dialing.leg) }
            }
            From::Connected(leg) => CallState::Connected { leg: LegId(leg) },
            From::Ending(_) => CallState::Ending,
        };
        Ok(Self {
            id: CallId(call.id),
            state,
            gateway: GatewayId(call.gateway),
            from: call.from,
            to: call.to,
            channel: call.channel.map(TryInto::try_into).transpose()?,
            calling_agent: call.calling_agent.map(AgentId),
            legs: call.legs.into_iter().map(Leg::try_from).collect::<Result<_, _>>()?,
            started_at: Millis(call.started_at),
            answered_at: call.answered_at.map(Millis),
            queued_at: call.queued_at.map(Millis),
            connected_at: call.connected_at.map(Millis),
            queue: call.queue.map(QueueId),
            agent: call.agent.map(AgentId),
            takeovers: call.takeovers,
            media_version: call.media_version,
            recording: call.recording.map(RecordingId),
        })
    }
}

impl From<&Leg> for proto::Leg {
    fn from(leg: &Leg) -> Self {
        let (agent, offer, ring_until) = match &leg.role {
            Role::Caller => (String::new(), 0, 0),
            Role::Agent { agent, offer, ring_until }
            | Role::Callee { agent, offer, ring_until } => (agent.0.clone(), offer.0, ring_until.0),
        };
        Self {
            id: leg.id.0,
            role: leg.role_name().to_owned(),
            agent,
            offer,
            ring_until,
            state: leg.state_name().to_owned(),
            cancel_sent: leg.state == LegState::Cancelling { sent: true },
            gateway: leg.gateway.0.clone(),
            peer: leg.peer.to_string(),
            invite: Some(leg.invite.as_ref().into()),
            transaction: leg.transaction.as_ref().map(Into::into),
            local_tag: leg.local_tag.clone(),
            dialog: leg.dialog.as_ref().map(Into::into),
            bye_branch: leg.bye_branch.clone(),
            media: Some((&leg.media).into()),
            held: leg.held,
            release_at: leg.release_at.map(|at| at.0),
        }
    }
}

impl TryFrom<proto::Leg> for Leg {
    type Error = Error;

    fn try_from(leg: proto::Leg) -> Result<Self, Error> {
        let (agent, offer) = (AgentId(leg.agent), OfferId(leg.offer));
        let ring_until = Millis(leg.ring_until);
        let role = match leg.role.as_str() {
            "caller" => Role::Caller,
            "agent" => Role::Agent { agent, offer, ring_until },
            "callee" => Role::Callee { agent, offer, ring_until },
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
            id: LegId(leg.id),
            role,
            state,
            gateway: GatewayId(leg.gateway),
            peer: parse(&leg.peer, "leg.peer")?,
            invite: Arc::new(need(leg.invite, "leg.invite")?.try_into()?),
            transaction: leg.transaction.map(Into::into),
            local_tag: leg.local_tag,
            dialog: leg.dialog.map(TryInto::try_into).transpose()?,
            bye_branch: leg.bye_branch,
            media: need(leg.media, "leg.media")?.try_into()?,
            held: leg.held,
            release_at: leg.release_at.map(Millis),
        })
    }
}

impl From<&Media> for proto::LegMedia {
    fn from(media: &Media) -> Self {
        Self {
            port: u32::from(media.port),
            ssrc: media.ssrc,
            remote: media.remote.map(|remote| remote.to_string()),
            codec: media.codec.name().to_owned(),
            payload: u32::from(media.payload),
            telephone_event: media.telephone_event.map(u32::from),
            session_id: media.session_id,
            session_version: media.session_version,
        }
    }
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
            telephone_event: telephone_event.transpose()?,
            session_id: media.session_id,
            session_version: media.session_version,
        })
    }
}

impl From<&Rest> for proto::Rest {
    fn from(rest: &Rest) -> Self {
        let (state, reason) = match rest {
            Rest::Ready => ("ready", ""),
            Rest::NotReady { reason } => ("not_ready", reason.as_str()),
            Rest::LoggedOut => ("logged_out", ""),
        };
        Self { state: state.to_owned(), reason: reason.to_owned() }
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

impl From<&Agent> for proto::Agent {
    fn from(agent: &Agent) -> Self {
        let mut row = Self {
            id: agent.id.0.clone(),
            state: agent.state_name().to_owned(),
            since: agent.since.0,
            since_index: agent.since_index,
            registration: agent.registration.as_ref().map(|registration| proto::Registration {
                contact: Some((&registration.contact).into()),
                source: registration.source.to_string(),
                gateway: registration.gateway.0.clone(),
                expires_at: registration.expires_at.0,
                since_index: registration.since_index,
            }),
            pending: agent.pending.as_ref().map(Into::into),
            ..Self::default()
        };
        match &agent.state {
            AgentState::LoggedOut | AgentState::Ready => {}
            AgentState::NotReady { reason } => row.reason = reason.clone(),
            AgentState::Reserved { call, offer, back, back_since } => {
                row.call = call.0;
                row.offer = offer.0;
                row.back = Some(back.into());
                row.back_since = back_since.0;
            }
            AgentState::Talking { call, back } | AgentState::Held { call, back } => {
                row.call = call.0;
                row.back = Some(back.into());
            }
            AgentState::Acw { until, next } => {
                row.until = until.0;
                row.back = Some(next.into());
            }
        }
        row
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
            "acw" => {
                AgentState::Acw { until: Millis(agent.until), next: need(back, "agent.back")? }
            }
            other => return Err(Error::Unknown("agent state", other.to_owned())),
        };
        let registration = |row: proto::Registration| -> Result<Registration, Error> {
            Ok(Registration {
                contact: need(row.contact, "registration.contact")?.try_into()?,
                source: parse(&row.source, "registration.source")?,
                gateway: GatewayId(row.gateway),
                expires_at: Millis(row.expires_at),
                since_index: row.since_index,
            })
        };
        Ok(Self {
            id: AgentId(agent.id),
            state,
            since: Millis(agent.since),
            since_index: agent.since_index,
            registration: agent.registration.map(registration).transpose()?,
            pending: agent.pending.map(Rest::try_from).transpose()?,
        })
    }
}

impl From<&Queue> for proto::Queue {
    fn from(queue: &Queue) -> Self {
        let entry = |entry: &Entry| {
            let (agent, offer) = match &entry.state {
                EntryState::Waiting => (None, 0),
                EntryState::Offered { agent, offer } => (Some(agent.0.clone()), offer.0),
            };
            proto::queue::Entry {
                call: entry.call.0,
                enqueued_at: entry.enqueued_at.0,
                agent,
                offer,
            }
        };
        Self { id: queue.id.0.clone(), entries: queue.entries.iter().map(entry).collect() }
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
                    EntryState::Offered { agent: AgentId(agent), offer: OfferId(entry.offer) }
                }
            },
        };
        Self { id: QueueId(queue.id), entries: queue.entries.into_iter().map(entry).collect() }
    }
}

impl From<&Channel> for proto::Channel {
    fn from(channel: &Channel) -> Self {
        let (state, call, until) = match channel.state {
            ChannelState::SeizedIn { call } => ("seized_in", call.0, 0),
            ChannelState::Active { call } => ("active", call.0, 0),
            ChannelState::Guard { until } => ("guard", 0, until.0),
        };
        Self {
            id: Some((&channel.id).into()),
            state: state.to_owned(),
            call,
            until,
            since: channel.since.0,
        }
    }
}

impl TryFrom<proto::Channel> for Channel {
    type Error = Error;

    fn try_from(channel: proto::Channel) -> Result<Self, Error> {
        let call = CallId(channel.call);
        let state = match channel.state.as_str() {
            "seized_in" => ChannelState::SeizedIn { call },
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

impl From<&Gateway> for proto::Gateway {
    fn from(gateway: &Gateway) -> Self {
        Self {
            id: gateway.id.0.clone(),
            incarnation: gateway.incarnation,
            vip: gateway.vip.to_string(),
            free_ports: gateway.free_ports.iter().map(|port| u32::from(*port)).collect(),
            counted: gateway.counted,
            ahead: gateway.ahead.iter().copied().collect(),
        }
    }
}

impl TryFrom<proto::Gateway> for Gateway {
    type Error = Error;

    fn try_from(gateway: proto::Gateway) -> Result<Self, Error> {
        let port = |port: u32| narrow(port, "gateway.port");
        Ok(Self {
            id: GatewayId(gateway.id),
            incarnation: gateway.incarnation,
            vip: parse(&gateway.vip, "gateway.vip")?,
            free_ports: gateway.free_ports.into_iter().map(port).collect::<Result<_, _>>()?,
            counted: gateway.counted,
            ahead: gateway.ahead.into_iter().collect(),
        })
    }
}
