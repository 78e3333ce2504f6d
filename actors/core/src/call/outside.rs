//! A call that goes out by a trunk: one peer after the other, until one takes it or the called
//! party's own word is known.
//!
//! ```text
//! begin ──▶ a peer with a free channel, within its trunk's pace ──2xx──▶ Connected
//!             ▲    │ 5xx, 408, challenged, nothing heard in time
//!             └────┘ the next peer, in the same entry of the log
//!                  │ any other refusal, or a failure after it rang: the called party's
//!                  ▼
//!              unreached
//! ```
//! Two phones never ring for one call: whoever has said that it rings is asked no more, and who has
//! said nothing is cancelled before the next is asked.

use tandem_sip::reason::Q850;
use tandem_sip::{NameAddr, Response, Uri, host};

use super::codecs::Other;
use super::leg::{Leg, Role, State as LegState};
use super::outbound::{self, Party};
use super::state::{Call, Hop, Outward, State};
use super::unreached::unreached;
use super::{credentials, ending, inbound, media};
use crate::cdr::{Disposition, Side};
use crate::channel::machine as channel;
use crate::draft::Draft;
use crate::ids::{CallId, GatewayId, LegId, OfferId, TrunkId};
use crate::limits;
use crate::rng::Rng;
use crate::trunk::outward::Outward as Config;
use crate::trunk::routing;
use crate::trunk::state::Trunk;
use crate::trunk::{health, numbers};

/// Is there a route for the number?
pub fn is_routed(draft: &Draft<'_>, number: &str) -> bool {
    draft.config().is_some_and(|config| !routing::trunks(config, number).is_empty())
}

/// Has any of its trunks a free channel?
pub fn has_room(draft: &Draft<'_>, number: &str) -> bool {
    let Some(config) = draft.config() else { return false };
    let trunks = routing::trunks(config, number);
    trunks.iter().any(|(trunk, _)| channel::has_idle(draft, &trunk.id))
}

/// The call goes out to the number.
pub fn begin(draft: &mut Draft<'_>, id: CallId, number: &str) {
    let seed = draft.rng.next();
    let left = draft.config().map(|config| routing::hops(config, number, &mut Rng::new(seed)));
    let routed = left.unwrap_or_default();
    let mut left = routed.clone();
    left.retain(|hop| suits(draft, id, &hop.trunk));
    let unsuited = left.is_empty() && !routed.is_empty();
    let gateway = draft.call(&id).map(|call| call.gateway.clone());
    // Where none is left they are asked all the same: OPTIONS is a hint, and a carrier that answers
    // none of them may take calls; at worst the caller hears the same 503 a little later.
    if let Some(gateway) = gateway
        && left.iter().any(|hop| !is_down(draft, hop, &gateway) && !is_held(draft, hop))
    {
        left.retain(|hop| !is_down(draft, hop, &gateway));
    }
    if let Some(call) = draft.call_mut(&id) {
        call.outward = Some(Outward { number: number.to_owned(), left, channel: None, peer: None });
    }
    if unsuited {
        return unreached(draft, id, 488, Disposition::Rejected, Side::System);
    }
    next(draft, id, None);
}

/// Whether the trunk's policy leaves a codec that can be talked in.
fn suits(draft: &Draft<'_>, id: CallId, trunk: &TrunkId) -> bool {
    let allowed = inbound::spoken_with(draft, trunk);
    draft.call(&id).is_some_and(|call| !Other::of_caller(call).within(&allowed).offer().is_empty())
}

/// Asks the next peer that may be asked; `status` is what the last one said.
fn next(draft: &mut Draft<'_>, id: CallId, status: Option<u16>) {
    let mut congested = false;
    loop {
        let Some(call) = draft.call(&id) else { return };
        let Some(outward) = &call.outward else { return };
        // One that has gone down since is the last to be asked.
        let up = outward.left.iter().position(|hop| !is_down(draft, hop, &call.gateway));
        let at = up.unwrap_or(0);
        let outward = draft.call_mut(&id).and_then(|call| call.outward.as_mut());
        let Some(outward) = outward else { return };
        if outward.left.is_empty() {
            break;
        }
        let hop = outward.left.remove(at);
        let Some(out) = outward_of(draft, &hop.trunk) else { continue };
        if is_held(draft, &hop) {
            continue;
        }
        if !channel::has_idle(draft, &hop.trunk) || !is_in_pace(draft, &hop.trunk, &out) {
            congested = true;
            // Its other peers share channels and pace.
            let outward = draft.call_mut(&id).and_then(|call| call.outward.as_mut());
            let Some(outward) = outward else { return };
            outward.left.retain(|other| other.trunk != hop.trunk);
            continue;
        }
        if ring(draft, id, &hop.trunk, hop.peer, &out) {
            return;
        }
        // No port is free: no other peer would change that.
        break;
    }
    if congested && draft.said.is_none() {
        draft.said = Some(Q850::NO_CIRCUIT);
    }
    let how = if status.is_some() { Disposition::Failed } else { Disposition::Rejected };
    unreached(draft, id, 503, how, Side::System);
}

fn is_held(draft: &Draft<'_>, hop: &Hop) -> bool {
    draft.trunk(&hop.trunk).is_some_and(|it| it.holds(hop.peer.address, draft.now).is_some())
}

/// As the gateway finds it that would ask. A carrier that wants us registered takes no call of a
/// gateway that it does not know.
fn is_down(draft: &Draft<'_>, hop: &Hop, gateway: &GatewayId) -> bool {
    let row = draft.trunk(&hop.trunk);
    let unknown = || {
        let registers = draft.config().is_some_and(|it| health::registers(it, &hop.trunk));
        registers && !row.is_some_and(|row| row.is_registered(gateway))
    };
    row.is_some_and(|row| row.is_down(hop.peer.address, gateway)) || unknown()
}

fn outward_of(draft: &Draft<'_>, trunk: &TrunkId) -> Option<Config> {
    draft.config()?.trunk(trunk)?.out.clone()
}

/// Takes a token of the trunk's pace.
fn is_in_pace(draft: &mut Draft<'_>, trunk: &TrunkId, out: &Config) -> bool {
    if out.calls_per_second == 0 {
        return true;
    }
    let mut row = draft.trunk(trunk).cloned().unwrap_or_else(|| Trunk::new(trunk.clone()));
    let took = row.take_token(draft.now, out.calls_per_second);
    if took {
        draft.writes.trunks.insert(trunk.clone(), Some(row));
    }
    took
}

fn ring(
    draft: &mut Draft<'_>,
    id: CallId,
    trunk: &TrunkId,
    peer: crate::trunk::outward::Peer,
    out: &Config,
) -> bool {
    let Some(call) = draft.call(&id) else { return false };
    let Some(outward) = &call.outward else { return false };
    let number = numbers::rewritten(&out.called, &outward.number);
    let shown = numbers::shown(out, call.shown());
    // A customer who is sent on outside shows up there as our call.
    let sent_on_from = call.channel.as_ref().map(|_| call.to.clone());
    let gateway = call.gateway.clone();
    let Some(channel) = channel::seize_out(draft, id, trunk) else { return false };
    let offer = OfferId(draft.rng.next());
    let ring_until = draft.now.after(out.reply_ms);
    let role = Role::Trunk { channel: channel.clone(), offer, ring_until };
    let (address, carrier) = (peer.address, peer.transport.carrier());
    let mut uri = Uri::sip(Some(&number), &host(address.ip()), Some(address.port()));
    let to = NameAddr::new(uri.clone());
    uri.params.extend(carrier.uri_param().map(|transport| tandem_sip::Param {
        name: "transport".into(),
        value: Some(transport.into()),
    }));
    let vip = draft.vip(&gateway).ip();
    let (from, mut also) = numbers::sender(&shown, vip);
    also.extend(sent_on_from.map(|number| numbers::diverted(&number, vip)));
    let route = Vec::new();
    let party = Party { gateway, carrier, peer: address, uri, route, to, from, also };
    let Some(leg) = outbound::call_party(draft, id, party, role) else {
        draft.writes.channels.insert(channel, None);
        return false;
    };
    if let Some(call) = draft.call_mut(&id) {
        call.state = State::Dialing { agent: None, leg };
        if let Some(outward) = &mut call.outward {
            outward.channel = Some(channel);
        }
    }
    // Who is not answered yet hears of the ringing from the own phone.
    if draft.call(&id).and_then(Call::caller).is_some_and(Leg::is_up) {
        media::plan(draft, id);
    }
    true
}

/// The peer says something for the first time: from here on the called party has time to answer.
pub fn on_provisional(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) {
    let Some((trunk, _)) = hop_of(draft, id, leg_id) else { return };
    let no_answer_ms = outward_of(draft, &trunk).map_or(0, |out| out.no_answer_ms);
    let until = draft.now.after(no_answer_ms);
    let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) else { return };
    if let (Role::Trunk { ring_until, .. }, LegState::Calling) = (&mut leg.role, &leg.state) {
        *ring_until = until;
    }
}

pub fn on_answered(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) {
    let Some(leg) = draft.call(&id).and_then(|call| call.leg(leg_id)) else { return };
    let (peer, seized) = (leg.peer, leg.channel().cloned());
    if let Some(seized) = seized {
        channel::on_answered(draft, &seized, id);
    }
    if let Some(outward) = draft.call_mut(&id).and_then(|call| call.outward.as_mut()) {
        outward.peer = Some(peer);
        outward.left.clear();
    }
}

/// A final refusal of the peer, whose leg is still as it was.
pub fn on_refused(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, response: &Response) {
    let Some((trunk, peer)) = hop_of(draft, id, leg_id) else { return };
    if credentials::on_challenged(draft, id, leg_id, response) {
        return;
    }
    let rang = draft
        .call(&id)
        .and_then(|call| call.leg(leg_id))
        .is_some_and(|leg| leg.state == LegState::Alerting);
    draft.said = Q850::of_reason(&response.headers);
    ending::leg_released(draft, id, leg_id);
    let status = response.status;
    leave_alone(draft, &trunk, peer, response);
    match status {
        // What the peer or its network can't do now; a challenge, which we have no answer to.
        401 | 407 | 408 | 500..=599 if !rang => next(draft, id, Some(status)),
        _ => failed(draft, id, status),
    }
}

/// A final refusal of a peer that was asked no more: the call is elsewhere by now, but what the peer
/// says of itself counts.
pub fn on_late_refusal(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, response: &Response) {
    if let Some((trunk, peer)) = hop_of(draft, id, leg_id) {
        leave_alone(draft, &trunk, peer, response);
    }
}

/// A 503 with a Retry-After (RFC 3261 §21.5.4).
fn leave_alone(
    draft: &mut Draft<'_>,
    trunk: &TrunkId,
    peer: std::net::SocketAddr,
    response: &Response,
) {
    if response.status == 503
        && let Some(after_s) = retry_after_s(response)
    {
        let hold_ms = after_s.min(limits::PEER_RETRY_S_MAX) * 1_000;
        hold(draft, trunk, peer, response.status, hold_ms);
    }
}

/// The peer can't be reached, or has answered nothing for too long; its leg is seen to.
pub fn on_silent(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) {
    let Some((trunk, peer)) = hop_of(draft, id, leg_id) else { return };
    hold(draft, &trunk, peer, 408, limits::PEER_SILENT_MS);
    next(draft, id, Some(408));
}

/// Nobody answers there, or what the peer says is final.
pub fn failed(draft: &mut Draft<'_>, id: CallId, status: u16) {
    let (status, how) = match status {
        486 | 600 => (486, Disposition::Busy),
        480 | 487 => (480, Disposition::NoAnswer),
        // A challenge or redirection is not for who called.
        401 | 407 | 300..=399 => (480, Disposition::Failed),
        408 | 500..=599 => (480, Disposition::Failed),
        status => (status, Disposition::Rejected),
    };
    unreached(draft, id, status, how, Side::Callee);
}

fn hold(
    draft: &mut Draft<'_>,
    trunk: &TrunkId,
    peer: std::net::SocketAddr,
    status: u16,
    hold_ms: u64,
) {
    let now = draft.now;
    let mut row = draft.trunk(trunk).cloned().unwrap_or_else(|| Trunk::new(trunk.clone()));
    row.hold(peer, status, now, hold_ms);
    draft.writes.trunks.insert(trunk.clone(), Some(row));
}

/// Seconds (RFC 3261 §20.33); a comment or parameter behind them says nothing of the time.
fn retry_after_s(response: &Response) -> Option<u64> {
    let value = response.headers.other("Retry-After")?;
    let digits = value.trim().split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|seconds| *seconds > 0)
}

/// The trunk and the peer that a leg goes out by.
fn hop_of(draft: &Draft<'_>, id: CallId, leg_id: LegId) -> Option<(TrunkId, std::net::SocketAddr)> {
    let leg = draft.call(&id)?.leg(leg_id)?;
    Some((leg.channel()?.trunk.clone(), leg.peer))
}
