//! What follows from the entities: how events find them, and which deadlines they have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use tandem_sip::Millis;

use super::World;
use crate::agent::state::{Agent, State as AgentState};
use crate::call::leg::Role;
use crate::call::state::Call;
use crate::channel::state::{Channel, State as ChannelState};
use crate::command::TransactionKey;
use crate::config::Config;
use crate::deadline::Deadline;
use crate::effect::{Body, Effect, EffectId};
use crate::ids::{AgentId, CallId, LegId};

/// What follows from the entities; rebuilt, never stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Indices {
    pub(super) dialogs: BTreeMap<(String, String), (CallId, LegId)>,
    pub(super) branches: BTreeMap<String, (CallId, LegId)>,
    pub(super) transactions: BTreeMap<TransactionKey, (CallId, LegId)>,
    /// A proxy's address may be that of several agents.
    pub(super) flows: BTreeMap<SocketAddr, BTreeSet<AgentId>>,
    pub(super) deadlines: BTreeSet<(Millis, Deadline)>,
    pub(super) refused: BTreeSet<(Millis, TransactionKey)>,
    pub(super) call_deadlines: BTreeMap<CallId, Vec<(Millis, Deadline)>>,
    /// What a later effect of the same name replaces.
    pub(super) effects: BTreeMap<EffectName, EffectId>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EffectName {
    Respond(TransactionKey),
    Send(String, String),
    Media(CallId),
}

pub(super) fn name(effect: &Effect) -> Option<EffectName> {
    match &effect.body {
        Body::Respond { transaction, .. } => Some(EffectName::Respond(transaction.clone())),
        Body::Send { request, .. } => Some(EffectName::Send(
            request.headers.branch().to_owned(),
            request.method.as_str().to_owned(),
        )),
        Body::Media(plan) => Some(EffectName::Media(plan.call)),
    }
}

impl World {
    /// From rows as [`rows`](crate::rows) wrote them.
    pub(crate) fn index_all(&mut self) {
        self.indices = Indices::default();
        for call in self.calls.values() {
            self.indices.add_call(call, self.config.as_ref());
        }
        for agent in self.agents.values() {
            self.indices.add_agent(agent);
        }
        for channel in self.channels.values() {
            self.indices.add_channel(channel);
        }
        for refused in self.refused.values() {
            self.indices.refused.insert((refused.until, refused.transaction.clone()));
        }
        for effect in self.outbox.values() {
            if let Some(name) = name(effect) {
                self.indices.effects.insert(name, effect.id);
            }
        }
    }
}

impl Indices {
    fn call_keys(call: &Call, config: Option<&Config>) -> Vec<(Millis, Deadline)> {
        let mut deadlines = Vec::new();
        if let (Some(config), true) = (config, call.is_live()) {
            let over = call.started_at.after(config.call_ms_max);
            deadlines.push((over, Deadline::TooLong { call: call.id }));
        }
        for leg in &call.legs {
            match &leg.role {
                Role::Agent { offer, ring_until, .. } | Role::Callee { offer, ring_until, .. }
                    if leg.is_ringing() =>
                {
                    let deadline = Deadline::RingOut { call: call.id, offer: *offer };
                    deadlines.push((*ring_until, deadline));
                }
                Role::Caller | Role::Agent { .. } | Role::Callee { .. } => {}
            }
            if let Some(at) = leg.release_at {
                deadlines.push((at, Deadline::ReleaseOver { call: call.id, leg: leg.id }));
            }
        }
        deadlines
    }

    pub(super) fn add_call(&mut self, call: &Call, config: Option<&Config>) {
        let deadlines = Self::call_keys(call, config);
        self.deadlines.extend(deadlines.iter().cloned());
        self.call_deadlines.insert(call.id, deadlines);
        for leg in &call.legs {
            let place = (call.id, leg.id);
            let headers = &leg.invite.headers;
            self.dialogs.insert((headers.call_id.clone(), leg.local_tag.clone()), place);
            match &leg.transaction {
                Some(transaction) => {
                    self.transactions.insert(transaction.clone(), place);
                }
                None => {
                    self.branches.insert(leg.invite_branch().to_owned(), place);
                }
            }
            if let Some(branch) = &leg.bye_branch {
                self.branches.insert(branch.clone(), place);
            }
        }
    }

    pub(super) fn remove_call(&mut self, call: &Call) {
        for deadline in self.call_deadlines.remove(&call.id).unwrap_or_default() {
            self.deadlines.remove(&deadline);
        }
        for leg in &call.legs {
            let headers = &leg.invite.headers;
            self.dialogs.remove(&(headers.call_id.clone(), leg.local_tag.clone()));
            match &leg.transaction {
                Some(transaction) => self.transactions.remove(transaction),
                None => self.branches.remove(leg.invite_branch()),
            };
            if let Some(branch) = &leg.bye_branch {
                self.branches.remove(branch);
            }
        }
    }

    fn agent_keys(agent: &Agent) -> Vec<(Millis, Deadline)> {
        let mut deadlines = Vec::new();
        if let AgentState::Acw { until, .. } = agent.state {
            let since_index = agent.since_index;
            deadlines.push((until, Deadline::AcwOver { agent: agent.id.clone(), since_index }));
        }
        if let Some(registration) = &agent.registration {
            let since_index = registration.since_index;
            let deadline = Deadline::RegistrationExpired { agent: agent.id.clone(), since_index };
            deadlines.push((registration.expires_at, deadline));
        }
        deadlines
    }

    pub(super) fn add_agent(&mut self, agent: &Agent) {
        self.deadlines.extend(Self::agent_keys(agent));
        if let Some(registration) = &agent.registration {
            self.flows.entry(registration.source).or_default().insert(agent.id.clone());
        }
    }

    pub(super) fn remove_agent(&mut self, agent: &Agent) {
        for key in Self::agent_keys(agent) {
            self.deadlines.remove(&key);
        }
        if let Some(registration) = &agent.registration
            && let Some(agents) = self.flows.get_mut(&registration.source)
        {
            agents.remove(&agent.id);
            if agents.is_empty() {
                self.flows.remove(&registration.source);
            }
        }
    }

    pub(super) fn add_channel(&mut self, channel: &Channel) {
        if let ChannelState::Guard { until } = channel.state {
            self.deadlines.insert((until, Deadline::GuardOver { channel: channel.id.clone() }));
        }
    }

    pub(super) fn remove_channel(&mut self, channel: &Channel) {
        if let ChannelState::Guard { until } = channel.state {
            self.deadlines.remove(&(until, Deadline::GuardOver { channel: channel.id.clone() }));
        }
    }
}
