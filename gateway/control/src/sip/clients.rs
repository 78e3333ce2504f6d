//! Requests that were sent and are not over (RFC 3261 §17.1).

use std::collections::HashMap;
use std::net::SocketAddr;

use tandem_sip::transaction::{Event, InviteClient, NonInviteClient, Output};
use tandem_sip::{Method, Millis, Request, Response};

use super::Transmit;
use super::wheel::Wheel;
use crate::limits;

/// Different responses of one transaction that are remembered; a fork has this many branches.
const SEEN_MAX: usize = 16;

/// A CANCEL has the branch of its INVITE, so the method belongs to the name (RFC 3261 §17.1.3).
type Name = (String, String);

#[derive(Debug)]
struct Client {
    name: Name,
    machine: Machine,
    destination: SocketAddr,
    over: Millis,
    /// Status class and To tag of what was reported.
    seen: Vec<(u16, String)>,
    armed: Option<Millis>,
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

    /// Sends a request. One that is under way already is not sent again: its own timers do that.
    pub fn send(&mut self, now: Millis, request: Request, to: SocketAddr) -> Option<Transmit> {
        let name = (request.headers.branch().to_owned(), request.method.as_str().to_owned());
        if self.ids.contains_key(&name) {
            return None;
        }
        if self.by_id.len() >= limits::TRANSACTIONS_MAX {
            // Without a machine it is sent once; the core's own deadlines see to the rest.
            return Some(Transmit { bytes: request.to_bytes(), to });
        }
        let (machine, outputs, over) = if request.method == Method::Invite {
            let (machine, outputs) = InviteClient::start(now, request, false);
            let over = now.after(limits::INVITE_MS_MAX);
            (Machine::Invite(Box::new(machine)), outputs, over)
        } else {
            let (machine, outputs) = NonInviteClient::start(now, &request, false);
            (Machine::Other(machine), outputs, now.after(limits::REQUEST_MS_MAX))
        };
        self.last_id += 1;
        let id = self.last_id;
        let client = Client {
            name: name.clone(),
            machine,
            destination: to,
            over,
            seen: Vec::new(),
            armed: None,
        };
        self.ids.insert(name, id);
        self.by_id.insert(id, client);
        self.arm(id);
        outputs.into_iter().find_map(|output| transmit(output, to))
    }

    /// A response, and what is to be sent for it: the ACK of a failure.
    pub fn on_response(&mut self, now: Millis, response: &Response) -> (News, Option<Transmit>) {
        let headers = &response.headers;
        let name = (headers.branch().to_owned(), headers.cseq.method.as_str().to_owned());
        let Some(id) = self.ids.get(&name).copied() else { return (News::Unknown, None) };
        let Some(client) = self.by_id.get_mut(&id) else { return (News::Unknown, None) };
        let to = client.destination;
        let outputs = match &mut client.machine {
            Machine::Invite(machine) => machine.handle_response(now, response),
            Machine::Other(machine) => machine.handle_response(now, response),
        };
        let mut told = false;
        let mut ack = None;
        for output in outputs {
            match output {
                Output::Transmit(bytes) => ack = Some(Transmit { bytes, to }),
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
                        actions.push(Action::Transmit(Transmit { bytes, to: client.destination }));
                    }
                    Output::ToUser(Event::TimedOut) => {
                        actions.push(Action::TimedOut(client.name.0.clone()));
                    }
                    Output::ToUser(Event::NoAck | Event::Response(_)) => {}
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
        let what = (class, tag);
        if self.seen.contains(&what) {
            return if class == 200 && invite { News::RepeatedSuccess } else { News::Nothing };
        }
        if self.seen.len() >= SEEN_MAX {
            return News::Nothing;
        }
        self.seen.push(what);
        News::New
    }
}

impl Machine {
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

fn transmit(output: Output, to: SocketAddr) -> Option<Transmit> {
    match output {
        Output::Transmit(bytes) => Some(Transmit { bytes, to }),
        Output::ToUser(_) => None,
    }
}
