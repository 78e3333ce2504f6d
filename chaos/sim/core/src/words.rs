//! Commands, events and effects in a few words, for stories.

use tandem_core::command::{Command, GatewayEvent, OperatorCommand};
use tandem_core::effect::{Body, Effect, Source};

pub fn command(command: &Command) -> String {
    match command {
        Command::Configure(config) => format!("configuration {}", config.version),
        Command::Elected { node, dark: false } => format!("{node} is elected"),
        Command::Elected { node, dark: true } => format!("{node} is elected, all nodes were dead"),
        Command::Gateway(of) => event(of),
        Command::Due(deadline) => format!("{deadline:?} is due"),
        Command::Operator(of) => operator(of),
        Command::Keyed(keyed) => format!("{} as {}", operator(&keyed.command), keyed.key),
        Command::Quarantine { entity, .. } => format!("{entity} is quarantined"),
        Command::Lease(_) => "leases".into(),
        Command::Trim => "trim".into(),
    }
}

fn operator(command: &OperatorCommand) -> String {
    match command {
        OperatorCommand::SetAgentState { agent, state } => {
            format!("agent {agent} asks for {state:?}")
        }
        OperatorCommand::ReleaseCall { call } => format!("an operator releases call {call}"),
        OperatorCommand::TransferCall { call, to } => {
            format!("an operator sends call {call} to {to}")
        }
        OperatorCommand::PauseRecording { call, paused: true } => {
            format!("an operator pauses the recording of call {call}")
        }
        OperatorCommand::PauseRecording { call, paused: false } => {
            format!("an operator resumes the recording of call {call}")
        }
        OperatorCommand::Consult { call, to } => {
            format!("the agent of call {call} asks {to}")
        }
        OperatorCommand::Conference { call } => {
            format!("all of call {call} shall speak together")
        }
        OperatorCommand::CompleteConsult { call } => {
            format!("call {call} goes to who is asked")
        }
        OperatorCommand::CancelConsult { call } => {
            format!("the agent goes back to the caller of {call}")
        }
        OperatorCommand::Originate { from, to } => {
            format!("an operator has {from} call {to}")
        }
    }
}

fn short(call_id: &str) -> &str {
    call_id.get(..8).unwrap_or(call_id)
}

pub fn event(event: &GatewayEvent) -> String {
    match event {
        GatewayEvent::Login(login) => format!("login at {}", login.vip),
        GatewayEvent::Invite(invite) => {
            let headers = &invite.request.headers;
            let to = invite.request.uri.user.as_deref().unwrap_or_default();
            format!("INVITE of {} for {to}", short(&headers.call_id))
        }
        GatewayEvent::Register(register) => format!("REGISTER of {}", register.agent),
        GatewayEvent::Request(inbound) => {
            let headers = &inbound.request.headers;
            format!("{} of {}", headers.cseq, short(&headers.call_id))
        }
        GatewayEvent::Cancel { transaction, .. } => format!("CANCEL of {}", transaction.branch),
        GatewayEvent::Ack { call_id, cseq, .. } => format!("ACK {cseq} of {}", short(call_id)),
        GatewayEvent::Response { response, .. } => {
            let headers = &response.headers;
            format!("{} to {} of {}", response.status, headers.cseq, short(&headers.call_id))
        }
        GatewayEvent::ClientTimeout { branch } => format!("time-out of {branch}"),
        GatewayEvent::AckTimeout { transaction } => format!("no ACK for {}", transaction.branch),
        GatewayEvent::RtpSilence { call, .. } => format!("no RTP in call {call}"),
        GatewayEvent::Rollover { call, .. } => format!("SRTP goes on in call {call}"),
        GatewayEvent::Subscribe(register) => {
            let to = register.request.uri.user.as_deref().unwrap_or_default();
            format!("SUBSCRIBE of {} to {to}", register.agent)
        }
        GatewayEvent::Message(register) => format!("MESSAGE of {}", register.agent),
        GatewayEvent::SubscriptionGone { call_id, .. } => {
            format!("the subscription {} is gone", short(call_id))
        }
        GatewayEvent::FlowGone { source, .. } => format!("a flow of {source} is gone"),
        GatewayEvent::Recorded(recorded) => format!("recording of call {}", recorded.call),
        GatewayEvent::PeerChange(change) => {
            let state = if change.up { "up" } else { "down" };
            format!("{} of {} is {state}", change.peer, change.trunk)
        }
        GatewayEvent::RegistrationChange(change) => {
            let state = if change.up { "registered" } else { "not registered" };
            format!("it is {state} with {}", change.trunk)
        }
        GatewayEvent::Holdings(held) => format!("what there is of {} recordings", held.len()),
        GatewayEvent::Quality(quality) => format!("quality of a leg of call {}", quality.call),
        GatewayEvent::Digit { call, number, digit, .. } => {
            format!("key {digit} ({number}) in call {call}")
        }
        GatewayEvent::PromptEnded { call, play, .. } => {
            format!("end of prompt {play} in call {call}")
        }
        GatewayEvent::Info { inbound, digit } => {
            format!("INFO with key {digit} of {}", short(&inbound.request.headers.call_id))
        }
    }
}

pub fn effect(effect: &Effect) -> String {
    match &effect.body {
        Body::Respond { response, .. } => {
            let headers = &response.headers;
            format!("{} to {} of {}", response.status, headers.cseq, short(&headers.call_id))
        }
        Body::Send { request, .. } | Body::Notify { request, .. } => {
            format!("{} of {}", request.headers.cseq, short(&request.headers.call_id))
        }
        Body::Media(plan) => {
            let sources: Vec<&str> = plan.legs.iter().map(|leg| source(&leg.source)).collect();
            format!("media {} of call {}: {sources:?}", plan.version, plan.call)
        }
    }
}

fn source(source: &Source) -> &str {
    match source {
        Source::Silence => "silence",
        Source::Music(_) => "music",
        Source::Ringback(_) => "ringback",
        Source::Echo => "echo",
        Source::Leg(_) => "the other leg",
        Source::Mix(_) => "the others",
        Source::Prompt(prompt) => &prompt.prompt.0,
    }
}
