//! Requests that were received and are not over (RFC 3261 §17.2).

use std::collections::HashMap;

use tandem_sip::reliable::{self, RAck};
use tandem_sip::transaction::{Event, InviteServer, Key, NonInviteServer, Output};
use tandem_sip::{Carrier, Headers, Method, Millis, Request, Response, Way};

use super::Transmit;
use super::wheel::Wheel;
use crate::limits;

/// What the ACK of a 2xx names (RFC 3261 §13.2.2.4): Call-ID, our tag, CSeq number.
pub type AckName = (String, String, u32);

/// What tells one request from another, whichever ways both have come (RFC 3261 §8.2.2.2): Call-ID,
/// From tag, CSeq number.
type CallName = (String, String, u32);

#[derive(Debug)]
struct Server {
    key: Key,
    tenant: u32,
    machine: Machine,
    way: Way,
    begun: Millis,
    /// Nothing was sent yet.
    silent: bool,
    /// Forgotten then, where no final answer came.
    over: Millis,
    /// Kept until the final answer, so that the gateway can refuse it by itself.
    request: Option<Box<Request>>,
    /// Set with a 2xx to an INVITE.
    ack: Option<AckName>,
    /// Set with a reliable 1xx: what its PRACK names.
    early: Option<AckName>,
    /// Of an INVITE that begins a call.
    call: Option<CallName>,
    /// The To tag of an INVITE's answers.
    tag: Option<String>,
    armed: Option<Millis>,
}

#[derive(Debug)]
enum Machine {
    Invite(InviteServer),
    Other(NonInviteServer),
}

/// What comes out of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Transmit(Transmit),
    /// No ACK came for the 2xx of this INVITE (RFC 3261 §13.3.1.4), or no PRACK for its 1xx
    /// (RFC 3262 §3).
    NoAck {
        key: Key,
        tenant: u32,
    },
}

/// What became of a response.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answered {
    pub transmit: Option<Transmit>,
    /// The first response, and how long after the request.
    pub first_after_ms: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Servers {
    by_id: HashMap<u64, Server>,
    ids: HashMap<Key, u64>,
    acks: HashMap<AckName, u64>,
    early: HashMap<AckName, u64>,
    /// The first of those INVITEs.
    calls: HashMap<CallName, u64>,
    last_id: u64,
    wheel: Wheel,
}

impl Servers {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn timers(&self) -> usize {
        self.wheel.len()
    }

    pub fn is_full(&self) -> bool {
        self.by_id.len() >= limits::TRANSACTIONS_MAX
    }

    /// What room is left is for the calls that live.
    pub fn has_room_for_calls(&self) -> bool {
        self.by_id.len() < limits::TRANSACTIONS_NEW_CALLS_MAX
    }

    pub fn knows(&self, key: &Key) -> bool {
        self.ids.contains_key(key)
    }

    /// A new request. The caller has asked [`Servers::knows`] and [`Servers::is_full`].
    pub fn begin(&mut self, now: Millis, key: Key, tenant: u32, request: Request, way: Way) {
        let id = self.insert(now, key, tenant, way);
        let call = call_name(&request);
        if let Some(name) = &call {
            self.calls.entry(name.clone()).or_insert(id);
        }
        if let Some(server) = self.by_id.get_mut(&id) {
            server.request = Some(Box::new(request));
            server.call = call;
        }
        self.arm(id);
    }

    fn insert(&mut self, now: Millis, key: Key, tenant: u32, way: Way) -> u64 {
        let machine = Machine::new(&key, way.carrier.is_reliable());
        self.last_id += 1;
        let id = self.last_id;
        let over = now.after(match machine {
            Machine::Invite(_) => limits::INVITE_MS_MAX,
            Machine::Other(_) => limits::REQUEST_MS_MAX,
        });
        self.ids.insert(key.clone(), id);
        self.by_id.insert(
            id,
            Server {
                key,
                tenant,
                machine,
                way,
                begun: now,
                silent: true,
                over,
                request: None,
                ack: None,
                early: None,
                call: None,
                tag: None,
                armed: None,
            },
        );
        id
    }

    /// A request that came before: what was answered is answered again.
    pub fn on_repeated(&mut self, key: &Key) -> Option<Transmit> {
        let server = self.by_id.get_mut(self.ids.get(key)?)?;
        let way = &server.way;
        let outputs = match &mut server.machine {
            Machine::Invite(machine) => machine.handle_retransmission(),
            Machine::Other(machine) => machine.handle_retransmission(),
        };
        outputs.into_iter().find_map(|output| transmit(output, way))
    }

    /// The INVITE of another transaction that waits for its answer came a second time by another
    /// way: somebody before us has forked it (RFC 3261 §8.2.2.2).
    ///
    /// Not where that one came over another connection: it may be gone, and its caller tries anew.
    pub fn is_merged(&self, key: &Key, invite: &Request, carrier: Carrier) -> bool {
        let first = call_name(invite).and_then(|name| self.calls.get(&name));
        first.and_then(|id| self.by_id.get(id)).is_some_and(|first| {
            let connection = first.way.carrier.connection();
            first.key != *key
                && first.request.is_some()
                && (connection.is_none() || connection == carrier.connection())
        })
    }

    /// True where the INVITE has no final answer yet; `None` where it is not known.
    pub fn is_pending(&self, invite: &Key) -> Option<bool> {
        let server = self.by_id.get(self.ids.get(invite)?)?;
        match &server.machine {
            Machine::Invite(machine) => Some(machine.is_pending()),
            Machine::Other(_) => None,
        }
    }

    /// Whose request it is.
    pub fn tenant_of(&self, key: &Key) -> Option<u32> {
        self.ids.get(key).and_then(|id| self.by_id.get(id)).map(|server| server.tenant)
    }

    /// The To tag of what was answered to the INVITE.
    pub fn tag_of(&self, invite: &Key) -> Option<&str> {
        self.by_id.get(self.ids.get(invite)?)?.tag.as_deref()
    }

    /// Nothing was said to this request yet, so nothing was promised.
    pub fn is_silent(&self, key: &Key) -> bool {
        self.ids.get(key).and_then(|id| self.by_id.get(id)).is_some_and(|server| server.silent)
    }

    /// An answer of the cluster's or our own. A transaction that this process does not know is of
    /// an earlier life, or another gateway's: it is adopted, where it is said whose it is and by which way.
    pub fn respond(
        &mut self,
        now: Millis,
        key: &Key,
        response: &Response,
        adopt: impl FnOnce() -> Option<(u32, Way)>,
    ) -> Answered {
        let id = match self.ids.get(key) {
            Some(id) => *id,
            None => {
                let Some((tenant, way)) = adopt() else { return Answered::default() };
                if self.is_full() {
                    let transmit = Some(Transmit { bytes: response.to_bytes(), way, ticket: None });
                    return Answered { transmit, first_after_ms: None };
                }
                let id = self.insert(now, key.clone(), tenant, way);
                if let Some(server) = self.by_id.get_mut(&id) {
                    // Nobody knows when its request came.
                    server.silent = false;
                }
                id
            }
        };
        let Some(server) = self.by_id.get_mut(&id) else { return Answered::default() };
        if let (None, Machine::Invite(_), Some(tag)) =
            (&server.tag, &server.machine, response.headers.to_tag())
        {
            server.tag = Some(tag.to_owned());
        }
        let way = &server.way;
        let outputs = match &mut server.machine {
            Machine::Invite(machine) => machine.handle_response(now, response),
            Machine::Other(machine) => machine.handle_response(now, response),
        };
        let transmit = outputs.into_iter().find_map(|output| transmit(output, way));
        let first = transmit.is_some() && std::mem::take(&mut server.silent);
        if transmit.is_some() && reliable::rseq(response).is_some() && server.early.is_none() {
            let name = ack_name(&response.headers, response.headers.cseq.number);
            server.early = Some(name.clone());
            self.early.insert(name, id);
        }
        if transmit.is_some() && !response.is_provisional() {
            server.request = None;
            if response.is_success() && matches!(server.machine, Machine::Invite(_)) {
                let name = ack_name(&response.headers, response.headers.cseq.number);
                server.ack = Some(name.clone());
                self.acks.insert(name, id);
            }
        }
        let first_after_ms = first.then(|| now.since(server.begun));
        self.arm(id);
        Answered { transmit, first_after_ms }
    }

    /// The gateway's own refusal, made from the request that waits.
    pub fn refuse(
        &mut self,
        now: Millis,
        key: &Key,
        refusal: impl FnOnce(&Request) -> Response,
    ) -> Answered {
        let server = self.ids.get(key).and_then(|id| self.by_id.get(id));
        let Some(request) = server.and_then(|server| server.request.as_deref()) else {
            return Answered::default();
        };
        let response = refusal(request);
        self.respond(now, key, &response, || None)
    }

    /// An ACK. `Some` with what it names where it is the first for a 2xx.
    pub fn on_ack(&mut self, now: Millis, key: &Key, ack: &Request) -> AckOf {
        let name = ack_name(&ack.headers, ack.headers.cseq.number);
        let id = self.ids.get(key).or_else(|| self.acks.get(&name)).copied();
        let Some(server) = id.and_then(|id| self.by_id.get_mut(&id)) else {
            return AckOf::Unknown;
        };
        let first = match &mut server.machine {
            Machine::Invite(machine) => machine.handle_ack(now),
            Machine::Other(_) => return AckOf::Unknown,
        };
        // It names another answer than ours: a refusal that somebody else gave, or this gateway
        // before it took the INVITE. The caller waits for nothing more.
        let refused = server.ack.as_ref().is_some_and(|answered| *answered != name);
        let success = server.ack.is_some();
        if let Some(id) = id {
            self.arm(id);
        }
        match (success, first) {
            (true, true) if refused => AckOf::Refusal,
            (true, true) => AckOf::Success,
            (true, false) => AckOf::Repeated,
            (false, _) => AckOf::Failure,
        }
    }

    /// A PRACK: what it acknowledges is repeated no more.
    pub fn on_prack(&mut self, prack: &Request) {
        let Some(rack) = RAck::of(prack) else { return };
        let name = ack_name(&prack.headers, rack.cseq);
        let Some(id) = self.early.get(&name).copied() else { return };
        if let Some(Server { machine: Machine::Invite(machine), .. }) = self.by_id.get_mut(&id) {
            machine.handle_prack(rack.rseq);
        }
        self.arm(id);
    }

    /// As if the request had been lost.
    pub fn forget(&mut self, key: &Key) {
        if let Some(id) = self.ids.get(key) {
            self.remove(*id);
        }
    }

    pub fn next(&self) -> Option<Millis> {
        self.wheel.next()
    }

    /// What is due by now.
    pub fn on_time(&mut self, now: Millis) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(id) = self.wheel.pop_due(now) {
            let Some(server) = self.by_id.get_mut(&id) else { continue };
            server.armed = None;
            let outputs = match &mut server.machine {
                Machine::Invite(machine) => machine.handle_timeout(now),
                Machine::Other(machine) => machine.handle_timeout(now),
            };
            let acknowledged_late = server.ack.is_some();
            for output in outputs {
                match output {
                    Output::Transmit(bytes) => {
                        let way = server.way.clone();
                        actions.push(Action::Transmit(Transmit { bytes, way, ticket: None }));
                    }
                    // Of a failure nobody needs to hear (RFC 3261 §17.2.1, timer H).
                    Output::ToUser(Event::NoAck) if acknowledged_late => {
                        let (key, tenant) = (server.key.clone(), server.tenant);
                        actions.push(Action::NoAck { key, tenant });
                    }
                    Output::ToUser(Event::NoPrack) => {
                        let (key, tenant) = (server.key.clone(), server.tenant);
                        actions.push(Action::NoAck { key, tenant });
                    }
                    Output::ToUser(Event::NoAck | Event::TimedOut | Event::Response(_)) => {}
                }
            }
            let waited = server.machine.deadline().is_none() && now >= server.over;
            if server.machine.is_terminated() || waited {
                self.remove(id);
            } else {
                self.arm(id);
            }
        }
        actions
    }

    fn arm(&mut self, id: u64) {
        let Some(server) = self.by_id.get_mut(&id) else { return };
        if server.machine.is_terminated() {
            self.remove(id);
            return;
        }
        let deadline = server.machine.deadline().unwrap_or(server.over);
        self.wheel.arm(id, &mut server.armed, deadline);
    }

    fn remove(&mut self, id: u64) {
        let Some(server) = self.by_id.remove(&id) else { return };
        self.ids.remove(&server.key);
        if let Some(name) = server.call
            && self.calls.get(&name) == Some(&id)
        {
            self.calls.remove(&name);
        }
        if let Some(name) = server.early
            && self.early.get(&name) == Some(&id)
        {
            self.early.remove(&name);
        }
        if let Some(name) = server.ack
            && self.acks.get(&name) == Some(&id)
        {
            self.acks.remove(&name);
        }
    }
}

/// What an ACK belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckOf {
    /// A 2xx, for the first time.
    Success,
    /// A 2xx that was acknowledged before.
    Repeated,
    /// A failure: the transaction's own business.
    Failure,
    /// A failure, and we have answered with a 2xx: for the first time.
    Refusal,
    Unknown,
}

impl Machine {
    fn new(key: &Key, reliable: bool) -> Self {
        if key.method == Method::Invite.as_str() {
            Self::Invite(InviteServer::new(reliable))
        } else {
            Self::Other(NonInviteServer::new(reliable))
        }
    }

    fn deadline(&self) -> Option<Millis> {
        match self {
            Self::Invite(machine) => machine.deadline(),
            Self::Other(machine) => machine.deadline(),
        }
    }

    fn is_terminated(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.is_terminated(),
            Self::Other(machine) => machine.is_terminated(),
        }
    }
}

fn ack_name(headers: &Headers, cseq: u32) -> AckName {
    let tag = headers.to_tag().unwrap_or_default().to_owned();
    (headers.call_id.clone(), tag, cseq)
}

fn call_name(request: &Request) -> Option<CallName> {
    let headers = &request.headers;
    let begins = request.method == Method::Invite && !request.is_in_dialog();
    let tag = headers.from_tag().filter(|_| begins)?;
    Some((headers.call_id.clone(), tag.to_owned(), headers.cseq.number))
}

fn transmit(output: Output, way: &Way) -> Option<Transmit> {
    match output {
        Output::Transmit(bytes) => Some(Transmit { bytes, way: way.clone(), ticket: None }),
        Output::ToUser(_) => None,
    }
}
