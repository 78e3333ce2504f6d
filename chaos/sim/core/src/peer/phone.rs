//! An agent's phone that is called: it rings, is answered, ignored or refused, and takes a CANCEL.

use std::rc::Rc;

use tandem_sip::dialog::Dialog;
use tandem_sip::sdp::Direction;
use tandem_sip::transaction::Key;
use tandem_sip::{Headers, NameAddr, Request, Uri};

use super::Step;
use super::line::{Line, State};
use crate::draws::For;
use crate::limits;
use crate::names;
use crate::packet::Packet;
use crate::plan::To;
use crate::simulation::Simulation;
use crate::transactions::Server;

/// What a phone says of its session.
pub fn session_expires() -> String {
    format!("{};refresher=uac", limits::SESSION_S)
}

const RINGS_MS_MAX: u64 = 60_000;
/// What the user of the contact begins with that is called first, where a phone has two.
pub const FIRST_CONTACT: &str = "first-";

fn is_first_contact(uri: &Uri) -> bool {
    uri.user.as_deref().is_some_and(|user| user.starts_with(FIRST_CONTACT))
}

/// A phone with two contacts may be invited twice to one call.
pub fn name_of_invite(headers: &Headers) -> String {
    format!("{} {}", headers.cseq.number, headers.call_id)
}

impl Simulation {
    /// An INVITE outside of any dialog.
    pub fn on_invited(&mut self, p: usize, key: Key, packet: &Packet, request: &Rc<Request>) {
        let call_id = request.headers.call_id.clone();
        let branch = request.headers.branch().to_owned();
        let seen = (branch, packet.digest);
        let another = request.headers.cseq.number > 1 && self.peers[p].switch.is_none();
        if another {
            if request.uri.port != Some(self.peers[p].address.port()) {
                // A contact of before the phone moved and was started anew: nobody is there.
                return;
            }
            if !self.peers[p].has_two_contacts() {
                let what = format!("{} gets INVITE 2 of {call_id}", self.peers[p].name());
                self.fail("peers", what);
                return;
            }
            self.coverage.mark("the next phone of an agent rings");
        }
        let name = name_of_invite(&request.headers);
        if let Some(before) = self.peers[p].invited.insert(name, seen.clone()) {
            let what = if before.0 == seen.0 {
                // Its transaction is over: this phone has rebooted, or the sender is very late.
                return;
            } else {
                format!("{} gets a second INVITE transaction of {call_id}", self.peers[p].name())
            };
            self.fail("peers", what);
            return;
        }
        let reliable = self.peers[p].reliable;
        let tag = format!("p{p}n{}", self.peers[p].invited.len());
        let switch = self.peers[p].switch;
        let busy = switch.is_none() && self.peers[p].is_busy();
        let mut line = Line::new(call_id, None, State::Invited, Rc::clone(request), tag);
        line.server = Some((key, Server::new(true, reliable)));
        line.started_at = self.now;
        line.rtp_port = match switch {
            Some(switch) => self.rtp_port_of_switch(p, switch),
            None => self.rtp_port_of_phone(p),
        };
        let l = self.add_line(p, line);
        if busy {
            self.answer_invite(p, l, 486);
            return;
        }
        match switch {
            Some(_) => self.route_on(p, l),
            None => self.decide(p, l),
        }
    }

    /// What the agent will do with it: drawn for the phone and who calls.
    fn decide(&mut self, p: usize, l: usize) {
        let name = self.name_of_line(p, l);
        let mut random = self.draws.next(For::Ringing, name);
        let ring_at = random.between(1, 60);
        let answers_at = ring_at + random.between(50, self.settings.ring_ms_max);
        if self.peers[p].has_two_contacts() && is_first_contact(&self.peers[p].lines[l].invite.uri)
        {
            // Nobody is there; the other contact may be.
            let (rings, status) =
                (random.below(2) == 0, if random.below(2) == 0 { 404 } else { 480 });
            if rings {
                self.plan_step(p, l, ring_at, Step::Ring);
            }
            self.plan_step(p, l, ring_at + random.between(1, 200), Step::Refuse(status));
            return;
        }
        self.perhaps_picked_up(p, l, self.settings.ring_ms_max);
        // No phone rings for ever.
        self.plan_step(p, l, RINGS_MS_MAX, Step::Refuse(480));
        match random.below(20) {
            // Nobody is there, and the phone does not even say that it rings.
            0 => {}
            1 => self.plan_step(p, l, ring_at, Step::Refuse(486)),
            2 => {
                self.plan_step(p, l, ring_at, Step::Ring);
                self.plan_step(p, l, answers_at, Step::Refuse(603));
            }
            3 => self.plan_step(p, l, ring_at, Step::Refuse(480)),
            // It rings, and nobody comes.
            4 | 5 => self.plan_step(p, l, ring_at, Step::Ring),
            // So late that it may cross the CANCEL.
            6 => {
                self.plan_step(p, l, ring_at, Step::Ring);
                let about = self.settings.ring_ms_max.saturating_sub(20);
                self.plan_step(p, l, about + random.below(60), Step::Answer);
            }
            7 => self.plan_step(p, l, ring_at, Step::Answer),
            _ => {
                self.plan_step(p, l, ring_at, Step::Ring);
                self.plan_step(p, l, answers_at, Step::Answer);
            }
        }
    }

    pub fn name_of_line(&self, p: usize, l: usize) -> u64 {
        let peer = &self.peers[p];
        names::of(&[peer.key(), names::message(&peer.lines[l].invite.headers, 0)])
    }

    pub fn on_phone_step(&mut self, p: usize, l: usize, step: Step) {
        match step {
            Step::Ring if self.peers[p].lines[l].state == State::Invited => {
                match self.peers[p].switch {
                    Some(_) => self.announce(p, l),
                    None => self.answer_invite(p, l, 180),
                }
            }
            // RFC 3262 §3: an answer of ours in a 180 goes before the 200.
            Step::Answer if self.peers[p].lines[l].state == State::Invited => {
                let line = &self.peers[p].lines[l];
                if line.unpracked && line.described {
                    self.plan_step(p, l, 20, Step::Answer);
                    return;
                }
                self.answer_invite(p, l, 200);
            }
            Step::Refuse(status) if self.peers[p].lines[l].state == State::Invited => {
                self.answer_invite(p, l, status);
            }
            Step::HangUp => self.hang_up(p, l),
            Step::Refer(to) => self.refer(p, l, to),
            Step::Ask(to) => self.ask_colleague(p, l, to),
            Step::Dial(to) => self.dial_second(p, l, to),
            Step::Join(second) => self.join(p, l, second),
            Step::Hold => self.hold(p, l, true),
            Step::Retrieve => self.hold(p, l, false),
            Step::Ring
            | Step::Answer
            | Step::Refuse(_)
            | Step::Cancel
            | Step::GiveUp
            | Step::Vanish
            | Step::Ack
            | Step::Press(_)
            | Step::PickUp { .. }
            | Step::Register
            | Step::Watch => {}
        }
    }

    pub fn answer_invite(&mut self, p: usize, l: usize, status: u16) {
        let now = self.now_ms();
        let address = self.peers[p].address;
        let line = &mut self.peers[p].lines[l];
        let mut response = line.invite.respond(status, None, Some(&line.tag));
        let mut audio = None;
        if status == 503 && line.rtp_port.is_multiple_of(4) {
            response.headers.push_other("Retry-After", limits::RETRY_S);
        }
        if (180..300).contains(&status) {
            let contact = Uri::sip(Some("p"), &address.ip().to_string(), Some(address.port()));
            response.headers.contact = vec![NameAddr::new(contact)];
        }
        if (180..200).contains(&status) {
            let described = self.perhaps_reliable(p, l, &mut response);
            let line = &self.peers[p].lines[l];
            let described = described || (status == 183 && !line.unpracked);
            audio = described.then(|| line.audio(address.ip(), Direction::SendRecv));
        }
        let line = &mut self.peers[p].lines[l];
        if (200..300).contains(&status) {
            let describes = !line.described;
            audio = describes.then(|| line.audio(address.ip(), Direction::SendRecv));
            if line.rtp_port.is_multiple_of(4) {
                // We shall refresh the session (RFC 4028 §9).
                response.headers.push_other("Allow", "INVITE, ACK, CANCEL, BYE, UPDATE");
                response.headers.push_other("Session-Expires", &session_expires());
            }
            if line.dialog.is_none() {
                line.dialog = Dialog::as_uas(&line.invite, &line.tag).ok();
            }
            line.state = State::Answered;
            line.answered_at = self.now;
        } else if status >= 300 {
            line.state = State::Over;
        }
        let Some((_, server)) = &mut line.server else { return };
        if let Some(packet) = server.respond(now, &Rc::new(response), audio) {
            self.transmit_on_line(p, l, packet);
        }
    }

    pub fn on_cancelled(&mut self, p: usize, key: &Key, packet: &Packet, cancel: &Request) {
        let invite = Key { method: "INVITE".into(), ..key.clone() };
        let found = self.peers[p]
            .lines
            .iter()
            .position(|line| line.server.as_ref().is_some_and(|(known, _)| *known == invite));
        let Some(l) = found else {
            self.answer_stateless_from_peer(p, cancel, 481);
            return;
        };
        self.answer_on_line(p, l, key, packet, cancel, 200);
        let pending = self.peers[p].lines[l].state == State::Invited;
        if pending {
            self.answer_invite(p, l, 487);
        } else {
            self.coverage.mark("a CANCEL comes after the answer");
        }
    }

    /// The ACK of our 200.
    pub fn on_acknowledged(&mut self, p: usize, ack: &Request) {
        let now = self.now_ms();
        let headers = &ack.headers;
        let found = self.peers[p].lines.iter().position(|line| {
            line.call_id == headers.call_id && headers.to_tag() == Some(line.tag.as_str())
        });
        let Some(l) = found else { return };
        let line = &mut self.peers[p].lines[l];
        let first = line.server.as_mut().is_some_and(|(_, server)| server.on_ack(now));
        if !first || line.state != State::Answered {
            return;
        }
        line.state = State::Up;
        let name = self.name_of_line(p, l);
        let mut random = self.draws.next(For::Talking, name);
        let talk_ms = random.between(300, 9_000);
        self.plan_step(p, l, talk_ms, Step::HangUp);
        self.perhaps_picked_up(p, l, talk_ms);
        if random.percent(25) {
            self.plan_step(p, l, random.below(talk_ms), Step::Hold);
        }
        // A carrier's party sends nobody on.
        if self.peers[p].switch.is_none() && random.percent(25) {
            let to = match random.below(10) {
                0 | 1 => To::Support,
                2 => To::Sales,
                3 => To::Echo,
                4 => To::Nowhere,
                5 => To::Outside,
                _ => To::Extension(random.below(u64::from(self.settings.agents)) as u16),
            };
            self.plan_step(p, l, random.below(talk_ms), Step::Refer(to));
        }
        if random.percent(20) {
            let to = match random.below(8) {
                0 => To::Sales,
                1 => To::Echo,
                _ => To::Extension(random.below(u64::from(self.settings.agents)) as u16),
            };
            self.plan_step(p, l, random.below(talk_ms), Step::Ask(to));
        }
    }
}
