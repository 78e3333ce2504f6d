//! Commands to the machines that decide them.

use std::collections::BTreeSet;

use tandem_sip::Method;

use super::Rejection;
use crate::agent::state::Agent;
use crate::agent::{machine as agent, registrar};
use crate::call::state::Call;
use crate::call::{
    consult, ending, inbound, indialog, media, originate, outbound, probe, recording,
    session_timer, transfer,
};
use crate::cdr::LegQuality;
use crate::channel::state::State as ChannelState;
use crate::command::{GatewayEvent, Login, OperatorCommand, Origin};
use crate::config::Config;
use crate::deadline::Deadline;
use crate::draft::Draft;
use crate::gateway::{Counts, Fresh, Gateway};
use crate::ids::{CallId, EntityId};
use crate::ivr::flow::keep_versions;
use crate::ivr::machine as ivr;
use crate::limits;
use crate::message::machine as message;
use crate::queue::state::Queue;
use crate::subscription::machine as subscription;
use crate::trunk::health;

pub(super) fn configure(draft: &mut Draft<'_>, config: &Config) {
    for queue in &config.queues {
        if draft.queue(&queue.id).is_none() {
            draft.writes.queues.insert(queue.id.clone(), Some(Queue::new(queue.id.clone())));
        }
    }
    for agent in &config.agents {
        if draft.agent(&agent.id).is_none() {
            draft.writes.agents.insert(agent.id.clone(), Some(Agent::new(agent.id.clone())));
        }
    }
    let mut config = config.clone();
    let runs =
        draft.world.calls.values().filter(|call| call.is_live()).filter_map(|c| c.flow.as_ref());
    let in_use = runs.map(|run| (run.flow.clone(), run.version)).collect();
    keep_versions(&mut config, draft.world.config.as_ref(), &in_use);
    health::forget_unasked(draft, &config);
    draft.writes.config = Some(Box::new(config));
}

pub(super) fn gateway_event(
    draft: &mut Draft<'_>,
    origin: &Origin,
    event: &GatewayEvent,
) -> Result<(), Rejection> {
    let known = draft.gateway(&origin.gateway);
    if let GatewayEvent::Login(login) = event {
        if known.is_some_and(|gateway| gateway.incarnation >= origin.incarnation) {
            return Err(Rejection::Repeated);
        }
        login_gateway(draft, origin, login);
        return Ok(());
    }
    // Where its login has been overtaken, the event counts when that has come.
    let gateway = known
        .filter(|gateway| gateway.incarnation >= origin.incarnation)
        .ok_or(Rejection::TooEarly)?;
    if gateway.incarnation > origin.incarnation {
        return Err(Rejection::Stale);
    }
    match gateway.judge(origin.sequence) {
        Fresh::New => {}
        Fresh::Repeated => return Err(Rejection::Repeated),
        Fresh::TooEarly => return Err(Rejection::TooEarly),
    }
    match event {
        GatewayEvent::Login(_) => Ok(()),
        GatewayEvent::Invite(invite) => {
            inbound::on_invite(draft, invite);
            Ok(())
        }
        GatewayEvent::Register(register) => {
            registrar::on_register(draft, &origin.gateway, register)
        }
        GatewayEvent::Request(request) => {
            let subscribes = request.request.method == Method::Subscribe;
            if !subscribes || !subscription::on_request(draft, request) {
                indialog::on_request(draft, request);
            }
            Ok(())
        }
        GatewayEvent::Cancel { transaction, q850 } => {
            draft.said = *q850;
            ending::on_cancel(draft, transaction)
        }
        GatewayEvent::Ack { call_id, local_tag, answer, .. } => {
            indialog::on_ack(draft, call_id, local_tag, answer.as_ref())
        }
        GatewayEvent::Response { branch, response, .. }
            if message::on_answered(draft, branch, Some(response.status)) =>
        {
            Ok(())
        }
        GatewayEvent::Response { branch, response, answer } => {
            outbound::on_response(draft, branch, response, answer.as_ref())
        }
        GatewayEvent::ClientTimeout { branch } if message::on_answered(draft, branch, None) => {
            Ok(())
        }
        GatewayEvent::ClientTimeout { branch } => outbound::on_timeout(draft, branch),
        GatewayEvent::AckTimeout { transaction } => ending::on_ack_timeout(draft, transaction),
        GatewayEvent::RtpSilence { call, leg, .. } => ending::on_rtp_silence(draft, *call, *leg),
        GatewayEvent::Rollover { call, leg, rollover } => {
            media::on_rollover(draft, *call, *leg, *rollover);
            Ok(())
        }
        GatewayEvent::FlowGone { source, connection } => {
            subscription::on_flow_gone(draft, &origin.gateway, *connection);
            registrar::on_flow_gone(draft, &origin.gateway, *source, *connection);
            Ok(())
        }
        GatewayEvent::Subscribe(register) => {
            subscription::on_subscribe(draft, &origin.gateway, register);
            Ok(())
        }
        GatewayEvent::Message(message) => {
            message::on_message(draft, message);
            Ok(())
        }
        GatewayEvent::SubscriptionGone { call_id, local_tag } => {
            subscription::on_gone(draft, call_id, local_tag)
        }
        GatewayEvent::Recorded(recorded) => {
            recording::on_recorded(draft, &origin.gateway, recorded);
            Ok(())
        }
        GatewayEvent::Holdings(holdings) => {
            recording::on_holdings(draft, &origin.gateway, holdings);
            Ok(())
        }
        GatewayEvent::PeerChange(change) => health::on_peer_change(draft, &origin.gateway, change),
        GatewayEvent::RegistrationChange(change) => {
            health::on_registration_change(draft, &origin.gateway, change)
        }
        GatewayEvent::Quality(quality) => {
            // History: the call may be long over, its record written.
            let Origin { gateway, incarnation, .. } = origin.clone();
            let quality = quality.clone();
            draft.writes.qualities.push(LegQuality { gateway, incarnation, quality });
            Ok(())
        }
        GatewayEvent::Digit { call, leg, number, digit, .. } => {
            ivr::on_digit_pressed(draft, (*call, *leg), origin.incarnation, *number, *digit)
        }
        GatewayEvent::PromptEnded { call, play, .. } => ivr::on_prompt_ended(draft, *call, *play),
        GatewayEvent::Info { inbound, digit } => {
            if let Some((call, leg)) = indialog::on_request(draft, inbound) {
                ivr::on_info(draft, call, leg, *digit);
            }
            Ok(())
        }
    }
}

/// A gateway's new life: its ports replace those of the last one; what live calls use stays taken.
fn login_gateway(draft: &mut Draft<'_>, origin: &Origin, login: &Login) {
    let anchored: Vec<&Call> =
        draft.world.calls.values().filter(|call| call.gateway == origin.gateway).collect();
    let held = anchored.iter().flat_map(|call| call.legs.iter().map(|leg| leg.media.port));
    let held: BTreeSet<u16> = held.filter(|port| *port != 0).collect();
    let calls: Vec<CallId> = anchored.iter().map(|call| call.id).collect();
    let ports = login.ports.iter().copied().filter(|port| !held.contains(port));
    let granted: BTreeSet<u16> = ports.take(limits::PORTS_MAX).collect();
    let leased = |port: &&u16| draft.world.may_use_port(&origin.gateway, **port);
    let free_ports = granted.iter().filter(leased).copied().collect();
    let gateway = Gateway {
        id: origin.gateway.clone(),
        incarnation: origin.incarnation,
        vip: login.vip,
        granted: &granted | &held,
        free_ports,
        counts: Counts::default(),
    };
    let dark = draft.gateway(&origin.gateway).is_some_and(|before| before.counts.dark);
    draft.writes.gateways.insert(origin.gateway.clone(), gateway);
    health::forget_life(draft, &origin.gateway);
    subscription::on_gateway_begun(draft, &origin.gateway);
    registrar::on_gateway_begun(draft, &origin.gateway);
    probe::on_gateway_begun(draft, &origin.gateway, dark);
    for id in calls {
        // Another process goes on with it, or the same one anew.
        if let Some(call) = draft.call_mut(&id).filter(|call| call.is_live()) {
            call.takeovers += 1;
            draft.writes.at_risk += 1;
        }
        media::begin_again(draft, id);
    }
}

pub(super) fn operator(draft: &mut Draft<'_>, command: &OperatorCommand) -> Result<(), Rejection> {
    match command {
        OperatorCommand::SetAgentState { agent, state } => {
            agent::on_requested(draft, agent, state)?;
            draft.writes.about = Some(EntityId::Agent(agent.clone()));
            Ok(())
        }
        OperatorCommand::ReleaseCall { call } => ending::on_operator_release(draft, *call),
        OperatorCommand::Originate { from, to } => originate::on_originate(draft, from, to),
        OperatorCommand::TransferCall { call, to } => transfer::on_transfer(draft, *call, to),
        OperatorCommand::PauseRecording { call, paused } => {
            recording::on_pause(draft, *call, *paused)
        }
        OperatorCommand::Consult { call, to } => consult::on_consult(draft, *call, to),
        OperatorCommand::Conference { call } => consult::on_conference(draft, *call),
        OperatorCommand::CompleteConsult { call } => consult::on_complete(draft, *call),
        OperatorCommand::CancelConsult { call } => consult::on_cancel(draft, *call),
    }
}

pub(super) fn due(draft: &mut Draft<'_>, deadline: &Deadline) -> Result<(), Rejection> {
    match deadline {
        Deadline::RingOut { call, offer } => outbound::on_ring_out(draft, *call, *offer),
        Deadline::AcwOver { agent, since_index } => agent::on_acw_over(draft, agent, *since_index),
        Deadline::RegistrationExpired { agent, since_index } => {
            registrar::on_registration_expired(draft, agent, *since_index)
        }
        Deadline::SubscriptionDue { subscription, .. } => {
            subscription::on_due(draft, *subscription)
        }
        Deadline::GuardOver { channel } => {
            match draft.channel(channel).map(|channel| &channel.state) {
                Some(ChannelState::Guard { until }) if *until <= draft.now => {
                    draft.writes.channels.insert(channel.clone(), None);
                    Ok(())
                }
                Some(_) | None => Err(Rejection::NotFound(format!("guard of channel {channel}"))),
            }
        }
        Deadline::ReleaseOver { call, leg } => ending::on_release_over(draft, *call, *leg),
        Deadline::TooLong { call } => ending::on_too_long(draft, *call),
        Deadline::SessionTimer { call, leg } => session_timer::on_due(draft, *call, *leg),
        Deadline::FlowWait { call, turn } => ivr::on_wait_over(draft, *call, *turn),
    }
}

/// The supervisor gave the entity up: its audio stays, an agent is offered no call.
pub(super) fn quarantine(draft: &mut Draft<'_>, entity: &EntityId, reason: &str) {
    match entity {
        EntityId::Agent(id) => agent::on_quarantined(draft, id, reason),
        EntityId::Channel(_) | EntityId::Call(_) | EntityId::Queue(_) | EntityId::Gateway(_) => {}
    }
}
