//! Peers whose last word may have been lost are asked whether they know their dialog, by the way of session timers (RFC 4028).

use super::leg::{Leg, State as LegState};
use super::session_timer::{Refresher, SessionTimer};
use super::state::{Call, State};
use crate::draft::Draft;
use crate::ids::{CallId, GatewayId, LegId};
use crate::limits;

/// One that is asked: over what, and in which order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    over_connection: bool,
    turn: Turn,
    call: CallId,
    leg: LegId,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    TalksWithAgent,
    Talks,
    Waits,
}

/// A gateway's new life has none of the connections of its last one, and what those had brought and nobody had read is
/// lost: over a connection nobody says it again. Whoever has hung up says so when asked (481), and a peer that can't be asked
/// for too long is gone. Where the peer refreshes, its session ends without it.
///
/// Over UDP a peer says it again for 32 s, which outlasts any takeover. Where all was `dark`, nodes and gateways, nobody knows for
/// how long: then everybody is asked who has been answered, those who talk with agents first. Who has not is not: a
/// phone that rings has its time, and a caller's INVITE gets a last word, or a 200 that somebody has to acknowledge. (An UPDATE
/// would need a reliable 1xx whose PRACK has come, RFC 3311 §5.1.)
pub fn on_gateway_begun(draft: &mut Draft<'_>, gateway: &GatewayId, dark: bool) {
    let live = draft.world.calls.values().filter(|call| call.is_live());
    let asked = live.flat_map(|call| {
        let legs = call.legs.iter().filter(|leg| leg.gateway == *gateway && is_asked(leg, dark));
        legs.map(|leg| Asked::of(call, leg))
    });
    let mut asked: Vec<Asked> = asked.collect();
    asked.sort_unstable();
    for (nth, Asked { over_connection, call, leg, .. }) in (0_u64..).zip(asked) {
        let after_ms =
            if over_connection { limits::PROBE_AFTER_MS } else { limits::DARK_ASKED_AFTER_MS };
        let at = draft.now.after(after_ms + nth * limits::PROBE_APART_MS);
        let Some(leg) = draft.call_mut(&call).and_then(|call| call.leg_mut(leg)) else { continue };
        match &mut leg.timer {
            Some(timer) if dark => timer.ask_at(at),
            Some(timer) => timer.refresh_at = timer.refresh_at.map(|due| due.min(at)),
            None => leg.timer = Some(SessionTimer::probe(at)),
        }
    }
}

fn is_asked(leg: &Leg, dark: bool) -> bool {
    let timer = leg.timer.as_ref();
    let peer_does = timer.is_some_and(|timer| timer.refresher == Refresher::Peer);
    let is_asked_already = timer.is_some_and(|timer| timer.under_way().is_some());
    leg.state == LegState::Active
        && leg.dialog.is_some()
        && !is_asked_already
        && (dark || leg.carrier.is_reliable() && !peer_does)
}

impl Asked {
    fn of(call: &Call, leg: &Leg) -> Self {
        let talks = match call.state {
            State::Connected { .. } | State::Consulting { .. } | State::Conferenced { .. } => true,
            State::Routing
            | State::InFlow
            | State::Queued { .. }
            | State::Dialing { .. }
            | State::Ending => false,
        };
        let turn = match (talks, &call.agent) {
            (true, Some(_)) => Turn::TalksWithAgent,
            (true, None) => Turn::Talks,
            (false, _) => Turn::Waits,
        };
        Self { over_connection: leg.carrier.is_reliable(), turn, call: call.id, leg: leg.id }
    }
}
