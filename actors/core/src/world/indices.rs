//! What follows from the entities: how events find them, and which deadlines they have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use tandem_sip::{Method, Millis};

use super::World;
use super::subscriptions::Subscriptions;
use crate::agent::state::{Agent, Registration, State as AgentState};
use crate::call::leg::{Leg, State as LegState};
use crate::call::state::Call;
use crate::channel::state::{Channel, State as ChannelState};
use crate::command::TransactionKey;
use crate::config::Config;
use crate::deadline::Deadline;
use crate::effect::{Body, Effect, EffectId};
use crate::ids::{AgentId, CallId, ChannelId, LegId, QueueId, TrunkId};
use crate::queue::state::Queue;
use crate::subscription::state::Subscription;

/// What follows from the entities; rebuilt, never stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Indices {
    /// By our tag, which is random and names a dialog by itself.
    pub(super) dialogs: BTreeMap<String, Place>,
    pub(super) branches: BTreeMap<String, Place>,
    pub(super) transactions: BTreeMap<TransactionKey, Place>,
    /// A proxy's address may be that of several agents.
    pub(super) flows: BTreeMap<SocketAddr, BTreeSet<AgentId>>,
    pub(super) deadlines: BTreeSet<(Millis, Deadline)>,
    pub(super) refused: BTreeSet<(Millis, TransactionKey)>,
    /// Keys by when they are forgotten.
    pub(super) answered: BTreeSet<(Millis, String)>,
    /// What a later effect of the same name replaces.
    pub(super) effects: Effects,
    /// Queues in which somebody waits.
    pub(super) waiting: BTreeSet<QueueId>,
    /// Who may be offered a call of the queue, the longest idle first.
    pub(super) ready: BTreeMap<QueueId, BTreeSet<(Millis, AgentId)>>,
    /// The queues that an agent serves.
    pub(super) serves: BTreeMap<AgentId, Vec<QueueId>>,
    /// Channels that are no row.
    pub(super) idle: BTreeMap<TrunkId, BTreeSet<u16>>,
    pub(super) subscriptions: Subscriptions,
    /// Texts under way by when they are forgotten.
    pub(super) messages: BTreeSet<(Millis, String)>,
}

pub(super) type Place = (CallId, LegId);

/// Effects of the outbox by what they do.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Effects {
    responses: BTreeMap<TransactionKey, EffectId>,
    /// By branch: an INVITE and its CANCEL share one.
    requests: BTreeMap<String, Vec<(Method, EffectId)>>,
    plans: BTreeMap<CallId, EffectId>,
    /// By our tag of the subscription.
    notifies: BTreeMap<String, EffectId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EffectName<'a> {
    Respond(&'a TransactionKey),
    Send(&'a str, &'a Method),
    Media(CallId),
    Notify(&'a str),
}

pub(super) fn name(effect: &Effect) -> EffectName<'_> {
    match &effect.body {
        Body::Respond { transaction, .. } => EffectName::Respond(transaction),
        Body::Send { request, .. } => EffectName::Send(request.headers.branch(), &request.method),
        Body::Media(plan) => EffectName::Media(plan.call),
        Body::Notify { request, .. } => {
            EffectName::Notify(request.headers.from_tag().unwrap_or_default())
        }
    }
}

impl Effects {
    pub(super) fn get(&self, name: EffectName<'_>) -> Option<EffectId> {
        match name {
            EffectName::Respond(transaction) => self.responses.get(transaction).copied(),
            EffectName::Send(branch, method) => {
                let known = self.requests.get(branch)?;
                known.iter().find(|(of, _)| of == method).map(|(_, id)| *id)
            }
            EffectName::Media(call) => self.plans.get(&call).copied(),
            EffectName::Notify(tag) => self.notifies.get(tag).copied(),
        }
    }

    pub(super) fn insert(&mut self, name: EffectName<'_>, id: EffectId) {
        self.remove(name);
        match name {
            EffectName::Respond(transaction) => {
                self.responses.insert(transaction.clone(), id);
            }
            EffectName::Send(branch, method) => {
                let known = self.requests.entry(branch.to_owned()).or_default();
                known.push((method.clone(), id));
                known.sort_unstable();
            }
            EffectName::Media(call) => {
                self.plans.insert(call, id);
            }
            EffectName::Notify(tag) => {
                self.notifies.insert(tag.to_owned(), id);
            }
        }
    }

    pub(super) fn remove(&mut self, name: EffectName<'_>) {
        match name {
            EffectName::Respond(transaction) => {
                self.responses.remove(transaction);
            }
            EffectName::Send(branch, method) => {
                let Some(known) = self.requests.get_mut(branch) else { return };
                known.retain(|(of, _)| of != method);
                if known.is_empty() {
                    self.requests.remove(branch);
                }
            }
            EffectName::Media(call) => {
                self.plans.remove(&call);
            }
            EffectName::Notify(tag) => {
                self.notifies.remove(tag);
            }
        }
    }
}

impl World {
    /// From rows as [`rows`](crate::rows) wrote them.
    pub(crate) fn index_all(&mut self) {
        let mut indices = Indices::default();
        let config = self.config.as_ref();
        if let Some(config) = config {
            indices.add_config(config);
        }
        for call in self.calls.values() {
            indices.change_call(None, Some(call), config);
        }
        for agent in self.agents.values() {
            indices.change_agent(None, Some(agent));
        }
        for queue in self.queues.values() {
            indices.change_queue(queue);
        }
        for channel in self.channels.values() {
            indices.change_channel(&channel.id, None, Some(channel), config);
        }
        for subscription in self.subscriptions.values() {
            indices.change_subscription(None, Some(subscription));
        }
        for message in self.messages.values() {
            indices.messages.insert((message.until, message.branch.clone()));
        }
        for refused in self.refused.values() {
            indices.refused.insert((refused.until, refused.transaction.clone()));
        }
        for answered in self.answered.values() {
            indices.answered.insert((answered.until, answered.key.clone()));
        }
        for effect in self.outbox.values() {
            indices.effects.insert(name(effect), effect.id);
        }
        self.indices = indices;
    }
}

impl Indices {
    fn add_config(&mut self, config: &Config) {
        for queue in &config.queues {
            self.ready.insert(queue.id.clone(), BTreeSet::new());
            for agent in &queue.agents {
                let serves = self.serves.entry(agent.clone()).or_default();
                if !serves.contains(&queue.id) {
                    serves.push(queue.id.clone());
                }
            }
        }
        for trunk in &config.trunks {
            self.idle.insert(trunk.id.clone(), (1..=trunk.channels).collect());
        }
    }

    pub(super) fn change_call(
        &mut self,
        old: Option<&Call>,
        new: Option<&Call>,
        config: Option<&Config>,
    ) {
        let (before, after) = (call_deadlines(old, config), call_deadlines(new, config));
        self.change_deadlines(before, after);
        for leg in legs(old) {
            let now = new.and_then(|call| call.leg(leg.id));
            // A leg that has moved to another call stays where that has put it.
            let place = old.map(|call| (call.id, leg.id));
            if now.is_none() {
                forget(&mut self.dialogs, &leg.local_tag, place);
                match &leg.transaction {
                    Some(transaction) => forget(&mut self.transactions, transaction, place),
                    None => forget(&mut self.branches, leg.invite_branch(), place),
                }
            } else if now.is_some_and(|now| now.invite_branch() != leg.invite_branch()) {
                // It was tried once more, in another transaction.
                self.branches.remove(leg.invite_branch());
            }
            for branch in leg.branches() {
                if now.is_none_or(|now| !now.branches().any(|still| still == branch)) {
                    forget(&mut self.branches, branch, place);
                }
            }
        }
        let Some(new) = new else { return };
        for leg in &new.legs {
            let place = (new.id, leg.id);
            let before = old.and_then(|call| call.leg(leg.id));
            if before.is_none() {
                self.dialogs.insert(leg.local_tag.clone(), place);
                if let Some(transaction) = &leg.transaction {
                    self.transactions.insert(transaction.clone(), place);
                }
            }
            let tried = before.is_some_and(|it| it.invite_branch() == leg.invite_branch());
            if leg.transaction.is_none() && !tried {
                self.branches.insert(leg.invite_branch().to_owned(), place);
            }
            for branch in leg.branches() {
                if before.is_none_or(|before| !before.branches().any(|known| known == branch)) {
                    self.branches.insert(branch.clone(), place);
                }
            }
        }
    }

    pub(super) fn change_agent(&mut self, old: Option<&Agent>, new: Option<&Agent>) {
        let (before, after) = (agent_deadlines(old), agent_deadlines(new));
        self.change_deadlines(before, after);
        let (left, come) = (phones(old), phones(new));
        let from_there =
            |phones: &[Registration], source| phones.iter().any(|it| it.source == source);
        if let Some(agent) = old {
            for phone in left.iter().filter(|it| !from_there(come, it.source)) {
                self.leave_flow(agent, phone.source);
            }
        }
        if let Some(agent) = new {
            for phone in come.iter().filter(|it| !from_there(left, it.source)) {
                self.flows.entry(phone.source).or_default().insert(agent.id.clone());
            }
        }
        let idle = |agent: Option<&Agent>| {
            agent.filter(|agent| agent.is_available()).map(|agent| (agent.since, agent.id.clone()))
        };
        let (before, after) = (idle(old), idle(new));
        if before != after
            && let Some((_, id)) = before.as_ref().or(after.as_ref())
        {
            for queue in self.serves.get(id).into_iter().flatten() {
                let Some(ready) = self.ready.get_mut(queue) else { continue };
                if let Some(before) = &before {
                    ready.remove(before);
                }
                ready.extend(after.clone());
            }
        }
    }

    fn leave_flow(&mut self, agent: &Agent, source: SocketAddr) {
        let Some(agents) = self.flows.get_mut(&source) else { return };
        agents.remove(&agent.id);
        if agents.is_empty() {
            self.flows.remove(&source);
        }
    }

    pub(super) fn change_queue(&mut self, queue: &Queue) {
        if queue.entries.is_empty() {
            self.waiting.remove(&queue.id);
        } else if !self.waiting.contains(&queue.id) {
            self.waiting.insert(queue.id.clone());
        }
    }

    pub(super) fn change_channel(
        &mut self,
        id: &ChannelId,
        old: Option<&Channel>,
        new: Option<&Channel>,
        config: Option<&Config>,
    ) {
        self.change_deadlines(guard(old), guard(new));
        let trunk = config.and_then(|config| config.trunk(&id.trunk));
        let Some(trunk) = trunk.filter(|trunk| (1..=trunk.channels).contains(&id.number)) else {
            return;
        };
        let Some(idle) = self.idle.get_mut(&trunk.id) else { return };
        match new {
            Some(_) => idle.remove(&id.number),
            None => idle.insert(id.number),
        };
    }

    pub(super) fn change_subscription(
        &mut self,
        old: Option<&Subscription>,
        new: Option<&Subscription>,
    ) {
        self.change_deadlines(subscription_deadlines(old), subscription_deadlines(new));
        self.subscriptions.change(old, new);
    }

    fn change_deadlines(
        &mut self,
        before: impl Iterator<Item = Due> + Clone,
        after: impl Iterator<Item = Due> + Clone,
    ) {
        if before.clone().eq(after.clone()) {
            return;
        }
        for deadline in before {
            self.deadlines.remove(&deadline);
        }
        self.deadlines.extend(after);
    }
}

type Due = (Millis, Deadline);

/// Where it is of this place still.
fn forget<K, Q>(places: &mut BTreeMap<K, Place>, key: &Q, of: Option<Place>)
where
    K: Ord + std::borrow::Borrow<Q>,
    Q: Ord + ?Sized,
{
    if places.get(key).copied() == of {
        places.remove(key);
    }
}

fn legs(call: Option<&Call>) -> &[Leg] {
    call.map_or(&[], |call| &call.legs)
}

fn call_deadlines<'a>(
    call: Option<&'a Call>,
    config: Option<&'a Config>,
) -> impl Iterator<Item = Due> + Clone + 'a {
    call.into_iter().flat_map(move |call| {
        let config = config.filter(|_| call.is_live());
        let too_long = config.map(|config| {
            (call.started_at.after(config.call_ms_max), Deadline::TooLong { call: call.id })
        });
        let run = call.flow.as_ref().filter(|_| call.is_live());
        let wait = run.and_then(|run| {
            Some((run.deadline()?, Deadline::FlowWait { call: call.id, turn: run.turn }))
        });
        let own = too_long.into_iter().chain(wait);
        own.chain(call.legs.iter().flat_map(|leg| leg_deadlines(call.id, leg)))
    })
}

fn leg_deadlines(call: CallId, leg: &Leg) -> impl Iterator<Item = Due> + Clone + use<> {
    let rings = leg.is_ringing().then(|| leg.ring_until().zip(leg.offer())).flatten();
    let ring_out = rings.map(|(until, offer)| (until, Deadline::RingOut { call, offer }));
    let release = leg.release_at.map(|at| (at, Deadline::ReleaseOver { call, leg: leg.id }));
    let timer = leg.timer.as_ref().filter(|_| leg.state == LegState::Active);
    let timer = timer.map(|timer| (timer.due_at(), Deadline::SessionTimer { call, leg: leg.id }));
    ring_out.into_iter().chain(release).chain(timer)
}

fn agent_deadlines(agent: Option<&Agent>) -> impl Iterator<Item = Due> + Clone + '_ {
    agent.into_iter().flat_map(|agent| {
        let acw = match agent.state {
            AgentState::Acw { until, .. } => Some((until, agent.since_index)),
            AgentState::LoggedOut
            | AgentState::NotReady { .. }
            | AgentState::Ready
            | AgentState::Reserved { .. }
            | AgentState::Talking { .. }
            | AgentState::Held { .. }
            | AgentState::Consulting { .. } => None,
        };
        let id = || agent.id.clone();
        let acw = acw.map(|(at, since_index)| (at, Deadline::AcwOver { agent: id(), since_index }));
        let registration = agent.bindings.iter().map(move |registration| {
            let since_index = registration.since_index;
            let deadline = Deadline::RegistrationExpired { agent: id(), since_index };
            (registration.expires_at, deadline)
        });
        acw.into_iter().chain(registration)
    })
}

fn subscription_deadlines(
    subscription: Option<&Subscription>,
) -> impl Iterator<Item = Due> + Clone + '_ {
    subscription.into_iter().map(|known| {
        let (agent, subscription) = (known.subscriber.clone(), known.id);
        (known.due_at(), Deadline::SubscriptionDue { agent, subscription })
    })
}

fn phones(agent: Option<&Agent>) -> &[Registration] {
    agent.map_or(&[], |agent| &agent.bindings)
}

fn guard(channel: Option<&Channel>) -> impl Iterator<Item = Due> + Clone + '_ {
    channel.into_iter().filter_map(|channel| match channel.state {
        ChannelState::Guard { until } => {
            Some((until, Deadline::GuardOver { channel: channel.id.clone() }))
        }
        ChannelState::SeizedIn { .. }
        | ChannelState::SeizedOut { .. }
        | ChannelState::Active { .. } => None,
    })
}
