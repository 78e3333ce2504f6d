//! A user agent that calls: INVITE, impatience, the ACK, late or never.

use std::rc::Rc;

use tandem_core::ivr::keys::Digit;
use tandem_sip::dialog::{Dialog, MAX_FORWARDS, cancel_for};
use tandem_sip::sdp::Direction;
use tandem_sip::transaction::GIVE_UP_MS;
use tandem_sip::{CSeq, Headers, Method, NameAddr, Request, Response, Uri, reliable};

use super::Step;
use super::endpoint::rtp_port_of_caller;
use super::line::{Line, State};
use crate::desk::digits;
use crate::draws::For;
use crate::event::Event;
use crate::packet::Packet;
use crate::plan::{self, To};
use crate::simulation::Simulation;
use crate::transactions::{Client, with_audio};

impl Simulation {
    pub fn start_call(&mut self, planned: usize) {
        let call = self.calls[planned].clone();
        let p = match call.from {
            plan::From::Agent(agent) => usize::from(agent),
            plan::From::Carrier { tcp } => self.new_carrier(planned, tcp, call.gateway),
        };
        if self.peers[p].alive && !self.peers[p].is_busy() {
            self.dial(p, planned, None);
        }
    }

    /// The INVITE of a planned call, which may take the place of a dialog; its line.
    pub fn dial(&mut self, p: usize, planned: usize, replaces: Option<&str>) -> usize {
        let call = self.calls[planned].clone();
        let digits = digits(call.to);
        let vip = self.gateways[self.peers[p].home].vip;
        let peer = &mut self.peers[p];
        let host = peer.address.ip().to_string();
        let call_id = format!("c{planned:04}@{host}");
        let tag = format!("t{planned}");
        // An agent's phone calls under its own number.
        let user = match peer.agent {
            Some(agent) => (1_001 + u32::from(agent)).to_string(),
            None => format!("138{planned:04}"),
        };
        let mut from = NameAddr::new(Uri::sip(Some(&user), &host, None));
        from.set_tag(&tag);
        let target = Uri::sip(Some(&digits), &vip.ip().to_string(), None);
        let contact = Uri::sip(Some("c"), &host, Some(peer.address.port()));
        let mut invite = Request {
            method: Method::Invite,
            uri: target.clone(),
            headers: Headers {
                via: vec![peer.via()],
                from,
                to: NameAddr::new(target),
                call_id: call_id.clone(),
                cseq: CSeq { number: 1, method: Method::Invite },
                contact: vec![NameAddr::new(contact)],
                route: Vec::new(),
                record_route: Vec::new(),
                max_forwards: Some(MAX_FORWARDS),
                expires: None,
                content_type: None,
                other: Vec::new(),
            },
            body: Vec::new(),
        };
        if Self::requires_100rel(planned) {
            invite.headers.push_other("Require", reliable::OPTION);
        }
        if let Some(replaces) = replaces {
            invite.headers.push_other("Replaces", replaces);
        }
        let invite = Rc::new(invite);
        let mut line = Line::new(call_id, Some(planned), State::Inviting, Rc::clone(&invite), tag);
        line.started_at = self.now;
        line.rtp_port = rtp_port_of_caller(planned);
        let address = self.peers[p].address;
        let offer = (!call.offerless).then(|| line.audio(address.ip(), Direction::SendRecv));
        let reliable = self.peers[p].reliable;
        let (client, packet) = Client::start(self.now_ms(), invite, offer, reliable);
        line.client = Some(client);
        let l = self.add_line(p, line);
        self.placed += 1;
        self.transmit_from_peer(p, packet, vip);
        self.plan_step(p, l, call.cancel_after, Step::Cancel);
        if let Some(after) = call.vanish_after {
            self.plan_step(p, l, after, Step::Vanish);
        }
        l
    }

    fn send_cancel(&mut self, p: usize, l: usize) {
        let line = &mut self.peers[p].lines[l];
        line.wants_cancel = true;
        // It may not go before a provisional answer (RFC 3261 §9.1).
        if line.state != State::Inviting || !line.provisional || line.cancelled {
            return;
        }
        line.cancelled = true;
        let cancel = Rc::new(cancel_for(&line.invite));
        self.send_from_line(p, l, cancel, None);
        self.plan_step(p, l, GIVE_UP_MS, Step::GiveUp);
    }

    pub fn on_invite_response(&mut self, p: usize, l: usize, packet: &Packet, response: &Response) {
        let now = self.now_ms();
        let line = &mut self.peers[p].lines[l];
        let Some(client) = &mut line.client else { return };
        let answered = client.on_response(now, response);
        if let Some(ack) = answered.transmit {
            self.transmit_on_line(p, l, ack);
        }
        match response.status {
            100..=199 => {
                self.peers[p].lines[l].provisional = true;
                self.on_preview(p, l, response);
                self.on_provisional_response(p, l, response);
                if self.peers[p].lines[l].wants_cancel {
                    self.send_cancel(p, l);
                }
            }
            200..=299 => self.on_success(p, l, packet, response),
            _ if answered.told => {
                self.peers[p].lines[l].state = State::Over;
                self.coverage.mark("a caller is refused");
            }
            _ => {}
        }
    }

    /// A 2xx, the first time or again.
    fn on_success(&mut self, p: usize, l: usize, packet: &Packet, response: &Response) {
        let line = &mut self.peers[p].lines[l];
        let tag = response.headers.to_tag().unwrap_or_default().to_owned();
        if let Some(known) = &line.success {
            if *known != (tag, packet.digest) {
                let what = format!("the 200 of {} is not the one that came first", line.call_id);
                self.fail("peers", what);
                return;
            }
            if let Some(ack) = line.ack.clone() {
                self.transmit_on_line(p, l, ack);
            }
            return;
        }
        line.success = Some((tag, packet.digest));
        self.check_described(p, l, response);
        self.check_previewed(p, l, response);
        let line = &mut self.peers[p].lines[l];
        let Ok(mut dialog) = Dialog::as_uac(&line.invite, response) else { return };
        if let Some((early, _)) = &line.early {
            dialog.local_cseq = early.local_cseq;
        }
        line.dialog = Some(dialog);
        line.state = State::Up;
        line.ack_due = true;
        line.answered_at = self.now;
        let Some(planned) = line.planned else { return };
        let call = self.calls[planned].clone();
        if let Some(after) = call.ack_after {
            if after == 0 {
                self.acknowledge(p, l);
            } else {
                self.plan_step(p, l, after, Step::Ack);
            }
        }
        if self.peers[p].lines[l].cancelled {
            // It has hung up: the answer that crossed its CANCEL is taken down (§15).
            self.plan_step(p, l, 1, Step::HangUp);
            return;
        }
        self.plan_step(p, l, call.talk_ms, Step::HangUp);
        self.perhaps_sends_on(p, l, call.talk_ms);
        if let Some((after, _)) = call.hold {
            self.plan_step(p, l, after, Step::Hold);
        }
        for press in &call.keys {
            self.plan_step(p, l, press.after, Step::Press(press.key));
        }
    }

    fn acknowledge(&mut self, p: usize, l: usize) {
        let via = self.peers[p].via();
        let address = self.peers[p].address;
        let line = &mut self.peers[p].lines[l];
        let (Some(dialog), true) = (&line.dialog, line.ack_due) else { return };
        line.ack_due = false;
        let ack = Rc::new(dialog.ack(1, via));
        let described = line.early.is_some();
        let answers = line.planned.is_some_and(|planned| self.calls[planned].offerless);
        let answers = answers && !described;
        let audio = answers.then(|| line.audio(address.ip(), Direction::SendRecv));
        let ack = with_audio(ack, audio);
        let packet = Packet::request(Rc::clone(&ack), &ack.to_bytes());
        line.ack = Some(Rc::clone(&packet));
        self.transmit_on_line(p, l, packet);
    }

    pub fn on_caller_step(&mut self, p: usize, l: usize, step: Step) {
        match step {
            Step::Cancel => self.send_cancel(p, l),
            Step::GiveUp => self.give_up(p, l),
            Step::Ack => self.acknowledge(p, l),
            Step::Vanish => self.vanish(p, l),
            Step::HangUp => {
                // Who has not acknowledged may not hang up yet (RFC 3261 §15.1.1): an ACK first.
                let acknowledges = self.peers[p].lines[l]
                    .planned
                    .is_none_or(|planned| self.calls[planned].ack_after.is_some());
                if acknowledges {
                    self.acknowledge(p, l);
                }
                self.hang_up(p, l);
            }
            Step::Hold => self.hold(p, l, true),
            Step::Retrieve => self.hold(p, l, false),
            Step::Press(key) => self.press(p, l, key),
            Step::Refer(to) => self.refer(p, l, to),
            Step::Ring
            | Step::Answer
            | Step::Refuse(_)
            | Step::Ask(_)
            | Step::Dial(_)
            | Step::Join(_)
            | Step::PickUp { .. }
            | Step::Register
            | Step::Watch => {}
        }
    }

    /// An agent who has called somebody sends that party on.
    fn perhaps_sends_on(&mut self, p: usize, l: usize, talk_ms: u64) {
        let name = self.name_of_line(p, l);
        let mut random = self.draws.next(For::Talking, name);
        if self.peers[p].agent.is_none() || !random.percent(30) {
            return;
        }
        let to = match random.below(8) {
            0 => To::Support,
            1 => To::Nowhere,
            2 | 3 => To::Outside,
            _ => To::Extension(random.below(u64::from(self.settings.agents)) as u16),
        };
        self.plan_step(p, l, random.below(talk_ms.max(1)), Step::Refer(to));
    }

    /// A key, by the way that this caller's phone sends keys.
    fn press(&mut self, p: usize, l: usize, key: char) {
        let line = &self.peers[p].lines[l];
        let Some(digit) = Digit::new(key).filter(|_| line.state == State::Up) else { return };
        let by_info = line.planned.is_some_and(|planned| self.calls[planned].by_info);
        if !by_info {
            self.press_in_rtp(p, l, digit);
            return;
        }
        let via = self.peers[p].via();
        let line = &mut self.peers[p].lines[l];
        let Some(dialog) = line.dialog.as_mut().filter(|_| !line.ack_due) else { return };
        let mut info = dialog.request(Method::Info, via, None);
        info.headers.content_type = Some("application/dtmf-relay".into());
        info.body = format!("Signal={key}\r\nDuration=160\r\n").into_bytes();
        self.send_from_line(p, l, Rc::new(info), None);
    }

    fn give_up(&mut self, p: usize, l: usize) {
        let line = &mut self.peers[p].lines[l];
        if line.state != State::Inviting {
            return;
        }
        line.state = State::Over;
        let call_id = line.call_id.clone();
        if self.watch.acknowledged.was_answered(&call_id) && self.is_calm() {
            let what = format!("{call_id} was answered long ago, and its caller has heard nothing");
            self.fail("liveness", what);
        }
    }

    /// A phone with other lines goes on; a caller's process is gone.
    fn vanish(&mut self, p: usize, l: usize) {
        self.tell(|sim| (sim.peers[p].name(), "vanishes without a word".into()));
        let peer = &mut self.peers[p];
        peer.lines[l].forget();
        if peer.agent.is_none() {
            peer.alive = false;
        }
    }

    pub fn plan_step(&mut self, p: usize, l: usize, after_ms: u64, step: Step) {
        let life = self.peers[p].life;
        self.schedule.put(self.now + after_ms, Event::Step { peer: p, life, line: l, step });
    }
}
