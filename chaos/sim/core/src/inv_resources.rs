//! Every channel and port is somebody's or free, never both, never neither.

use tandem_core::ids::EntityId;

use crate::limits;
use crate::violation::Checked;
use crate::watch::Step;

pub fn after(step: &Step<'_>) -> Checked {
    let world = step.world;
    let mut moved = false;
    for entity in &step.applied.touched {
        match entity {
            EntityId::Gateway(id) => {
                let Some(gateway) = world.gateways.get(id) else { continue };
                let legs = world
                    .calls
                    .values()
                    .filter(|call| call.gateway == *id)
                    .flat_map(|call| &call.legs);
                let used = legs.filter(|leg| leg.media.port != 0).count();
                let all = gateway.free_ports.len() + used;
                let granted = usize::from(limits::PORTS);
                hold!(all == granted, "of {granted} ports of {id} there are {all}");
            }
            EntityId::Channel(_) => moved = true,
            EntityId::Call(_) | EntityId::Agent(_) | EntityId::Queue(_) => {}
        }
    }
    let trunks = world.config.iter().flat_map(|config| &config.trunks).filter(|_| moved);
    for trunk in trunks {
        let taken = world.channels.keys().filter(|id| id.trunk == trunk.id).count();
        let most = usize::from(trunk.channels);
        hold!(taken <= most, "{taken} channels of {most} of {} are taken", trunk.id);
    }
    Ok(())
}
