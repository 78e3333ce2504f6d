//! At most one process serves a VIP.

use crate::gateway::Gateway;
use crate::violation::Checked;

pub fn check(gateways: &[Gateway]) -> Checked {
    for gateway in gateways {
        if gateway.servers_of_vip > 1 {
            return Err(format!("{} processes serve {}", gateway.servers_of_vip, gateway.vip));
        }
    }
    Ok(())
}
