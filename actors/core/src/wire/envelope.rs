use tandem_sip::Millis;
use tandem_sip::protobuf::{Encode, Writer};

use super::{Error, narrow, need};
use crate::command::{Command, Envelope, Keyed, OperatorCommand, Origin, RequestedState};
use crate::deadline::Deadline;
use crate::effect::EffectId;
use crate::ids::{AgentId, CallId, LegId, OfferId, SubscriptionId};
use crate::proto::{self, deadline::Kind, envelope};

impl Encode for Envelope {
    fn encode(&self, to: &mut Writer) {
        to.uint(1, self.at.0);
        to.fixed(2, self.seed);
        to.uint(3, self.version);
        to.some_message(4, self.origin.as_ref());
        to.messages(5, &self.done);
        match &self.command {
            Command::Configure(config) => to.message(10, &**config),
            Command::Elected { node, dark } => to.delimited(11, |to| {
                to.text(1, node);
                to.flag(2, *dark);
            }),
            Command::Gateway(event) => to.message(12, event),
            Command::Due(deadline) => to.message(13, deadline),
            Command::Operator(command) => command.encode(to),
            Command::Keyed(Keyed { key, keep_ms, command }) => to.delimited(20, |to| {
                to.text(1, key);
                to.uint(2, *keep_ms);
                to.message(3, command);
            }),
            Command::Quarantine { entity, reason } => to.delimited(16, |to| {
                to.message(1, entity);
                to.text(2, reason);
            }),
            Command::Lease(leases) => to.message(170, leases),
            Command::Trim => to.delimited(17, |_| {}),
        }
    }
}

/// Numbered as in the envelope, where it stands without a message of its own.
impl Encode for OperatorCommand {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::SetAgentState { agent, state } => {
                let (state, reason) = match state {
                    RequestedState::Ready => ("ready", ""),
                    RequestedState::NotReady { reason } => ("not_ready", reason.as_str()),
                    RequestedState::LoggedOut => ("logged_out", ""),
                };
                to.delimited(14, |to| {
                    to.text(1, &agent.0);
                    to.text(2, state);
                    to.text(3, reason);
                });
            }
            Self::ReleaseCall { call } => to.delimited(15, |to| to.fixed(1, call.0)),
            Self::TransferCall { call, to: number } => to.delimited(22, |to| {
                to.fixed(1, call.0);
                to.text(2, number);
            }),
            Self::PauseRecording { call, paused } => to.delimited(50, |to| {
                to.fixed(1, call.0);
                to.flag(2, *paused);
            }),
            Self::Originate { from, to: number } => to.delimited(21, |to| {
                to.text(1, &from.0);
                to.text(2, number);
            }),
            Self::Consult { call, to: number } => to.delimited(23, |to| {
                to.fixed(1, call.0);
                to.text(2, number);
            }),
            Self::CompleteConsult { call } => to.delimited(24, |to| to.fixed(1, call.0)),
            Self::CancelConsult { call } => to.delimited(25, |to| to.fixed(1, call.0)),
            Self::Conference { call } => to.delimited(120, |to| to.fixed(1, call.0)),
        }
    }
}

fn requested(set: proto::SetAgentState) -> Result<OperatorCommand, Error> {
    let state = match set.state.as_str() {
        "ready" => RequestedState::Ready,
        "not_ready" => RequestedState::NotReady { reason: set.reason },
        "logged_out" => RequestedState::LoggedOut,
        other => return Err(Error::Unknown("agent state", other.to_owned())),
    };
    Ok(OperatorCommand::SetAgentState { agent: set.agent.into(), state })
}

fn release(release: &proto::ReleaseCall) -> OperatorCommand {
    OperatorCommand::ReleaseCall { call: CallId(release.call) }
}

fn originate(originate: proto::Originate) -> OperatorCommand {
    OperatorCommand::Originate { from: originate.from.into(), to: originate.to }
}

fn pause(pause: &proto::PauseRecording) -> OperatorCommand {
    OperatorCommand::PauseRecording { call: CallId(pause.call), paused: pause.paused }
}

fn transfer(transfer: proto::TransferCall) -> OperatorCommand {
    OperatorCommand::TransferCall { call: CallId(transfer.call), to: transfer.to }
}

fn consult(consult: proto::ConsultCall) -> OperatorCommand {
    OperatorCommand::Consult { call: CallId(consult.call), to: consult.to }
}

fn complete(of: &proto::OfCall) -> OperatorCommand {
    OperatorCommand::CompleteConsult { call: CallId(of.call) }
}

fn conference(of: &proto::OfCall) -> OperatorCommand {
    OperatorCommand::Conference { call: CallId(of.call) }
}

fn cancel(of: &proto::OfCall) -> OperatorCommand {
    OperatorCommand::CancelConsult { call: CallId(of.call) }
}

impl TryFrom<proto::Operator> for OperatorCommand {
    type Error = Error;

    fn try_from(operator: proto::Operator) -> Result<Self, Error> {
        use proto::operator::Command as From;
        match need(operator.command, "operator.command")? {
            From::SetAgentState(of) => requested(of),
            From::ReleaseCall(of) => Ok(release(&of)),
            From::Originate(of) => Ok(originate(of)),
            From::TransferCall(of) => Ok(transfer(of)),
            From::PauseRecording(of) => Ok(pause(&of)),
            From::ConsultCall(of) => Ok(consult(of)),
            From::CompleteConsult(of) => Ok(complete(&of)),
            From::CancelConsult(of) => Ok(cancel(&of)),
            From::Conference(of) => Ok(conference(&of)),
        }
    }
}

impl Encode for Origin {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.gateway.0);
        to.uint(2, self.incarnation);
        to.uint(3, self.sequence);
    }
}

impl TryFrom<proto::Envelope> for Envelope {
    type Error = Error;

    fn try_from(value: proto::Envelope) -> Result<Self, Error> {
        use envelope::Command as From;
        let command = match need(value.command, "envelope.command")? {
            From::Configure(config) => Command::Configure(Box::new(config.try_into()?)),
            From::Elected(elected) => Command::Elected { node: elected.node, dark: elected.dark },
            From::Gateway(event) => Command::Gateway(event.try_into()?),
            From::Due(deadline) => Command::Due(deadline.try_into()?),
            From::SetAgentState(of) => Command::Operator(requested(of)?),
            From::ReleaseCall(of) => Command::Operator(release(&of)),
            From::Originate(of) => Command::Operator(originate(of)),
            From::TransferCall(of) => Command::Operator(transfer(of)),
            From::PauseRecording(of) => Command::Operator(pause(&of)),
            From::ConsultCall(of) => Command::Operator(consult(of)),
            From::CompleteConsult(of) => Command::Operator(complete(&of)),
            From::CancelConsult(of) => Command::Operator(cancel(&of)),
            From::Conference(of) => Command::Operator(conference(&of)),
            From::Keyed(keyed) => Command::Keyed(Keyed {
                key: keyed.key,
                keep_ms: keyed.keep_ms,
                command: need(keyed.command, "keyed.command")?.try_into()?,
            }),
            From::Quarantine(quarantine) => Command::Quarantine {
                entity: need(quarantine.entity, "quarantine.entity")?.try_into()?,
                reason: quarantine.reason,
            },
            From::Lease(leases) => Command::Lease(leases.try_into()?),
            From::Trim(proto::Trim {}) => Command::Trim,
        };
        Ok(Self {
            at: Millis(value.at),
            seed: value.seed,
            version: value.version,
            origin: value.origin.map(|origin| Origin {
                gateway: origin.gateway.into(),
                incarnation: origin.incarnation,
                sequence: origin.sequence,
            }),
            done: value.done.into_iter().map(EffectId::try_from).collect::<Result<_, _>>()?,
            command,
        })
    }
}

impl Encode for EffectId {
    fn encode(&self, to: &mut Writer) {
        to.uint(1, self.shard);
        to.uint(2, self.index);
        to.uint(3, self.ordinal);
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

impl Encode for Deadline {
    fn encode(&self, to: &mut Writer) {
        let mut pair = |field: u32, first: u64, second: u64| {
            to.delimited(field, |to| {
                to.fixed(1, first);
                to.fixed(2, second);
            });
        };
        match self {
            Self::RingOut { call, offer } => pair(1, call.0, offer.0),
            Self::AcwOver { agent, since_index } => since(to, 2, agent, *since_index),
            Self::RegistrationExpired { agent, since_index } => since(to, 3, agent, *since_index),
            Self::SubscriptionDue { agent, subscription } => since(to, 140, agent, subscription.0),
            Self::GuardOver { channel } => to.message(4, channel),
            Self::ReleaseOver { call, leg } => pair(5, call.0, leg.0),
            Self::SessionTimer { call, leg } => pair(8, call.0, leg.0),
            Self::TooLong { call } => to.some_fixed(6, Some(call.0)),
            Self::FlowWait { call, turn } => to.delimited(7, |to| {
                to.fixed(1, call.0);
                to.uint(2, *turn);
            }),
        }
    }
}

fn since(to: &mut Writer, field: u32, agent: &AgentId, since_index: u64) {
    to.delimited(field, |to| {
        to.text(1, &agent.0);
        to.uint(2, since_index);
    });
}

impl TryFrom<proto::Deadline> for Deadline {
    type Error = Error;

    fn try_from(deadline: proto::Deadline) -> Result<Self, Error> {
        Ok(match need(deadline.kind, "deadline.kind")? {
            Kind::RingOut(of) => Self::RingOut { call: CallId(of.call), offer: OfferId(of.offer) },
            Kind::AcwOver(of) => {
                Self::AcwOver { agent: of.agent.into(), since_index: of.since_index }
            }
            Kind::RegistrationExpired(of) => {
                Self::RegistrationExpired { agent: of.agent.into(), since_index: of.since_index }
            }
            Kind::SubscriptionDue(of) => Self::SubscriptionDue {
                agent: of.agent.into(),
                subscription: SubscriptionId(of.subscription),
            },
            Kind::GuardOver(id) => Self::GuardOver { channel: id.try_into()? },
            Kind::ReleaseOver(of) => {
                Self::ReleaseOver { call: CallId(of.call), leg: LegId(of.leg) }
            }
            Kind::SessionTimer(of) => {
                Self::SessionTimer { call: CallId(of.call), leg: LegId(of.leg) }
            }
            Kind::TooLong(call) => Self::TooLong { call: CallId(call) },
            Kind::FlowWait(of) => Self::FlowWait { call: CallId(of.call), turn: of.turn },
        })
    }
}
