//! A call goes out by one switch at a time, by none that asked to be left alone, by one that its
//! gateway finds down only where no other is left, no faster than its trunk's pace; and nobody who came in by a trunk goes out by one unless somebody sent them on.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tandem_core::Reply;
use tandem_core::call::leg::{Leg, Role, State as LegState};
use tandem_core::call::state::Call;
use tandem_core::command::{Command, GatewayEvent};
use tandem_core::ids::{CallId, EntityId, GatewayId, LegId, TrunkId};
use tandem_core::rows::CDRS;
use tandem_sip::reason::Q850;

use crate::coverage::Coverage;
use crate::violation::Checked;
use crate::watch::Step;

/// Thousandths of a call.
const TOKEN: u64 = 1_000;
/// The core counts whole microseconds.
const ROUNDING: u64 = 50;

#[derive(Debug, Default)]
pub struct Outward {
    /// The legs of a call that went out, each with the branch of its INVITE.
    legs: BTreeMap<CallId, BTreeMap<LegId, Asked>>,
    /// Until when a switch asked to be left alone.
    held: BTreeMap<(TrunkId, SocketAddr), u64>,
    buckets: BTreeMap<TrunkId, Bucket>,
    /// What the present life of each gateway has said of a switch last: the change's number, and
    /// whether it is up.
    found: BTreeMap<(GatewayId, SocketAddr), (u64, bool)>,
}

#[derive(Clone, Debug)]
struct Asked {
    trunk: TrunkId,
    peer: SocketAddr,
    branch: String,
    rang: bool,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: u64,
    at: u64,
}

fn is_out(leg: &&Leg) -> bool {
    matches!(leg.role, Role::Trunk { .. })
}

fn rings_or_talks(leg: &&Leg) -> bool {
    match leg.state {
        LegState::Calling | LegState::Proceeding | LegState::Alerting | LegState::Active => true,
        LegState::Trying
        | LegState::Answered
        | LegState::Cancelling { .. }
        | LegState::Releasing
        | LegState::Released => false,
    }
}

impl Outward {
    pub fn after(&mut self, step: &Step<'_>, coverage: &mut Coverage) -> Checked {
        for entity in &step.applied.touched {
            let EntityId::Call(id) = entity else { continue };
            match step.world.calls.get(id) {
                Some(call) => self.call(call, step, coverage)?,
                None => drop(self.legs.remove(id)),
            }
        }
        self.finds(step, coverage);
        // What it says holds from the next entry on: in this one the next was asked.
        self.asks_to_be_left_alone(step, coverage);
        let silent = |trunk: &tandem_core::trunk::state::Trunk| {
            trunk.held.values().any(|hold| hold.status == 408 && hold.until > step.world.at)
        };
        if step.world.trunks.values().any(silent) {
            coverage.mark("a silent carrier is left alone");
        }
        for row in step.applied.rows.iter().filter(|row| row.family == CDRS) {
            let Some(cdr) = crate::inv_records::decoded(row) else { continue };
            if cdr.outward.is_some() && cdr.q850 == Some(Q850::NO_CIRCUIT) {
                coverage.mark("no trunk takes a call");
            }
        }
        Ok(())
    }

    fn call(&mut self, call: &Call, step: &Step<'_>, coverage: &mut Coverage) -> Checked {
        let at_once = call.legs.iter().filter(is_out).filter(rings_or_talks).count();
        hold!(at_once <= 1, "call {} goes out by {at_once} switches at once", call.id);
        for leg in call.legs.iter().filter(is_out) {
            let known = self.legs.entry(call.id).or_default();
            let Some(trunk) = leg.channel().map(|channel| channel.trunk.clone()) else { continue };
            let rang = matches!(leg.state, LegState::Alerting | LegState::Active);
            if let Some(asked) = known.get_mut(&leg.id) {
                asked.rang |= rang;
                continue;
            }
            coverage.mark(if known.values().any(|asked| !asked.rang) {
                "the next carrier is asked"
            } else {
                "a call goes out"
            });
            hold!(
                call.channel.is_none() || !call.transfers.is_empty(),
                "call {} came in by a trunk and goes out by {trunk} on its own",
                call.id
            );
            let now = step.world.at.0;
            let held = self.held.get(&(trunk.clone(), leg.peer)).copied().unwrap_or_default();
            hold!(held <= now, "{} of {trunk} is asked, and asked to be left alone", leg.peer);
            let first = known.is_empty();
            self.is_passed_over(call, leg, first, step, coverage)?;
            let known = self.legs.entry(call.id).or_default();
            pace(&mut self.buckets, &trunk, step)?;
            let branch = leg.invite_branch().to_owned();
            known.insert(leg.id, Asked { trunk, peer: leg.peer, branch, rang });
        }
        Ok(())
    }

    fn is_down(&self, gateway: &GatewayId, peer: SocketAddr) -> bool {
        self.found.get(&(gateway.clone(), peer)).is_some_and(|(_, up)| !up)
    }

    /// Who is down is asked last, and only where nobody was up when the call went out.
    fn is_passed_over(
        &self,
        call: &Call,
        leg: &Leg,
        first: bool,
        step: &Step<'_>,
        coverage: &mut Coverage,
    ) -> Checked {
        let config = step.world.config.as_ref();
        let trunks = config.into_iter().flat_map(|config| &config.trunks);
        let all = || trunks.clone().flat_map(|it| it.out.iter().map(move |out| (&it.id, out)));
        let down = |peer| self.is_down(&call.gateway, peer);
        if !down(leg.peer) {
            if all().flat_map(|(_, out)| &out.peers).any(|peer| down(peer.address)) {
                coverage.mark("a carrier that is down is passed over");
            }
            return Ok(());
        }
        let now = step.world.at.0;
        let usable = |trunk: &TrunkId, peer: SocketAddr| {
            let held = self.held.get(&(trunk.clone(), peer)).copied().unwrap_or_default();
            let silent = step.world.trunks.get(trunk).and_then(|it| it.holds(peer, step.world.at));
            !down(peer) && held <= now && silent.is_none()
        };
        let left = call.outward.iter().flat_map(|outward| &outward.left);
        let left = left.filter(|hop| usable(&hop.trunk, hop.peer.address)).count();
        hold!(left == 0, "{} is down, and asked before {left} that are up", leg.peer);
        let others = || all().flat_map(|(id, out)| out.peers.iter().map(move |peer| (id, peer)));
        let up = first.then(|| others().find(|(id, peer)| usable(id, peer.address))).flatten();
        hold!(up.is_none(), "{} is down, and asked while another is up: {up:?}", leg.peer);
        coverage.mark("a carrier that is down is asked for want of another");
        Ok(())
    }

    /// A gateway finds a switch gone, or there again; its next life begins anew.
    fn finds(&mut self, step: &Step<'_>, coverage: &mut Coverage) {
        let (Command::Gateway(event), Reply::Done) = (&step.envelope.command, &step.applied.reply)
        else {
            return;
        };
        let Some(origin) = &step.envelope.origin else { return };
        if matches!(event, GatewayEvent::Login(_)) {
            self.found.retain(|(gateway, _), _| *gateway != origin.gateway);
        }
        let GatewayEvent::PeerChange(change) = event else { return };
        let key = (origin.gateway.clone(), change.peer);
        let known = self.found.get(&key).map_or(0, |(number, _)| *number);
        if known < change.number {
            self.found.insert(key, (change.number, change.up));
            coverage.mark(if change.up {
                "a carrier is found up again"
            } else {
                "a carrier is found down"
            });
        }
    }

    /// A 503 with a Retry-After, to whichever of them said it.
    fn asks_to_be_left_alone(&mut self, step: &Step<'_>, coverage: &mut Coverage) {
        let Command::Gateway(GatewayEvent::Response { branch, response, .. }) =
            &step.envelope.command
        else {
            return;
        };
        let after = response.headers.other("Retry-After").and_then(|value| value.parse().ok());
        let (503, Some(after_s), Reply::Done) = (response.status, after, &step.applied.reply)
        else {
            return;
        };
        let _: u64 = after_s;
        let asked = self.legs.values().flat_map(BTreeMap::values);
        let Some(asked) = asked.into_iter().find(|asked| asked.branch == *branch) else { return };
        let until = step.world.at.0 + after_s * 1_000;
        let remembered = step.world.trunks.get(&asked.trunk).is_some_and(|trunk| {
            trunk.held.get(&asked.peer).is_some_and(|hold| hold.until.0 == until)
        });
        if remembered {
            coverage.mark("a carrier is left alone as it asks");
        }
        self.held.insert((asked.trunk.clone(), asked.peer), until);
    }
}

/// The tokens of one second at most, and as many more a second.
fn pace(buckets: &mut BTreeMap<TrunkId, Bucket>, trunk: &TrunkId, step: &Step<'_>) -> Checked {
    let now = step.world.at.0;
    let config = step.world.config.as_ref();
    let of = config.and_then(|config| config.trunk(trunk));
    let rate = of.and_then(|trunk| trunk.out.as_ref()).map_or(0, |out| out.calls_per_second);
    if rate == 0 {
        return Ok(());
    }
    let full = TOKEN * u64::from(rate);
    let bucket = buckets.entry(trunk.clone()).or_insert(Bucket { tokens: full, at: now });
    let gained = now.saturating_sub(bucket.at) * u64::from(rate);
    *bucket = Bucket { tokens: (bucket.tokens + gained).min(full), at: now };
    hold!(bucket.tokens + ROUNDING >= TOKEN, "{trunk} gets calls faster than {rate} a second");
    bucket.tokens = bucket.tokens.saturating_sub(TOKEN);
    Ok(())
}
