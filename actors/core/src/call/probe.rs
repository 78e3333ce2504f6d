//! Dialogs over connections are asked after when their gateway has died, by the way of session timers (RFC 4028).

use super::leg::{Leg, State as LegState};
use super::session_timer::{Refresher, SessionTimer};
use crate::draft::Draft;
use crate::ids::GatewayId;
use crate::limits;

/// A gateway's new life has none of the connections of its last one, and what those had brought and nobody had read is
/// lost: over a connection nobody says it again. Whoever has hung up says so when asked (481), and a peer that can't be asked
/// for too long is gone. Where the peer refreshes, its session ends without it.
pub fn on_gateway_begun(draft: &mut Draft<'_>, gateway: &GatewayId) {
    let asked = |leg: &&Leg| {
        let peer_does = leg.timer.as_ref().is_some_and(|it| it.refresher == Refresher::Peer);
        let over_connection = leg.gateway == *gateway && leg.carrier.is_reliable();
        over_connection && leg.state == LegState::Active && !peer_does
    };
    let live = draft.world.calls.values().filter(|call| call.is_live());
    let legs = live.flat_map(|call| {
        call.legs.iter().filter(asked).map(|leg| (call.id, leg.id)).collect::<Vec<_>>()
    });
    for (at, (id, leg_id)) in (0_u64..).zip(legs.collect::<Vec<_>>()) {
        let at = draft.now.after(limits::PROBE_AFTER_MS + at * limits::PROBE_APART_MS);
        let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) else { continue };
        match &mut leg.timer {
            Some(timer) => timer.refresh_at = timer.refresh_at.map(|due| due.min(at)),
            None => leg.timer = Some(SessionTimer::probe(at)),
        }
    }
}
