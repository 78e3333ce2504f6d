//! What a command decided, put in place: entities, outbox, and the rows that storage keeps.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tandem_sip::Method;

use super::indices::{EffectName, Effects, name};
use super::{Meta, Rejection, Reply, World};
use crate::call::leg::{Leg, State as LegState};
use crate::call::state::Call;
use crate::changes::Changes;
use crate::command::{Command, Envelope};
use crate::draft::{Ports, Writes};
use crate::effect::{Body, Effect, EffectId};
use crate::ids::{CallId, EntityId, LegId};
use crate::leases::may_use_port;
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
            if let Some(id) = self.indices.effects.get(EffectName::Send(branch, &Method::Invite)) {
                self.forget_effect(id, rows);
            }
        }
        let config = writes.config.take();
        let configured = config.is_some();
        if let Some(config) = config {
            self.config = Some(*config);
        }
        let leases = writes.leases.take();
        let leased = leases.is_some();
        if leased {
            self.leases = leases;
        }
        let dark = writes.dark;
        let effects = std::mem::take(&mut writes.effects);
        let refused = std::mem::take(&mut writes.refused);
        let about = writes.about.take();
        let messages = std::mem::take(&mut writes.messages);
        rows.extend(writes.cdrs.iter().map(rows::cdr));
        rows.extend(writes.manifests.iter().map(rows::manifest));
        rows.extend(writes.holdings.iter().map(rows::holding));
        rows.extend(writes.qualities.iter().map(rows::quality));
        let mut touched = self.keep(writes, rows);
        if configured {
            rows.push(rows::config(self));
            // Deadlines follow from the configuration, too.
            self.index_all();
        }
        if leased {
            rows.extend(rows::leases(self));
            self.find_free_ports();
        }
        for gateway in self.gateways.values_mut().filter(|_| dark) {
            gateway.counts.dark = true;
            rows.push(rows::counts(gateway));
            touched.push(EntityId::Gateway(gateway.id.clone()));
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
        for (branch, message) in messages {
            self.change_message(branch, message, rows);
        }
        self.forget_old_refused(rows);
        self.forget_old_messages(rows);
        self.forget_old_answers(rows);
        if let Command::Keyed(keyed) = &envelope.command {
            self.remember_answer(keyed, reply, about.as_ref(), rows);
        }
        rows.push(rows::world(self));
        (touched, effects)
    }

    /// Puts the written entities in place, with their indices and rows.
    fn keep(&mut self, writes: Writes, rows: &mut Vec<RowChange>) -> Vec<EntityId> {
        let (mut touched, mut settled) = (Vec::new(), Vec::new());
        let config = self.config.as_ref();
        let moved = moved_legs(&writes.calls, &self.calls);
        for (id, call) in writes.calls {
            rows.push(rows::call(id, call.as_ref()));
            let old = put(&mut self.calls, id, call);
            let new = self.calls.get(&id);
            keep_invites(old.as_ref(), new, &moved, rows);
            self.indices.change_call(old.as_ref(), new, config);
            settled.extend(old.iter().flat_map(|old| self.indices.effects.settled(old, new)));
            touched.push(EntityId::Call(id));
        }
        for (id, agent) in writes.agents {
            rows.push(rows::agent(&id, agent.as_ref()));
            let old = put(&mut self.agents, id.clone(), agent);
            self.indices.change_agent(old.as_ref(), self.agents.get(&id));
            touched.push(EntityId::Agent(id));
        }
        for (id, queue) in writes.queues {
            rows.push(rows::queue(&id, queue.as_ref()));
            put(&mut self.queues, id.clone(), queue);
            match self.queues.get(&id) {
                Some(queue) => self.indices.change_queue(queue),
                None => drop(self.indices.waiting.remove(&id)),
            }
            touched.push(EntityId::Queue(id));
        }
        for (id, channel) in writes.channels {
            rows.push(rows::channel(&id, channel.as_ref()));
            let old = put(&mut self.channels, id.clone(), channel);
            let new = self.channels.get(&id);
            self.indices.change_channel(&id, old.as_ref(), new, config);
            touched.push(EntityId::Channel(id));
        }
        for (id, trunk) in writes.trunks {
            rows.push(rows::trunk(&id, trunk.as_ref()));
            put(&mut self.trunks, id, trunk);
        }
        for (id, subscription) in writes.subscriptions {
            rows.push(rows::subscription(id, subscription.as_ref()));
            let old = put(&mut self.subscriptions, id, subscription);
            let new = self.subscriptions.get(&id);
            self.indices.change_subscription(old.as_ref(), new);
            // What is not told yet is told to nobody any more.
            let gone = old.as_ref().filter(|_| new.is_none());
            let tag = gone.map(|old| EffectName::Notify(&old.dialog.local_tag));
            settled.extend(tag.and_then(|tag| self.indices.effects.get(tag)));
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
                let leases = self.leases.as_ref();
                let leased = |port: &u16| may_use_port(leases, &id, *port);
                gateway.free_ports.extend(given.into_iter().filter(leased));
                touched.push(EntityId::Gateway(id));
            }
        }
        for id in settled {
            self.forget_effect(id, rows);
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
        let Some(call) = self.calls.get(call) else { return false };
        let name = Some(name(effect));
        call.legs.iter().flat_map(owed).any(|owed| Some(owed) == name)
    }

    /// Puts an effect into the outbox; an earlier one of the same name need not be sent again.
    fn remember_effect(&mut self, effect: &Effect, rows: &mut Vec<RowChange>) {
        if let Some(earlier) = self.indices.effects.get(name(effect)) {
            self.forget_effect(earlier, rows);
        }
        self.indices.effects.insert(name(effect), effect.id);
        rows.push(rows::effect(effect.id, Some(effect)));
        self.outbox.insert(effect.id, effect.clone());
    }

    pub(super) fn forget_effect(&mut self, id: EffectId, rows: &mut Vec<RowChange>) {
        let Some(effect) = self.outbox.remove(&id) else { return };
        if self.indices.effects.get(name(&effect)) == Some(id) {
            self.indices.effects.remove(name(&effect));
        }
        rows.push(rows::effect(id, None));
    }
}

/// Legs that one call has lost to another in this entry.
fn moved_legs(
    written: &Changes<CallId, Option<Call>>,
    known: &BTreeMap<CallId, Call>,
) -> Vec<LegId> {
    let calls = || written.iter().filter_map(|(_, call)| call.as_ref());
    let here = |call: &Call, leg: LegId| known.get(&call.id).is_some_and(|c| c.leg(leg).is_some());
    let new = calls()
        .flat_map(|call| call.legs.iter().map(|leg| leg.id).filter(move |leg| !here(call, *leg)));
    let lost = |leg: &LegId| {
        written.iter().any(|(id, _)| known.get(id).is_some_and(|call| call.leg(*leg).is_some()))
    };
    new.filter(lost).collect()
}

/// INVITEs come and go with their legs, and stay with those that move; one that was refused may be
/// tried once more.
fn keep_invites(
    old: Option<&Call>,
    new: Option<&Call>,
    moved: &[LegId],
    rows: &mut Vec<RowChange>,
) {
    fn legs(call: Option<&Call>) -> &[Leg] {
        call.map_or(&[], |call| &call.legs)
    }
    let is_in =
        |call: Option<&Call>, leg: &Leg| call.is_some_and(|call| call.leg(leg.id).is_some());
    let is_same = |leg: &Leg| {
        let before = old.and_then(|call| call.leg(leg.id));
        before.is_some_and(|before| before.invite_branch() == leg.invite_branch())
    };
    rows.extend(legs(new).iter().filter(|leg| !is_same(leg)).map(rows::invite));
    let gone = |leg: &&Leg| !is_in(new, leg) && !moved.contains(&leg.id);
    rows.extend(legs(old).iter().filter(gone).map(|leg| rows::no_invite(leg.id)));
}

impl Effects {
    /// What the legs of a call no longer owe: it is not done again.
    fn settled<'a>(
        &'a self,
        old: &'a Call,
        new: Option<&'a Call>,
    ) -> impl Iterator<Item = EffectId> {
        old.legs.iter().flat_map(move |leg| {
            let still = new.and_then(|call| call.leg(leg.id));
            let is_over = move |name: &EffectName<'_>| {
                !still.into_iter().flat_map(owed).any(|still| still == *name)
            };
            owed(leg).filter(is_over).filter_map(|name| self.get(name))
        })
    }
}

/// Puts a written value in its place, or takes it out; what was there before. In place, for the
/// values beside it are large.
fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        None => map.remove(&key),
        Some(value) => match map.entry(key) {
            Entry::Occupied(mut place) => Some(place.insert(value)),
            Entry::Vacant(place) => {
                place.insert(value);
                None
            }
        },
    }
}

/// The messages of a leg whose transactions are open: a 200 until its ACK, a reliable 180 until its
/// PRACK, a request until its answer (RFC 3261 §13.3.1.4, §17.1, RFC 3262 §3).
fn owed(leg: &Leg) -> impl Iterator<Item = EffectName<'_>> {
    let notify = leg.refer.as_ref().and_then(|refer| refer.branch.as_ref());
    let notify = notify.map(|branch| EffectName::Send(branch, &Method::Notify));
    let timer = leg.timer.as_ref().filter(|_| leg.state == LegState::Active);
    let refresh = timer.and_then(|timer| timer.under_way());
    let refresh = refresh.map(|refresh| EffectName::Send(&refresh.branch, refresh.method()));
    let pracks = leg.early.iter().filter_map(|early| early.prack_branch.as_ref());
    let pracks = pracks.map(|branch| EffectName::Send(branch, &Method::Prack));
    owed_by_state(leg).into_iter().chain(notify).chain(refresh).chain(pracks)
}

fn owed_by_state(leg: &Leg) -> Option<EffectName<'_>> {
    let sent = |method| Some(EffectName::Send(leg.invite_branch(), method));
    match leg.state {
        LegState::Answered => leg.transaction.as_ref().map(EffectName::Respond),
        LegState::Trying if leg.reliable.is_some_and(|it| it.is_pending()) => {
            leg.transaction.as_ref().map(EffectName::Respond)
        }
        LegState::Calling | LegState::Cancelling { sent: false } => sent(&Method::Invite),
        LegState::Cancelling { sent: true } => sent(&Method::Cancel),
        LegState::Releasing => {
            leg.bye_branch.as_ref().map(|bye| EffectName::Send(bye, &Method::Bye))
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
