//! What joins SIP, ledgers and fences of one gateway.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use tandem_core::command::{GatewayEvent, TransactionKey};
use tandem_core::effect::MediaPlan;
use tandem_core::ids::GatewayId;
use tandem_sip::transaction::Key;
use tandem_sip::{ConnectionId, Flow, Message, Method, Millis, Request, Ticket};

use crate::admission::{Admission, Asks};
use crate::carriers::health::Health;
use crate::carriers::registration::{self, Registrations};
use crate::ledger::{About, Full};
use crate::limits;
use crate::link::Up;
use crate::shard::Shard;
use crate::sip::acks::Acks;
use crate::sip::clients::Clients;
use crate::sip::flows::Flows;
use crate::sip::nonces::Nonces;
use crate::sip::notifies::Notifies;
use crate::sip::refused::Refused;
use crate::sip::servers::Servers;
use crate::sip::strays::Strays;
use crate::sip::suspects::Suspects;
use crate::sip::{Transmit, clients, edge, servers};
use crate::tenants::{Tenant, Tenants};

/// Who this gateway is.
#[derive(Clone, Debug)]
pub struct Identity {
    pub name: GatewayId,
    pub vip: SocketAddr,
    /// Local RTP ports that are bound, even ones.
    pub ports: Vec<u16>,
    /// Names of the nodes, in the order of the sessions.
    pub nodes: Vec<String>,
    /// Of the process: no two are alike.
    pub life: u64,
}

/// What the gateway does.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Transmit(Transmit),
    /// To the session of a node, by its place. Where that takes nothing the session is over.
    Up {
        node: usize,
        up: Up,
    },
    /// What the media of one call of a tenant shall be.
    Media {
        tenant: u32,
        plan: MediaPlan,
    },
}

/// What others in the process may know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The tenants in the order of their numbers.
    pub tenants: Vec<Led>,
    pub routing: bool,
    /// A leader was known once.
    pub started: bool,
    /// New calls are answered 503 for want of a leader.
    pub refuses_new_calls: bool,
    /// Some of the new calls are answered 503: the cluster does not keep up with all.
    pub overloaded: bool,
}

/// A tenant by its name, and the node that leads it, by its place in the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Led {
    pub number: u32,
    pub name: Arc<str>,
    pub leader: Option<usize>,
}

impl Status {
    /// Who leads the tenant of that name, or the first one.
    pub fn leader_of(&self, tenant: Option<&str>) -> Option<usize> {
        self.find(tenant)?.leader
    }

    pub fn number_of(&self, tenant: Option<&str>) -> Option<u32> {
        self.find(tenant).map(|led| led.number)
    }

    fn find(&self, tenant: Option<&str>) -> Option<&Led> {
        let mut tenants = self.tenants.iter();
        match tenant {
            Some(name) => tenants.find(|led| *led.name == *name),
            None => tenants.next(),
        }
    }
}

/// How many of each are held; each has its bound in [`limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub servers: usize,
    pub clients: usize,
    /// Deadlines of both.
    pub timers: usize,
    /// What waits to be accepted.
    pub events: usize,
    /// What is remembered of what is over.
    pub kept: usize,
}

fn bye_of(event: &GatewayEvent) -> Option<(Key, Arc<Request>)> {
    let GatewayEvent::Request(inbound) = event else { return None };
    let is_bye = inbound.request.method == Method::Bye;
    is_bye.then(|| (key_of(&inbound.transaction), Arc::clone(&inbound.request)))
}

/// All that dies with the process.
#[derive(Debug)]
pub struct Control {
    pub(crate) identity: Identity,
    pub(crate) servers: Servers,
    pub(crate) clients: Clients,
    pub(crate) acks: Acks,
    pub(crate) strays: Strays,
    pub(crate) refused: Refused,
    pub(crate) nonces: Nonces,
    pub(crate) notifies: Notifies,
    pub(crate) flows: Flows,
    pub(crate) suspects: Suspects,
    pub(crate) health: Health,
    pub(crate) registrations: Registrations,
    pub(crate) shards: BTreeMap<u32, Shard>,
    pub(crate) admission: Admission,
    /// Nodes with a session.
    pub(crate) sessions: BTreeSet<usize>,
    /// Who may register and call, once a node has said it.
    pub(crate) tenants: Tenants,
    /// When this life began.
    pub(crate) begun: Millis,
    /// New calls of before there was routing have waited for too long.
    turned_away: bool,
    started: bool,
    pub(crate) nonce_counter: u64,
    /// New calls of before there was routing.
    pub(crate) early: Vec<(Flow, Request)>,
    /// What happened before there was routing; it follows the login.
    pub(crate) early_events: Vec<(u32, GatewayEvent, About)>,
    pub(crate) outputs: VecDeque<Output>,
}

impl Control {
    /// A life that begins `now`.
    pub fn new(now: Millis, identity: Identity) -> Self {
        Self {
            identity,
            servers: Servers::default(),
            clients: Clients::default(),
            acks: Acks::default(),
            strays: Strays::default(),
            refused: Refused::default(),
            nonces: Nonces::default(),
            notifies: Notifies::default(),
            flows: Flows::default(),
            suspects: Suspects::default(),
            health: Health::default(),
            registrations: Registrations::default(),
            shards: BTreeMap::new(),
            admission: Admission::new(now),
            sessions: BTreeSet::new(),
            tenants: Tenants::default(),
            begun: now,
            turned_away: false,
            started: false,
            nonce_counter: 0,
            early: Vec::new(),
            early_events: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// What is handled now came to this gateway so long ago.
    pub fn on_turn(&mut self, now: Millis, waited_ms: u64) {
        self.admission.on_turn(now, waited_ms);
    }

    /// What a peer has sent. `unix_ms` dates the nonces that are given and taken.
    pub fn on_message(&mut self, now: Millis, unix_ms: u64, flow: &Flow, message: Message) {
        match message {
            Message::Request(request) => self.on_request(now, unix_ms, flow, request),
            Message::Response(response) => self.on_response(now, flow, response),
        }
    }

    /// A request with this ticket did not arrive, or nobody can say that it did: its connection is
    /// gone and no answer has come. `opened`: it was tried on a connection opened for it.
    pub fn on_undelivered(&mut self, now: Millis, ticket: Ticket, opened: bool) {
        match self.clients.on_undelivered(now, ticket, opened) {
            Some(clients::Action::Transmit(transmit)) => self.transmit(transmit),
            Some(clients::Action::TimedOut(branch)) => self.on_timed_out(now, branch),
            None => {}
        }
    }

    fn on_timed_out(&mut self, now: Millis, branch: String) {
        if !self.is_silence_of_carriers(now, &branch) && !self.on_notified(now, &branch, None) {
            let tenant = self.tenants.of_text(&branch);
            self.raise(tenant, GatewayEvent::ClientTimeout { branch }, About::Existing);
        }
    }

    /// A connection that a peer has opened is gone.
    pub fn on_closed(&mut self, source: SocketAddr, connection: ConnectionId) {
        for tenant in self.flows.take(connection) {
            self.raise(tenant, GatewayEvent::FlowGone { source, connection }, About::Existing);
        }
    }

    /// What the media plane reports of a tenant's call.
    pub fn on_media(&mut self, tenant: u32, event: GatewayEvent) {
        self.raise(tenant, event, About::Existing);
    }

    /// Whatever is due by now; then what waits for the leaders.
    pub fn on_time(&mut self, now: Millis) {
        for action in self.servers.on_time(now) {
            match action {
                servers::Action::Transmit(transmit) => self.transmit(transmit),
                servers::Action::NoAck { key, tenant } => {
                    let transaction = self.transaction(&key);
                    self.raise(tenant, GatewayEvent::AckTimeout { transaction }, About::Existing);
                }
            }
        }
        for action in self.clients.on_time(now) {
            match action {
                clients::Action::Transmit(transmit) => self.transmit(transmit),
                clients::Action::TimedOut(branch) => self.on_timed_out(now, branch),
            }
        }
        self.ask_carriers(now);
        for shard in self.shards.values_mut() {
            shard.on_time(now);
        }
        self.turn_away(now);
        self.flush(now);
    }

    /// When [`Control::on_time`] is due.
    pub fn wake_at(&self) -> Option<Millis> {
        let early = (!self.tenants.is_complete() && !self.turned_away)
            .then(|| self.begun.after(limits::NO_QUORUM_MS_MAX));
        let shards = self.shards.values().filter_map(Shard::next).min();
        let carriers = [self.health.next(), self.registrations.next()];
        let timers = [self.servers.next(), self.clients.next(), early, shards];
        timers.into_iter().chain(carriers).flatten().min()
    }

    /// The next thing to do, in order.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub fn status(&mut self, now: Millis) -> Status {
        let led = |(number, tenant): (u32, &Tenant)| Led {
            number,
            name: Arc::clone(&tenant.name),
            leader: self.leader(number),
        };
        let tenants: Vec<Led> = self.tenants.iter().map(led).collect();
        self.started |= tenants.iter().any(|led| led.leader.is_some());
        self.admission.settle(now);
        let takes_calls =
            self.tenants.iter().any(|(number, _)| !self.refuses_new_calls(now, number));
        Status {
            tenants,
            routing: self.tenants.is_complete(),
            started: self.started,
            refuses_new_calls: !takes_calls,
            overloaded: self.admission.new_calls_permille() < 1_000,
        }
    }

    /// The events of one shard that wait to be accepted.
    pub fn pending(&self, shard: u32) -> impl Iterator<Item = &GatewayEvent> {
        self.shards.get(&shard).into_iter().flat_map(|shard| shard.ledger.events())
    }

    /// Whether an event of that number waits to be accepted.
    pub fn waits_for(&self, shard: u32, sequence: u64) -> bool {
        self.shards.get(&shard).is_some_and(|shard| shard.ledger.holds(sequence))
    }

    /// No leader for too long: new calls to which nothing was said are answered here.
    fn turn_away(&mut self, now: Millis) {
        let (mut withdrawn, mut byes) = (Vec::new(), Vec::new());
        let servers = &self.servers;
        let silent = |transaction: &TransactionKey| servers.is_silent(&key_of(transaction));
        for (number, shard) in &mut self.shards {
            if shard.turns_away(now) {
                let calls = shard.ledger.withdraw_new_calls(silent);
                tracing::warn!(
                    tenant = number,
                    calls = calls.len(),
                    "no leader: new calls are refused"
                );
                withdrawn.extend(calls);
                byes.extend(shard.ledger.events().filter_map(bye_of));
            }
        }
        for (key, bye) in byes {
            self.honour_bye(now, &key, &bye);
        }
        for transaction in &withdrawn {
            self.refuse(now, transaction, limits::RETRY_AFTER_S);
        }
        if self.has_waited_for_routing(now) && !std::mem::replace(&mut self.turned_away, true) {
            tracing::warn!("no routing: new calls are refused");
            self.refuse_early(now);
        }
    }

    fn has_waited_for_routing(&self, now: Millis) -> bool {
        !self.tenants.is_complete() && now.since(self.begun) >= limits::NO_QUORUM_MS_MAX
    }

    /// Nobody has led for longer than calls may wait, or nobody has said whose they are.
    pub(crate) fn is_leaderless(&self, now: Millis, tenant: u32) -> bool {
        self.has_waited_for_routing(now)
            || self.shards.get(&tenant).is_some_and(|shard| shard.is_leaderless(now))
    }

    pub(crate) fn refuses_new_calls(&self, now: Millis, tenant: u32) -> bool {
        !self.tenants.is_complete() || self.is_leaderless(now, tenant)
    }

    /// Takes note of who leads what.
    pub(crate) fn note_leaders(&mut self, now: Millis) {
        for (number, _) in self.tenants.iter() {
            if let Some(shard) = self.shards.get_mut(&number) {
                shard.note_leader(now);
            }
        }
    }

    pub(crate) fn leader(&self, tenant: u32) -> Option<usize> {
        self.shards.get(&tenant)?.leader()
    }

    /// Puts an event on its way to the tenant that it is about.
    pub(crate) fn raise(&mut self, tenant: u32, event: GatewayEvent, about: About) {
        if self.try_raise(tenant, event, about).is_err() {
            metrics::counter!("tandem_link_events_dropped_total").increment(1);
            tracing::error!("TD0301 too many events wait for the cluster: one was dropped");
        }
    }

    pub(crate) fn try_raise(
        &mut self,
        tenant: u32,
        event: GatewayEvent,
        about: About,
    ) -> Result<(), Full> {
        if let (Some(_), Some(shard)) = (self.tenants.get(tenant), self.shards.get_mut(&tenant)) {
            return shard.ledger.push(event, about);
        }
        if self.tenants.is_complete() {
            // Of a tenant that is no more: nobody wants to hear of it.
            metrics::counter!("tandem_link_events_of_nobody_total").increment(1);
            return Ok(());
        }
        // A life that has just begun: the leader's effects, and what peers say to them, may be here before the
        // routing is.
        if self.early_events.len() >= limits::EARLY_MAX {
            return Err(Full);
        }
        self.early_events.push((tenant, event, about));
        Ok(())
    }

    /// 503 where the cluster does not keep up, to some of those who would make it more work. False
    /// where the request is to be taken.
    pub(crate) fn is_turned_away(
        &mut self,
        now: Millis,
        asks: Asks,
        transaction: &TransactionKey,
    ) -> bool {
        let turned_away = !self.admission.admits(now, asks);
        if turned_away {
            self.refuse_for_overload(now, transaction, limits::RETRY_AFTER_S);
        }
        turned_away
    }

    /// 503, and counted: there is too much to do.
    pub(crate) fn refuse_for_overload(
        &mut self,
        now: Millis,
        transaction: &TransactionKey,
        retry_after_s: u32,
    ) {
        metrics::counter!("tandem_sip_overload_refusals_total").increment(1);
        self.refuse(now, transaction, retry_after_s);
    }

    /// 503 in the cluster's place, to an INVITE or REGISTER that waits.
    pub(crate) fn refuse(&mut self, now: Millis, transaction: &TransactionKey, retry_after_s: u32) {
        let key = key_of(transaction);
        self.refused.note(&key);
        let answered =
            self.servers.refuse(now, &key, |request| edge::unavailable(request, retry_after_s));
        if let Some(transmit) = answered.transmit {
            count_response(503);
            self.transmit(transmit);
        }
    }

    pub(crate) fn transaction(&self, key: &Key) -> TransactionKey {
        TransactionKey {
            gateway: self.identity.name.clone(),
            branch: key.branch.as_str().into(),
            sent_by: key.sent_by.as_str().into(),
            method: key.method.as_str().into(),
        }
    }

    pub(crate) fn transmit(&mut self, transmit: Transmit) {
        self.outputs.push_back(Output::Transmit(transmit));
    }

    /// How much is held.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            servers: self.servers.len(),
            clients: self.clients.len(),
            timers: self.servers.timers() + self.clients.timers(),
            events: self.shards.values().map(|shard| shard.ledger.len()).sum(),
            kept: self.acks.len()
                + self.refused.len()
                + self.strays.len()
                + self.early.len()
                + self.early_events.len()
                + self.nonces.len()
                + self.notifies.len()
                + self.flows.len()
                + self.suspects.len(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge holds no integers")]
    pub fn set_gauges(&self) {
        let pending: usize = self.shards.values().map(|shard| shard.ledger.len()).sum();
        metrics::gauge!("tandem_sip_transactions_active", "side" => "server")
            .set(self.servers.len() as f64);
        metrics::gauge!("tandem_sip_transactions_active", "side" => "client")
            .set(self.clients.len() as f64);
        metrics::gauge!("tandem_link_pending_events").set(pending as f64);
        metrics::gauge!("tandem_sip_new_calls_admitted_ratio")
            .set(self.admission.new_calls_permille() as f64 / 1_000.0);
        metrics::gauge!("tandem_link_sessions").set(self.sessions.len() as f64);
        self.registrations.trunks().for_each(|(line, up)| registration::set_gauge(line, up));
        self.health.peers().for_each(|(target, up)| target.set_gauge(up));
    }
}

pub(crate) fn count_response(status: u16) {
    let class = match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "6xx",
    };
    metrics::counter!("tandem_sip_responses_total", "class" => class).increment(1);
}

/// The name of a transaction within this gateway.
pub(crate) fn key_of(transaction: &TransactionKey) -> Key {
    Key {
        branch: transaction.branch.to_string(),
        sent_by: transaction.sent_by.to_string(),
        method: transaction.method.to_string(),
    }
}
