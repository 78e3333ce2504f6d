//! Requests that were sent and are not over (RFC 3261 §17.1).

use std::collections::HashMap;

use tandem_sip::transaction::{
    Event, InviteClient, InviteClientStage, NonInviteClient, NonInviteClientStage, Output,
};
use tandem_sip::{Method, Millis, Request, Response, Ticket, Way, reliable};

use super::wheel::Wheel;
use super::{Transmit, over, too_long_for_udp};
use crate::limits;

/// Different responses of one transaction that are remembered; a fork has this many branches.
const SEEN_MAX: usize = 16;

/// A CANCEL has the branch of its INVITE, so the method belongs to the name (RFC 3261 §17.1.3).
type Name = (String, String);

#[derive(Debug)]
struct Client {
    name: Name,
    machine: Machine,
    way: Way,
    /// As it goes by UDP, where it is only too long for it: not every peer listens for
    /// connections.
    by_udp: Option<Box<Request>>,
    over: Millis,
    seen: Vec<Seen>,
    armed: Option<Millis>,
}

/// What was reported.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    class: u16,
    tag: String,
    rseq: Option<u32>,
    /// A provisional one that describes audio says more than the one before it that did not.
    described: bool,
}

#[derive(Debug)]
enum Machine {
    Invite(Box<InviteClient>),
    Other(NonInviteClient),
}

/// What a response means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The cluster shall know.
    New,
    /// A 2xx that came before: its ACK is sent again.
    RepeatedSuccess,
    /// Nothing that anybody needs to know.
    Nothing,
    /// It answers nothing that this process has sent.
    Unknown,
}

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Transmit(Transmit),
    /// Timer B or F, by the branch.
    TimedOut(String),
}

#[derive(Debug, Default)]
pub struct Clients {
    by_id: HashMap<u64, Client>,
    ids: HashMap<Name, u64>,
    last_id: u64,
    wheel: Wheel,
}

impl Clients {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn timers(&self) -> usize {
        self.wheel.len()
    }

    /// Sends a request. One that is under way already is not sent again: its own timers do that.
    pub fn send(&mut self, now: Millis, request: Request, way: Way) -> Option<Transmit> {
        let name = (request.headers.branch().to_owned(), request.method.as_str().to_owned());
        if self.ids.contains_key(&name) {
            return None;
        }
        let (request, mut way) = self.like_its_invite(request, way);
        if self.by_id.len() >= limits::TRANSACTIONS_MAX {
            // Without a machine it is sent once; the core's own deadlines see to the rest.
            return Some(Transmit { bytes: request.to_bytes(), way, ticket: None });
        }
        let (mut machine, mut bytes) = Machine::start(now, request.clone(), &way);
        let mut by_udp = None;
        if let Some((longer, connection)) = too_long_for_udp(&request, &bytes, &way) {
            (machine, bytes) = Machine::start(now, longer, &connection);
            (way, by_udp) = (connection, Some(Box::new(request)));
        }
        let over = now.after(match &machine {
            Machine::Invite(_) => limits::INVITE_MS_MAX,
            Machine::Other(_) => limits::REQUEST_MS_MAX,
        });
        self.last_id += 1;
        let id = self.last_id;
        let client = Client {
            name: name.clone(),
            machine,
            way: way.clone(),
            by_udp,
            over,
            seen: Vec::new(),
            armed: None,
        };
        self.ids.insert(name, id);
        self.by_id.insert(id, client);
        self.arm(id);
        Some(Transmit { bytes, way, ticket: Some(Ticket(id)) })
    }

    /// Whoever asked waits no longer: the request is not repeated any more.
    pub fn forget(&mut self, branch: &str, method: &Method) {
        let name = (branch.to_owned(), method.as_str().to_owned());
        if let Some(id) = self.ids.get(&name).copied() {
            self.remove(id);
        }
    }

    /// A CANCEL goes the way of its INVITE (RFC 3261 §9.1).
    fn like_its_invite(&self, request: Request, way: Way) -> (Request, Way) {
        if request.method != Method::Cancel {
            return (request, way);
        }
        let name = (request.headers.branch().to_owned(), Method::Invite.as_str().to_owned());
        let invite = self.ids.get(&name).and_then(|id| self.by_id.get(id));
        match invite {
            Some(invite) => (over(request, &invite.way), invite.way.clone()),
            None => (request, way),
        }
    }

    /// The request could not be delivered, or its connection was closed and nobody has answered
    /// yet. `opened`: on a connection that was opened for it.
    pub fn on_undelivered(&mut self, now: Millis, ticket: Ticket, opened: bool) -> Option<Action> {
        let id = ticket.0;
        let client = self.by_id.get_mut(&id)?;
        if !client.machine.is_unanswered() {
            // The peer has it, and has more than one way to answer (RFC 3261 §18.2.2).
            return None;
        }
        let named = client.way.carrier.connection().is_some();
        let again = match (client.by_udp.take(), client.way.anew()) {
            (Some(request), _) => {
                client.way = Way::udp(client.way.to);
                let (machine, bytes) = Machine::start(now, *request, &client.way);
                client.machine = machine;
                Some(bytes)
            }
            (None, Some(anew)) if named && !opened => {
                client.way = anew;
                client.machine.again(now)
            }
            (None, _) => None,
        };
        if let Some(bytes) = again {
            let way = client.way.clone();
            self.arm(id);
            return Some(Action::Transmit(Transmit { bytes, way, ticket: Some(ticket) }));
        }
        let timed_out = client.machine.fail();
        let branch = client.name.0.clone();
        self.arm(id);
        timed_out.then_some(Action::TimedOut(branch))
    }

    /// A response, and what is to be sent for it: the ACK of a failure.
    pub fn on_response(&mut self, now: Millis, response: &Response) -> (News, Option<Transmit>) {
        let headers = &response.headers;
        let name = (headers.branch().to_owned(), headers.cseq.method.as_str().to_owned());
        let Some(id) = self.ids.get(&name).copied() else { return (News::Unknown, None) };
        let Some(client) = self.by_id.get_mut(&id) else { return (News::Unknown, None) };
        let way = client.way.clone();
        let outputs = match &mut client.machine {
            Machine::Invite(machine) => machine.handle_response(now, response),
            Machine::Other(machine) => machine.handle_response(now, response),
        };
        let mut told = false;
        let mut ack = None;
        for output in outputs {
            match output {
                Output::Transmit(bytes) => {
                    ack = Some(Transmit { bytes, way: way.clone(), ticket: None });
                }
                Output::ToUser(_) => told = true,
            }
        }
        let news = if told { client.judge(response) } else { News::Nothing };
        self.arm(id);
        (news, ack)
    }

    pub fn next(&self) -> Option<Millis> {
        self.wheel.next()
    }

    /// What is due by now.
    pub fn on_time(&mut self, now: Millis) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(id) = self.wheel.pop_due(now) {
            let Some(client) = self.by_id.get_mut(&id) else { continue };
            client.armed = None;
            let outputs = match &mut client.machine {
                Machine::Invite(machine) => machine.handle_timeout(now),
                Machine::Other(machine) => machine.handle_timeout(now),
            };
            for output in outputs {
                match output {
                    Output::Transmit(bytes) => {
                        let (way, ticket) = (client.way.clone(), Some(Ticket(id)));
                        actions.push(Action::Transmit(Transmit { bytes, way, ticket }));
                    }
                    Output::ToUser(Event::TimedOut) => {
                        actions.push(Action::TimedOut(client.name.0.clone()));
                    }
                    Output::ToUser(Event::NoAck | Event::NoPrack | Event::Response(_)) => {}
                }
            }
            let waited = client.machine.deadline().is_none() && now >= client.over;
            if waited {
                actions.push(Action::TimedOut(client.name.0.clone()));
            }
            if waited || client.machine.is_terminated() {
                self.remove(id);
            } else {
                self.arm(id);
            }
        }
        actions
    }

    fn arm(&mut self, id: u64) {
        let Some(client) = self.by_id.get_mut(&id) else { return };
        if client.machine.is_terminated() {
            self.remove(id);
            return;
        }
        let deadline = client.machine.deadline().unwrap_or(client.over);
        self.wheel.arm(id, &mut client.armed, deadline);
    }

    fn remove(&mut self, id: u64) {
        if let Some(client) = self.by_id.remove(&id) {
            self.ids.remove(&client.name);
        }
    }
}

impl Client {
    /// What the cluster need not hear: 100, which says only that the next hop lives; what an
    /// answer to a CANCEL says; and whatever it has heard before.
    fn judge(&mut self, response: &Response) -> News {
        let invite = matches!(self.machine, Machine::Invite(_));
        let cancel = self.name.1 == Method::Cancel.as_str();
        if response.status == 100 || cancel || (!invite && response.is_provisional()) {
            return News::Nothing;
        }
        let class = if response.is_success() { 200 } else { response.status };
        let tag = response.headers.to_tag().unwrap_or_default().to_owned();
        let rseq = reliable::rseq(response);
        let described = response.is_provisional() && !response.body.is_empty();
        let what = Seen { class, tag, rseq, described };
        if self.seen.contains(&what) {
            return if class == 200 && invite { News::RepeatedSuccess } else { News::Nothing };
        }
        if self.seen.len() >= SEEN_MAX {
            if rseq.is_none() {
                return News::Nothing;
            }
            // Each waits for the PRACK of the one before it: the oldest comes no more.
            self.seen.remove(0);
        }
        self.seen.push(what);
        News::New
    }
}

impl Machine {
    /// With the bytes of the first transmission.
    fn start(now: Millis, request: Request, way: &Way) -> (Self, Vec<u8>) {
        let reliable = way.carrier.is_reliable();
        let (machine, outputs) = if request.method == Method::Invite {
            let (machine, outputs) = InviteClient::start(now, request, reliable);
            (Self::Invite(Box::new(machine)), outputs)
        } else {
            let (machine, outputs) = NonInviteClient::start(now, &request, reliable);
            (Self::Other(machine), outputs)
        };
        let bytes = outputs.into_iter().find_map(first_bytes);
        (machine, bytes.unwrap_or_default())
    }

    /// Begins anew, over another connection.
    fn again(&mut self, now: Millis) -> Option<Vec<u8>> {
        let outputs = match self {
            Self::Invite(machine) => {
                let (again, outputs) = InviteClient::adopt(now, machine.snapshot()?);
                **machine = again;
                outputs
            }
            Self::Other(machine) => {
                let (again, outputs) = NonInviteClient::adopt(now, machine.snapshot()?);
                *machine = again;
                outputs
            }
        };
        outputs.into_iter().find_map(first_bytes)
    }

    /// Nothing at all was heard from the peer.
    fn is_unanswered(&self) -> bool {
        match self {
            Self::Invite(machine) => {
                machine.snapshot().is_some_and(|s| s.stage == InviteClientStage::Calling)
            }
            Self::Other(machine) => {
                machine.snapshot().is_some_and(|s| s.stage == NonInviteClientStage::Trying)
            }
        }
    }

    /// The transport has failed (RFC 3261 §17.1.4); true where the user is to be told.
    fn fail(&mut self) -> bool {
        let outputs = match self {
            Self::Invite(machine) => machine.handle_transport_error(),
            Self::Other(machine) => machine.handle_transport_error(),
        };
        outputs.contains(&Output::ToUser(Event::TimedOut))
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

fn first_bytes(output: Output) -> Option<Vec<u8>> {
    match output {
        Output::Transmit(bytes) => Some(bytes),
        Output::ToUser(_) => None,
    }
}
