//! What gateways find out of a trunk's peers by OPTIONS (RFC 3261 §11), and whether they are
//! registered with it (§10).

use super::state::{Health, PeerChange, RegistrationChange, Trunk};
use crate::config::Config;
use crate::draft::Draft;
use crate::ids::{GatewayId, TrunkId};
use crate::limits;
use crate::world::Rejection;

pub fn on_peer_change(
    draft: &mut Draft<'_>,
    gateway: &GatewayId,
    change: &PeerChange,
) -> Result<(), Rejection> {
    let PeerChange { trunk, peer, number, up, status } = change;
    if !draft.config().is_some_and(|config| is_asked(config, trunk, *peer)) {
        return Err(Rejection::NotFound(format!("peer {peer} of trunk {trunk} that is asked")));
    }
    let mut row = draft.trunk(trunk).cloned().unwrap_or_else(|| Trunk::new(trunk.clone()));
    let key = (*peer, gateway.clone());
    let known = row.health.get(&key);
    // An earlier change that was overtaken: what is known is newer.
    if known.is_some_and(|known| known.number >= *number)
        || (known.is_none() && row.health.len() >= limits::HEALTH_MAX)
    {
        return Ok(());
    }
    let since = draft.now;
    row.health.insert(key, Health { number: *number, up: *up, status: *status, since });
    draft.writes.trunks.insert(trunk.clone(), Some(row));
    Ok(())
}

pub fn on_registration_change(
    draft: &mut Draft<'_>,
    gateway: &GatewayId,
    change: &RegistrationChange,
) -> Result<(), Rejection> {
    let RegistrationChange { trunk, number, up, status } = change;
    if !draft.config().is_some_and(|config| registers(config, trunk)) {
        return Err(Rejection::NotFound(format!("trunk {trunk} that is registered with")));
    }
    let mut row = draft.trunk(trunk).cloned().unwrap_or_else(|| Trunk::new(trunk.clone()));
    let known = row.registrations.get(gateway);
    if known.is_some_and(|known| known.number >= *number)
        || (known.is_none() && row.registrations.len() >= limits::HEALTH_MAX)
    {
        return Ok(());
    }
    let registered = Health { number: *number, up: *up, status: *status, since: draft.now };
    row.registrations.insert(gateway.clone(), registered);
    draft.writes.trunks.insert(trunk.clone(), Some(row));
    Ok(())
}

/// A gateway's new life counts its changes from 1 again, and says by itself what it finds.
pub fn forget_life(draft: &mut Draft<'_>, gateway: &GatewayId) {
    let known: Vec<Trunk> = draft.world.trunks.values().cloned().collect();
    for mut row in known {
        let before = row.health.len();
        row.health.retain(|(_, of), _| of != gateway);
        if row.registrations.remove(gateway).is_some() || row.health.len() < before {
            draft.writes.trunks.insert(row.id.clone(), Some(row));
        }
    }
}

/// Whoever is asked no more is not down for ever. A gateway begins anew with those that come back.
pub fn forget_unasked(draft: &mut Draft<'_>, config: &Config) {
    let known: Vec<Trunk> = draft.world.trunks.values().cloned().collect();
    for mut row in known {
        let id = row.id.clone();
        let before = row.health.len() + row.registrations.len();
        row.health.retain(|(peer, _), _| is_asked(config, &id, *peer));
        row.registrations.retain(|_, _| registers(config, &id));
        if row.health.len() + row.registrations.len() < before {
            draft.writes.trunks.insert(id, Some(row));
        }
    }
}

/// Whether gateways are to be registered with the trunk's carrier.
pub fn registers(config: &Config, trunk: &TrunkId) -> bool {
    let out = config.trunk(trunk).and_then(|trunk| trunk.out.as_ref());
    out.is_some_and(|out| out.register.is_some())
}

fn is_asked(config: &Config, trunk: &TrunkId, peer: std::net::SocketAddr) -> bool {
    let out = config.trunk(trunk).and_then(|trunk| trunk.out.as_ref());
    out.is_some_and(|out| out.options_s > 0 && out.peers.iter().any(|it| it.address == peer))
}
