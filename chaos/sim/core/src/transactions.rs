//! The machines of RFC 3261 §17 with the values that they send: used by all peers.

use std::rc::Rc;

use tandem_sip::dialog::ack_for_failure;
use tandem_sip::sdp::Audio;
use tandem_sip::transaction::{
    Event, InviteClient, InviteServer, NonInviteClient, NonInviteServer, Output,
};
use tandem_sip::{Headers, Method, Millis, Request, Response};

use crate::packet::Packet;

/// A request that was sent.
#[derive(Debug)]
pub struct Client {
    machine: ClientMachine,
    pub request: Rc<Request>,
    packet: Rc<Packet>,
    ack: Option<Rc<Packet>>,
}

#[derive(Debug)]
enum ClientMachine {
    Invite(Box<InviteClient>),
    Other(NonInviteClient),
}

#[derive(Debug, Default)]
pub struct Answered {
    pub transmit: Option<Rc<Packet>>,
    /// The transaction's user is told.
    pub told: bool,
}

#[derive(Debug, Default)]
pub struct Timed {
    pub transmit: Option<Rc<Packet>>,
    /// Timer B, F or H, or no PRACK came.
    pub over: bool,
}

impl Client {
    pub fn start(
        now: Millis,
        request: Rc<Request>,
        audio: Option<Audio>,
        reliable: bool,
    ) -> (Self, Rc<Packet>) {
        let request = with_audio(request, audio);
        let (machine, outputs) = if request.method == Method::Invite {
            let (machine, outputs) = InviteClient::start(now, (*request).clone(), reliable);
            (ClientMachine::Invite(Box::new(machine)), outputs)
        } else {
            let (machine, outputs) = NonInviteClient::start(now, &request, reliable);
            (ClientMachine::Other(machine), outputs)
        };
        let bytes = sent(&outputs).unwrap_or_default();
        let packet = Packet::request(Rc::clone(&request), bytes);
        (Self { machine, request, packet: Rc::clone(&packet), ack: None }, packet)
    }

    pub fn on_response(&mut self, now: Millis, response: &Response) -> Answered {
        let outputs = match &mut self.machine {
            ClientMachine::Invite(machine) => machine.handle_response(now, response),
            ClientMachine::Other(machine) => machine.handle_response(now, response),
        };
        let mut answered = Answered::default();
        for output in &outputs {
            match output {
                Output::Transmit(bytes) => {
                    let ack = self.ack.get_or_insert_with(|| {
                        let ack = Rc::new(ack_for_failure(&self.request, response));
                        Packet::request(ack, bytes)
                    });
                    answered.transmit = Some(Rc::clone(ack));
                }
                Output::ToUser(_) => answered.told = true,
            }
        }
        answered
    }

    pub fn on_time(&mut self, now: Millis) -> Timed {
        let outputs = match &mut self.machine {
            ClientMachine::Invite(machine) => machine.handle_timeout(now),
            ClientMachine::Other(machine) => machine.handle_timeout(now),
        };
        let mut timed = Timed::default();
        for output in outputs {
            match output {
                Output::Transmit(_) => timed.transmit = Some(Rc::clone(&self.packet)),
                Output::ToUser(Event::TimedOut) => timed.over = true,
                Output::ToUser(Event::NoAck | Event::NoPrack | Event::Response(_)) => {}
            }
        }
        timed
    }

    pub fn deadline(&self) -> Option<Millis> {
        match &self.machine {
            ClientMachine::Invite(machine) => machine.deadline(),
            ClientMachine::Other(machine) => machine.deadline(),
        }
    }

    pub fn is_terminated(&self) -> bool {
        match &self.machine {
            ClientMachine::Invite(machine) => machine.is_terminated(),
            ClientMachine::Other(machine) => machine.is_terminated(),
        }
    }
}

/// A request that was received.
#[derive(Debug)]
pub struct Server {
    machine: ServerMachine,
    last: Option<Rc<Packet>>,
}

#[derive(Debug)]
enum ServerMachine {
    Invite(InviteServer),
    Other(NonInviteServer),
}

impl Server {
    pub fn new(invite: bool, reliable: bool) -> Self {
        let machine = if invite {
            ServerMachine::Invite(InviteServer::new(reliable))
        } else {
            ServerMachine::Other(NonInviteServer::new(reliable))
        };
        Self { machine, last: None }
    }

    pub fn respond(
        &mut self,
        now: Millis,
        response: &Rc<Response>,
        audio: Option<Audio>,
    ) -> Option<Rc<Packet>> {
        let mut response = Rc::clone(response);
        if let Some(audio) = audio {
            let answer = Rc::make_mut(&mut response);
            describe(&mut answer.headers, &mut answer.body, &audio);
        }
        let outputs = match &mut self.machine {
            ServerMachine::Invite(machine) => machine.handle_response(now, &response),
            ServerMachine::Other(machine) => machine.handle_response(now, &response),
        };
        let packet = Packet::response(response, sent(&outputs)?);
        self.last = Some(Rc::clone(&packet));
        Some(packet)
    }

    pub fn on_repeated(&mut self) -> Option<Rc<Packet>> {
        let outputs = match &mut self.machine {
            ServerMachine::Invite(machine) => machine.handle_retransmission(),
            ServerMachine::Other(machine) => machine.handle_retransmission(),
        };
        sent(&outputs).and_then(|_| self.last.clone())
    }

    /// True where it is the first.
    pub fn on_ack(&mut self, now: Millis) -> bool {
        match &mut self.machine {
            ServerMachine::Invite(machine) => machine.handle_ack(now),
            ServerMachine::Other(_) => false,
        }
    }

    /// The PRACK of the last reliable 1xx.
    pub fn on_prack(&mut self, rseq: u32) -> bool {
        match &mut self.machine {
            ServerMachine::Invite(machine) => machine.handle_prack(rseq),
            ServerMachine::Other(_) => false,
        }
    }

    pub fn on_time(&mut self, now: Millis) -> Timed {
        let outputs = match &mut self.machine {
            ServerMachine::Invite(machine) => machine.handle_timeout(now),
            ServerMachine::Other(machine) => machine.handle_timeout(now),
        };
        let mut timed = Timed::default();
        for output in outputs {
            match output {
                Output::Transmit(_) => timed.transmit = self.last.clone(),
                Output::ToUser(Event::NoAck | Event::NoPrack) => timed.over = true,
                Output::ToUser(Event::TimedOut | Event::Response(_)) => {}
            }
        }
        timed
    }

    pub fn deadline(&self) -> Option<Millis> {
        match &self.machine {
            ServerMachine::Invite(machine) => machine.deadline(),
            ServerMachine::Other(machine) => machine.deadline(),
        }
    }

    pub fn is_terminated(&self) -> bool {
        match &self.machine {
            ServerMachine::Invite(machine) => machine.is_terminated(),
            ServerMachine::Other(machine) => machine.is_terminated(),
        }
    }
}

/// A request with the audio that it describes.
pub fn with_audio(mut request: Rc<Request>, audio: Option<Audio>) -> Rc<Request> {
    if let Some(audio) = audio {
        let described = Rc::make_mut(&mut request);
        describe(&mut described.headers, &mut described.body, &audio);
    }
    request
}

fn describe(headers: &mut Headers, body: &mut Vec<u8>, audio: &Audio) {
    headers.content_type = Some("application/sdp".into());
    *body = audio.compose();
}

fn sent(outputs: &[Output]) -> Option<&[u8]> {
    outputs.iter().find_map(|output| match output {
        Output::Transmit(bytes) => Some(bytes.as_slice()),
        Output::ToUser(_) => None,
    })
}
