use std::sync::Arc;

use tandem_sip::protobuf::{Encode, Writer};
use tandem_sip::reason::Q850;
use tandem_sip::{ConnectionId, Millis};

use super::flow::digit_from;
use super::{Error, carrier_from, manifest_from, narrow, need, parse, put_carrier, q850_from};
use crate::command::{Gap, GatewayEvent, Inbound, Login, Recorded, Register, TransactionKey};
use crate::effect::Rollover;
use crate::ids::{CallId, LegId, RecordingId};
use crate::proto::{self, gateway_event::Event};

impl Encode for GatewayEvent {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::Login(login) => to.message(1, login),
            Self::Invite(inbound) => to.message(2, inbound),
            Self::Register(register) => to.message(3, register),
            Self::Subscribe(register) => to.message(140, register),
            Self::Message(register) => to.message(142, register),
            Self::SubscriptionGone { call_id, local_tag } => to.delimited(141, |to| {
                to.text(1, call_id);
                to.text(2, local_tag);
            }),
            Self::Request(inbound) => to.message(4, inbound),
            Self::Cancel { transaction, q850 } => {
                to.message(5, transaction);
                to.some_uint(21, q850.map(Q850::get));
            }
            Self::Ack { call_id, local_tag, cseq, answer } => to.delimited(6, |to| {
                to.text(1, call_id);
                to.text(2, local_tag);
                to.uint(3, *cseq);
                to.some_message(4, answer.as_ref());
            }),
            Self::Response { branch, response, answer } => to.delimited(7, |to| {
                to.text(1, branch);
                to.message(2, &**response);
                to.some_message(3, answer.as_ref());
            }),
            Self::ClientTimeout { branch } => to.some_text(8, Some(branch)),
            Self::AckTimeout { transaction } => to.message(9, transaction),
            Self::RtpSilence { call, leg, since_ms } => to.delimited(10, |to| {
                to.fixed(1, call.0);
                to.fixed(2, leg.0);
                to.uint(3, *since_ms);
            }),
            Self::Rollover { call, leg, rollover } => to.delimited(230, |to| {
                to.fixed(1, call.0);
                to.fixed(2, leg.0);
                to.uint(3, rollover.sent);
                to.uint(4, rollover.received);
            }),
            Self::Recorded(recorded) => to.message(11, recorded),
            Self::Quality(quality) => to.message(20, quality),
            Self::Holdings(holdings) => to.delimited(50, |to| to.messages(1, holdings)),
            Self::PeerChange(change) => to.message(100, change),
            Self::RegistrationChange(change) => to.message(101, change),
            Self::FlowGone { source, connection } => to.delimited(110, |to| {
                to.socket(1, source);
                to.uint(2, connection.0);
            }),
            Self::Digit { call, leg, number, digit, duration_ms } => to.delimited(12, |to| {
                to.fixed(1, call.0);
                to.fixed(2, leg.0);
                to.uint(3, *number);
                to.shown(4, digit);
                to.uint(5, *duration_ms);
            }),
            Self::PromptEnded { call, leg, play, missing } => to.delimited(13, |to| {
                to.fixed(1, call.0);
                to.fixed(2, leg.0);
                to.uint(3, *play);
                to.flag(4, *missing);
            }),
            Self::Info { inbound, digit } => to.delimited(14, |to| {
                to.message(1, inbound);
                to.shown(2, digit);
            }),
        }
    }
}

impl Encode for Login {
    fn encode(&self, to: &mut Writer) {
        to.socket(1, &self.vip);
        to.packed(2, self.ports.iter().copied().map(u64::from));
    }
}

impl Encode for Register {
    fn encode(&self, to: &mut Writer) {
        to.message(1, &self.transaction);
        to.socket(2, &self.source);
        to.message(3, &*self.request);
        to.text(4, &self.agent.0);
        put_carrier(to, 5, self.carrier);
    }
}

impl TryFrom<proto::Register> for Register {
    type Error = Error;

    fn try_from(register: proto::Register) -> Result<Self, Error> {
        Ok(Self {
            transaction: need(register.transaction, "register.transaction")?.into(),
            source: parse(&register.source, "register.source")?,
            request: Box::new(need(register.request, "register.request")?.try_into()?),
            agent: register.agent.into(),
            carrier: carrier_from(register.carrier)?,
        })
    }
}

impl Encode for Recorded {
    fn encode(&self, to: &mut Writer) {
        to.fixed(1, self.call.0);
        to.fixed(2, self.recording.0);
        to.uint(3, self.duration_ms);
        to.uint(4, self.chunks);
        to.messages(5, &self.gaps);
        to.text(6, &self.hash);
        to.uint(7, self.bytes);
        to.messages(8, &self.pauses);
        to.some_uint(9, self.began_at.map(|at| at.0));
        to.text(10, &self.holder.0);
    }
}

impl TryFrom<proto::GatewayEvent> for GatewayEvent {
    type Error = Error;

    fn try_from(event: proto::GatewayEvent) -> Result<Self, Error> {
        let audio = |audio: Option<tandem_sip::proto::Audio>| {
            audio.map(TryInto::try_into).transpose().map_err(Error::from)
        };
        Ok(match need(event.event, "gateway_event.event")? {
            Event::Login(login) => Self::Login(Login {
                vip: parse(&login.vip, "login.vip")?,
                ports: login
                    .ports
                    .into_iter()
                    .map(|port| narrow(port, "login.port"))
                    .collect::<Result<_, _>>()?,
            }),
            Event::Invite(inbound) => Self::Invite(inbound.try_into()?),
            Event::Register(register) => Self::Register(register.try_into()?),
            Event::Subscribe(register) => Self::Subscribe(register.try_into()?),
            Event::Message(register) => Self::Message(register.try_into()?),
            Event::SubscriptionGone(of) => {
                Self::SubscriptionGone { call_id: of.call_id, local_tag: of.local_tag }
            }
            Event::Request(inbound) => Self::Request(inbound.try_into()?),
            Event::Cancel(key) => Self::Cancel {
                transaction: key.into(),
                q850: q850_from(event.cancel_q850, "gateway_event.cancel_q850")?,
            },
            Event::Ack(ack) => Self::Ack {
                call_id: ack.call_id,
                local_tag: ack.local_tag,
                cseq: ack.cseq,
                answer: audio(ack.answer)?,
            },
            Event::Response(response) => Self::Response {
                branch: response.branch,
                response: Box::new(need(response.response, "response.response")?.try_into()?),
                answer: audio(response.answer)?,
            },
            Event::ClientTimeout(branch) => Self::ClientTimeout { branch },
            Event::AckTimeout(key) => Self::AckTimeout { transaction: key.into() },
            Event::FlowGone(of) => Self::FlowGone {
                source: parse(&of.source, "flow_gone.source")?,
                connection: ConnectionId(of.connection),
            },
            Event::RtpSilence(of) => Self::RtpSilence {
                call: CallId(of.call),
                leg: LegId(of.leg),
                since_ms: of.since_ms,
            },
            Event::Rollover(of) => Self::Rollover {
                call: CallId(of.call),
                leg: LegId(of.leg),
                rollover: Rollover { sent: of.sent, received: of.received },
            },
            Event::Recorded(recorded) => Self::Recorded(Recorded {
                call: CallId(recorded.call),
                recording: RecordingId(recorded.recording),
                duration_ms: recorded.duration_ms,
                chunks: recorded.chunks,
                gaps: recorded.gaps.into_iter().map(Gap::from).collect(),
                hash: recorded.hash,
                bytes: recorded.bytes,
                pauses: recorded.pauses.into_iter().map(Gap::from).collect(),
                began_at: recorded.began_at.map(Millis),
                holder: recorded.holder.into(),
            }),
            Event::Holdings(holdings) => {
                Self::Holdings(holdings.items.into_iter().map(manifest_from).collect())
            }
            Event::Quality(quality) => Self::Quality(quality.try_into()?),
            Event::PeerChange(change) => Self::PeerChange(change.try_into()?),
            Event::RegistrationChange(change) => Self::RegistrationChange(change.try_into()?),
            Event::Digit(of) => Self::Digit {
                call: CallId(of.call),
                leg: LegId(of.leg),
                number: of.number,
                digit: digit_from(&of.digit)?,
                duration_ms: of.duration_ms,
            },
            Event::PromptEnded(of) => Self::PromptEnded {
                call: CallId(of.call),
                leg: LegId(of.leg),
                play: of.play,
                missing: of.missing,
            },
            Event::Info(info) => Self::Info {
                inbound: need(info.inbound, "info.inbound")?.try_into()?,
                digit: digit_from(&info.digit)?,
            },
        })
    }
}

impl Encode for Inbound {
    fn encode(&self, to: &mut Writer) {
        to.message(1, &self.transaction);
        to.socket(2, &self.source);
        to.message(3, &*self.request);
        to.some_message(4, self.offer.as_ref());
        put_carrier(to, 5, self.carrier);
        to.texts(20, self.names.iter().map(String::as_str));
    }
}

impl TryFrom<proto::Inbound> for Inbound {
    type Error = Error;

    fn try_from(inbound: proto::Inbound) -> Result<Self, Error> {
        Ok(Self {
            transaction: need(inbound.transaction, "inbound.transaction")?.into(),
            source: parse(&inbound.source, "inbound.source")?,
            request: Arc::new(need(inbound.request, "inbound.request")?.try_into()?),
            offer: inbound.offer.map(TryInto::try_into).transpose()?,
            carrier: carrier_from(inbound.carrier)?,
            names: inbound.names,
        })
    }
}

impl Encode for TransactionKey {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.gateway.0);
        to.text(2, &self.branch);
        to.text(3, &self.sent_by);
        to.text(4, &self.method);
    }
}

impl From<proto::TransactionKey> for TransactionKey {
    fn from(key: proto::TransactionKey) -> Self {
        Self {
            gateway: key.gateway.into(),
            branch: key.branch.into(),
            sent_by: key.sent_by.into(),
            method: key.method.into(),
        }
    }
}

impl Encode for Gap {
    fn encode(&self, to: &mut Writer) {
        to.uint(1, self.at_ms);
        to.uint(2, self.len_ms);
    }
}

impl From<proto::Gap> for Gap {
    fn from(gap: proto::Gap) -> Self {
        Self { at_ms: gap.at_ms, len_ms: gap.len_ms }
    }
}
