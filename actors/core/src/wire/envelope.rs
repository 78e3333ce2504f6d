use tandem_sip::Millis;

use super::{Error, narrow, need};
use crate::command::{Command, Envelope, OperatorCommand, Origin, RequestedState};
use crate::deadline::Deadline;
use crate::effect::EffectId;
use crate::ids::{AgentId, CallId, GatewayId, LegId, OfferId};
use crate::proto::{self, deadline::Kind, envelope};

impl From<&Envelope> for proto::Envelope {
    fn from(value: &Envelope) -> Self {
        use envelope::Command as To;
        let command = match &value.command {
            Command::Configure(config) => To::Configure((&**config).into()),
            Command::Elected { node } => To::Elected(proto::Elected { node: node.clone() }),
            Command::Gateway(event) => To::Gateway(event.into()),
            Command::Due(deadline) => To::Due(deadline.into()),
            Command::Operator(OperatorCommand::SetAgentState { agent, state }) => {
                let (state, reason) = match state {
                    RequestedState::Ready => ("ready", ""),
                    RequestedState::NotReady { reason } => ("not_ready", reason.as_str()),
                    RequestedState::LoggedOut => ("logged_out", ""),
                };
                To::SetAgentState(proto::SetAgentState {
                    agent: agent.0.clone(),
                    state: state.into(),
                    reason: reason.into(),
                })
            }
            Command::Operator(OperatorCommand::ReleaseCall { call }) => {
                To::ReleaseCall(proto::ReleaseCall { call: call.0 })
            }
            Command::Quarantine { entity, reason } => To::Quarantine(proto::Quarantine {
                entity: Some(entity.into()),
                reason: reason.clone(),
            }),
            Command::Trim => To::Trim(proto::Trim {}),
        };
        Self {
            at: value.at.0,
            seed: value.seed,
            version: value.version,
            origin: value.origin.as_ref().map(|origin| proto::Origin {
                gateway: origin.gateway.0.clone(),
                incarnation: origin.incarnation,
                sequence: origin.sequence,
            }),
            done: value.done.iter().map(|id| (*id).into()).collect(),
            command: Some(command),
        }
    }
}

impl TryFrom<proto::Envelope> for Envelope {
    type Error = Error;

    fn try_from(value: proto::Envelope) -> Result<Self, Error> {
        use envelope::Command as From;
        let command = match need(value.command, "envelope.command")? {
            From::Configure(config) => Command::Configure(Box::new(config.try_into()?)),
            From::Elected(elected) => Command::Elected { node: elected.node },
            From::Gateway(event) => Command::Gateway(event.try_into()?),
            From::Due(deadline) => Command::Due(deadline.try_into()?),
            From::SetAgentState(set) => {
                let state = match set.state.as_str() {
                    "ready" => RequestedState::Ready,
                    "not_ready" => RequestedState::NotReady { reason: set.reason },
                    "logged_out" => RequestedState::LoggedOut,
                    other => return Err(Error::Unknown("agent state", other.to_owned())),
                };
                let agent = AgentId(set.agent);
                Command::Operator(OperatorCommand::SetAgentState { agent, state })
            }
            From::ReleaseCall(release) => {
                Command::Operator(OperatorCommand::ReleaseCall { call: CallId(release.call) })
            }
            From::Quarantine(quarantine) => Command::Quarantine {
                entity: need(quarantine.entity, "quarantine.entity")?.try_into()?,
                reason: quarantine.reason,
            },
            From::Trim(proto::Trim {}) => Command::Trim,
        };
        Ok(Self {
            at: Millis(value.at),
            seed: value.seed,
            version: value.version,
            origin: value.origin.map(|origin| Origin {
                gateway: GatewayId(origin.gateway),
                incarnation: origin.incarnation,
                sequence: origin.sequence,
            }),
            done: value.done.into_iter().map(EffectId::try_from).collect::<Result<_, _>>()?,
            command,
        })
    }
}

impl From<EffectId> for proto::EffectId {
    fn from(id: EffectId) -> Self {
        Self { shard: u32::from(id.shard), index: id.index, ordinal: u32::from(id.ordinal) }
    }
}

impl TryFrom<proto::EffectId> for EffectId {
    type Error = Error;

    fn try_from(id: proto::EffectId) -> Result<Self, Error> {
        Ok(Self {
            shard: narrow(id.shard, "effect.shard")?,
            index: id.index,
            ordinal: narrow(id.ordinal, "effect.ordinal")?,
        })
    }
}

impl From<&Deadline> for proto::Deadline {
    fn from(deadline: &Deadline) -> Self {
        let since = |agent: &AgentId, since_index: &u64| proto::deadline::Since {
            agent: agent.0.clone(),
            since_index: *since_index,
        };
        let kind = match deadline {
            Deadline::RingOut { call, offer } => {
                Kind::RingOut(proto::deadline::RingOut { call: call.0, offer: offer.0 })
            }
            Deadline::AcwOver { agent, since_index } => Kind::AcwOver(since(agent, since_index)),
            Deadline::RegistrationExpired { agent, since_index } => {
                Kind::RegistrationExpired(since(agent, since_index))
            }
            Deadline::GuardOver { channel } => Kind::GuardOver(channel.into()),
            Deadline::ReleaseOver { call, leg } => {
                Kind::ReleaseOver(proto::deadline::OfLeg { call: call.0, leg: leg.0 })
            }
            Deadline::TooLong { call } => Kind::TooLong(call.0),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::Deadline> for Deadline {
    type Error = Error;

    fn try_from(deadline: proto::Deadline) -> Result<Self, Error> {
        Ok(match need(deadline.kind, "deadline.kind")? {
            Kind::RingOut(of) => Self::RingOut { call: CallId(of.call), offer: OfferId(of.offer) },
            Kind::AcwOver(of) => {
                Self::AcwOver { agent: AgentId(of.agent), since_index: of.since_index }
            }
            Kind::RegistrationExpired(of) => {
                Self::RegistrationExpired { agent: AgentId(of.agent), since_index: of.since_index }
            }
            Kind::GuardOver(id) => Self::GuardOver { channel: id.try_into()? },
            Kind::ReleaseOver(of) => {
                Self::ReleaseOver { call: CallId(of.call), leg: LegId(of.leg) }
            }
            Kind::TooLong(call) => Self::TooLong { call: CallId(call) },
        })
    }
}
