use super::{Error, narrow, need, parse};
use crate::command::{Gap, GatewayEvent, Inbound, Login, Recorded, Register, TransactionKey};
use crate::ids::{AgentId, CallId, GatewayId, LegId, RecordingId};
use crate::proto::{self, gateway_event::Event};

impl From<&GatewayEvent> for proto::GatewayEvent {
    fn from(event: &GatewayEvent) -> Self {
        let event = match event {
            GatewayEvent::Login(login) => Event::Login(proto::Login {
                vip: login.vip.to_string(),
                ports: login.ports.iter().map(|port| u32::from(*port)).collect(),
            }),
            GatewayEvent::Invite(inbound) => Event::Invite(inbound.into()),
            GatewayEvent::Register(register) => Event::Register(proto::Register {
                transaction: Some((&register.transaction).into()),
                source: register.source.to_string(),
                request: Some((&*register.request).into()),
                agent: register.agent.0.clone(),
            }),
            GatewayEvent::Request(inbound) => Event::Request(inbound.into()),
            GatewayEvent::Cancel { transaction } => Event::Cancel(transaction.into()),
            GatewayEvent::Ack { call_id, local_tag, cseq, answer } => Event::Ack(proto::Ack {
                call_id: call_id.clone(),
                local_tag: local_tag.clone(),
                cseq: *cseq,
                answer: answer.as_ref().map(Into::into),
            }),
            GatewayEvent::Response { branch, response, answer } => {
                Event::Response(proto::Response {
                    branch: branch.clone(),
                    response: Some((&**response).into()),
                    answer: answer.as_ref().map(Into::into),
                })
            }
            GatewayEvent::ClientTimeout { branch } => Event::ClientTimeout(branch.clone()),
            GatewayEvent::AckTimeout { transaction } => Event::AckTimeout(transaction.into()),
            GatewayEvent::RtpSilence { call, leg, since_ms } => {
                Event::RtpSilence(proto::RtpSilence {
                    call: call.0,
                    leg: leg.0,
                    since_ms: *since_ms,
                })
            }
            GatewayEvent::Recorded(recorded) => Event::Recorded(proto::Recorded {
                call: recorded.call.0,
                recording: recorded.recording.0,
                duration_ms: recorded.duration_ms,
                chunks: recorded.chunks,
                gaps: recorded.gaps.iter().map(Into::into).collect(),
                hash: recorded.hash.clone(),
                bytes: recorded.bytes,
            }),
        };
        Self { event: Some(event) }
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
            Event::Register(register) => Self::Register(Register {
                transaction: need(register.transaction, "register.transaction")?.into(),
                source: parse(&register.source, "register.source")?,
                request: Box::new(need(register.request, "register.request")?.try_into()?),
                agent: AgentId(register.agent),
            }),
            Event::Request(inbound) => Self::Request(inbound.try_into()?),
            Event::Cancel(key) => Self::Cancel { transaction: key.into() },
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
            Event::RtpSilence(of) => Self::RtpSilence {
                call: CallId(of.call),
                leg: LegId(of.leg),
                since_ms: of.since_ms,
            },
            Event::Recorded(recorded) => Self::Recorded(Recorded {
                call: CallId(recorded.call),
                recording: RecordingId(recorded.recording),
                duration_ms: recorded.duration_ms,
                chunks: recorded.chunks,
                gaps: recorded.gaps.into_iter().map(Gap::from).collect(),
                hash: recorded.hash,
                bytes: recorded.bytes,
            }),
        })
    }
}

impl From<&Inbound> for proto::Inbound {
    fn from(inbound: &Inbound) -> Self {
        Self {
            transaction: Some((&inbound.transaction).into()),
            source: inbound.source.to_string(),
            request: Some((&*inbound.request).into()),
            offer: inbound.offer.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<proto::Inbound> for Inbound {
    type Error = Error;

    fn try_from(inbound: proto::Inbound) -> Result<Self, Error> {
        Ok(Self {
            transaction: need(inbound.transaction, "inbound.transaction")?.into(),
            source: parse(&inbound.source, "inbound.source")?,
            request: Box::new(need(inbound.request, "inbound.request")?.try_into()?),
            offer: inbound.offer.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&TransactionKey> for proto::TransactionKey {
    fn from(key: &TransactionKey) -> Self {
        Self {
            gateway: key.gateway.0.clone(),
            branch: key.branch.clone(),
            sent_by: key.sent_by.clone(),
            method: key.method.clone(),
        }
    }
}

impl From<proto::TransactionKey> for TransactionKey {
    fn from(key: proto::TransactionKey) -> Self {
        Self {
            gateway: GatewayId(key.gateway),
            branch: key.branch,
            sent_by: key.sent_by,
            method: key.method,
        }
    }
}

impl From<&Gap> for proto::Gap {
    fn from(gap: &Gap) -> Self {
        Self { at_ms: gap.at_ms, len_ms: gap.len_ms }
    }
}

impl From<proto::Gap> for Gap {
    fn from(gap: proto::Gap) -> Self {
        Self { at_ms: gap.at_ms, len_ms: gap.len_ms }
    }
}
