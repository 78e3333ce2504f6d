//! The one task that owns the gateway's state: transactions, pending events, fences. Whatever
//! happens comes to it as a message, so that nothing here needs a lock.

mod effects;
mod nodes;
mod requests;
mod responses;
mod shard;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem_core::command::{GatewayEvent, TransactionKey};
use tandem_core::ids::GatewayId;
use tandem_core::wire;
use tandem_sip::transaction::Key;
use tandem_sip::{Message, Millis, Response};
use tandem_wire::{Received, Socket};
use tokio::sync::{mpsc, watch};

use crate::limits;
use crate::link::client::Input;
use crate::link::ledger::{About, Full};
use crate::link::pb;
use crate::media::Media;
use crate::sip::acks::Acks;
use crate::sip::clients::Clients;
use crate::sip::registrar::Registrar;
use crate::sip::servers::Servers;
use crate::sip::{Transmit, clients, servers};

use shard::Shard;

/// Messages of one kind that are handled before others get their turn.
const TURN_MAX: usize = 64;
/// How often gauges are set.
const GAUGES_MS: u64 = 1_000;

/// Who this gateway is.
#[derive(Clone, Debug)]
pub struct Identity {
    pub name: GatewayId,
    pub vip: SocketAddr,
    /// Names of the nodes, in the order of the sessions.
    pub nodes: Vec<String>,
}

/// What others in the process may know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The node that leads the tenant's shard, by its place in the options.
    pub leader: Option<usize>,
    pub routing: bool,
    /// A leader was known once.
    pub started: bool,
    /// New calls are answered 503 for want of a leader.
    pub refuses_new_calls: bool,
}

/// Where messages come from.
pub struct Inputs {
    pub wire: mpsc::Receiver<Received>,
    pub link: mpsc::Receiver<Input>,
    pub media: mpsc::Receiver<GatewayEvent>,
}

pub struct Control {
    identity: Identity,
    socket: Arc<Socket>,
    media: Box<dyn Media>,
    status: watch::Sender<Status>,
    /// The origin of [`Millis`] here: time that never jumps.
    epoch: Instant,
    servers: Servers,
    clients: Clients,
    acks: Acks,
    strays: Strays,
    shards: BTreeMap<u32, Shard>,
    /// The way up to each node with a session.
    ups: Vec<Option<mpsc::Sender<pb::Up>>>,
    /// The tenant's shard and who may register, once a node has said it.
    routing: Option<Routing>,
    leaderless_since: Option<Millis>,
    /// New calls that waited for a leader were turned away.
    turned_away: bool,
    nonce_counter: u64,
    gauges_at: Millis,
}

struct Routing {
    shard: u32,
    registrar: Registrar,
}

/// Responses to requests of an earlier life of this gateway: each is reported once.
#[derive(Debug, Default)]
struct Strays {
    known: HashSet<(String, u16, String)>,
    order: VecDeque<(String, u16, String)>,
}

impl Strays {
    /// True where it is new.
    fn note(&mut self, response: &Response) -> bool {
        let headers = &response.headers;
        let tag = headers.to_tag().unwrap_or_default().to_owned();
        let name = (headers.branch().to_owned(), response.status, tag);
        if !self.known.insert(name.clone()) {
            return false;
        }
        self.order.push_back(name);
        if self.order.len() > limits::STRAYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl Control {
    pub fn new(
        identity: Identity,
        socket: Arc<Socket>,
        media: Box<dyn Media>,
        status: watch::Sender<Status>,
    ) -> Self {
        let ups = identity.nodes.iter().map(|_| None).collect();
        Self {
            identity,
            socket,
            media,
            status,
            epoch: Instant::now(),
            servers: Servers::default(),
            clients: Clients::default(),
            acks: Acks::default(),
            strays: Strays::default(),
            shards: BTreeMap::new(),
            ups,
            routing: None,
            leaderless_since: Some(Millis(0)),
            turned_away: false,
            nonce_counter: 0,
            gauges_at: Millis(0),
        }
    }

    /// Until one of the sources is gone.
    pub async fn run(mut self, mut inputs: Inputs) {
        loop {
            let wake = self.wake_at();
            tokio::select! {
                input = inputs.link.recv() => match input {
                    Some(input) => self.on_link(input),
                    None => return,
                },
                received = inputs.wire.recv() => match received {
                    Some(received) => self.on_received(received),
                    None => return,
                },
                Some(event) = inputs.media.recv() => self.raise(&event, About::Existing),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            for _ in 0..TURN_MAX {
                let Ok(input) = inputs.link.try_recv() else { break };
                self.on_link(input);
            }
            for _ in 0..TURN_MAX {
                let Ok(received) = inputs.wire.try_recv() else { break };
                self.on_received(received);
            }
            self.on_time();
            self.flush();
        }
    }

    fn now(&self) -> Millis {
        let elapsed = self.epoch.elapsed().as_millis();
        Millis(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    fn wake_at(&self) -> Instant {
        let leaderless = self
            .leaderless_since
            .filter(|_| !self.turned_away)
            .map(|since| since.after(limits::NO_QUORUM_MS_MAX));
        let shards = self.shards.values().filter_map(Shard::next).min();
        let next = [self.servers.next(), self.clients.next(), leaderless, shards]
            .into_iter()
            .flatten()
            .fold(self.gauges_at, Millis::min);
        // A millisecond is counted when it is over: waking within it would find nothing due.
        self.epoch + Duration::from_millis(next.0)
    }

    fn on_received(&mut self, received: Received) {
        match received.message {
            Message::Request(request) => self.on_request(&received.flow, request),
            Message::Response(response) => self.on_response(response),
        }
    }

    /// Whatever is due.
    fn on_time(&mut self) {
        let now = self.now();
        for action in self.servers.on_time(now) {
            match action {
                servers::Action::Transmit(transmit) => self.transmit(&transmit),
                servers::Action::NoAck(key) => {
                    let transaction = self.transaction(&key);
                    self.raise(&GatewayEvent::AckTimeout { transaction }, About::Existing);
                }
            }
        }
        for action in self.clients.on_time(now) {
            match action {
                clients::Action::Transmit(transmit) => self.transmit(&transmit),
                clients::Action::TimedOut(branch) => {
                    self.raise(&GatewayEvent::ClientTimeout { branch }, About::Existing);
                }
            }
        }
        for shard in self.shards.values_mut() {
            shard.on_time(now);
        }
        if self.is_leaderless() && !self.turned_away {
            self.turn_away();
        }
        if now >= self.gauges_at {
            self.gauges_at = now.after(GAUGES_MS);
            self.set_gauges();
        }
    }

    /// No leader for too long: new calls to which nothing was said are answered here.
    fn turn_away(&mut self) {
        self.turned_away = true;
        let (mut unseen, mut seen) = (Vec::new(), Vec::new());
        for shard in self.shards.values_mut() {
            let servers = &self.servers;
            let silent = |transaction: &TransactionKey| servers.is_silent(&key_of(transaction));
            let withdrawn = shard.ledger.withdraw_new_calls(silent);
            unseen.extend(withdrawn.unseen);
            seen.extend(withdrawn.seen);
        }
        let calls = unseen.len() + seen.len();
        tracing::warn!(calls, "no leader: new calls are refused");
        for transaction in unseen.iter().chain(&seen) {
            self.refuse(transaction, limits::RETRY_AFTER_S);
        }
        // A leader has these INVITEs and may commit them yet. Behind each comes that its caller is
        // gone: the one event where the call is not answered by then, the other where it is.
        for transaction in seen {
            let cancel = GatewayEvent::Cancel { transaction: transaction.clone() };
            self.raise(&cancel, About::Existing);
            self.raise(&GatewayEvent::AckTimeout { transaction }, About::Existing);
        }
        self.tell_status();
    }

    /// Nobody has led for longer than calls may wait.
    fn is_leaderless(&self) -> bool {
        self.leaderless_since
            .is_some_and(|since| self.now().since(since) >= limits::NO_QUORUM_MS_MAX)
    }

    fn refuses_new_calls(&self) -> bool {
        self.routing.is_none() || self.is_leaderless()
    }

    /// Puts an event on its way to the tenant's shard.
    fn raise(&mut self, event: &GatewayEvent, about: About) {
        // Without routing there is no call, so there is nothing to tell.
        if self.try_raise(event, about).is_err() {
            metrics::counter!("tandem_link_events_dropped_total").increment(1);
            tracing::error!("TD0301 too many events wait for the cluster: one was dropped");
        }
    }

    fn try_raise(&mut self, event: &GatewayEvent, about: About) -> Result<(), Full> {
        let shard = self.routing.as_ref().map(|routing| routing.shard);
        match shard.and_then(|shard| self.shards.get_mut(&shard)) {
            Some(shard) => shard.ledger.push(wire::encode_event(event), about),
            None => Err(Full),
        }
    }

    /// 503 in the cluster's place, to an INVITE or REGISTER that waits.
    fn refuse(&mut self, transaction: &TransactionKey, retry_after_s: u32) {
        let now = self.now();
        let answered = self.servers.refuse(now, &key_of(transaction), |request| {
            crate::sip::edge::unavailable(request, retry_after_s)
        });
        if let Some(transmit) = answered.transmit {
            count_response(503);
            self.transmit(&transmit);
        }
    }

    fn transaction(&self, key: &Key) -> TransactionKey {
        TransactionKey {
            gateway: self.identity.name.clone(),
            branch: key.branch.as_str().into(),
            sent_by: key.sent_by.as_str().into(),
            method: key.method.as_str().into(),
        }
    }

    fn transmit(&self, transmit: &Transmit) {
        self.socket.send(&transmit.bytes, transmit.to);
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge holds no integers")]
    fn set_gauges(&self) {
        let pending: usize = self.shards.values().map(|shard| shard.ledger.len()).sum();
        metrics::gauge!("tandem_sip_transactions_active", "side" => "server")
            .set(self.servers.len() as f64);
        metrics::gauge!("tandem_sip_transactions_active", "side" => "client")
            .set(self.clients.len() as f64);
        metrics::gauge!("tandem_link_pending_events").set(pending as f64);
        metrics::gauge!("tandem_link_sessions").set(self.ups.iter().flatten().count() as f64);
    }
}

fn count_response(status: u16) {
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
fn key_of(transaction: &TransactionKey) -> Key {
    Key {
        branch: transaction.branch.to_string(),
        sent_by: transaction.sent_by.to_string(),
        method: transaction.method.to_string(),
    }
}
