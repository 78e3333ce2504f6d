//! What the nodes say, and what is sent up to the one that leads.

use tandem_core::command::{GatewayEvent, Login};
use tandem_core::wire;

use super::{Control, Routing, Status};
use crate::limits;
use crate::link::client::Input;
use crate::link::ledger::{About, Settled};
use crate::link::pb;
use crate::sip::registrar::Registrar;

impl Control {
    pub(super) fn on_link(&mut self, input: Input) {
        match input {
            Input::Connected { node, up } => {
                if let Some(slot) = self.ups.get_mut(node) {
                    *slot = Some(up);
                }
                self.on_session_over(node);
            }
            Input::Disconnected { node } => {
                if let Some(slot) = self.ups.get_mut(node) {
                    *slot = None;
                }
                self.on_session_over(node);
            }
            Input::Down { node, body } => self.on_down(node, body),
        }
    }

    fn on_down(&mut self, node: usize, body: pb::down::Body) {
        match body {
            pb::down::Body::Welcome(welcome) => {
                tracing::debug!(node = welcome.node, version = welcome.version, "welcome");
            }
            // What a session says that was given up has no bearing: its node can't be told a thing.
            pb::down::Body::Leading(_) if self.ups.get(node).is_none_or(Option::is_none) => {}
            pb::down::Body::Leading(leading) => {
                let shard = self.shards.entry(leading.shard).or_default();
                let before = shard.leader();
                shard.on_leading(node, &leading);
                if shard.leader() != before {
                    let name = shard.leader().and_then(|node| self.identity.nodes.get(node));
                    tracing::info!(shard = leading.shard, term = leading.term, ?name, "leader");
                }
                self.note_leader();
            }
            pb::down::Body::Accepted(accepted) => self.on_accepted(node, &accepted),
            pb::down::Body::Effect(effect) => self.on_effect(effect),
            pb::down::Body::Routing(routing) => self.on_routing(&routing),
        }
    }

    fn on_session_over(&mut self, node: usize) {
        for shard in self.shards.values_mut() {
            shard.on_session_over(node);
        }
        self.note_leader();
    }

    /// Takes note of whether the tenant's shard is led.
    pub(super) fn note_leader(&mut self) {
        if self.leader().is_some() {
            self.leaderless_since = None;
            self.turned_away = false;
        } else if self.leaderless_since.is_none() {
            self.leaderless_since = Some(self.now());
        }
        self.tell_status();
    }

    pub(super) fn leader(&self) -> Option<usize> {
        self.shards.get(&self.routing.as_ref()?.shard)?.leader()
    }

    pub(super) fn tell_status(&mut self) {
        let leader = self.leader();
        let status = Status {
            leader,
            routing: self.routing.is_some(),
            started: leader.is_some() || self.status.borrow().started,
            refuses_new_calls: self.refuses_new_calls(),
        };
        self.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }

    fn on_accepted(&mut self, node: usize, accepted: &pb::Accepted) {
        let now = self.now();
        let Some(shard) = self.shards.get_mut(&accepted.shard) else { return };
        // Only who leads now can say that an event will never be committed.
        if accepted.overloaded && shard.leader() != Some(node) {
            return;
        }
        match shard.ledger.on_accepted(accepted) {
            Settled::Over => {}
            Settled::Later => shard.retry_later(now),
            Settled::Refused { transaction, retry_after_s } => {
                metrics::counter!("tandem_sip_overload_refusals_total").increment(1);
                self.refuse(&transaction, retry_after_s.max(1));
            }
        }
    }

    fn on_routing(&mut self, routing: &pb::Routing) {
        let config = match wire::decode_config(&routing.config) {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(%error, "TD0302 the routing can't be read");
                return;
            }
        };
        let Some(registrar) = Registrar::new(&config, &routing.nonce_key) else {
            tracing::error!("TD0302 the routing has no key for nonces");
            return;
        };
        tracing::info!(tenant = config.tenant, version = config.version, "routing");
        self.routing = Some(Routing { shard: routing.shard, registrar });
        let shard = self.shards.entry(routing.shard).or_default();
        if !shard.logged_in {
            let login = Login { vip: self.identity.vip, ports: self.media.ports() };
            let login = wire::encode_event(&GatewayEvent::Login(login));
            shard.logged_in = shard.ledger.push(login, About::Login).is_ok();
        }
        self.note_leader();
    }

    /// Sends to each leader what waits for it.
    pub(super) fn flush(&mut self) {
        let now = self.now();
        let mut stuck = Vec::new();
        for (id, shard) in &mut self.shards {
            let node = shard.leader();
            let up = node.and_then(|node| self.ups.get(node)).and_then(Option::as_ref);
            let Some(up) = up else { continue };
            while let Some(effects) = shard.take_done(now) {
                let done = pb::Done { shard: *id, effects };
                if up.try_send(pb::Up { body: Some(pb::up::Body::Done(done)) }).is_err() {
                    stuck.extend(node);
                }
            }
            loop {
                let Ok(slot) = up.try_reserve() else {
                    stuck.extend(node);
                    break;
                };
                let Some(event) = shard.ledger.send_next(*id) else { break };
                slot.send(pb::Up { body: Some(pb::up::Body::Event(event)) });
            }
        }
        for node in stuck {
            self.on_stuck(node);
        }
    }

    /// A session that takes nothing: hanging up makes its task open a new one.
    fn on_stuck(&mut self, node: usize) {
        if let Some(slot) = self.ups.get_mut(node)
            && slot.take().is_some()
        {
            tracing::warn!(node = ?self.identity.nodes.get(node), up_max = limits::UP_MAX, "stuck");
            self.on_session_over(node);
        }
    }
}
