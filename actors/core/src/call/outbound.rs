//! Legs that we call: an agent's phone, for the queue or as a dialled extension.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tandem_sip::dialog::{Dialog, MAX_FORWARDS, cancel_for};
use tandem_sip::reason::Q850;
use tandem_sip::sdp::{self, Audio, Beside, Codec, Direction};
use tandem_sip::{
    CSeq, Carrier, Headers, Method, NameAddr, Request, Response, Uri, host, replaces,
};

use super::codecs::Other;
use super::identity::ANONYMOUS;
use super::inbound::{self, address_of, refusal};
use super::leg::{Leg, Media, Role, State as LegState};
use super::state::{Call, Outcome, State};
use super::unreached::unreached;
use super::{
    connect, credentials, early, ending, media, outside, phones, progress, protection, reason,
    redirect, session_timer, transfer,
};
use crate::agent::machine as agent;
use crate::cdr::{Disposition, Side};
use crate::draft::{ALLOW, Draft};
use crate::ids::{AgentId, CallId, EntityId, GatewayId, LegId, OfferId, QueueId};
use crate::ivr::machine as ivr;
use crate::queue::machine as queue;
use crate::world::Rejection;

/// Offers a waiting call to an agent. False where no port is free: the caller keeps waiting.
pub fn offer(draft: &mut Draft<'_>, id: CallId, to: &AgentId, queue: &QueueId) -> bool {
    let ring_ms =
        draft.config().and_then(|config| config.queue(queue)).map_or(0, |queue| queue.ring_ms_max);
    let offer = OfferId(draft.rng.next());
    let role = Role::Agent { agent: to.clone(), offer, ring_until: draft.now.after(ring_ms) };
    let shown = draft.call(&id).map(|call| call.shown().to_owned()).unwrap_or_default();
    if ring(draft, id, to, role, &shown).is_none() {
        return false;
    }
    agent::on_offered(draft, to, id, offer);
    if let Some(entry) = draft.queue_mut(queue).and_then(|queue| queue.entry_mut(id)) {
        entry.state = crate::queue::state::State::Offered { agent: to.clone(), offer };
    }
    true
}

/// Rings a dialled extension. False where no port is free.
pub fn ring_extension(draft: &mut Draft<'_>, id: CallId, callee: &AgentId) -> bool {
    let ring_ms = draft.config().map_or(0, |config| config.no_answer_ms);
    let offer = OfferId(draft.rng.next());
    let role = Role::Callee { agent: callee.clone(), offer, ring_until: draft.now.after(ring_ms) };
    let shown = draft.call(&id).map(|call| call.shown().to_owned()).unwrap_or_default();
    let Some(leg) = ring(draft, id, callee, role, &shown) else { return false };
    agent::on_offered(draft, callee, id, offer);
    if let Some(call) = draft.call_mut(&id) {
        call.state = State::Dialing { agent: Some(callee.clone()), leg };
    }
    // Who is not answered yet hears of the ringing from the own phone.
    if draft.call(&id).and_then(Call::caller).is_some_and(Leg::is_up) {
        media::plan(draft, id);
    }
    true
}

/// Sends the INVITE of a new leg; the phone shows that `from` calls.
pub fn ring(
    draft: &mut Draft<'_>,
    id: CallId,
    to: &AgentId,
    role: Role,
    from: &str,
) -> Option<LegId> {
    let phone = draft.agent(to)?.registration()?.clone();
    let vip = draft.vip(&phone.gateway);
    let party = Party {
        gateway: phone.gateway,
        carrier: phone.carrier,
        peer: phone.source,
        uri: phone.contact,
        route: phone.path,
        to: NameAddr::new(Uri::sip(Some(&to.0), &host(vip.ip()), None)),
        from: sender(from, vip.ip()),
        also: Vec::new(),
    };
    call_party(draft, id, party, role)
}

/// Whom an INVITE of ours is for.
pub struct Party {
    /// Whose socket it goes out by.
    pub gateway: GatewayId,
    pub carrier: Carrier,
    pub peer: SocketAddr,
    pub uri: Uri,
    /// The way there, where it is told.
    pub route: Vec<NameAddr>,
    pub to: NameAddr,
    /// Who calls, as the party is told; without a tag.
    pub from: NameAddr,
    /// More that it is told.
    pub also: Vec<(&'static str, String)>,
}

/// Whoever calls, under our address.
pub fn sender(number: &str, vip: IpAddr) -> NameAddr {
    let anonymous = || NameAddr::new(Uri::sip(Some(ANONYMOUS), &host(vip), None));
    address_of(number, vip).unwrap_or_else(|_| anonymous())
}

pub fn call_party(draft: &mut Draft<'_>, id: CallId, party: Party, role: Role) -> Option<LegId> {
    let Party { gateway, carrier, peer, uri, route, to, from: mut sender, also } = party;
    let call = draft.call(&id)?;
    let anchor = call.gateway.clone();
    let allowed = match &role {
        Role::Trunk { channel, .. } => inbound::spoken_with(draft, &channel.trunk),
        Role::Caller
        | Role::Originator { .. }
        | Role::Agent { .. }
        | Role::Callee { .. }
        | Role::Transferee { .. } => Vec::new(),
    };
    let other = Other::of_caller(call).within(&allowed);
    let (vip, media_ip) = (draft.vip(&gateway), draft.vip(&anchor).ip());
    let port = draft.take_port(&anchor)?;
    let leg_id = LegId(draft.rng.next());
    let media = Media {
        port,
        ssrc: (draft.rng.next() >> 32) as u32,
        remote: None,
        codec: Codec::Pcmu,
        payload: Codec::Pcmu.static_payload(),
        fmtp: None,
        said: None,
        telephone_event: Some(sdp::TELEPHONE_EVENT),
        events_wide: false,
        open: None,
        session_id: draft.rng.next() >> 1,
        session_version: 1,
        allowed,
        protection: protection::offered(draft, leg_id, carrier),
        beside: Beside::default(),
    };
    let local_tag = draft.rng.hex();
    sender.set_tag(&local_tag);
    let via = draft.via(&gateway, carrier);
    let mut invite = Request {
        method: Method::Invite,
        uri,
        headers: Headers {
            via: vec![via],
            from: sender,
            to,
            call_id: format!("{}@{}", draft.rng.hex(), host(vip.ip())),
            cseq: CSeq { number: 1, method: Method::Invite },
            contact: Vec::new(),
            route,
            record_route: Vec::new(),
            max_forwards: Some(MAX_FORWARDS),
            expires: None,
            content_type: Some("application/sdp".into()),
            other: Vec::new(),
        },
        body: offer_of(&media, media_ip, &other),
    };
    invite.headers.contact = vec![draft.contact_for(&invite, &gateway, carrier)];
    invite.headers.push_other("Allow", ALLOW);
    session_timer::put_offer(draft, &mut invite);
    let supported = format!("{}, {}", tandem_sip::reliable::OPTION, replaces::OPTION);
    invite.headers.push_other("Supported", &supported);
    for (name, value) in &also {
        invite.headers.push_other(name, value);
    }
    let inside = !matches!(role, Role::Trunk { .. });
    if let Some(by) = draft.call(&id).filter(|_| inside).and_then(transferred_by) {
        // RFC 3892 §2.1: who sent the caller on.
        let by = NameAddr::new(Uri::sip(Some(&by.0), &host(vip.ip()), None));
        invite.headers.push_other("Referred-By", &by.to_string());
    }
    let leg = Leg {
        id: leg_id,
        role,
        state: LegState::Calling,
        gateway,
        peer,
        carrier,
        invite: Arc::new(invite),
        transaction: None,
        local_tag,
        dialog: None,
        proofs: Vec::new(),
        bye_branch: None,
        refer: None,
        media,
        held: false,
        release_at: None,
        timer: None,
        offer_until: None,
        redirected: false,
        early: Vec::new(),
        rang: Vec::new(),
        early_media: None,
        tried: Vec::new(),
        reliable: None,
        previewed: false,
    };
    draft.send(id, &leg, Arc::clone(&leg.invite));
    draft.call_mut(&id)?.legs.push(leg);
    Some(leg_id)
}

/// What a party that we call is offered; `other` is the leg that it shall talk with.
pub fn offer_of(media: &Media, media_ip: IpAddr, other: &Other) -> Vec<u8> {
    let mut audio = media.describe(media_ip, Direction::SendRecv);
    audio.payloads = other.offer();
    let opus = audio.payloads.iter().any(|payload| payload.codec == Codec::Opus);
    audio.telephone_event_wide = opus.then_some(sdp::TELEPHONE_EVENT_WIDE);
    audio.compose()
}

/// The INVITE of a leg once more, as a transaction of its own (RFC 3261 §8.1.3.5): the peer has said
/// what it wants of it.
pub fn invite_again(
    draft: &mut Draft<'_>,
    id: CallId,
    leg_id: LegId,
    change: impl FnOnce(&mut Headers),
) -> bool {
    let Some(leg) = draft.call(&id).and_then(|call| call.leg(leg_id)) else { return false };
    let (gateway, carrier) = (leg.gateway.clone(), leg.carrier);
    let via = draft.via(&gateway, carrier);
    let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) else { return false };
    let headers = &mut Arc::make_mut(&mut leg.invite).headers;
    headers.via = vec![via];
    headers.cseq.number += 1;
    change(headers);
    leg.state = LegState::Calling;
    leg.early.clear();
    let silenced = leg.early_media.take().is_some();
    let leg = leg.clone();
    draft.send(id, &leg, Arc::clone(&leg.invite));
    if silenced {
        media::plan(draft, id);
    }
    true
}

/// Who sent on the call that goes to a new party.
fn transferred_by(call: &Call) -> Option<&AgentId> {
    let last = call.transfers.last()?;
    let goes_on = match last.outcome {
        Outcome::Pending { .. } => true,
        // A colleague who is asked gets no call sent on.
        Outcome::WentOver | Outcome::CameBack { .. } => {
            !matches!(call.state, State::Connected { .. })
        }
        Outcome::Ended => false,
    };
    goes_on.then_some(&last.agent)
}

/// A response to a request of ours.
pub fn on_response(
    draft: &mut Draft<'_>,
    branch: &str,
    response: &Response,
    answer: Option<&Audio>,
) -> Result<(), Rejection> {
    let (id, leg_id) = draft
        .world
        .leg_of_branch(branch)
        .ok_or_else(|| Rejection::NotFound(format!("request of branch {branch}")))?;
    let (call, leg) = find(draft, id, leg_id)?;
    if leg.bye_branch.as_deref() == Some(branch) {
        if credentials::on_challenged_within(draft, id, leg_id, response) {
            ending::send_bye(draft, id, leg_id);
        } else if response.status >= 200 {
            ending::leg_released(draft, id, leg_id);
        }
        return Ok(());
    }
    if is_notify(leg, branch) {
        transfer::on_notified(draft, id, leg_id, response.is_success());
        return Ok(());
    }
    if early::is_prack(leg, branch) {
        if response.status >= 200 {
            early::on_prack_over(draft, id, leg_id, branch);
        }
        return Ok(());
    }
    if session_timer::is_refresh(leg, branch) {
        session_timer::on_response(draft, id, leg_id, response, answer);
        return Ok(());
    }
    // The answer to a CANCEL has the INVITE's branch and says nothing.
    if response.headers.cseq.method != Method::Invite {
        return Ok(());
    }
    let pending = leg.is_ringing() || matches!(leg.state, LegState::Cancelling { .. });
    let state = leg.state.clone();
    let dialing = matches!(call.state, State::Dialing { leg, .. } if leg == leg_id);
    draft.writes.answered_branches.push(branch.to_owned());
    if pending
        && response.is_provisional()
        && early::on_provisional(draft, id, leg_id, response, answer) == early::Taken::No
    {
        return Ok(());
    }
    match (state, response.status) {
        (LegState::Calling | LegState::Proceeding | LegState::Alerting, 100..=199) => {
            early::on_rang(draft, id, leg_id, response);
            progress::on_provisional(draft, id, leg_id, response, answer, dialing);
            Ok(())
        }
        (LegState::Calling | LegState::Proceeding | LegState::Alerting, 200..=299) => {
            connect::on_answered(draft, id, leg_id, response, answer);
            Ok(())
        }
        (LegState::Calling | LegState::Proceeding | LegState::Alerting, 422)
            if session_timer::on_too_small(draft, id, leg_id, response) =>
        {
            Ok(())
        }
        (LegState::Calling | LegState::Proceeding | LegState::Alerting, 302)
            if redirect::on_redirected(draft, id, leg_id, response) =>
        {
            Ok(())
        }
        (LegState::Calling | LegState::Proceeding | LegState::Alerting, _)
            if leg_goes_out(draft, id, leg_id) =>
        {
            outside::on_refused(draft, id, leg_id, response);
            Ok(())
        }
        (LegState::Calling | LegState::Proceeding | LegState::Alerting, status) => {
            let lost = Failure::of_status(status) == Failure::Lost;
            if lost && phones::ring_next(draft, id, leg_id) {
                return Ok(());
            }
            draft.said = Q850::of_reason(&response.headers);
            ending::leg_released(draft, id, leg_id);
            on_failed(draft, id, leg_id, Failure::of_status(status));
            Ok(())
        }
        (LegState::Cancelling { sent: false }, 100..=199) => {
            let why = reason::of_cancel(draft, id);
            send_cancel(draft, id, leg_id, &why);
            Ok(())
        }
        (LegState::Cancelling { sent: true }, 100..=199) => Ok(()),
        // It was answered while the CANCEL was under way (RFC 3261 §9.1): ACK, then BYE.
        (LegState::Cancelling { .. }, 200..=299) => {
            connect::acknowledge(draft, id, leg_id, response);
            ending::send_bye(draft, id, leg_id);
            Ok(())
        }
        (LegState::Cancelling { .. }, _) => {
            outside::on_late_refusal(draft, id, leg_id, response);
            ending::leg_released(draft, id, leg_id);
            Ok(())
        }
        // A second branch of a fork answered, too: it is taken down at once (§13.2.2.4).
        (LegState::Active | LegState::Releasing, 200..=299) => {
            connect::take_down_fork(draft, id, leg_id, response);
            Ok(())
        }
        (
            LegState::Active
            | LegState::Releasing
            | LegState::Released
            | LegState::Trying
            | LegState::Answered,
            _,
        ) => Err(illegal(draft, id, leg_id, "response")),
    }
}

fn leg_goes_out(draft: &Draft<'_>, id: CallId, leg_id: LegId) -> bool {
    draft.call(&id).and_then(|call| call.leg(leg_id)).is_some_and(|leg| leg.channel().is_some())
}

fn is_notify(leg: &Leg, branch: &str) -> bool {
    leg.refer.as_ref().is_some_and(|refer| refer.branch.as_deref() == Some(branch))
}

/// Why an agent's phone did not take the call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    RangOut,
    Rejected {
        status: u16,
    },
    /// The phone can't be reached.
    Lost,
}

impl Failure {
    fn of_status(status: u16) -> Self {
        match status {
            408 | 410 | 430 | 480 | 404 | 500..=599 => Self::Lost,
            _ => Self::Rejected { status },
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::RangOut => "missed",
            Self::Rejected { .. } => "rejected",
            Self::Lost => "station_lost",
        }
    }
}

/// The offer is over without an answer: the caller keeps the place, or the extension's refusal
/// goes to the caller.
pub fn on_failed(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, failure: Failure) {
    let Some(leg) = draft.call(&id).and_then(|call| call.leg(leg_id)) else { return };
    match leg.role.clone() {
        Role::Caller | Role::Transferee { .. } => {}
        Role::Trunk { .. } => match failure {
            Failure::RangOut => outside::failed(draft, id, 480),
            Failure::Lost => outside::on_silent(draft, id, leg_id),
            Failure::Rejected { status } => outside::failed(draft, id, status),
        },
        Role::Agent { agent, offer, .. } => {
            agent::on_missed(draft, &agent, offer, failure.reason());
            queue::on_offer_over(draft, id, offer);
        }
        Role::Callee { agent, offer, .. } | Role::Originator { agent, offer, .. } => {
            agent::on_withdrawn(draft, &agent, offer);
            if ivr::is_transferring(draft, id) {
                // The flow goes on: what ends the call then is the flow's own.
                draft.said = None;
                ivr::on_transfer_failed(draft, id);
                return;
            }
            let (status, how) = match failure {
                Failure::RangOut => (480, Disposition::NoAnswer),
                Failure::Lost => (480, Disposition::Failed),
                Failure::Rejected { status: 486 | 600 } => (486, Disposition::Busy),
                // A phone's 603 or the like is passed on; a challenge or redirection is not.
                Failure::Rejected { status: status @ 402..=699 } if status != 407 => {
                    (status, Disposition::Rejected)
                }
                Failure::Rejected { .. } => (480, Disposition::Rejected),
            };
            unreached(draft, id, status, how, Side::Callee);
        }
    }
}

/// Timer B or F of a request of ours.
pub fn on_timeout(draft: &mut Draft<'_>, branch: &str) -> Result<(), Rejection> {
    let (id, leg_id) = draft
        .world
        .leg_of_branch(branch)
        .ok_or_else(|| Rejection::NotFound(format!("request of branch {branch}")))?;
    let (_, leg) = find(draft, id, leg_id)?;
    if leg.bye_branch.as_deref() == Some(branch) {
        ending::leg_released(draft, id, leg_id);
        return Ok(());
    }
    if is_notify(leg, branch) {
        transfer::on_notified(draft, id, leg_id, false);
        return Ok(());
    }
    if early::is_prack(leg, branch) {
        early::on_prack_over(draft, id, leg_id, branch);
        return Ok(());
    }
    if session_timer::is_refresh(leg, branch) {
        session_timer::on_timeout(draft, id, leg_id);
        return Ok(());
    }
    let state = leg.state.clone();
    draft.writes.answered_branches.push(branch.to_owned());
    match state {
        LegState::Calling | LegState::Proceeding | LegState::Alerting => {
            phones::on_silent(draft, id, leg_id);
            if phones::ring_next(draft, id, leg_id) {
                return Ok(());
            }
            ending::leg_released(draft, id, leg_id);
            on_failed(draft, id, leg_id, Failure::Lost);
            Ok(())
        }
        LegState::Cancelling { .. } => {
            ending::leg_released(draft, id, leg_id);
            Ok(())
        }
        LegState::Trying
        | LegState::Answered
        | LegState::Active
        | LegState::Releasing
        | LegState::Released => Err(illegal(draft, id, leg_id, "timeout")),
    }
}

pub fn on_ring_out(draft: &mut Draft<'_>, id: CallId, offer: OfferId) -> Result<(), Rejection> {
    let leg = draft
        .call(&id)
        .and_then(|call| call.legs.iter().find(|leg| leg.offer() == Some(offer)))
        .filter(|leg| leg.is_ringing());
    let leg = leg.ok_or_else(|| Rejection::NotFound(format!("offer {offer}")))?;
    // The peer has spoken since the deadline was proposed: it has more time.
    if leg.ring_until().is_some_and(|until| until > draft.now) {
        return Err(Rejection::Refused(format!("offer {offer} rings on")));
    }
    // A carrier that has said nothing at all is another matter than who does not answer.
    let unheard = leg.channel().is_some() && leg.state == LegState::Calling;
    let (leg, failure) = (leg.id, if unheard { Failure::Lost } else { Failure::RangOut });
    cancel(draft, id, leg);
    on_failed(draft, id, leg, failure);
    Ok(())
}

/// Takes an INVITE of ours back; its port is free at once.
pub fn cancel(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) {
    let why = reason::of_cancel(draft, id);
    cancel_because(draft, id, leg_id, &why);
}

/// The phone need not be waited for, for this reason (RFC 3326).
pub fn cancel_because(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, why: &str) {
    let until = draft.now.after(crate::limits::RELEASE_MS_MAX);
    let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) else { return };
    // A CANCEL may not go before a provisional answer (RFC 3261 §9.1).
    let early = leg.state == LegState::Calling;
    leg.state = LegState::Cancelling { sent: false };
    leg.early_media = None;
    leg.release_at = Some(until);
    ending::free_port(draft, id, leg_id);
    if !early {
        send_cancel(draft, id, leg_id, why);
    }
}

fn send_cancel(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, why: &str) {
    let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) else { return };
    leg.state = LegState::Cancelling { sent: true };
    let leg = leg.clone();
    let mut cancel = cancel_for(&leg.invite);
    cancel.headers.push_other("Reason", why);
    draft.send(id, &leg, cancel);
}

/// The media that the peer's answer describes; `other` is the leg that it talks with.
pub fn take_answer(media: &mut Media, answer: &Audio, other: &Other) -> bool {
    let Ok(agreed) = other.agree(answer) else { return false };
    let Ok(protection) = protection::of_answer(media.protection.clone(), answer) else {
        return false;
    };
    media.protection = protection;
    media.agree(&agreed, other);
    media.remote = agreed.remote;
    true
}

/// A failure response to the caller's own INVITE.
pub fn refuse_caller(draft: &mut Draft<'_>, id: CallId, status: u16) {
    let Some(call) = draft.call(&id) else { return };
    let Some(caller) = call.caller() else { return };
    let Some(transaction) = caller.transaction.clone() else { return };
    let mut response = refusal(&caller.invite, status, &caller.local_tag);
    reason::put(&mut response, draft.said.or(call.q850));
    draft.refuse(id, &transaction, response);
}

pub fn find<'d>(
    draft: &'d Draft<'_>,
    id: CallId,
    leg: LegId,
) -> Result<(&'d Call, &'d Leg), Rejection> {
    let call = draft.call(&id).ok_or_else(|| Rejection::NotFound(format!("call {id}")))?;
    let leg = call.leg(leg).ok_or_else(|| Rejection::NotFound(format!("leg {leg}")))?;
    Ok((call, leg))
}

pub fn illegal(draft: &Draft<'_>, id: CallId, leg: LegId, event: &'static str) -> Rejection {
    let state = draft.call(&id).and_then(|call| call.leg(leg)).map_or("gone", Leg::state_name);
    Rejection::Illegal { entity: EntityId::Call(id), state, event }
}

/// What an ACK or BYE for a 2xx is built from.
pub fn dialog_of(leg: &Leg, response: &Response) -> Option<Dialog> {
    let mut dialog = Dialog::as_uac(&leg.invite, response).ok()?;
    if let Some(early) = early::of_tag(leg, &dialog.remote_tag) {
        // PRACKs have counted, and UPDATEs of the peer.
        dialog.local_cseq = dialog.local_cseq.max(early.dialog.local_cseq);
        dialog.remote_cseq = dialog.remote_cseq.max(early.dialog.remote_cseq);
    }
    Some(dialog)
}
