//! A call that moves: who talks with the caller sends the caller on to another number, by REFER
//! (RFC 3515) or over the API (a blind transfer).
//!
//! ```text
//! Connected ──to an extension, out──▶ Dialing, the caller hears it ring ──answered──▶ went over
//!     ▲                              │ busy, rang out, unreachable
//!     └───────────came back──────────┘
//! Connected ──to a queue, the echo──▶ went over
//! ```
//! The one who transfers stays until it is known how it ends: the dialog is released only then.

use std::sync::Arc;

use tandem_sip::replaces::{self, Replaces};
use tandem_sip::{Method, NameAddr, Request, Scheme};

use super::inbound::{self, Destination, Refusal};
use super::leg::{Leg, Refer, State as LegState};
use super::state::{Call, Outcome, State, Transfer};
use super::{attended, codecs, ending, media, transferee};
use crate::agent::machine as agent;
use crate::cdr::{Disposition, Side};
use crate::command::Inbound;
use crate::draft::Draft;
use crate::ids::{AgentId, CallId, EntityId, LegId};
use crate::limits;
use crate::world::Rejection;

/// RFC 6665 §4.2.2: why a subscription is over once the outcome is told.
const OVER: &str = "terminated;reason=noresource";

// --- what asks for it ------------------------------------------------------------------------

/// A REFER within the dialog of a leg. What can be known of it only from the tenant's numbers is
/// told in the NOTIFY: some failure responses would take the dialog down (RFC 5057 §5.1).
pub fn on_refer(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, inbound: &Inbound) {
    let request = &inbound.request;
    let asked = refer_to(request).and_then(|to| Ok((may_refer(draft, id, leg_id)?, to)));
    let (by, (to, replaces)) = match asked {
        Ok(asked) => asked,
        Err(status) => {
            let refusal = request.respond(status, None, None);
            draft.respond(EntityId::Call(id), &inbound.transaction, refusal);
            return;
        }
    };
    let Some(leg) = draft.call(&id).and_then(|call| call.leg(leg_id)) else { return };
    let contact = draft.contact(&leg.gateway, leg.carrier);
    let mut accepted = request.respond(202, None, None);
    accepted.headers.contact = vec![contact];
    // RFC 4488 §4: whoever does not want to hear of it, does not.
    let silent = request.headers.other("Refer-Sub").is_some_and(|value| {
        value.split(';').next().is_some_and(|value| value.trim().eq_ignore_ascii_case("false"))
    });
    if silent {
        accepted.headers.push_other("Refer-Sub", "false");
    }
    draft.respond(EntityId::Call(id), &inbound.transaction, accepted);
    if !silent {
        let number = request.headers.cseq.number;
        if let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) {
            leg.refer = Some(Refer { id: number, branch: None, last: false, next: None });
        }
        notify(draft, id, leg_id, 100);
    }
    if draft.call(&id).and_then(|call| call.leg(leg_id)).is_some_and(Leg::is_caller) {
        transferee::change_places(draft, id, leg_id, &by);
    }
    match replaces {
        Some(replaces) => attended::begin(draft, id, leg_id, by, to, &replaces),
        None => {
            let destination = resolve(draft, &to).and_then(|there| suiting(draft, id, there));
            begin(draft, id, leg_id, by, to, destination);
        }
    }
}

/// Over the API: what can't be done is said at once, and the call stays as it is.
pub fn on_transfer(draft: &mut Draft<'_>, id: CallId, to: &str) -> Result<(), Rejection> {
    let call = draft.call(&id).filter(|call| call.is_live());
    let call = call.ok_or_else(|| Rejection::NotFound(format!("call {:?}", id.to_string())))?;
    let State::Connected { leg } = call.state else {
        let state = call.state_name();
        let why = format!("call {id} is {state}; only a connected call can be transferred");
        return Err(Rejection::Refused(why));
    };
    // Where somebody outside was called, it is the agent who called that sends the party on.
    let placed = call.leg(leg).filter(|leg| leg.agent().is_none()).and_then(|_| call.caller());
    let placed = placed.filter(|leg| leg.state == LegState::Active && leg.refer.is_none());
    let placed = placed.and_then(|leg| Some((leg.id, transferee::transferor(call, leg).ok()?)));
    let served = || Some((leg, call.leg(leg)?.agent()?.clone()));
    let places_change = placed.is_some();
    let by = placed.or_else(served);
    let (leg, by) = by.ok_or_else(|| Rejection::NotFound("agent of the call".into()))?;
    acknowledged(call, leg)?;
    if call.transfers.len() >= limits::TRANSFERS_MAX {
        let most = limits::TRANSFERS_MAX;
        return Err(Rejection::Refused(format!("a call is transferred {most} times at most")));
    }
    let destination = resolve(draft, to).and_then(|there| suiting(draft, id, there));
    let destination = destination.map_err(|refusal| rejection(to, &refusal))?;
    draft.writes.about = Some(EntityId::Call(id));
    if places_change {
        transferee::change_places(draft, id, leg, &by);
    }
    begin(draft, id, leg, by, to.to_owned(), Ok(destination));
    Ok(())
}

/// A phone that has taken another's place is let go only after its ACK (RFC 3261 §15).
pub fn acknowledged(call: &Call, leg: LegId) -> Result<(), Rejection> {
    if call.leg(leg).is_some_and(|leg| leg.state == LegState::Answered) {
        let why = format!("the agent of call {} has picked it up in this moment", call.id);
        return Err(Rejection::Refused(why));
    }
    Ok(())
}

/// In words, for whoever asks over the API.
pub fn rejection(to: &str, refusal: &Refusal) -> Rejection {
    match refusal {
        Refusal(404, _) => Rejection::NotFound(format!("number {to:?}")),
        Refusal(480, _) => Rejection::Refused(format!("extension {to} has no registered phone")),
        Refusal(486, _) => Rejection::Refused(format!("the agent of extension {to} is busy")),
        Refusal(488, _) => Rejection::Refused(format!(
            "the call's codec is passed on and never spoken here; {to} would have to speak it"
        )),
        Refusal(_, _) => Rejection::Refused(format!("there is no room in what {to} leads to")),
    }
}

pub fn resolve(draft: &Draft<'_>, to: &str) -> Result<Destination, Refusal> {
    let unknown = Refusal(404, Disposition::Rejected);
    let destination = inbound::look_up_all(draft, to).ok_or(unknown)?;
    inbound::takes(draft, &destination)?;
    Ok(destination)
}

fn suiting(draft: &Draft<'_>, id: CallId, there: Destination) -> Result<Destination, Refusal> {
    codecs::suits(draft, id, &there).map(|()| there)
}

/// The number that the one Refer-To names (RFC 3515 §2.1), and the dialog that the call to it shall
/// replace.
fn refer_to(request: &Request) -> Result<(String, Option<Replaces>), u16> {
    let is_refer_to = |name: &str| ["refer-to", "r"].iter().any(|n| name.eq_ignore_ascii_case(n));
    let mut named = request.headers.other.iter().filter(|header| is_refer_to(&header.name));
    let (Some(header), None) = (named.next(), named.next()) else { return Err(400) };
    if is_list(&header.value) {
        return Err(400);
    }
    let target: NameAddr = header.value.parse().map_err(|_| 400_u16)?;
    let uri = target.uri;
    let replaces = replaces::of_uri(&uri)?;
    if uri.param("method").is_some_and(|method| !method.eq_ignore_ascii_case("INVITE")) {
        return Err(603);
    }
    let number = match uri.scheme {
        Scheme::Sip | Scheme::Sips => uri.user.unwrap_or_default(),
        Scheme::Tel => uri.host.split(';').next().unwrap_or_default().to_owned(),
        Scheme::Other(_) => return Err(603),
    };
    Ok((number, replaces))
}

/// A comma outside of quotes and brackets parts two values (RFC 3261 §7.3.1).
fn is_list(value: &str) -> bool {
    let (mut quoted, mut escaped, mut within) = (false, false, false);
    value.chars().any(|c| {
        let was_escaped = escaped;
        escaped = quoted && !was_escaped && c == '\\';
        match c {
            '"' if !was_escaped => quoted = !quoted,
            '<' if !quoted => within = true,
            '>' if !quoted => within = false,
            _ => {}
        }
        c == ',' && !quoted && !within
    })
}

/// Who may send the other on: the phone that talks with the caller, or an agent's that has placed
/// the call.
fn may_refer(draft: &Draft<'_>, id: CallId, leg_id: LegId) -> Result<AgentId, u16> {
    let call = draft.call(&id).ok_or(481_u16)?;
    let leg = call.leg(leg_id).ok_or(481_u16)?;
    if !call.is_live() || !leg.is_up() {
        return Err(481);
    }
    let placed = leg.is_caller();
    let by = match placed {
        true => transferee::transferor(call, leg)?,
        false => leg.agent().cloned().ok_or(403_u16)?,
    };
    let acknowledged = leg.state == LegState::Active;
    let talks = placed || call.state == State::Connected { leg: leg_id };
    if !talks || leg.refer.is_some() || !acknowledged {
        // Another one is under way.
        return Err(491);
    }
    if call.transfers.len() >= limits::TRANSFERS_MAX {
        return Err(603);
    }
    Ok(by)
}

// --- how it goes -----------------------------------------------------------------------------

fn begin(
    draft: &mut Draft<'_>,
    id: CallId,
    leg: LegId,
    by: AgentId,
    to: String,
    destination: Result<Destination, Refusal>,
) {
    let at = draft.now;
    if let Some(call) = draft.call_mut(&id) {
        let outcome = Outcome::Pending { leg: Some(leg) };
        call.transfers.push(Transfer { at, agent: by, to, attended: false, outcome });
    }
    match destination {
        Err(Refusal(status, _)) => come_back(draft, id, status),
        Ok(there @ (Destination::Extension(_) | Destination::Outside(_))) => {
            inbound::go_to(draft, id, there)
        }
        Ok(there) => {
            go_over(draft, id);
            inbound::go_to(draft, id, there);
        }
    }
}

/// Whoever was dialled has answered: a transfer that waited for it went over.
pub fn on_reached(draft: &mut Draft<'_>, id: CallId) {
    if is_pending(draft, id) {
        go_over(draft, id);
    }
}

fn go_over(draft: &mut Draft<'_>, id: CallId) {
    let Some((by, leg)) = settle(draft, id, Outcome::WentOver) else { return };
    if let Some(leg) = leg {
        let_go(draft, id, leg, 200);
    }
    agent::on_call_over(draft, &by, id);
}

/// It failed: the caller is back with whoever sent the call on; where that one has hung up, at the
/// end of the queue that the call came from, if there is one.
pub fn come_back(draft: &mut Draft<'_>, id: CallId, status: u16) {
    let Some(call) = draft.call(&id) else { return };
    let queue = call.queue.clone().map(Destination::Queue);
    let queue = queue.filter(|queue| inbound::takes(draft, queue).is_ok());
    match (transferor(draft, id), queue) {
        (Some(leg), _) => {
            settle(draft, id, Outcome::CameBack { status });
            if let Some(call) = draft.call_mut(&id) {
                call.state = State::Connected { leg };
            }
            tell(draft, id, leg, status);
            media::plan(draft, id);
        }
        (None, Some(queue)) => {
            settle(draft, id, Outcome::CameBack { status });
            inbound::go_to(draft, id, queue);
        }
        (None, None) => ending::end(draft, id, Side::System, &status.to_string(), None),
    }
}

/// Who sends the call on hangs up, or is gone, before it is known how that ends: the caller waits
/// for the answer all the same.
pub fn on_transferor_gone(draft: &mut Draft<'_>, id: CallId) {
    let by = draft.call_mut(&id).and_then(|call| call.transfers.last_mut()).map(|transfer| {
        transfer.outcome = Outcome::Pending { leg: None };
        transfer.agent.clone()
    });
    if let Some(by) = by {
        agent::on_call_over(draft, &by, id);
        media::plan(draft, id);
    }
}

/// The call is over; a transfer that was under way ended with it. Who waited for it is told so.
pub fn on_end(draft: &mut Draft<'_>, id: CallId) -> Option<LegId> {
    let (_, leg) = settle(draft, id, Outcome::Ended)?;
    leg
}

/// Decides a transfer that is under way, once: whose it was, and the leg that still waits.
fn settle(draft: &mut Draft<'_>, id: CallId, outcome: Outcome) -> Option<(AgentId, Option<LegId>)> {
    let leg = pending(draft.call(&id)?)?;
    let transfer = draft.call_mut(&id)?.transfers.last_mut()?;
    transfer.outcome = outcome;
    Some((transfer.agent.clone(), leg))
}

/// The transfer that is under way, with the leg of whoever waits for its end.
pub fn pending(call: &Call) -> Option<Option<LegId>> {
    match call.transfers.last()?.outcome {
        Outcome::Pending { leg } => Some(leg),
        Outcome::WentOver | Outcome::CameBack { .. } | Outcome::Ended => None,
    }
}

pub fn is_pending(draft: &Draft<'_>, id: CallId) -> bool {
    draft.call(&id).is_some_and(|call| pending(call).is_some())
}

/// Who waits to hear how the transfer under way ends.
pub fn transferor(draft: &Draft<'_>, id: CallId) -> Option<LegId> {
    draft.call(&id).and_then(pending).flatten()
}

// --- what is said of it ------------------------------------------------------------------------

/// The leg is no party to the call any more: its peer is told how it ended, then hung up.
pub fn let_go(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, status: u16) {
    let until = draft.now.after(limits::RELEASE_MS_MAX);
    let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) else { return };
    if leg.refer.is_none() {
        ending::send_bye(draft, id, leg_id);
        return;
    }
    // Its BYE goes when the NOTIFY is answered, for it must not overtake that.
    leg.state = LegState::Releasing;
    leg.release_at = Some(until);
    ending::free_port(draft, id, leg_id);
    tell(draft, id, leg_id, status);
}

/// The outcome, for whoever subscribed to it with the REFER.
fn tell(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, status: u16) {
    let leg = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id));
    let Some(refer) = leg.and_then(|leg| leg.refer.as_mut()) else { return };
    if refer.last {
        return;
    }
    if refer.branch.is_some() {
        refer.next = Some(status);
        return;
    }
    notify(draft, id, leg_id, status);
}

/// NOTIFY with the status line as the message that it would be (RFC 3515 §2.4.5, RFC 3420).
fn notify(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, status: u16) {
    let Some(leg) = draft.call(&id).and_then(|call| call.leg(leg_id)) else { return };
    let (gateway, carrier) = (leg.gateway.clone(), leg.carrier);
    let (via, contact) = (draft.via(&gateway, carrier), draft.contact(&gateway, carrier));
    let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) else { return };
    let Some((refer, dialog)) = leg.refer.as_mut().zip(leg.dialog.as_mut()) else { return };
    let mut request = Arc::make_mut(dialog).request(Method::Notify, via, Some(contact));
    refer.last = status >= 200;
    refer.branch = Some(request.headers.branch().to_owned());
    let state = if refer.last { OVER.to_owned() } else { active(limits::REFER_S) };
    request.headers.push_other("Event", &format!("refer;id={}", refer.id));
    request.headers.push_other("Subscription-State", &state);
    request.headers.content_type = Some("message/sipfrag;version=2.0".into());
    request.body =
        format!("SIP/2.0 {status} {}\r\n", tandem_sip::reason_phrase(status)).into_bytes();
    let leg = leg.clone();
    draft.send(id, &leg, request);
}

fn active(expires_s: u64) -> String {
    format!("active;expires={expires_s}")
}

/// The answer to our NOTIFY, or that there was none. A failure ends the subscription and nothing
/// else (RFC 5057 §5.1).
pub fn on_notified(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, took: bool) {
    let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) else { return };
    let Some(refer) = leg.refer.as_mut() else { return };
    if took && !refer.last {
        refer.branch = None;
        if let Some(status) = refer.next.take() {
            notify(draft, id, leg_id, status);
        }
        return;
    }
    leg.refer = None;
    if leg.state == LegState::Releasing && leg.bye_branch.is_none() {
        ending::send_bye(draft, id, leg_id);
    }
}
