//! A step as a person reads it, and as a program does.

use std::io::{Result, Write};

use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};
use tandem_core::Reply;
use tandem_core::command::{Command, GatewayEvent, OperatorCommand};
use tandem_core::ids::EntityId;
use tandem_core::time::rfc3339;

use super::step::{Change, Step, What};

pub fn text(out: &mut impl Write, step: &Step, only: Option<&EntityId>) -> Result<()> {
    write!(out, "{} term {} ", step.index, step.term)?;
    match &step.what {
        What::Raft => writeln!(out, "consensus's own")?,
        What::Move(what) => writeln!(out, "{what}")?,
        What::Unreadable(why) => writeln!(out, "can't be read by this build: {why}")?,
        What::Command { envelope, reply, effects } => {
            writeln!(out, "{} {}", rfc3339(envelope.at), command(&envelope.command))?;
            match reply {
                Reply::Done => writeln!(out, "  done, {effects} effects")?,
                Reply::Rejected(why) => writeln!(out, "  changed nothing: {why}")?,
            }
        }
    }
    for change in step.changes.iter().filter(|c| only.is_none_or(|only| c.entity == *only)) {
        writeln!(out, "  {}{}", change.entity, fate(change))?;
        let (before, after) = (of(&change.before), of(&change.after));
        let diff = TextDiff::from_lines(before, after);
        for line in diff.iter_all_changes() {
            match line.tag() {
                ChangeTag::Delete => write!(out, "  - {line}")?,
                ChangeTag::Insert => write!(out, "  + {line}")?,
                ChangeTag::Equal => {}
            }
            if line.tag() != ChangeTag::Equal && line.missing_newline() {
                writeln!(out)?;
            }
        }
    }
    Ok(())
}

fn of(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

fn fate(change: &Change) -> &'static str {
    match (&change.before, &change.after) {
        (None, Some(_)) => ": new",
        (Some(_), None) => ": gone",
        _ => "",
    }
}

pub fn json(step: &Step) -> Value {
    let mut value = json!({"index": step.index, "term": step.term, "hash": step.hash});
    match &step.what {
        What::Raft => value["raft"] = true.into(),
        What::Move(what) => value["move"] = what.as_str().into(),
        What::Unreadable(why) => value["unreadable"] = why.as_str().into(),
        What::Command { envelope, reply, effects } => {
            value["at"] = rfc3339(envelope.at).into();
            value["command"] = command(&envelope.command).into();
            value["effects"] = (*effects).into();
            value["refused"] = match reply {
                Reply::Done => Value::Null,
                Reply::Rejected(why) => why.to_string().into(),
            };
        }
    }
    let changes = step.changes.iter().map(|change| {
        json!({
            "entity": change.entity.to_string(),
            "before": change.before,
            "after": change.after,
        })
    });
    value["changes"] = changes.collect();
    value
}

/// One line: what it is, and for whom.
fn command(command: &Command) -> String {
    match command {
        Command::Configure(config) => format!("configuration version {}", config.version),
        Command::Elected { node, dark: false } => format!("{node} leads"),
        Command::Elected { node, dark: true } => format!("{node} leads, all nodes were dead"),
        Command::Gateway(event) => self::event(event),
        Command::Due(deadline) => format!("due: {deadline:?}"),
        Command::Operator(of) => operator(of),
        Command::Keyed(keyed) => format!("{} (key {})", operator(&keyed.command), keyed.key),
        Command::Quarantine { entity, reason } => format!("{entity} is quarantined: {reason}"),
        Command::Lease(_) => "leases of ports and channels".to_owned(),
        Command::Trim => "acknowledgements only".to_owned(),
    }
}

fn operator(command: &OperatorCommand) -> String {
    match command {
        OperatorCommand::SetAgentState { agent, state } => {
            format!("operator: agent {agent} shall be {state:?}")
        }
        OperatorCommand::ReleaseCall { call } => format!("operator: call {call} shall end"),
        OperatorCommand::TransferCall { call, to } => {
            format!("operator: call {call} shall go to {to}")
        }
        OperatorCommand::PauseRecording { call, paused: true } => {
            format!("operator: the recording of call {call} shall pause")
        }
        OperatorCommand::PauseRecording { call, paused: false } => {
            format!("operator: the recording of call {call} shall go on")
        }
        OperatorCommand::Consult { call, to } => {
            format!("operator: the agent of call {call} shall ask {to}")
        }
        OperatorCommand::Conference { call } => {
            format!("operator: all of call {call} shall speak together")
        }
        OperatorCommand::CompleteConsult { call } => {
            format!("operator: call {call} shall go to who is asked")
        }
        OperatorCommand::CancelConsult { call } => {
            format!("operator: the agent shall be back in call {call}")
        }
        OperatorCommand::Originate { from, to } => {
            format!("operator: extension {from} shall call {to}")
        }
    }
}

fn event(event: &GatewayEvent) -> String {
    match event {
        GatewayEvent::Login(login) => format!("login of the gateway at {}", login.vip),
        GatewayEvent::Invite(invite) => {
            let headers = &invite.request.headers;
            format!(
                "INVITE {} from {}, Call-ID {}",
                invite.request.uri, invite.source, headers.call_id
            )
        }
        GatewayEvent::Register(register) => {
            format!("REGISTER of agent {} from {}", register.agent, register.source)
        }
        GatewayEvent::Request(inbound) => {
            let request = &inbound.request;
            format!("{}, Call-ID {}", request.method, request.headers.call_id)
        }
        GatewayEvent::Cancel { transaction, .. } => {
            format!("CANCEL of branch {}", transaction.branch)
        }
        GatewayEvent::Ack { call_id, .. } => format!("ACK, Call-ID {call_id}"),
        GatewayEvent::Response { branch, response, .. } => {
            let headers = &response.headers;
            format!("{} to {} of branch {branch}", response.status, headers.cseq.method)
        }
        GatewayEvent::ClientTimeout { branch } => format!("no answer to branch {branch}"),
        GatewayEvent::AckTimeout { transaction } => format!("no ACK for {}", transaction.branch),
        GatewayEvent::RtpSilence { call, leg, since_ms } => {
            format!("no RTP on leg {leg} of call {call} for {since_ms} ms")
        }
        GatewayEvent::Rollover { call, leg, rollover } => {
            let (sent, received) = (rollover.sent, rollover.received);
            format!("SRTP of leg {leg} of call {call} at quarter {sent} sent, {received} received")
        }
        GatewayEvent::Subscribe(register) => {
            let (agent, number) = (&register.agent, &register.request.uri);
            format!("SUBSCRIBE of agent {agent} to {number} from {}", register.source)
        }
        GatewayEvent::Message(message) => {
            let (agent, number) = (&message.agent, &message.request.uri);
            format!("MESSAGE of agent {agent} to {number} from {}", message.source)
        }
        GatewayEvent::SubscriptionGone { call_id, .. } => {
            format!("the subscription of Call-ID {call_id} is gone")
        }
        GatewayEvent::FlowGone { source, connection } => {
            format!("connection {} of {source} is gone", connection.0)
        }
        GatewayEvent::Quality(quality) => {
            format!("quality of leg {} of call {}", quality.leg, quality.call)
        }
        GatewayEvent::PeerChange(change) => {
            let state = if change.up { "up" } else { "down" };
            let (peer, trunk, status) = (change.peer, &change.trunk, change.status);
            format!("peer {peer} of trunk {trunk} is {state} ({status} to OPTIONS)")
        }
        GatewayEvent::RegistrationChange(change) => {
            let state = if change.up { "registered" } else { "not registered" };
            format!("the gateway is {state} with trunk {} ({})", change.trunk, change.status)
        }
        GatewayEvent::Holdings(holdings) => {
            format!("what the gateway has of {} recordings", holdings.len())
        }
        GatewayEvent::Recorded(recorded) => {
            format!("recording {} of call {}", recorded.recording, recorded.call)
        }
        GatewayEvent::Digit { call, number, digit, .. } => {
            format!("key {digit} in call {call}, number {number}")
        }
        GatewayEvent::PromptEnded { call, play, missing: false, .. } => {
            format!("end of prompt {play} in call {call}")
        }
        GatewayEvent::PromptEnded { call, play, missing: true, .. } => {
            format!("prompt {play} of call {call} is missing")
        }
        GatewayEvent::Info { inbound, digit } => {
            format!("INFO with key {digit}, Call-ID {}", inbound.request.headers.call_id)
        }
    }
}
