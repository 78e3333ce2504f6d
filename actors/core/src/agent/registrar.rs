//! Which phones an agent has (RFC 3261 §10.3): they register, their time runs out, their flows
//! break.

use std::net::SocketAddr;

use tandem_sip::{Carrier, ConnectionId, Headers, Millis, Response, Uri, outbound};

use super::binding::{Registration, id_at, is_same, outbound_of, q_of, sort};
use super::machine::{STATION_LOST, enter};
use super::state::{Agent, State};
use crate::call::phones;
use crate::command::Register;
use crate::draft::Draft;
use crate::ids::{AgentId, EntityId, GatewayId};
use crate::limits;
use crate::world::Rejection;

/// Nothing of the request is done (RFC 3261 §10.3 step 7).
struct Refused(u16, &'static str);

const LATE: Refused = Refused(500, "Server Internal Error (CSeq out of order)");
const TOO_MANY: Refused = Refused(403, "Forbidden (too many contacts)");

/// A REGISTER whose password was proven.
pub fn on_register(
    draft: &mut Draft<'_>,
    gateway: &GatewayId,
    register: &Register,
) -> Result<(), Rejection> {
    let id = &register.agent;
    let tag = draft.rng.hex();
    let agent = draft.agent(id).ok_or_else(|| Rejection::NotFound(format!("agent {id}")))?;
    let renewed = renew(draft.meta.index, draft.now, gateway, register, &agent.bindings);
    let response = match renewed {
        Ok(bindings) => {
            let response = accepted(draft.now, register, &tag, &bindings);
            let index = draft.meta.index;
            let renewed = |it: &&Registration| it.since_index == index;
            let begins = bindings.iter().any(|it| it.since_index == index);
            let first = agent.state == State::LoggedOut && agent.bindings.is_empty();
            // The phone is back; its loss was no wish of the agent's.
            let back = first || is_station_lost(agent);
            // The connections that the phone has registered over before.
            let call_id = &register.request.headers.call_id;
            let own = agent.bindings.iter().filter(|it| it.call_id == *call_id);
            let left: Vec<_> = own.map(|it| (it.source, it.carrier)).collect();
            let phones: Vec<_> = bindings.iter().filter(renewed).cloned().collect();
            keep(draft, id, bindings);
            if begins && back {
                enter(draft, id, State::Ready);
            }
            for phone in &phones {
                phones::on_registered(draft, id, phone, &left);
            }
            response
        }
        Err(Refused(status, reason)) => register.request.respond(status, Some(reason), Some(&tag)),
    };
    draft.respond(EntityId::Agent(id.clone()), &register.transaction, response);
    Ok(())
}

/// The agent's phones as the REGISTER wants them.
fn renew(
    index: u64,
    now: Millis,
    gateway: &GatewayId,
    register: &Register,
    before: &[Registration],
) -> Result<Vec<Registration>, Refused> {
    let headers = &register.request.headers;
    // The same number once more is the same request, which the death of a gateway has let through
    // twice.
    let late = |it: &Registration| it.call_id == headers.call_id && headers.cseq.number < it.cseq;
    let asks = headers.contact.is_empty() && headers.other("Contact").is_none();
    if !asks && before.iter().any(late) {
        return Err(LATE);
    }
    if headers.other("Contact") == Some("*") {
        return Ok(Vec::new());
    }
    if headers.contact.len() > limits::CONTACTS_MAX {
        return Err(TOO_MANY);
    }
    let knows_outbound = outbound::is_known(headers);
    let mut bindings = before.to_vec();
    for (place, contact) in (0..).zip(&headers.contact) {
        let named = outbound_of(contact).filter(|_| knows_outbound);
        let is = |it: &Registration| it.is(&contact.uri, named.as_ref());
        let known = bindings.iter().position(is).map(|at| bindings.remove(at));
        let asked = contact.param("expires").and_then(|text| text.parse().ok());
        let asked = asked.or(headers.expires).unwrap_or(limits::EXPIRES_S_DEFAULT);
        if asked == 0 {
            continue;
        }
        let expires_s = asked.min(limits::EXPIRES_S_MAX);
        bindings.push(Registration {
            id: known.map_or(id_at(index, place), |known| known.id),
            carrier: register.carrier.towards(&contact.uri),
            contact: contact.uri.clone(),
            source: register.source,
            gateway: gateway.clone(),
            expires_at: now.after(u64::from(expires_s) * 1_000),
            since_index: index,
            call_id: headers.call_id.clone(),
            cseq: headers.cseq.number,
            q: q_of(contact),
            outbound: named,
            path: headers.addresses("Path").take(limits::PATH_MAX).collect(),
        });
    }
    // What has the Call-ID of a phone and comes from elsewhere is that phone, which has moved, or
    // whose NAT has forgotten it.
    let stays = |it: &Registration| {
        it.since_index == index || it.call_id != headers.call_id || it.source == register.source
    };
    if bindings.iter().any(|it| it.since_index == index) {
        bindings.retain(stays);
    }
    if bindings.len() > limits::CONTACTS_MAX {
        return Err(TOO_MANY);
    }
    sort(&mut bindings);
    Ok(bindings)
}

/// The 200, with all that is bound now.
fn accepted(now: Millis, register: &Register, tag: &str, bindings: &[Registration]) -> Response {
    let headers = &register.request.headers;
    let mut response = register.request.respond(200, None, Some(tag));
    response.headers.contact = bindings.iter().map(|it| it.listed(now)).collect();
    put_path(headers, &mut response);
    let flow = outbound::is_known(headers)
        && headers.contact.iter().any(|contact| {
            let named = outbound_of(contact);
            named
                .is_some_and(|named| bindings.iter().any(|it| it.outbound.as_ref() == Some(&named)))
        });
    if flow {
        // RFC 5626 §6 and §5.4: how often the phone shall make itself heard.
        let timer_s = match register.carrier {
            Carrier::Udp => limits::FLOW_TIMER_UDP_S,
            Carrier::Tcp { .. }
            | Carrier::Tls { .. }
            | Carrier::Ws { .. }
            | Carrier::Wss { .. } => limits::FLOW_TIMER_S,
        };
        response.headers.push_other("Require", outbound::OPTION);
        response.headers.push_other("Flow-Timer", &timer_s.to_string());
    }
    response
}

/// RFC 3327 §5.3: the way that the REGISTER has taken is told.
fn put_path(headers: &Headers, response: &mut Response) {
    for hop in headers.addresses("Path").take(limits::PATH_MAX) {
        response.headers.push_other("Path", &hop.to_string());
    }
}

fn is_station_lost(agent: &Agent) -> bool {
    matches!(&agent.state, State::NotReady { reason } if reason == STATION_LOST)
}

/// These are the agent's phones from now on. An agent with a call keeps it without any: its dialog
/// needs no registration.
fn keep(draft: &mut Draft<'_>, id: &AgentId, bindings: Vec<Registration>) {
    let Some(agent) = draft.agent_mut(id) else { return };
    agent.bindings = bindings;
    if agent.bindings.is_empty() && agent.state == State::Ready {
        enter(draft, id, State::NotReady { reason: STATION_LOST.into() });
    }
}

pub fn on_registration_expired(
    draft: &mut Draft<'_>,
    id: &AgentId,
    since_index: u64,
) -> Result<(), Rejection> {
    let now = draft.now;
    let due = |it: &Registration| it.since_index == since_index && it.expires_at <= now;
    if !forget(draft, id, due) {
        return Err(Rejection::NotFound(format!("expired registration of agent {id}")));
    }
    Ok(())
}

/// A connection over which somebody has registered is gone. What rings over it rings no more.
pub fn on_flow_gone(
    draft: &mut Draft<'_>,
    gateway: &GatewayId,
    source: SocketAddr,
    connection: ConnectionId,
) {
    let over = |of: &GatewayId, carrier: Carrier| {
        of == gateway && carrier.connection() == Some(connection)
    };
    let agents: Vec<AgentId> = draft.world.agents_from(source).cloned().collect();
    for id in agents {
        let is_gone = |it: &Registration| {
            it.is_flow() && it.source == source && over(&it.gateway, it.carrier)
        };
        if !forget(draft, &id, is_gone) {
            continue;
        }
        let rings = draft.agent(&id).and_then(Agent::call).and_then(|call| {
            let legs = &draft.call(&call)?.legs;
            let leg = legs.iter().find(|leg| leg.agent() == Some(&id) && leg.is_ringing())?;
            over(&leg.gateway, leg.carrier).then_some((call, leg.id))
        });
        if let Some((call, leg)) = rings {
            phones::on_flow_gone(draft, call, leg);
        }
    }
}

/// A gateway's new life has none of the connections that phones have opened to the last one.
pub fn on_gateway_begun(draft: &mut Draft<'_>, gateway: &GatewayId) {
    let lost = |it: &Registration| it.is_flow() && it.gateway == *gateway;
    let with_lost = draft.world.agents.values().filter(|agent| agent.bindings.iter().any(lost));
    let agents: Vec<AgentId> = with_lost.map(|agent| agent.id.clone()).collect();
    for id in agents {
        forget(draft, &id, lost);
    }
}

/// A phone could not be reached over the one connection that leads to it.
pub fn on_unreachable(draft: &mut Draft<'_>, id: &AgentId, carrier: Carrier) {
    forget(draft, id, |it: &Registration| it.is_flow() && it.carrier == carrier);
}

/// False where no phone is one of those.
fn forget(draft: &mut Draft<'_>, id: &AgentId, those: impl Fn(&Registration) -> bool) -> bool {
    let Some(agent) = draft.agent(id) else { return false };
    if !agent.bindings.iter().any(&those) {
        return false;
    }
    let left = agent.bindings.iter().filter(|it| !those(it)).cloned().collect();
    keep(draft, id, left);
    true
}

/// The phone that is to ring behind those that were `tried`. What has come since the agent was
/// offered the call is not in line: it may be one of them, which has moved.
pub fn next_phone<'a>(agent: &'a Agent, tried: &[Uri]) -> Option<&'a Registration> {
    let in_line = agent.bindings.iter().filter(|it| it.id < id_at(agent.since_index, 0));
    in_line.into_iter().find(|it| !tried.iter().any(|known| is_same(&it.contact, known)))
}
