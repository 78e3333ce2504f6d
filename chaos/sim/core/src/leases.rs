//! The leases of the VIPs, by the code of the cluster: who leads keeps a [`Book`], each gateway's process sends as long as
//! its [`Fence`] lets it. What is modelled is what lies between: links, commits, and boot clocks that never jump and go on
//! while a process is stopped, each at its own rate.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use tandem_lease::{Asker, Book, Fence, Grant, Next};

use crate::draws::For;
use crate::event::Event;
use crate::limits::{LEASE_RENEW_MS, PAST_CHECK_MAX, PPM, STREAM_PACKETS_MAX};
use crate::links::GATEWAYS;
use crate::names;
use crate::packet::Packet;
use crate::plant::Plant;
use crate::simulation::Simulation;

type Sent = (Rc<Packet>, SocketAddr);

/// What a gateway's process knows of its lease, and what the log does.
#[derive(Debug, Default)]
pub struct Lease {
    /// Of the process that serves the VIP.
    fence: Option<Fence>,
    grant: Option<Grant>,
    /// What it was about to send when it was stopped: it does not look again before.
    past_check: usize,
    /// What it sent last.
    recent: VecDeque<Sent>,
    /// What waits on streams until there is a lease again; datagrams are dropped.
    waiting: Vec<Sent>,
    /// Of a process that was stopped, and replaced when its lease was over.
    zombie: Option<Vec<Sent>>,
}

#[derive(Debug, Default)]
pub struct Leases {
    of: [Lease; GATEWAYS],
    /// Of the node that leads, or led last.
    book: Book,
    leader: usize,
}

impl Leases {
    pub fn new(margin_ms: u64) -> Self {
        Self { book: Book::with_margin(margin_ms), ..Self::default() }
    }

    pub fn of(&mut self, gateway: usize) -> &mut Lease {
        &mut self.of[gateway]
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
        let now = self.gateway_clock(g);
        self.leases.of(g).fence.as_ref().is_some_and(|fence| fence.is_held_at(now))
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
        let name = self.gateways[g].name.to_string();
        let Leases { of, book, .. } = &mut self.leases;
        let stored = of[g].grant.as_ref();
        let life = match stored.filter(|grant| grant.incarnation == life) {
            Some(grant) if book.is_dead(&name, grant.incarnation) => return,
            Some(grant) => grant.life,
            None => {
                let process = name.clone();
                let (drained, unable) = (false, false);
                let askers = [Asker { process, incarnation: life, serves: 0, drained, unable }];
                let next = book.next(&name, &name, stored, &askers, clock);
                let later = stored.is_none_or(|grant| grant.incarnation < life);
                if !later || !matches!(next, Next::Give { .. }) {
                    return;
                }
                let last = stored.map_or(0, |grant| grant.life);
                let grant = Grant { process: name.clone(), incarnation: life, life: last + 1 };
                of[g].grant.insert(grant).life
            }
        };
        book.renew(&name, life, clock);
        self.watch_lease(g);
        let life = self.gateways[g].incarnation;
        let owner = names::of(&[g as u64, life, self.now]);
        let back_ms = self.draws.at(For::Lease, owner).between(0, self.settings.link_ms_max);
        self.schedule.put(self.now + back_ms, Event::LeaseGranted { gateway: g, life, asked });
    }

    /// By the leader's boot clock; none where nobody holds it.
    fn lease_over_at(&self, g: usize) -> Option<u64> {
        let Leases { of, book, .. } = &self.leases;
        let grant = of[g].grant.as_ref()?;
        Some(book.over_at_ms(&grant.process, grant))
    }

    fn watch_lease(&mut self, g: usize) {
        let Some(until) = self.lease_over_at(g) else { return };
        let at = true_time(until, self.node_ppm[self.leases.leader]).max(self.now);
        self.schedule.put(at, Event::LeaseOver { gateway: g, until });
    }

    /// A new leader has the grants of the log, but not the moments: it counts each from now on.
    pub fn count_leases_anew(&mut self, n: usize) {
        let clock = boot_clock(self.now, self.node_ppm[n]);
        self.leases.leader = n;
        self.leases.book.begin(clock);
        for g in 0..GATEWAYS {
            self.watch_lease(g);
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
        match &self.leases.of(g).fence {
            Some(fence) => fence.renew(from),
            None => self.leases.of(g).fence = Some(Fence::asked_at(from)),
        }
        if self.holds_lease(g) {
            let waiting = std::mem::take(&mut self.leases.of(g).waiting);
            for (packet, to) in waiting {
                self.transmit_from_gateway(g, packet, to);
            }
        }
    }

    // --- the end of a lease ------------------------------------------------------------------

    /// The leader takes it for over, unless it was renewed, or another leads.
    pub fn on_lease_over(&mut self, g: usize, until: u64) {
        let clock = boot_clock(self.now, self.node_ppm[self.leases.leader]);
        let over = self.lease_over_at(g) == Some(until) && until <= clock;
        let life = self.leases.of(g).grant.as_ref().map(|grant| grant.incarnation);
        let (Some(life), true) = (life, over) else { return };
        let gateway = &self.gateways[g];
        let still = gateway.alive && gateway.incarnation == life;
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
        let (name, life) = (self.gateways[g].name.to_string(), self.gateways[g].incarnation);
        self.leases.book.mourn(&name, life);
        let lease = self.leases.of(g);
        lease.fence = None;
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
    fn is_lease_over(&self, g: usize) -> bool {
        let grant = self.leases.of[g].grant.as_ref();
        if grant.is_none_or(|grant| grant.incarnation != self.gateways[g].incarnation) {
            return true;
        }
        let clock = boot_clock(self.now, self.node_ppm[self.leases.leader]);
        self.lease_over_at(g).is_none_or(|until| until <= clock)
    }
}
