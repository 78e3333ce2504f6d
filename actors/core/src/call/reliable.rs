//! The caller's side of RFC 3262: a 180, or a 183, that is said until the caller's phone has acknowledged it.
//!
//! One response of an INVITE at most is reliable, so one number is enough. It carries our offer or
//! answer, and the 200 waits for its PRACK (§3).

use tandem_sip::reliable::{self, RAck, RSEQ_MAX};
use tandem_sip::sdp::Direction;
use tandem_sip::{Request, Response};

use super::codecs::Other;
use super::leg::{Leg, State as LegState};
use super::outbound::{find, take_answer};
use super::state::Call;
use super::{ending, inbound, media, protection};
use crate::cdr::{Disposition, Side};
use crate::command::Inbound;
use crate::draft::Draft;
use crate::ids::{CallId, EntityId, LegId};

/// The response that a caller's leg has been given reliably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reliable {
    pub rseq: u32,
    pub state: Prack,
}

/// ```text
/// Awaited ──answered──▶ Holds ──PRACK, the 200 goes──▶ Came
///    └────────────────PRACK──────────────────────────────▲
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prack {
    Awaited,
    /// It is waited for, and the 200 waits with us.
    Holds,
    Came,
}

impl Reliable {
    /// The response is still to be repeated.
    pub fn is_pending(&self) -> bool {
        match self.state {
            Prack::Awaited | Prack::Holds => true,
            Prack::Came => false,
        }
    }
}

/// Whether who sent it takes a 180 only so.
pub fn is_told(invite: &Request) -> bool {
    reliable::is_required(&invite.headers)
}

/// The caller's leg is told reliably from now on, where it takes nothing else.
pub fn begin(draft: &mut Draft<'_>, id: CallId) {
    let Some(leg) = draft.call(&id).and_then(Call::caller) else { return };
    if leg.state != LegState::Trying || !is_told(&leg.invite) {
        return;
    }
    let leg_id = leg.id;
    let rseq = 1 + (draft.rng.next() % u64::from(RSEQ_MAX / 2)) as u32;
    if let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) {
        leg.reliable = Some(Reliable { rseq, state: Prack::Awaited });
    }
}

/// What makes the response reliable: its number; and our description, which one has that is not
/// reliable only where there is more to be heard than that it rings.
pub fn put(draft: &Draft<'_>, id: CallId, leg: &Leg, response: &mut Response) {
    if let Some(Reliable { rseq, .. }) = leg.reliable {
        reliable::number_response(response, rseq);
    } else if !leg.previewed {
        return;
    }
    let anchor = draft.call(&id).map_or(&leg.gateway, |call| &call.gateway);
    let audio = leg.media.describe(draft.vip(anchor).ip(), Direction::SendRecv);
    response.headers.content_type = Some("application/sdp".into());
    response.body = audio.compose();
}

/// The 200 has to wait for the PRACK; it goes as soon as that is here.
pub fn holds(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) -> bool {
    let leg = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id));
    match leg.and_then(|leg| leg.reliable.as_mut()).filter(|reliable| reliable.is_pending()) {
        Some(reliable) => {
            reliable.state = Prack::Holds;
            true
        }
        None => false,
    }
}

pub fn on_prack(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, inbound: &Inbound) {
    let Ok((_, leg)) = find(draft, id, leg_id) else { return };
    let waiting = leg.reliable.filter(|reliable| {
        reliable.is_pending()
            && leg.state == LegState::Trying
            && acknowledges(&inbound.request, &leg.invite, reliable.rseq)
    });
    let Some(waiting) = waiting else {
        return answer(draft, id, inbound, 481);
    };
    let offered = leg.invite.headers.content_type.is_some();
    if let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) {
        leg.reliable = Some(Reliable { state: Prack::Came, ..waiting });
    }
    if offered {
        on_offer(draft, id, leg_id, inbound);
    } else if !on_answer(draft, id, leg_id, inbound) {
        // Nothing can be talked over it, and nothing better will come (§5).
        answer(draft, id, inbound, 488);
        ending::end_unanswered(draft, id, 488, Disposition::Rejected, Side::System);
        return;
    }
    if waiting.state == Prack::Holds {
        inbound::answer(draft, id);
    }
}

fn acknowledges(prack: &Request, invite: &Request, rseq: u32) -> bool {
    RAck::of(prack).is_some_and(|rack| {
        rack.rseq == rseq && rack.cseq == invite.headers.cseq.number && rack.method == invite.method
    })
}

/// We have answered the INVITE's offer in the 180: the PRACK may bring the next (§5). One that
/// can't be taken changes nothing, and the PRACK has come nonetheless.
fn on_offer(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, inbound: &Inbound) {
    let Some(offer) = &inbound.offer else {
        return answer(draft, id, inbound, 200);
    };
    let Ok((call, leg)) = find(draft, id, leg_id) else { return };
    let (other, anchor) = (Other::of(call, leg_id), call.gateway.clone());
    let mut media = leg.media.clone();
    let before = media.protection.clone();
    let agreed = other.agree(offer);
    let protection = protection::of_offer(draft, leg_id, offer, before.as_ref());
    let (Ok(agreed), Ok(protection)) = (agreed, protection) else {
        return answer(draft, id, inbound, 488);
    };
    media.protection = protection;
    media.agree(&agreed, &other);
    media.beside = agreed.beside;
    media.remote = agreed.remote.or(media.remote);
    media.session_version += 1;
    let mut response = inbound.request.respond(200, None, None);
    response.headers.content_type = Some("application/sdp".into());
    response.body = media.describe(draft.vip(&anchor).ip(), agreed.direction).compose();
    if let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) {
        leg.media = media;
    }
    draft.respond(EntityId::Call(id), &inbound.transaction, response);
    media::plan(draft, id);
}

/// Our offer went in the 180: the PRACK has the answer. False where that is of no use.
fn on_answer(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, inbound: &Inbound) -> bool {
    let Some(other) = draft.call(&id).map(|call| Other::of(call, leg_id)) else { return false };
    let leg = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id));
    let took = leg
        .zip(inbound.offer.as_ref())
        .is_some_and(|(leg, audio)| take_answer(&mut leg.media, audio, &other));
    if took {
        answer(draft, id, inbound, 200);
        media::plan(draft, id);
    }
    took
}

fn answer(draft: &mut Draft<'_>, id: CallId, inbound: &Inbound, status: u16) {
    let response = inbound.request.respond(status, None, None);
    draft.respond(EntityId::Call(id), &inbound.transaction, response);
}
