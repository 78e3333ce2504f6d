//! What a command decided, put in place: entities, outbox, and the rows that storage keeps.

use super::indices::{EffectName, name};
use super::{Meta, Rejection, Reply, World};
use crate::call::leg::{Leg, State as LegState};
use crate::call::state::Call;
use crate::command::Envelope;
use crate::draft::{Ports, Writes};
use crate::effect::{Body, Effect, EffectId};
use crate::ids::EntityId;
use crate::rows::{self, RowChange};

impl World {
    pub(super) fn commit(
        &mut self,
        meta: &Meta,
        envelope: &Envelope,
        reply: &Reply,
        mut writes: Writes,
        rows: &mut Vec<RowChange>,
    ) -> (Vec<EntityId>, Vec<Effect>) {
        assert!(meta.index > self.index, "log indices only grow");
        self.at = self.at.max(meta.at);
        self.index = meta.index;
        for id in &envelope.done {
            if !self.is_owed(*id) {
                self.forget_effect(*id, rows);
            }
        }
        for branch in &writes.answered_branches {
            let name = EffectName::Send(branch.clone(), "INVITE".into());
            if let Some(id) = self.indices.effects.get(&name).copied() {
                self.forget_effect(id, rows);
            }
        }
        let config = writes.config.take();
        let configured = config.is_some();
        if let Some(config) = config {
            self.config = Some(*config);
        }
        let effects = std::mem::take(&mut writes.effects);
        let refused = std::mem::take(&mut writes.refused);
        rows.extend(writes.cdrs.iter().map(rows::cdr));
        rows.extend(writes.manifests.iter().map(rows::manifest));
        let mut touched = self.keep(writes, rows);
        if configured {
            rows.push(rows::config(self));
            // Deadlines follow from the configuration, too.
            self.index_all();
        }
        if let (Some(origin), false) = (&envelope.origin, counts_later(reply))
            && let Some(gateway) = self.gateways.get_mut(&origin.gateway)
            && gateway.incarnation == origin.incarnation
        {
            gateway.count(origin.sequence);
            rows.push(rows::counts(gateway));
            touched.push(EntityId::Gateway(origin.gateway.clone()));
        }
        for effect in &effects {
            self.remember_effect(effect, rows);
        }
        for refused in refused {
            self.remember_refused(refused, rows);
        }
        self.forget_old_refused(rows);
        rows.push(rows::world(self));
        (touched, effects)
    }

    /// Puts the written entities in place, with their indices and rows.
    fn keep(&mut self, writes: Writes, rows: &mut Vec<RowChange>) -> Vec<EntityId> {
        let mut touched = Vec::new();
        for (id, call) in writes.calls {
            rows.push(rows::call(id, call.as_ref()));
            let old = self.calls.remove(&id);
            keep_invites(old.as_ref(), call.as_ref(), rows);
            if let Some(old) = old {
                self.indices.remove_call(&old);
                self.forget_settled(&old, call.as_ref(), rows);
            }
            if let Some(new) = call {
                self.indices.add_call(&new, self.config.as_ref());
                self.calls.insert(id, new);
            }
            touched.push(EntityId::Call(id));
        }
        for (id, agent) in writes.agents {
            rows.push(rows::agent(&id, agent.as_ref()));
            if let Some(old) = self.agents.remove(&id) {
                self.indices.remove_agent(&old);
            }
            if let Some(new) = agent {
                self.indices.add_agent(&new);
                self.agents.insert(id.clone(), new);
            }
            touched.push(EntityId::Agent(id));
        }
        for (id, queue) in writes.queues {
            rows.push(rows::queue(&id, queue.as_ref()));
            match queue {
                Some(new) => self.queues.insert(id.clone(), new),
                None => self.queues.remove(&id),
            };
            touched.push(EntityId::Queue(id));
        }
        for (id, channel) in writes.channels {
            rows.push(rows::channel(&id, channel.as_ref()));
            if let Some(old) = self.channels.remove(&id) {
                self.indices.remove_channel(&old);
            }
            if let Some(new) = channel {
                self.indices.add_channel(&new);
                self.channels.insert(id.clone(), new);
            }
            touched.push(EntityId::Channel(id));
        }
        for (id, new) in writes.gateways {
            rows.push(rows::gateway(&new));
            rows.push(rows::counts(&new));
            self.gateways.insert(id.clone(), new);
            touched.push(EntityId::Gateway(id));
        }
        for Ports { gateway: id, taken, given } in writes.ports {
            if let Some(gateway) = self.gateways.get_mut(&id) {
                for port in taken {
                    gateway.free_ports.remove(&port);
                }
                gateway.free_ports.extend(given);
                touched.push(EntityId::Gateway(id));
            }
        }
        touched
    }

    /// Done, and to be done again by the gateway's next life: the peer has yet to say that it came.
    fn is_owed(&self, id: EffectId) -> bool {
        let Some(effect) = self.outbox.get(&id) else { return false };
        if let Body::Respond { transaction, .. } = &effect.body
            && self.refused.contains_key(transaction)
        {
            return true;
        }
        let EntityId::Call(call) = &effect.entity else { return false };
        let (Some(call), Some(name)) = (self.calls.get(call), name(effect)) else { return false };
        call.legs.iter().any(|leg| owed(leg).as_ref() == Some(&name))
    }

    /// What the legs of a call no longer owe is not done again.
    fn forget_settled(&mut self, old: &Call, new: Option<&Call>, rows: &mut Vec<RowChange>) {
        for leg in &old.legs {
            let Some(name) = owed(leg) else { continue };
            let still = new.and_then(|call| call.leg(leg.id)).and_then(owed);
            if still.as_ref() != Some(&name)
                && let Some(id) = self.indices.effects.get(&name).copied()
            {
                self.forget_effect(id, rows);
            }
        }
    }

    /// Puts an effect into the outbox; an earlier one of the same name need not be sent again.
    fn remember_effect(&mut self, effect: &Effect, rows: &mut Vec<RowChange>) {
        if let Some(name) = name(effect) {
            if let Some(earlier) = self.indices.effects.get(&name).copied() {
                self.forget_effect(earlier, rows);
            }
            self.indices.effects.insert(name, effect.id);
        }
        rows.push(rows::effect(effect.id, Some(effect)));
        self.outbox.insert(effect.id, effect.clone());
    }

    pub(super) fn forget_effect(&mut self, id: EffectId, rows: &mut Vec<RowChange>) {
        let Some(effect) = self.outbox.remove(&id) else { return };
        if let Some(name) = name(&effect)
            && self.indices.effects.get(&name) == Some(&id)
        {
            self.indices.effects.remove(&name);
        }
        rows.push(rows::effect(id, None));
    }
}

/// INVITEs come and go with their legs.
fn keep_invites(old: Option<&Call>, new: Option<&Call>, rows: &mut Vec<RowChange>) {
    fn legs(call: Option<&Call>) -> &[Leg] {
        call.map_or(&[], |call| &call.legs)
    }
    let is_in =
        |call: Option<&Call>, leg: &Leg| call.is_some_and(|call| call.leg(leg.id).is_some());
    rows.extend(legs(new).iter().filter(|leg| !is_in(old, leg)).map(rows::invite));
    rows.extend(legs(old).iter().filter(|leg| !is_in(new, leg)).map(|leg| rows::no_invite(leg.id)));
}

/// The message of a leg whose transaction is open: a 200 until its ACK, a request until its answer
/// (RFC 3261 §13.3.1.4, §17.1).
fn owed(leg: &Leg) -> Option<EffectName> {
    let invite = || leg.invite_branch().to_owned();
    match leg.state {
        LegState::Answered => leg.transaction.clone().map(EffectName::Respond),
        LegState::Calling | LegState::Cancelling { sent: false } => {
            Some(EffectName::Send(invite(), "INVITE".into()))
        }
        LegState::Cancelling { sent: true } => Some(EffectName::Send(invite(), "CANCEL".into())),
        LegState::Releasing => {
            leg.bye_branch.clone().map(|bye| EffectName::Send(bye, "BYE".into()))
        }
        LegState::Trying
        | LegState::Active
        | LegState::Proceeding
        | LegState::Alerting
        | LegState::Released => None,
    }
}

/// An event that was refused for its order must count when it comes again.
fn counts_later(reply: &Reply) -> bool {
    matches!(reply, Reply::Rejected(Rejection::TooEarly | Rejection::Stale | Rejection::Repeated))
}
