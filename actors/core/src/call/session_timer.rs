//! Session timers (RFC 4028): a session that nobody refreshes is over, so no leg outlives its peer.
//!
//! ```text
//! 2xx ──we refresh──▶ half the interval ──UPDATE or re-INVITE──2xx──▶ anew
//!  │                                           └─408, 481, no answer──▶ BYE
//!  └──the peer does──▶ its UPDATE or re-INVITE ──▶ anew
//!                      none until shortly before the end ──▶ BYE
//! ```

use std::sync::Arc;

use tandem_sip::dialog::Dialog;
use tandem_sip::offer_answer::retry_after_glare_ms;
use tandem_sip::sdp::{Audio, Direction};
use tandem_sip::session_expires::{self, OPTION, Role, SessionExpires, is_known};
use tandem_sip::{Headers, Method, Millis, Request, Response};

use super::ending::{SESSION_EXPIRED, lose, unreachable};
use super::leg::{Leg, State as LegState};
use super::outbound::{self, find, illegal};
use super::state::Call;
use super::{credentials, indialog};
use crate::draft::{ALLOW, Draft};
use crate::ids::{CallId, LegId};
use crate::limits;
use crate::world::Rejection;

/// The timer of one leg's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTimer {
    pub interval_s: u32,
    pub refresher: Refresher,
    pub expires_at: Millis,
    /// When we refresh: none while that is under way, or where the peer does it.
    pub refresh_at: Option<Millis>,
    pub refresh: Option<Refresh>,
    /// The peer takes UPDATE, which needs no description of the media.
    pub update: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    We,
    Peer,
}

/// Our own request that refreshes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// Of its Via.
    pub branch: String,
    /// A re-INVITE; else an UPDATE.
    pub invite: bool,
    pub cseq: u32,
    /// A re-INVITE stays here until the next, for its 200 may come again.
    pub answered: bool,
}

impl Refresh {
    pub fn method(&self) -> &'static Method {
        if self.invite { &Method::Invite } else { &Method::Update }
    }
}

impl SessionTimer {
    fn new(now: Millis, interval_s: u32, refresher: Refresher, update: bool) -> Self {
        let interval_ms = 1_000 * u64::from(interval_s);
        let half = now.after(interval_ms / 2);
        Self {
            interval_s,
            refresher,
            expires_at: now.after(interval_ms),
            refresh_at: (refresher == Refresher::We).then_some(half),
            refresh: None,
            update,
        }
    }

    /// Of a session without a timer: it is refreshed then, and goes on without one.
    pub(super) fn probe(at: Millis) -> Self {
        Self {
            interval_s: limits::PROBE_S,
            refresher: Refresher::We,
            expires_at: at.after(1_000 * u64::from(limits::PROBE_S)),
            refresh_at: Some(at),
            refresh: None,
            update: true,
        }
    }

    /// Asks the peer then, whoever refreshes, and leaves it the time to answer.
    pub(super) fn ask_at(&mut self, at: Millis) {
        self.refresh_at = Some(self.refresh_at.map_or(at, |due| due.min(at)));
        let missing_ms = at.after(limits::ASKED_MS_MAX).since(self.over_at());
        self.expires_at = self.expires_at.after(missing_ms);
    }

    /// Who has waited so long hangs up: 32 s before the end, or a third of it (§10).
    pub fn over_at(&self) -> Millis {
        let interval_ms = 1_000 * u64::from(self.interval_s);
        let early_ms = limits::SESSION_EARLY_MS_MAX.min(interval_ms / 3);
        Millis(self.expires_at.0.saturating_sub(early_ms))
    }

    pub fn due_at(&self) -> Millis {
        self.refresh_at.map_or(self.over_at(), |at| at.min(self.over_at()))
    }

    /// A refresh of ours that waits for its answer.
    pub fn under_way(&self) -> Option<&Refresh> {
        self.refresh.as_ref().filter(|refresh| !refresh.answered)
    }
}

// --- what is said of it ------------------------------------------------------------------------

fn takes_update(headers: &Headers) -> bool {
    headers.list("Allow").any(|method| method == Method::Update.as_str())
}

/// What a request of the peer comes to (§9, table 2): whoever knows timers refreshes, unless it
/// wants us to; for one that knows none a proxy asked, and we do it.
fn agree(headers: &Headers, before: Option<Refresher>, least_s: u32) -> Option<(u32, Refresher)> {
    let known = is_known(headers);
    let SessionExpires { interval_s, refresher } = SessionExpires::of(headers)?;
    if interval_s < least_s {
        // Who knows timers was told so by the gateway (422); to others it would mean nothing.
        return None;
    }
    let refresher = match (known, refresher) {
        (false, _) | (true, Some(Role::Uas)) => Refresher::We,
        (true, Some(Role::Uac)) => Refresher::Peer,
        (true, None) => before.unwrap_or(Refresher::Peer),
    };
    Some((interval_s, refresher))
}

/// Puts what was agreed on into the 2xx to a request of the peer.
fn put(response: &mut Response, request: &Headers, agreed: Option<(u32, Refresher)>) {
    response.headers.push_other("Supported", OPTION);
    let Some((interval_s, refresher)) = agreed else { return };
    let role = match refresher {
        Refresher::We => "uas",
        Refresher::Peer => "uac",
    };
    response.headers.push_other("Session-Expires", &format!("{interval_s};refresher={role}"));
    if is_known(request) {
        response.headers.push_other("Require", OPTION);
    }
}

/// In the 2xx to the INVITE of a leg.
pub fn put_answer(draft: &Draft<'_>, invite: &Request, response: &mut Response) {
    put(response, &invite.headers, agree(&invite.headers, None, least_s(draft)));
}

/// In an INVITE of ours; the phone may choose who refreshes.
pub fn put_offer(draft: &Draft<'_>, invite: &mut Request) {
    invite.headers.push_other("Supported", OPTION);
    let interval_s = draft.config().map_or(0, |config| config.session_expires_s);
    if interval_s > 0 {
        invite.headers.push_other("Session-Expires", &interval_s.to_string());
    }
}

/// The least interval that we take (§5).
fn least_s(draft: &Draft<'_>) -> u32 {
    draft.config().map_or(limits::SESSION_EXPIRES_S_MIN, |config| config.session_expires_s_min())
}

// --- when it begins ----------------------------------------------------------------------------

/// Of a leg whose INVITE we have answered.
pub fn answered(draft: &Draft<'_>, leg: &Leg) -> Option<SessionTimer> {
    let headers = &leg.invite.headers;
    let (interval_s, refresher) = agree(headers, None, least_s(draft))?;
    Some(SessionTimer::new(draft.now, interval_s, refresher, takes_update(headers)))
}

/// Of what the peer's 2xx to a request of ours says: without a word of it there is no timer (§7.2).
pub fn accepted(draft: &Draft<'_>, response: &Response) -> Option<SessionTimer> {
    let SessionExpires { interval_s, refresher } = SessionExpires::of(&response.headers)?;
    let refresher = match refresher {
        Some(Role::Uas) => Refresher::Peer,
        Some(Role::Uac) | None => Refresher::We,
    };
    // It may not be less than what we take.
    let interval_s = interval_s.max(least_s(draft));
    let update = takes_update(&response.headers);
    Some(SessionTimer::new(draft.now, interval_s, refresher, update))
}

/// The peer's re-INVITE or UPDATE begins the session's time anew, on its terms.
pub fn on_refreshed(
    draft: &mut Draft<'_>,
    id: CallId,
    leg_id: LegId,
    request: &Request,
    response: &mut Response,
) {
    let (now, least_s) = (draft.now, least_s(draft));
    let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) else { return };
    let headers = &request.headers;
    let before = leg.timer.take();
    let refresher = before.as_ref().map(|timer| timer.refresher);
    // Where nothing is asked for, what we do goes on, and what the peer does is over.
    let ours = before.as_ref().filter(|timer| timer.refresher == Refresher::We);
    let agreed = match SessionExpires::of(headers) {
        Some(_) => agree(headers, refresher, least_s),
        None => ours.map(|timer| (timer.interval_s, Refresher::We)),
    };
    put(response, headers, agreed);
    let update = takes_update(headers) || before.as_ref().is_some_and(|timer| timer.update);
    let refresh = before.and_then(|timer| timer.refresh);
    leg.timer = agreed.map(|(interval_s, refresher)| {
        let mut timer = SessionTimer::new(now, interval_s, refresher, update);
        if refresh.as_ref().is_some_and(|refresh| !refresh.answered) {
            timer.refresh_at = None;
        }
        SessionTimer { refresh, ..timer }
    });
}

/// 422 to an INVITE of ours: once more, with the least that the peer takes (§7.4). False where that
/// is no reason to try again.
pub fn on_too_small(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, response: &Response) -> bool {
    let Some(leg) = draft.call(&id).and_then(|call| call.leg(leg_id)) else { return false };
    let offered = SessionExpires::of(&leg.invite.headers).map_or(0, |asked| asked.interval_s);
    let Some(least_s) = min_se(response).filter(|least_s| *least_s > offered) else { return false };
    outbound::invite_again(draft, id, leg_id, |headers| {
        for name in ["Session-Expires", "Min-SE"] {
            headers.remove_other(name);
            headers.push_other(name, &least_s.to_string());
        }
    })
}

fn min_se(response: &Response) -> Option<u32> {
    session_expires::min_se(&response.headers)
        .filter(|least_s| *least_s <= limits::SESSION_EXPIRES_S_MAX)
}

// --- when it is due ------------------------------------------------------------------------------

pub fn on_due(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) -> Result<(), Rejection> {
    let (_, leg) = find(draft, id, leg_id)?;
    let due = leg.timer.as_ref().filter(|timer| timer.due_at() <= draft.now);
    match due {
        Some(timer) if leg.state == LegState::Active => {
            let later = draft.now.after(limits::REFRESH_AGAIN_MS_MIN);
            if timer.over_at() <= draft.now {
                // What we have tried to refresh over connections has failed again and again.
                let unreached = timer.refresher == Refresher::We && leg.carrier.is_reliable();
                let cause = if unreached { unreachable(leg.side()) } else { SESSION_EXPIRED };
                lose(draft, id, leg_id, cause);
            } else if leg.refer.as_ref().is_some_and(|refer| refer.branch.is_some()) {
                // It must not overtake the NOTIFY that is on its way.
                again(draft, id, leg_id, later);
            } else {
                refresh(draft, id, leg_id);
            }
            Ok(())
        }
        Some(_) | None => Err(illegal(draft, id, leg_id, "session timer")),
    }
}

/// While nobody led, no refresh could come in: what waits at the gateways is heard first.
pub fn on_elected(call: &mut Call, now: Millis) {
    let least = now.after(limits::SESSION_GRACE_MS);
    for timer in call.legs.iter_mut().filter_map(|leg| leg.timer.as_mut()) {
        let missing_ms = least.since(timer.over_at());
        timer.expires_at = timer.expires_at.after(missing_ms);
    }
}

fn refresh(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) {
    let Some(call) = draft.call(&id) else { return };
    let Some(leg) = call.leg(leg_id) else { return };
    let (gateway, carrier) = (leg.gateway.clone(), leg.carrier);
    let address = draft.vip(&call.gateway).ip();
    let contact = draft.contact_for(&leg.invite, &gateway, carrier);
    let via = draft.via(&gateway, carrier);
    let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) else { return };
    let description = describe(leg, address);
    let Some((timer, dialog)) = leg.timer.as_mut().zip(leg.dialog.as_mut()) else { return };
    let invite = !timer.update;
    let method = if invite { Method::Invite } else { Method::Update };
    let dialog: &mut Dialog = Arc::make_mut(dialog);
    let mut request = dialog.request(method, via, Some(contact));
    request.headers.push_other("Allow", ALLOW);
    request.headers.push_other("Supported", OPTION);
    // Who refreshes goes on to do it.
    let role = match timer.refresher {
        Refresher::We => "uac",
        Refresher::Peer => "uas",
    };
    let expires = format!("{};refresher={role}", timer.interval_s);
    request.headers.push_other("Session-Expires", &expires);
    if invite {
        request.headers.content_type = Some("application/sdp".into());
        request.body = description;
    }
    timer.refresh_at = None;
    timer.refresh = Some(Refresh {
        branch: request.headers.branch().to_owned(),
        invite,
        cseq: request.headers.cseq.number,
        answered: false,
    });
    let leg = leg.clone();
    draft.send(id, &leg, request);
}

/// What we have described last, for nothing has changed (§7.4); one version on where that was an
/// answer to a hold, which may have been another direction.
fn describe(leg: &mut Leg, address: std::net::IpAddr) -> Vec<u8> {
    if leg.transaction.is_none() && leg.media.session_version == 1 {
        return leg.invite.body.clone();
    }
    let direction = if leg.held { Direction::RecvOnly } else { Direction::SendRecv };
    if leg.held {
        leg.media.session_version += 1;
    }
    leg.media.describe(address, direction).compose()
}

// --- what came of it ---------------------------------------------------------------------------

pub fn is_refresh(leg: &Leg, branch: &str) -> bool {
    let refresh = leg.timer.as_ref().and_then(|timer| timer.refresh.as_ref());
    refresh.is_some_and(|refresh| refresh.branch == branch)
}

/// A response to our refresh.
pub fn on_response(
    draft: &mut Draft<'_>,
    id: CallId,
    leg_id: LegId,
    response: &Response,
    answer: Option<&Audio>,
) {
    let Some(leg) = draft.call(&id).and_then(|call| call.leg(leg_id)) else { return };
    let Some(timer) = &leg.timer else { return };
    let Some(refresh) = timer.refresh.clone() else { return };
    let (live, chose, side) =
        (leg.state == LegState::Active, leg.transaction.is_none(), leg.side());
    let (now, over_at, interval_s) = (draft.now, timer.over_at(), timer.interval_s);
    if response.is_provisional() {
        return;
    }
    if refresh.invite && response.is_success() {
        acknowledge(draft, id, leg_id, refresh.cseq);
    }
    if refresh.answered || !live {
        return;
    }
    if credentials::on_challenged_within(draft, id, leg_id, response) {
        self::refresh(draft, id, leg_id);
        return;
    }
    match response.status {
        200..=299 => {
            on_accepted(draft, id, leg_id, response, refresh);
            if let Some(answer) = answer.filter(|_| live) {
                indialog::on_answer(draft, id, leg_id, answer);
            }
        }
        // The peer knows no such dialog any more, or nothing is there (RFC 3261 §12.2.1.2).
        481 => lose(draft, id, leg_id, SESSION_EXPIRED),
        408 => lose(draft, id, leg_id, unreachable(side)),
        491 => {
            let wait_ms = retry_after_glare_ms(chose, draft.rng.next());
            again(draft, id, leg_id, now.after(wait_ms));
        }
        // It takes no UPDATE after all.
        405 | 501 if !refresh.invite => {
            with_timer(draft, id, leg_id, |timer| timer.update = false);
            again(draft, id, leg_id, now);
        }
        422 if min_se(response).is_some_and(|least_s| least_s > interval_s) => {
            let least_s = min_se(response).unwrap_or(interval_s);
            with_timer(draft, id, leg_id, |timer| timer.interval_s = least_s);
            again(draft, id, leg_id, now);
        }
        // Whatever it is may pass, as long as there is time (§7.3).
        _ => {
            let left_ms = over_at.since(now);
            let wait_ms = (left_ms / 2).max(limits::REFRESH_AGAIN_MS_MIN);
            again(draft, id, leg_id, now.after(wait_ms));
        }
    }
}

/// Nobody has answered our refresh. Who is reached over a connection may be about to open another.
pub fn on_timeout(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) {
    let now = draft.now;
    let leg = draft.call(&id).and_then(|call| call.leg(leg_id));
    let Some(leg) = leg.filter(|leg| leg.state == LegState::Active) else { return };
    let Some(timer) = leg.timer.as_ref().filter(|timer| timer.under_way().is_some()) else {
        return;
    };
    let until = timer.expires_at.min(now.after(1_000 * u64::from(limits::PROBE_S)));
    let last = SessionTimer { expires_at: until, ..timer.clone() }.over_at();
    let wait_ms = limits::REFRESH_AGAIN_MS_MIN.max(limits::PROBE_AGAIN_MS.min(last.since(now) / 2));
    if !leg.carrier.is_reliable() {
        let cause = unreachable(leg.side());
        lose(draft, id, leg_id, cause);
        return;
    }
    with_timer(draft, id, leg_id, |timer| timer.expires_at = until);
    again(draft, id, leg_id, now.after(wait_ms));
}

fn on_accepted(
    draft: &mut Draft<'_>,
    id: CallId,
    leg_id: LegId,
    response: &Response,
    refresh: Refresh,
) {
    let timer = accepted(draft, response);
    let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) else { return };
    let update = leg.timer.as_ref().is_some_and(|timer| timer.update);
    let kept = refresh.invite.then_some(Refresh { answered: true, ..refresh });
    // Without a word of it in the 2xx the session never ends by itself (§7.2).
    leg.timer =
        timer.map(|timer| SessionTimer { refresh: kept, update: update || timer.update, ..timer });
    if let Some(dialog) = &mut leg.dialog {
        Arc::make_mut(dialog).refresh_target(&response.headers);
    }
}

fn acknowledge(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, cseq: u32) {
    let Some(leg) = draft.call(&id).and_then(|call| call.leg(leg_id)).cloned() else { return };
    let via = draft.via(&leg.gateway, leg.carrier);
    if let Some(dialog) = &leg.dialog {
        draft.send(id, &leg, dialog.ack(cseq, via));
    }
}

fn again(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, at: Millis) {
    with_timer(draft, id, leg_id, |timer| {
        timer.refresh = None;
        timer.refresh_at = Some(at);
    });
}

fn with_timer(
    draft: &mut Draft<'_>,
    id: CallId,
    leg_id: LegId,
    change: impl FnOnce(&mut SessionTimer),
) {
    let leg = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id));
    if let Some(timer) = leg.and_then(|leg| leg.timer.as_mut()) {
        change(timer);
    }
}
