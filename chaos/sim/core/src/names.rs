//! What a message or command is, as a number that stays the same when other calls are left out:
//! made of who calls whom, the method, CSeq and status, never of ports, indices or sequences.

use tandem_control::link::Up;
use tandem_core::command::{Command, GatewayEvent, OperatorCommand};
use tandem_core::deadline::Deadline;
use tandem_core::effect::{Body, Effect};
use tandem_core::ids::EntityId;
use tandem_sip::Headers;

use crate::digest::Digest;
use crate::links::Down;
use crate::packet::{Content, Packet};

/// Of several numbers in their order.
pub fn of(numbers: &[u64]) -> u64 {
    let mut digest = Digest::default();
    numbers.iter().for_each(|number| digest.number(*number));
    digest.value()
}

fn text(text: &str) -> u64 {
    Digest::of(text.as_bytes())
}

pub fn entity(entity: &EntityId) -> u64 {
    match entity {
        EntityId::Call(id) => of(&[1, id.0]),
        EntityId::Agent(id) => of(&[2, text(&id.0)]),
        EntityId::Queue(id) => of(&[3, text(&id.0)]),
        EntityId::Gateway(id) => of(&[4, text(&id.0)]),
        EntityId::Channel(_) => of(&[5, text(&entity.to_string())]),
    }
}

/// A request, or its response of a status. Both ends call a dialog by the same two parties.
pub fn message(headers: &Headers, status: u16) -> u64 {
    let party = |user: &Option<String>| user.as_deref().map_or(0, text);
    let parties = party(&headers.from.uri.user).wrapping_add(party(&headers.to.uri.user));
    let cseq = &headers.cseq;
    of(&[parties, u64::from(cseq.number), text(cseq.method.as_str()), u64::from(status)])
}

pub fn packet(packet: &Packet) -> u64 {
    match &packet.content {
        Content::Request(request) => {
            of(&[message(&request.headers, 0), text(request.method.as_str())])
        }
        Content::Response(response) => message(&response.headers, response.status),
    }
}

pub fn command(command: &Command) -> u64 {
    match command {
        Command::Configure(_) => 1,
        Command::Elected { .. } => 2,
        Command::Trim => 3,
        Command::Lease(_) => 4,
        Command::Gateway(of) => event(of),
        Command::Due(due) => deadline(due),
        Command::Operator(of) => operator(of),
        Command::Keyed(keyed) => of(&[7, text(&keyed.key)]),
        Command::Quarantine { entity: id, .. } => of(&[6, entity(id)]),
    }
}

fn operator(command: &OperatorCommand) -> u64 {
    match command {
        OperatorCommand::SetAgentState { agent, .. } => of(&[4, text(&agent.0)]),
        OperatorCommand::ReleaseCall { call } => of(&[5, call.0]),
        OperatorCommand::TransferCall { call, to } => of(&[9, call.0, text(to)]),
        OperatorCommand::PauseRecording { call, paused } => of(&[10, call.0, u64::from(*paused)]),
        OperatorCommand::Originate { from, to } => of(&[8, text(&from.0), text(to)]),
        OperatorCommand::Consult { call, to } => of(&[61, call.0, text(to)]),
        OperatorCommand::Conference { call } => of(&[64, call.0]),
        OperatorCommand::CompleteConsult { call } => of(&[62, call.0]),
        OperatorCommand::CancelConsult { call } => of(&[63, call.0]),
    }
}

fn deadline(deadline: &Deadline) -> u64 {
    let kind = match deadline {
        Deadline::RingOut { .. } => 11,
        Deadline::AcwOver { .. } => 12,
        Deadline::RegistrationExpired { .. } => 13,
        Deadline::GuardOver { .. } => 14,
        Deadline::ReleaseOver { .. } => 15,
        Deadline::TooLong { .. } => 16,
        Deadline::FlowWait { .. } => 17,
        Deadline::SessionTimer { .. } => 18,
        Deadline::SubscriptionDue { .. } => 19,
    };
    of(&[kind, entity(&deadline.entity())])
}

pub fn event(event: &GatewayEvent) -> u64 {
    match event {
        GatewayEvent::Login(login) => of(&[21, text(&login.vip.to_string())]),
        GatewayEvent::Invite(invite) => of(&[22, message(&invite.request.headers, 0)]),
        GatewayEvent::Register(register) => of(&[23, text(&register.agent.0)]),
        GatewayEvent::Request(inbound) => of(&[24, message(&inbound.request.headers, 0)]),
        GatewayEvent::Cancel { transaction, .. } => of(&[25, text(&transaction.branch)]),
        GatewayEvent::Ack { call_id, cseq, .. } => of(&[26, text(call_id), u64::from(*cseq)]),
        GatewayEvent::Response { response, .. } => {
            of(&[27, message(&response.headers, response.status)])
        }
        GatewayEvent::ClientTimeout { branch } => of(&[28, text(branch)]),
        GatewayEvent::AckTimeout { transaction } => of(&[29, text(&transaction.branch)]),
        GatewayEvent::RtpSilence { call, leg, .. } => of(&[30, call.0, leg.0]),
        GatewayEvent::Rollover { call, leg, .. } => of(&[68, call.0, leg.0]),
        GatewayEvent::Subscribe(register) => of(&[65, message(&register.request.headers, 0)]),
        GatewayEvent::Message(register) => of(&[67, message(&register.request.headers, 0)]),
        GatewayEvent::SubscriptionGone { call_id, .. } => of(&[66, text(call_id)]),
        GatewayEvent::FlowGone { connection, .. } => of(&[37, connection.0]),
        GatewayEvent::Recorded(recorded) => of(&[31, recorded.call.0]),
        GatewayEvent::Quality(quality) => of(&[35, quality.call.0, quality.leg.0]),
        GatewayEvent::Holdings(held) => of(&[36, held.first().map_or(0, |held| held.recording.0)]),
        GatewayEvent::PeerChange(change) => {
            of(&[37, text(&change.peer.to_string()), u64::from(change.up)])
        }
        GatewayEvent::RegistrationChange(change) => {
            of(&[38, text(&change.trunk.0), u64::from(change.up)])
        }
        GatewayEvent::Digit { call, number, .. } => of(&[32, call.0, *number]),
        GatewayEvent::PromptEnded { call, play, .. } => of(&[33, call.0, *play]),
        GatewayEvent::Info { inbound, .. } => of(&[34, message(&inbound.request.headers, 0)]),
    }
}

fn effect(effect: &Effect) -> u64 {
    match &effect.body {
        Body::Respond { response, .. } => of(&[41, message(&response.headers, response.status)]),
        Body::Send { request, .. } | Body::Notify { request, .. } => {
            of(&[42, message(&request.headers, 0)])
        }
        Body::Media(plan) => of(&[43, plan.call.0]),
    }
}

/// What speaks for no call is named by its moment.
pub fn up(now: u64, message: &Up) -> u64 {
    match message {
        Up::Event { event: of, .. } => event(of),
        Up::Done { .. } => of(&[51, now]),
    }
}

pub fn down(now: u64, message: &Down) -> u64 {
    match message {
        Down::Effect { effect: of, .. } => effect(of),
        Down::Accepted { .. } => of(&[52, now]),
        Down::Leading { .. } => of(&[53, now]),
        Down::Routing => of(&[54, now]),
    }
}
