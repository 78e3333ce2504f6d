use std::sync::Arc;

use tandem_sip::dialog::MAX_FORWARDS;
use tandem_sip::{CSeq, Headers, Method, NameAddr, Request, Uri, host};

use super::state::Relayed;
use crate::agent::binding::Registration;
use crate::call::outbound::sender;
use crate::command::Register;
use crate::draft::Draft;
use crate::effect::Body;
use crate::ids::{AgentId, EntityId};
use crate::limits;

/// A MESSAGE outside of dialogs, whose password was proven.
pub fn on_message(draft: &mut Draft<'_>, message: &Register) {
    if draft.world.messages.values().any(|known| known.transaction == message.transaction) {
        // Its gateway has begun anew and brings it again: the answer is awaited.
        return;
    }
    let to = AgentId::from(message.request.uri.user.as_deref().unwrap_or_default());
    let phone = match draft.agent(&to) {
        None => Err(404),
        Some(_) if draft.world.messages.len() >= limits::MESSAGES_MAX => Err(503),
        Some(agent) => agent.registration().cloned().ok_or(480),
    };
    match phone {
        Ok(phone) => send_on(draft, message, to, phone),
        Err(status) => {
            let tag = draft.rng.hex();
            let mut refusal = message.request.respond(status, None, Some(&tag));
            if status == 503 {
                refusal.headers.push_other("Retry-After", &limits::RETRY_AFTER_S.to_string());
            }
            let entity = EntityId::Agent(message.agent.clone());
            draft.respond(entity, &message.transaction, refusal);
        }
    }
}

fn send_on(draft: &mut Draft<'_>, message: &Register, to: AgentId, phone: Registration) {
    let via = draft.via(&phone.gateway, phone.carrier);
    let vip = draft.vip(&phone.gateway).ip();
    let mut from = sender(&message.agent.0, vip);
    from.set_tag(&draft.rng.hex());
    let request = Request {
        method: Method::Message,
        uri: phone.contact,
        headers: Headers {
            via: vec![via],
            from,
            to: NameAddr::new(Uri::sip(Some(&to.0), &host(vip), None)),
            call_id: format!("{}@{}", draft.rng.hex(), host(vip)),
            cseq: CSeq { number: 1, method: Method::Message },
            contact: Vec::new(),
            route: phone.path,
            record_route: Vec::new(),
            max_forwards: Some(MAX_FORWARDS),
            expires: None,
            content_type: message.request.headers.content_type.clone(),
            other: Vec::new(),
        },
        body: message.request.body.clone(),
    };
    let branch = request.headers.branch().to_owned();
    let kept = Request { body: Vec::new(), ..(*message.request).clone() };
    let relayed = Relayed {
        branch: branch.clone(),
        to: to.clone(),
        transaction: message.transaction.clone(),
        request: Arc::new(kept),
        until: draft.now.after(limits::RELEASE_MS_MAX),
    };
    draft.writes.messages.insert(branch, Some(relayed));
    let (destination, carrier) = (phone.source, phone.carrier);
    let body = Body::Send { request: Arc::new(request), destination, carrier };
    draft.effect(EntityId::Agent(to), &phone.gateway, body);
}

/// What the phone has answered, or that it has not; false where it is about no text.
pub fn on_answered(draft: &mut Draft<'_>, branch: &str, status: Option<u16>) -> bool {
    let Some(known) = draft.world.messages.get(branch) else { return false };
    let status = match status {
        Some(100..=199) => return true,
        Some(200..=299) => 200,
        // What only we could answer, or follow.
        Some(300..=399 | 401 | 407) | None => 480,
        // RFC 4320 §4.2: it would come too late.
        Some(408) => 480,
        Some(refused) => refused,
    };
    let tag = draft.rng.hex();
    let response = known.request.respond(status, None, Some(&tag));
    draft.respond(EntityId::Agent(known.to.clone()), &known.transaction, response);
    draft.writes.messages.insert(branch.to_owned(), None);
    true
}
