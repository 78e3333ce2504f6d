//! What gateways find out of a trunk's peers by OPTIONS (RFC 3261 §11).

use super::state::{Health, PeerChange, Trunk};
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

/// A gateway's new life counts its changes from 1 again, and says by itself what it finds.
pub fn forget_life(draft: &mut Draft<'_>, gateway: &GatewayId) {
    let known: Vec<Trunk> = draft.world.trunks.values().cloned().collect();
    for mut row in known {
        let before = row.health.len();
        row.health.retain(|(_, of), _| of != gateway);
        if row.health.len() < before {
            draft.writes.trunks.insert(row.id.clone(), Some(row));
        }
    }
}

/// Whoever is asked no more is not down for ever. A gateway begins anew with those that come back.
pub fn forget_unasked(draft: &mut Draft<'_>, config: &Config) {
    let known: Vec<Trunk> = draft.world.trunks.values().cloned().collect();
    for mut row in known {
        let (before, id) = (row.health.len(), row.id.clone());
        row.health.retain(|(peer, _), _| is_asked(config, &id, *peer));
        if row.health.len() < before {
            draft.writes.trunks.insert(id, Some(row));
        }
    }
}

fn is_asked(config: &Config, trunk: &TrunkId, peer: std::net::SocketAddr) -> bool {
    let out = config.trunk(trunk).and_then(|trunk| trunk.out.as_ref());
    out.is_some_and(|out| out.options_s > 0 && out.peers.iter().any(|it| it.address == peer))
}
