//! The replicated world of one shard: it dispatches commands, keeps what they changed and the
//! indices that follow from it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tandem_sip::Millis;

use crate::agent::machine as agent;
use crate::agent::state::{Agent, State as AgentState};
use crate::call::leg::{Role, State as LegState};
use crate::call::state::Call;
use crate::call::{ending, inbound, indialog, outbound};
use crate::channel::state::{Channel, State as ChannelState};
use crate::command::{
    Command, Envelope, GatewayEvent, Login, OperatorCommand, Origin, TransactionKey,
};
use crate::config::Config;
use crate::deadline::Deadline;
use crate::draft::{Draft, Writes};
use crate::effect::{Body, Effect, EffectId};
use crate::gateway::{Fresh, Gateway};
use crate::ids::{AgentId, CallId, ChannelId, EntityId, GatewayId, LegId, QueueId};
use crate::limits;
use crate::queue::machine as queue;
use crate::queue::state::Queue;
use crate::rows::{self, RowChange};

/// Where in the log a command stands, and what it may not take from its surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub at: Millis,
    pub seed: u64,
    pub version: u32,
    pub shard: u16,
    pub index: u64,
    pub term: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    pub shard: u16,
    /// The greatest time of any command.
    pub at: Millis,
    /// The log index applied last.
    pub index: u64,
    pub config: Option<Config>,
    pub calls: BTreeMap<CallId, Call>,
    pub agents: BTreeMap<AgentId, Agent>,
    pub queues: BTreeMap<QueueId, Queue>,
    pub channels: BTreeMap<ChannelId, Channel>,
    pub gateways: BTreeMap<GatewayId, Gateway>,
    /// Effects that no gateway has said to be done.
    pub outbox: BTreeMap<EffectId, Effect>,
    pub(crate) indices: Indices,
}

/// What follows from the entities; rebuilt, never stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Indices {
    dialogs: BTreeMap<(String, String), (CallId, LegId)>,
    branches: BTreeMap<String, (CallId, LegId)>,
    transactions: BTreeMap<TransactionKey, (CallId, LegId)>,
    flows: BTreeMap<SocketAddr, AgentId>,
    deadlines: BTreeSet<(Millis, Deadline)>,
    call_deadlines: BTreeMap<CallId, Vec<(Millis, Deadline)>>,
    /// What a later effect of the same name replaces.
    effects: BTreeMap<EffectName, EffectId>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum EffectName {
    Respond(TransactionKey),
    Send(String, String),
    Media(CallId),
}

/// Why nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("{entity} takes no {event} while it is {state}")]
    Illegal { entity: EntityId, state: &'static str, event: &'static str },
    #[error("there is no {0}")]
    NotFound(String),
    #[error("{0}")]
    Refused(String),
    #[error("the event has counted before")]
    Repeated,
    #[error("the event is of an earlier life of its gateway")]
    Stale,
    #[error("an earlier event of its gateway is missing")]
    TooEarly,
    #[error("the command panicked: {0}")]
    Panicked(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Done,
    Rejected(Rejection),
}

/// What applying one entry came to, on every replica alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// In order. The leader performs them once the rows are stored.
    pub effects: Vec<Effect>,
    pub rows: Vec<RowChange>,
    pub touched: Vec<EntityId>,
    pub reply: Reply,
    /// What an operator must know.
    pub alarm: Option<String>,
}

impl World {
    pub fn new(shard: u16) -> Self {
        Self { shard, ..Self::default() }
    }

    /// Decides. Changes nothing.
    ///
    /// # Errors
    /// Why the command is refused.
    pub fn handle(&self, meta: &Meta, envelope: &Envelope) -> Result<Writes, Rejection> {
        let mut draft = Draft::new(self, meta);
        match &envelope.command {
            Command::Configure(config) => configure(&mut draft, config),
            Command::Elected { .. } => ending::on_elected(&mut draft),
            Command::Gateway(event) => {
                let origin = envelope.origin.as_ref();
                let origin = origin.ok_or(Rejection::Refused("an event without origin".into()))?;
                gateway_event(&mut draft, origin, event)?;
            }
            Command::Due(deadline) => due(&mut draft, deadline)?,
            Command::Operator(OperatorCommand::SetAgentState { agent, state }) => {
                agent::on_requested(&mut draft, agent, state)?;
            }
            Command::Operator(OperatorCommand::ReleaseCall { call }) => {
                ending::on_operator_release(&mut draft, *call)?;
            }
            Command::Quarantine { entity, reason } => quarantine(&mut draft, entity, reason),
            Command::Trim => {}
        }
        queue::match_all(&mut draft);
        drop_released_legs(&mut draft);
        Ok(draft.writes)
    }

    /// Applies one entry: what [`handle`](Self::handle) decided, or its refusal. A panic is a
    /// refusal with an alarm; it changes nothing but time, acknowledgements and what has counted.
    pub fn apply(&mut self, meta: &Meta, envelope: &Envelope) -> Applied {
        let decided = catch_unwind(AssertUnwindSafe(|| self.handle(meta, envelope)));
        let (writes, reply, alarm) = match decided {
            Ok(Ok(writes)) => (writes, Reply::Done, None),
            Ok(Err(rejection)) => (Writes::default(), Reply::Rejected(rejection), None),
            Err(panic) => {
                let what = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_default();
                let alarm = format!("TD0102 command at index {} panicked: {what}", meta.index);
                (Writes::default(), Reply::Rejected(Rejection::Panicked(what)), Some(alarm))
            }
        };
        let mut rows = Vec::new();
        let touched = self.commit(meta, envelope, &reply, &writes, &mut rows);
        Applied { effects: writes.effects, rows, touched, reply, alarm }
    }

    fn commit(
        &mut self,
        meta: &Meta,
        envelope: &Envelope,
        reply: &Reply,
        writes: &Writes,
        rows: &mut Vec<RowChange>,
    ) -> Vec<EntityId> {
        assert!(meta.index > self.index, "log indices only grow");
        self.at = self.at.max(meta.at);
        self.index = meta.index;
        for id in &envelope.done {
            self.forget_effect(*id, rows);
        }
        for branch in &writes.answered_branches {
            let name = EffectName::Send(branch.clone(), "INVITE".into());
            if let Some(id) = self.indices.effects.get(&name).copied() {
                self.forget_effect(id, rows);
            }
        }
        if let Some(config) = &writes.config {
            self.config = Some((**config).clone());
        }
        let mut touched = self.keep(writes, rows);
        if let (Some(origin), false) = (&envelope.origin, counts_later(reply))
            && let Some(gateway) = self.gateways.get_mut(&origin.gateway)
            && gateway.incarnation == origin.incarnation
        {
            gateway.count(origin.sequence);
            rows.push(rows::gateway(gateway));
            touched.push(EntityId::Gateway(origin.gateway.clone()));
        }
        for effect in &writes.effects {
            self.remember_effect(effect, rows);
        }
        rows.extend(writes.cdrs.iter().map(rows::cdr));
        rows.extend(writes.manifests.iter().map(rows::manifest));
        rows.push(rows::world(self));
        touched
    }

    /// Puts the written entities in place, with their indices and rows.
    fn keep(&mut self, writes: &Writes, rows: &mut Vec<RowChange>) -> Vec<EntityId> {
        let mut touched = Vec::new();
        for (id, call) in &writes.calls {
            if let Some(old) = self.calls.remove(id) {
                self.indices.remove_call(&old);
            }
            if let Some(new) = call {
                self.indices.add_call(new, self.config.as_ref());
                self.calls.insert(*id, new.clone());
            }
            rows.push(rows::call(*id, call.as_ref()));
            touched.push(EntityId::Call(*id));
        }
        for (id, agent) in &writes.agents {
            if let Some(old) = self.agents.remove(id) {
                self.indices.remove_agent(&old);
            }
            if let Some(new) = agent {
                self.indices.add_agent(new);
                self.agents.insert(id.clone(), new.clone());
            }
            rows.push(rows::agent(id, agent.as_ref()));
            touched.push(EntityId::Agent(id.clone()));
        }
        for (id, queue) in &writes.queues {
            match queue {
                Some(new) => self.queues.insert(id.clone(), new.clone()),
                None => self.queues.remove(id),
            };
            rows.push(rows::queue(id, queue.as_ref()));
            touched.push(EntityId::Queue(id.clone()));
        }
        for (id, channel) in &writes.channels {
            if let Some(old) = self.channels.remove(id) {
                self.indices.remove_channel(&old);
            }
            if let Some(new) = channel {
                self.indices.add_channel(new);
                self.channels.insert(id.clone(), new.clone());
            }
            rows.push(rows::channel(id, channel.as_ref()));
            touched.push(EntityId::Channel(id.clone()));
        }
        for (id, gateway) in &writes.gateways {
            if let Some(new) = gateway {
                self.gateways.insert(id.clone(), new.clone());
                rows.push(rows::gateway(new));
                touched.push(EntityId::Gateway(id.clone()));
            }
        }
        touched
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

    fn forget_effect(&mut self, id: EffectId, rows: &mut Vec<RowChange>) {
        let Some(effect) = self.outbox.remove(&id) else { return };
        if let Some(name) = name(&effect)
            && self.indices.effects.get(&name) == Some(&id)
        {
            self.indices.effects.remove(&name);
        }
        rows.push(rows::effect(id, None));
    }

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
        for effect in self.outbox.values() {
            if let Some(name) = name(effect) {
                self.indices.effects.insert(name, effect.id);
            }
        }
    }

    // --- what the runtime asks -----------------------------------------------------------------

    /// Which live entity an event is for; none where it makes one, or names none.
    pub fn route(&self, event: &GatewayEvent) -> Option<EntityId> {
        let call = |found: Option<&(CallId, LegId)>| found.map(|(call, _)| EntityId::Call(*call));
        match event {
            GatewayEvent::Login(_) | GatewayEvent::Invite(_) => None,
            GatewayEvent::Register(register) => Some(EntityId::Agent(register.agent.clone())),
            GatewayEvent::Request(inbound) => {
                let headers = &inbound.request.headers;
                let tag = headers.to_tag().unwrap_or_default().to_owned();
                call(self.indices.dialogs.get(&(headers.call_id.clone(), tag)))
            }
            GatewayEvent::Cancel { transaction } | GatewayEvent::AckTimeout { transaction } => {
                call(self.indices.transactions.get(transaction))
            }
            GatewayEvent::Ack { call_id, local_tag, .. } => {
                call(self.indices.dialogs.get(&(call_id.clone(), local_tag.clone())))
            }
            GatewayEvent::Response { branch, .. } | GatewayEvent::ClientTimeout { branch } => {
                call(self.indices.branches.get(branch))
            }
            GatewayEvent::RtpSilence { call, .. } => Some(EntityId::Call(*call)),
            GatewayEvent::Recorded(recorded) => Some(EntityId::Call(recorded.call)),
        }
    }

    /// Everything that has an actor on the leader.
    pub fn entities(&self) -> impl Iterator<Item = EntityId> {
        let calls = self.calls.keys().map(|id| EntityId::Call(*id));
        let agents = self.agents.keys().map(|id| EntityId::Agent(id.clone()));
        let queues = self.queues.keys().map(|id| EntityId::Queue(id.clone()));
        let channels = self.channels.keys().map(|id| EntityId::Channel(id.clone()));
        channels.chain(calls).chain(agents).chain(queues)
    }

    pub fn has(&self, entity: &EntityId) -> bool {
        match entity {
            EntityId::Channel(id) => self.channels.contains_key(id),
            EntityId::Call(id) => self.calls.contains_key(id),
            EntityId::Agent(id) => self.agents.contains_key(id),
            EntityId::Queue(id) => self.queues.contains_key(id),
            EntityId::Gateway(id) => self.gateways.contains_key(id),
        }
    }

    pub fn effects_of(&self, entity: &EntityId) -> impl Iterator<Item = &Effect> {
        self.outbox.values().filter(move |effect| effect.entity == *entity)
    }

    pub fn next_deadline(&self) -> Option<Millis> {
        self.indices.deadlines.first().map(|(at, _)| *at)
    }

    /// Deadlines that `now` has passed, earliest first.
    pub fn due(&self, now: Millis) -> Vec<Deadline> {
        let passed = self.indices.deadlines.iter().take_while(|(at, _)| *at <= now);
        passed.map(|(_, deadline)| deadline.clone()).collect()
    }

    pub(crate) fn leg_of_dialog(&self, call_id: &str, tag: &str) -> Option<(CallId, LegId)> {
        self.indices.dialogs.get(&(call_id.to_owned(), tag.to_owned())).copied()
    }

    pub(crate) fn leg_of_branch(&self, branch: &str) -> Option<(CallId, LegId)> {
        self.indices.branches.get(branch).copied()
    }

    pub(crate) fn leg_of_transaction(&self, key: &TransactionKey) -> Option<(CallId, LegId)> {
        self.indices.transactions.get(key).copied()
    }

    /// Whose registered phone sends from there.
    pub(crate) fn agent_at(&self, source: SocketAddr) -> Option<&AgentId> {
        self.indices.flows.get(&source)
    }
}

/// An event that was refused for its order must count when it comes again.
fn counts_later(reply: &Reply) -> bool {
    matches!(reply, Reply::Rejected(Rejection::TooEarly | Rejection::Stale | Rejection::Repeated))
}

fn name(effect: &Effect) -> Option<EffectName> {
    match &effect.body {
        Body::Respond { transaction, .. } => Some(EffectName::Respond(transaction.clone())),
        Body::Send { request, .. } => Some(EffectName::Send(
            request.headers.branch().to_owned(),
            request.method.as_str().to_owned(),
        )),
        Body::Media(plan) => Some(EffectName::Media(plan.call)),
    }
}

/// A leg that rang and is gone leaves a live call, so that calls stay small.
fn drop_released_legs(draft: &mut Draft<'_>) {
    for call in draft.writes.calls.values_mut().flatten().filter(|call| call.is_live()) {
        call.legs.retain(|leg| leg.role == Role::Caller || leg.state != LegState::Released);
    }
}

fn configure(draft: &mut Draft<'_>, config: &Config) {
    for queue in &config.queues {
        if draft.queue(&queue.id).is_none() {
            draft.writes.queues.insert(queue.id.clone(), Some(Queue::new(queue.id.clone())));
        }
    }
    for agent in &config.agents {
        if draft.agent(&agent.id).is_none() {
            draft.writes.agents.insert(agent.id.clone(), Some(Agent::new(agent.id.clone())));
        }
    }
    draft.writes.config = Some(Box::new(config.clone()));
}

fn gateway_event(
    draft: &mut Draft<'_>,
    origin: &Origin,
    event: &GatewayEvent,
) -> Result<(), Rejection> {
    let known = draft.gateway(&origin.gateway);
    if let GatewayEvent::Login(login) = event {
        if known.is_some_and(|gateway| gateway.incarnation >= origin.incarnation) {
            return Err(Rejection::Repeated);
        }
        login_gateway(draft, origin, login);
        return Ok(());
    }
    let gateway =
        known.ok_or_else(|| Rejection::NotFound(format!("gateway {}", origin.gateway)))?;
    if gateway.incarnation != origin.incarnation {
        return Err(Rejection::Stale);
    }
    match gateway.judge(origin.sequence) {
        Fresh::New => {}
        Fresh::Repeated => return Err(Rejection::Repeated),
        Fresh::TooEarly => return Err(Rejection::TooEarly),
    }
    match event {
        GatewayEvent::Login(_) => Ok(()),
        GatewayEvent::Invite(invite) => {
            inbound::on_invite(draft, invite);
            Ok(())
        }
        GatewayEvent::Register(register) => agent::on_register(draft, &origin.gateway, register),
        GatewayEvent::Request(request) => {
            indialog::on_request(draft, request);
            Ok(())
        }
        GatewayEvent::Cancel { transaction } => ending::on_cancel(draft, transaction),
        GatewayEvent::Ack { call_id, local_tag, answer, .. } => {
            indialog::on_ack(draft, call_id, local_tag, answer.as_ref())
        }
        GatewayEvent::Response { branch, response, answer } => {
            outbound::on_response(draft, branch, response, answer.as_ref())
        }
        GatewayEvent::ClientTimeout { branch } => outbound::on_timeout(draft, branch),
        GatewayEvent::AckTimeout { transaction } => ending::on_ack_timeout(draft, transaction),
        GatewayEvent::RtpSilence { call, leg, .. } => ending::on_rtp_silence(draft, *call, *leg),
        GatewayEvent::Recorded(recorded) => {
            ending::on_recorded(draft, &origin.gateway, recorded);
            Ok(())
        }
    }
}

/// A gateway's new life: its ports replace those of the last one; what live calls use stays taken.
fn login_gateway(draft: &mut Draft<'_>, origin: &Origin, login: &Login) {
    let anchored: Vec<&Call> =
        draft.world.calls.values().filter(|call| call.gateway == origin.gateway).collect();
    let taken: BTreeSet<u16> =
        anchored.iter().flat_map(|call| call.legs.iter().map(|leg| leg.media.port)).collect();
    let calls: Vec<CallId> = anchored.iter().map(|call| call.id).collect();
    let free_ports = login
        .ports
        .iter()
        .copied()
        .filter(|port| !taken.contains(port))
        .take(limits::PORTS_MAX)
        .collect();
    let gateway = Gateway {
        id: origin.gateway.clone(),
        incarnation: origin.incarnation,
        vip: login.vip,
        free_ports,
        counted: 0,
        ahead: BTreeSet::new(),
    };
    draft.writes.gateways.insert(origin.gateway.clone(), Some(gateway));
    for call in calls {
        crate::call::media::plan(draft, call);
    }
}

fn due(draft: &mut Draft<'_>, deadline: &Deadline) -> Result<(), Rejection> {
    match deadline {
        Deadline::RingOut { call, offer } => outbound::on_ring_out(draft, *call, *offer),
        Deadline::AcwOver { agent, since_index } => agent::on_acw_over(draft, agent, *since_index),
        Deadline::RegistrationExpired { agent, since_index } => {
            agent::on_registration_expired(draft, agent, *since_index)
        }
        Deadline::GuardOver { channel } => {
            match draft.channel(channel).map(|channel| &channel.state) {
                Some(ChannelState::Guard { until }) if *until <= draft.now => {
                    draft.writes.channels.insert(channel.clone(), None);
                    Ok(())
                }
                Some(_) | None => Err(Rejection::NotFound(format!("guard of channel {channel}"))),
            }
        }
        Deadline::ReleaseOver { call, leg } => ending::on_release_over(draft, *call, *leg),
        Deadline::TooLong { call } => ending::on_too_long(draft, *call),
    }
}

/// The supervisor gave the entity up: its audio stays, an agent is offered no call.
fn quarantine(draft: &mut Draft<'_>, entity: &EntityId, reason: &str) {
    match entity {
        EntityId::Agent(id) => agent::on_quarantined(draft, id, reason),
        EntityId::Channel(_) | EntityId::Call(_) | EntityId::Queue(_) | EntityId::Gateway(_) => {}
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

    fn add_call(&mut self, call: &Call, config: Option<&Config>) {
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

    fn remove_call(&mut self, call: &Call) {
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

    fn add_agent(&mut self, agent: &Agent) {
        self.deadlines.extend(Self::agent_keys(agent));
        if let Some(registration) = &agent.registration {
            self.flows.insert(registration.source, agent.id.clone());
        }
    }

    fn remove_agent(&mut self, agent: &Agent) {
        for key in Self::agent_keys(agent) {
            self.deadlines.remove(&key);
        }
        if let Some(registration) = &agent.registration
            && self.flows.get(&registration.source) == Some(&agent.id)
        {
            self.flows.remove(&registration.source);
        }
    }

    fn add_channel(&mut self, channel: &Channel) {
        if let ChannelState::Guard { until } = channel.state {
            self.deadlines.insert((until, Deadline::GuardOver { channel: channel.id.clone() }));
        }
    }

    fn remove_channel(&mut self, channel: &Channel) {
        if let ChannelState::Guard { until } = channel.state {
            self.deadlines.remove(&(until, Deadline::GuardOver { channel: channel.id.clone() }));
        }
    }
}
