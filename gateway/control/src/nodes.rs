//! What the nodes say, and what is sent up to the one that leads.

use tandem_core::command::{GatewayEvent, Login};
use tandem_sip::Millis;

use crate::control::{Control, Output, key_of};
use crate::ledger::{About, Settled};
use crate::link::{Accepted, Down, Leading, Routing, Up};

impl Control {
    /// What a node says on its session. An effect goes to [`Control::on_effect`].
    pub fn on_down(&mut self, now: Millis, node: usize, message: Down) {
        match message {
            // What a session says that was given up has no bearing: its node can't be told a thing.
            Down::Leading(_) if !self.sessions.contains(&node) => {}
            Down::Leading(leading) => self.on_leading(now, node, &leading),
            Down::Accepted(accepted) => self.on_accepted(now, node, &accepted),
            Down::Effect { shard, term, effect } => {
                self.on_effect(now, shard, term, &effect);
            }
            Down::Routing(routing) => self.on_routing(now, &routing),
        }
    }

    /// A session with a node began; an earlier one is over.
    pub fn on_session(&mut self, now: Millis, node: usize) {
        self.sessions.insert(node);
        self.forget_leader(now, node);
    }

    pub fn on_session_over(&mut self, now: Millis, node: usize) {
        self.sessions.remove(&node);
        self.forget_leader(now, node);
    }

    fn forget_leader(&mut self, now: Millis, node: usize) {
        for shard in self.shards.values_mut() {
            shard.on_session_over(node);
        }
        self.note_leaders(now);
    }

    fn on_leading(&mut self, now: Millis, node: usize, leading: &Leading) {
        let shard = self.shards.entry(leading.shard).or_default();
        let before = shard.leader();
        shard.on_leading(node, leading);
        if shard.leader() != before {
            let name = shard.leader().and_then(|node| self.identity.nodes.get(node));
            tracing::info!(shard = leading.shard, term = leading.term, ?name, "leader");
        }
        self.note_leaders(now);
    }

    fn on_accepted(&mut self, now: Millis, node: usize, accepted: &Accepted) {
        let Some(shard) = self.shards.get_mut(&accepted.shard) else { return };
        // Only who leads now can say that an event will never be committed.
        if accepted.overloaded && shard.leader() != Some(node) {
            return;
        }
        if let Some(sent_at) = shard.ledger.sent_at(accepted.sequence) {
            self.admission.on_accepted(now, now.since(sent_at));
        }
        let servers = &self.servers;
        let settled = shard
            .ledger
            .on_accepted(accepted, |transaction| servers.is_silent(&key_of(transaction)));
        match settled {
            Settled::Over => {}
            Settled::Later => shard.retry_later(now),
            Settled::Refused { transaction, retry_after_s, again } => {
                if again {
                    shard.retry_later(now);
                }
                self.refuse_for_overload(now, &transaction, retry_after_s.max(1));
            }
        }
    }

    fn on_routing(&mut self, now: Millis, routing: &Routing) {
        let was_complete = self.tenants.is_complete();
        if !self.tenants.learn(routing) {
            tracing::error!("TD0309 the routing has no key for nonces");
            return;
        }
        let (tenant, version) = (&routing.config.tenant, routing.config.version);
        tracing::info!(tenant, version, "routing");
        let configs = || self.tenants.iter().map(|(number, tenant)| (number, &tenant.config));
        self.health.configure(now, configs());
        self.registrations.configure(now, configs());
        let number = routing.shard;
        let shard = self.shards.entry(number).or_default();
        if !shard.logged_in {
            // It may have been led by nobody for as long as this gateway is there.
            shard.note_leader(if was_complete { now } else { self.begun });
            let (vip, ports) = (self.identity.vip, self.identity.ports.clone());
            let login = GatewayEvent::Login(Login { vip, ports });
            shard.logged_in = shard.ledger.push(login, About::Login).is_ok();
        }
        self.note_leaders(now);
        for (tenant, event, about) in std::mem::take(&mut self.early_events) {
            self.raise(tenant, event, about);
        }
        if self.tenants.is_complete() {
            self.take_early(now);
        }
    }

    /// Puts out what waits for each leader.
    pub(crate) fn flush(&mut self, now: Millis) {
        for (id, shard) in &mut self.shards {
            let Some(node) = shard.leader() else { continue };
            let shard_id = *id;
            while let Some(effects) = shard.take_done(now) {
                let up = Up::Done { shard: shard_id, effects };
                self.outputs.push_back(Output::Up { node, up });
            }
            while let Some((sequence, event)) = shard.send_next(now) {
                let up = Up::Event { shard: shard_id, sequence, event };
                self.outputs.push_back(Output::Up { node, up });
            }
        }
    }
}
