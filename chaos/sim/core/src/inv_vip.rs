//! At most one process serves a VIP: one at a time is started, a lease that the leader takes for
//! over is over for its holder, and who holds none sends nothing.

use crate::gateway::Gateway;
use crate::limits::PAST_CHECK_MAX;
use crate::violation::Checked;

pub fn check(gateways: &[Gateway]) -> Checked {
    for gateway in gateways {
        if gateway.servers_of_vip > 1 {
            return Err(format!("{} processes serve {}", gateway.servers_of_vip, gateway.vip));
        }
    }
    Ok(())
}

/// The leader takes the lease for over: asleep or awake, its holder must do so, too.
pub fn over(gateway: &Gateway, holds: bool) -> Checked {
    hold!(
        !holds,
        "the lease of {} is over for the leader, but not for {}",
        gateway.vip,
        gateway.name
    );
    Ok(())
}

/// A packet leaves. What was past its check when the process was stopped can't be called back.
pub fn sends(gateway: &Gateway, over: bool, past_check: bool) -> Checked {
    let Gateway { name, vip, .. } = gateway;
    hold!(!over || past_check, "{name} sends from {vip} when its lease is over");
    Ok(())
}

/// A process that was replaced while it was stopped goes on, and looks before it sends more.
pub fn zombie(gateway: &Gateway, packets: usize) -> Checked {
    let name = &gateway.name;
    hold!(packets <= PAST_CHECK_MAX, "{name} sends {packets} packets without a look at its lease");
    Ok(())
}
