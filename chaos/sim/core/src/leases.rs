//! The leases of the VIPs. A gateway may send from its VIP while it holds the lease, by its own
//! boot clock, from the moment in which it asked. The leader counts from the moment in which the
//! grant was committed, by its own, and adds a margin for the drift of both: so when it takes a
//! lease for over, the holder is silent already, asleep or awake. Then, or after a proven death,
//! another process may serve the VIP.
//!
//! Boot clocks never jump and go on while a process is stopped, but each runs at its own rate.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::draws::For;
use crate::event::Event;
use crate::limits::{
    LEASE_MARGIN_MS, LEASE_MS, LEASE_RENEW_MS, PAST_CHECK_MAX, PPM, STREAM_PACKETS_MAX,
};
use crate::links::GATEWAYS;
use crate::names;
use crate::packet::Packet;
use crate::plant::Plant;
use crate::simulation::Simulation;

type Sent = (Rc<Packet>, SocketAddr);

/// What a gateway's process knows of its lease, and what the leader does.
#[derive(Debug, Default)]
pub struct Lease {
    /// By the process's boot clock.
    pub until: u64,
    pub leader: Option<Held>,
    /// Every life up to here is proven dead: its lease is void.
    pub dead: u64,
    /// What it was about to send when it was stopped: it does not look again before.
    past_check: usize,
    /// What it sent last.
    recent: VecDeque<Sent>,
    /// What waits on streams until there is a lease again; datagrams are dropped.
    waiting: Vec<Sent>,
    /// Of a process that was stopped, and replaced when its lease was over.
    zombie: Option<Vec<Sent>>,
}

/// As the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub life: u64,
    /// By the leader's boot clock.
    pub until: u64,
    pub node: usize,
}

#[derive(Debug, Default)]
pub struct Leases([Lease; GATEWAYS]);

impl Leases {
    pub fn of(&mut self, gateway: usize) -> &mut Lease {
        &mut self.0[gateway]
    }
}

/// What a boot clock of that rate shows.
pub fn boot_clock(now: u64, ppm: i64) -> u64 {
    now.saturating_mul(PPM.saturating_add_signed(ppm)) / PPM
}

/// The first moment at which it shows that.
pub fn true_time(shown: u64, ppm: i64) -> u64 {
    shown.saturating_mul(PPM).div_ceil(PPM.saturating_add_signed(ppm))
}

impl Simulation {
    fn gateway_clock(&self, g: usize) -> u64 {
        boot_clock(self.now, self.gateway_ppm[g])
    }

    pub fn holds_lease(&mut self, g: usize) -> bool {
        self.gateway_clock(g) < self.leases.of(g).until
    }

    // --- asking ------------------------------------------------------------------------------

    /// Each process asks by its own rhythm from its first moment on.
    pub fn on_renew(&mut self, g: usize, life: u64) {
        let gateway = &self.gateways[g];
        if gateway.incarnation != life || !gateway.alive {
            return;
        }
        self.schedule.put(self.now + LEASE_RENEW_MS, Event::Renew { gateway: g, life });
        if !gateway.paused {
            self.ask_for_lease(g);
        }
    }

    pub fn ask_for_lease(&mut self, g: usize) {
        let life = self.gateways[g].incarnation;
        let asked = self.gateway_clock(g);
        let Some(n) = self.consensus.leader else { return };
        let (now, link) = (self.now, self.links.of(g, n));
        if !link.gateway_open || link.cut_until > now {
            return;
        }
        let owner = names::of(&[g as u64, now]);
        let mut random = self.draws.at(For::Lease, owner);
        let takes_ms = random.between(0, 2 * self.settings.link_ms_max)
            + random.between(1, self.settings.commit_ms_max)
            + self.consensus.slow_ms;
        let asked = Event::LeaseAsked { gateway: g, life, node: n, asked };
        self.schedule.put(now + takes_ms, asked);
    }

    /// The grant is committed, if the one that was asked leads.
    pub fn on_lease_asked(&mut self, g: usize, life: u64, n: usize, asked: u64) {
        let leads = self.consensus.leader == Some(n) && self.nodes[n].is_voter();
        if !leads || !self.has_quorum() || self.links.of(g, n).cut_until > self.now {
            return;
        }
        let clock = boot_clock(self.now, self.node_ppm[n]);
        let lease = self.leases.of(g);
        let anothers = lease.leader.is_some_and(|held| held.life > life);
        let free = lease.leader.is_none_or(|held| {
            held.life == life || held.life <= lease.dead || held.node == n && held.until <= clock
        });
        if anothers || !free || life <= lease.dead {
            return;
        }
        let margin = if self.options.has(Plant::NoDriftMargin) { 0 } else { LEASE_MARGIN_MS };
        self.grant(g, Held { life, until: clock + LEASE_MS + margin, node: n });
        let owner = names::of(&[g as u64, life, self.now]);
        let back_ms = self.draws.at(For::Lease, owner).between(0, self.settings.link_ms_max);
        self.schedule.put(self.now + back_ms, Event::LeaseGranted { gateway: g, life, asked });
    }

    fn grant(&mut self, g: usize, held: Held) {
        self.leases.of(g).leader = Some(held);
        let at = true_time(held.until, self.node_ppm[held.node]).max(self.now);
        self.schedule.put(at, Event::LeaseOver { gateway: g, held });
    }

    /// A new leader has the grants of the log, but not the moments: it counts each from now on.
    pub fn count_leases_anew(&mut self, n: usize) {
        for g in 0..GATEWAYS {
            let Some(held) = self.leases.of(g).leader else { continue };
            let until = boot_clock(self.now, self.node_ppm[n]) + LEASE_MS + LEASE_MARGIN_MS;
            self.grant(g, Held { until, node: n, ..held });
        }
    }

    pub fn on_lease_granted(&mut self, g: usize, life: u64, asked: u64) {
        let gateway = &mut self.gateways[g];
        if gateway.incarnation != life || !gateway.alive {
            return;
        }
        if gateway.paused {
            gateway.backlog.push(Event::LeaseGranted { gateway: g, life, asked });
            return;
        }
        let from =
            if self.options.has(Plant::LeaseFromGrant) { self.gateway_clock(g) } else { asked };
        let lease = self.leases.of(g);
        lease.until = lease.until.max(from + LEASE_MS);
        if self.holds_lease(g) {
            let waiting = std::mem::take(&mut self.leases.of(g).waiting);
            for (packet, to) in waiting {
                self.transmit_from_gateway(g, packet, to);
            }
        }
    }

    // --- the end of a lease ------------------------------------------------------------------

    /// The leader takes it for over, unless it was renewed.
    pub fn on_lease_over(&mut self, g: usize, held: Held) {
        if self.leases.of(g).leader != Some(held) {
            return;
        }
        let gateway = &self.gateways[g];
        let still = gateway.alive && gateway.incarnation == held.life;
        let holds = still && self.holds_lease(g);
        let checked = crate::inv_vip::over(&self.gateways[g], holds);
        self.check("vip", checked);
        let owner = names::of(&[g as u64, self.now]);
        let replaced = self.draws.at(For::Replaced, owner).percent(60);
        if still && self.gateways[g].paused && replaced && !self.healed {
            self.replace_stopped(g);
        }
    }

    /// Another process serves the VIP; the old one sleeps, with what it was about to send.
    fn replace_stopped(&mut self, g: usize) {
        self.coverage.mark("a stopped gateway is replaced");
        self.tell(|sim| {
            (sim.gateways[g].name.to_string(), "is replaced while it is stopped".into())
        });
        let zombie = self.leases.of(g).recent.iter().cloned().collect();
        self.kill_gateway(g);
        self.leases.of(g).zombie = Some(zombie);
        self.start_gateway(g);
    }

    /// The process is dead, and somebody has seen it die.
    pub fn on_gateway_dead(&mut self, g: usize) {
        let life = self.gateways[g].incarnation;
        let lease = self.leases.of(g);
        lease.dead = lease.dead.max(life);
        lease.until = 0;
        lease.waiting.clear();
        lease.recent.clear();
    }

    // --- sending -----------------------------------------------------------------------------

    /// It goes on where it was stopped: behind its check, perhaps.
    pub fn wake_past_check(&mut self, g: usize) {
        let owner = names::of(&[g as u64, self.now]);
        let past = self.draws.at(For::PastCheck, owner).below(PAST_CHECK_MAX as u64 + 1);
        self.leases.of(g).past_check = past as usize;
    }

    pub fn check_again(&mut self, g: usize) {
        self.leases.of(g).past_check = 0;
    }

    /// A replaced process wakes up: it sends what was past its check, looks, and ends.
    pub fn wake_zombie(&mut self, g: usize) {
        let Some(packets) = self.leases.of(g).zombie.take() else { return };
        let checked = crate::inv_vip::zombie(&self.gateways[g], packets.len());
        self.check("vip", checked);
        self.tell(|sim| {
            let what = format!("wakes up, replaced, and sends {} packets", packets.len());
            (sim.gateways[g].name.to_string(), what)
        });
        for (packet, to) in packets {
            self.put_on_wire(g, packet, to);
        }
    }

    /// False where it must be silent. A stream keeps what it would send, a datagram is dropped.
    pub fn may_send(
        &mut self,
        g: usize,
        packet: &Rc<Packet>,
        to: SocketAddr,
        stream: bool,
    ) -> bool {
        let holds = self.holds_lease(g);
        let lease = self.leases.of(g);
        let past = !holds && lease.past_check > 0;
        lease.past_check -= usize::from(past);
        if holds || past || self.options.has(Plant::IgnoreLease) {
            let lease = self.leases.of(g);
            lease.recent.push_back((Rc::clone(packet), to));
            if lease.recent.len() > PAST_CHECK_MAX {
                lease.recent.pop_front();
            }
            let over = self.is_lease_over(g);
            let checked = crate::inv_vip::sends(&self.gateways[g], over, past);
            self.check("vip", checked);
            return true;
        }
        self.coverage.mark("a gateway without a lease is silent");
        let lease = self.leases.of(g);
        if stream && lease.waiting.len() < STREAM_PACKETS_MAX {
            lease.waiting.push((Rc::clone(packet), to));
        }
        false
    }

    /// Nobody need wait for this process any more: another may serve.
    fn is_lease_over(&mut self, g: usize) -> bool {
        let (now, life) = (self.now, self.gateways[g].incarnation);
        let Some(held) = self.leases.of(g).leader else { return true };
        let clock = boot_clock(now, self.node_ppm[held.node]);
        held.life != life || held.until <= clock
    }
}

#[test]
fn margin_covers_the_drift_of_both_clocks() {
    let drift = i64::try_from(crate::limits::DRIFT_PPM_MAX).unwrap_or(i64::MAX);
    for asked_at in (0..3_600_000).step_by(7_919) {
        // The holder's clock is as slow as may be, the leader's as fast.
        let holder = true_time(boot_clock(asked_at, -drift) + LEASE_MS, -drift);
        let leader = boot_clock(asked_at, drift) + LEASE_MS;
        assert!(true_time(leader + LEASE_MARGIN_MS, drift) >= holder);
        assert!(true_time(leader, drift) < holder, "without a margin it would be too early");
    }
}
