//! What phones ask for, and what ends a subscription.

use std::sync::Arc;

use tandem_sip::dialog::{Dialog, Refused};
use tandem_sip::event::Event;
use tandem_sip::{Carrier, ConnectionId, Millis, Request, Response};

use super::notify::notify;
use super::state::{Package, State, Subscription, Watched};
use crate::command::{Inbound, Register, TransactionKey};
use crate::draft::Draft;
use crate::ids::{AgentId, EntityId, GatewayId, SubscriptionId};
use crate::limits;
use crate::world::Rejection;

/// A status, and its phrase where it needs one.
type Refusal = (u16, Option<&'static str>);

/// A SUBSCRIBE outside of dialogs, whose password was proven.
pub fn on_subscribe(draft: &mut Draft<'_>, gateway: &GatewayId, register: &Register) {
    let tag = draft.rng.hex();
    if let Some(known) = repeated(draft, register) {
        // A gateway may have died between the entry and the phone, which asks again.
        let known = known.clone();
        let asked = register.request.headers.expires;
        accept(draft, &known, &register.transaction, &register.request, expires(asked));
        return;
    }
    match begin(draft, gateway, register, &tag) {
        Ok(new) => {
            for id in forgotten_by(draft, &new) {
                draft.writes.subscriptions.insert(id, None);
            }
            let id = new.id;
            let asked = register.request.headers.expires;
            accept(draft, &new, &register.transaction, &register.request, expires(asked));
            draft.writes.subscriptions.insert(id, Some(new));
            notify(draft, id);
        }
        Err((status, phrase)) => {
            let mut response = register.request.respond(status, phrase, Some(&tag));
            put_details(&mut response);
            let entity = EntityId::Agent(register.agent.clone());
            draft.respond(entity, &register.transaction, response);
        }
    }
}

fn put_details(response: &mut Response) {
    match response.status {
        489 => response.headers.push_other("Allow-Events", &Package::NAMES.join(", ")),
        503 => response.headers.push_other("Retry-After", &limits::RETRY_AFTER_S.to_string()),
        _ => {}
    }
}

/// The very request has come before.
fn repeated<'d>(draft: &'d Draft<'_>, register: &Register) -> Option<&'d Subscription> {
    let headers = &register.request.headers;
    let mut own = draft.world.subscriptions_of(&register.agent);
    own.find(|known| {
        known.dialog.call_id == headers.call_id
            && Some(known.dialog.remote_tag.as_str()) == headers.from_tag()
            && known.dialog.remote_cseq == Some(headers.cseq.number)
    })
}

fn begin(
    draft: &Draft<'_>,
    gateway: &GatewayId,
    register: &Register,
    tag: &str,
) -> Result<Subscription, Refusal> {
    let Register { request, agent: subscriber, source, carrier, .. } = register;
    let event = Event::of(&request.headers).ok_or((489, None))?;
    let package = package(draft, subscriber, request, &event)?;
    let dialog = Dialog::as_uas(request, tag).map_err(|_| (400, None))?;
    let new = Subscription {
        id: SubscriptionId(draft.meta.index),
        subscriber: subscriber.clone(),
        package,
        event_id: event.id,
        gateway: gateway.clone(),
        peer: *source,
        carrier: carrier.towards(&dialog.remote_target),
        dialog: Arc::new(dialog),
        state: lasting(draft.now, expires(request.headers.expires)),
    };
    make_room(draft, &new)?;
    Ok(new)
}

/// What it is to: a colleague's dialogs, or the own mailbox.
fn package(
    draft: &Draft<'_>,
    subscriber: &AgentId,
    request: &Request,
    event: &Event,
) -> Result<Package, Refusal> {
    let named = AgentId::from(request.uri.user.as_deref().unwrap_or_default());
    draft.agent(&named).ok_or((404, None))?;
    match event.package.as_str() {
        Package::DIALOG => {
            Ok(Package::Dialog(Watched { agent: named, version: 0, told: Vec::new() }))
        }
        Package::MESSAGE_SUMMARY if named == *subscriber => Ok(Package::MessageSummary),
        // Whether somebody else has messages is that one's business.
        Package::MESSAGE_SUMMARY => Err((403, None)),
        _ => Err((489, None)),
    }
}

fn make_room(draft: &Draft<'_>, new: &Subscription) -> Result<(), Refusal> {
    let world = draft.world;
    if world.subscriptions.len() >= limits::SUBSCRIPTIONS_MAX {
        return Err((503, None));
    }
    let gone = forgotten_by(draft, new).len();
    if world.subscriptions_of(&new.subscriber).count() - gone >= limits::SUBSCRIPTIONS_OF_AGENT_MAX
    {
        return Err((486, Some("Busy Here (too many subscriptions)")));
    }
    let watchers = new.watched().map_or(0, |agent| world.watchers(agent).count());
    if watchers.saturating_sub(gone) >= limits::WATCHERS_MAX {
        return Err((486, Some("Busy Here (too many watchers)")));
    }
    Ok(())
}

/// A phone that subscribes anew to the same from the same Contact has forgotten what it had, and one
/// that repeats a dialog's names means the same dialog.
fn forgotten_by(draft: &Draft<'_>, new: &Subscription) -> Vec<SubscriptionId> {
    let own = draft.world.subscriptions_of(&new.subscriber);
    let same = own.filter(|known| {
        let (old, new_dialog) = (&known.dialog, &new.dialog);
        let same_phone =
            crate::agent::binding::is_same(&old.remote_target, &new_dialog.remote_target)
                && known.peer.ip() == new.peer.ip();
        let same_dialog =
            old.call_id == new_dialog.call_id && old.remote_tag == new_dialog.remote_tag;
        known.package.name() == new.package.name()
            && known.watched() == new.watched()
            && known.event_id == new.event_id
            && (same_phone || same_dialog)
    });
    same.map(|known| known.id).collect()
}

fn expires(asked: Option<u32>) -> u32 {
    asked.unwrap_or(limits::SUBSCRIBED_S_DEFAULT).min(limits::SUBSCRIBED_S_MAX)
}

/// No time at all: it is a fetch, or is taken back (RFC 6665 §4.4.3, §4.1.2.3).
fn lasting(now: Millis, expires_s: u32) -> State {
    if expires_s == 0 {
        State::Over { until: now.after(limits::RELEASE_MS_MAX) }
    } else {
        State::Active { expires_at: now.after(u64::from(expires_s) * 1_000) }
    }
}

fn accept(
    draft: &mut Draft<'_>,
    known: &Subscription,
    transaction: &TransactionKey,
    request: &Request,
    expires_s: u32,
) {
    let mut response = request.respond(200, None, Some(&known.dialog.local_tag));
    response.headers.contact = vec![draft.contact(&known.gateway, known.carrier)];
    response.headers.expires = Some(expires_s);
    draft.respond(EntityId::Agent(known.subscriber.clone()), transaction, response);
}

/// A SUBSCRIBE within a dialog: a refresh, or the end. False where it is none of a subscription's.
pub fn on_request(draft: &mut Draft<'_>, inbound: &Inbound) -> bool {
    let request = &inbound.request;
    let headers = &request.headers;
    let tag = headers.to_tag().unwrap_or_default();
    let Some(known) = draft.world.subscription_of_dialog(&headers.call_id, tag) else {
        return false;
    };
    let (id, subscriber) = (known.id, known.subscriber.clone());
    let event = Event::of(headers);
    let is_same = known.is_active()
        && Some(known.dialog.remote_tag.as_str()) == headers.from_tag()
        && event.as_ref().is_some_and(|event| event.package == known.package.name())
        && event.is_some_and(|event| event.id == known.event_id);
    let entity = EntityId::Agent(subscriber);
    if !is_same {
        draft.respond(entity, &inbound.transaction, request.respond(481, None, None));
        return true;
    }
    let expires_s = expires(headers.expires);
    let (now, gateway) = (draft.now, inbound.transaction.gateway.clone());
    let Some(known) = draft.subscription_mut(&id) else { return true };
    // The same number once more is the same request.
    let again = known.dialog.remote_cseq == Some(headers.cseq.number);
    match Arc::make_mut(&mut known.dialog).admit(request) {
        Err(Refused::CseqTooLow) if again => {}
        Err(refused) => {
            let refusal = request.respond(refused.status(), None, None);
            draft.respond(entity, &inbound.transaction, refusal);
            return true;
        }
        Ok(()) => {}
    }
    Arc::make_mut(&mut known.dialog).refresh_target(headers);
    known.state = lasting(now, expires_s);
    // A phone behind a NAT may come from elsewhere; what came protected is not told in the clear.
    if inbound.carrier.is_secure() || !known.carrier.is_secure() {
        known.carrier = inbound.carrier.towards(&known.dialog.remote_target);
        (known.gateway, known.peer) = (gateway, inbound.source);
    }
    let known = known.clone();
    accept(draft, &known, &inbound.transaction, request, expires_s);
    notify(draft, id);
    true
}

/// It was not refreshed; or its last NOTIFY has had its time.
pub fn on_due(draft: &mut Draft<'_>, id: SubscriptionId) -> Result<(), Rejection> {
    let now = draft.now;
    let known = draft.subscription(&id).filter(|known| known.due_at() <= now);
    let known =
        known.ok_or_else(|| Rejection::NotFound(format!("subscription {id} that is due")))?;
    match known.state {
        State::Active { .. } => {
            if let Some(known) = draft.subscription_mut(&id) {
                known.state = lasting(now, 0);
            }
            notify(draft, id);
        }
        State::Over { .. } => draft.writes.subscriptions.insert(id, None),
    }
    Ok(())
}

/// Who was told wants to hear no more, or does not answer (RFC 6665 §4.2.2).
pub fn on_gone(draft: &mut Draft<'_>, call_id: &str, local_tag: &str) -> Result<(), Rejection> {
    let known = draft.world.subscription_of_dialog(call_id, local_tag);
    let known = known.ok_or_else(|| Rejection::NotFound(format!("subscription {call_id}")))?;
    draft.writes.subscriptions.insert(known.id, None);
    Ok(())
}

/// A connection is gone, and with it what nothing else leads to.
pub fn on_flow_gone(draft: &mut Draft<'_>, gateway: &GatewayId, connection: ConnectionId) {
    let over = draft.world.subscriptions_over(connection);
    let lost = over.filter(|known| known.gateway == *gateway && is_flow(draft, known));
    let lost: Vec<SubscriptionId> = lost.map(|known| known.id).collect();
    for id in lost {
        draft.writes.subscriptions.insert(id, None);
    }
}

/// A gateway's new life has none of the connections of the last one.
pub fn on_gateway_begun(draft: &mut Draft<'_>, gateway: &GatewayId) {
    let all = draft.world.subscriptions.values();
    let lost = all.filter(|known| known.gateway == *gateway && is_flow(draft, known));
    let lost: Vec<SubscriptionId> = lost.map(|known| known.id).collect();
    for id in lost {
        draft.writes.subscriptions.insert(id, None);
    }
}

/// Whether only the connection that the phone has opened leads to it: as of its registration, or
/// because its Contact says so (RFC 5626 §4.3).
fn is_flow(draft: &Draft<'_>, known: &Subscription) -> bool {
    match known.carrier {
        Carrier::Udp => false,
        Carrier::Ws { .. } | Carrier::Wss { .. } => true,
        Carrier::Tcp { connection } | Carrier::Tls { connection } => {
            let agent = draft.world.agents.get(&known.subscriber);
            let mut phones = agent.into_iter().flat_map(|agent| &agent.bindings);
            let named = known.dialog.remote_target.param("ob").is_some();
            connection.is_some()
                && (named || phones.any(|it| it.is_flow() && it.carrier.connection() == connection))
        }
    }
}
